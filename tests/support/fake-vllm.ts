// A fake vLLM: one model and an adapter of it; it sleeps where it was started so, and answers nothing while it does.
import { setTimeout as pause } from 'node:timers/promises';
import { json } from './fake-http.ts';
import { error, list, openProgram, streamWords } from './fake-program.ts';
import type { Program, Respond } from './fake-program.ts';

export interface FakeVllm extends Program {
  asleep: boolean;
  /** Started with the routes for it. */
  canSleep: boolean;
  wakeMs: number;
  counts: { sleeps: number; wakes: number; runs: number; refused: number };
  respond: Respond;
}

export async function openFakeVllm(): Promise<FakeVllm> {
  const counts = { sleeps: 0, wakes: 0, runs: 0, refused: 0 };
  const working = new Set<object>();
  const respond: Respond = async (asked) => {
    const { method, path, query } = asked;
    if (method === 'GET' && path === '/v1/models') {
      const of = (id: string) => ({ id, object: 'model', owned_by: 'vllm', root: id, max_model_len: 4096 });
      return list([of('org/model-7b'), { ...of('my-lora'), parent: 'org/model-7b' }]);
    }
    if (path === '/v1/chat/completions') {
      if (fake.asleep) {
        counts.refused++;
        return error(500, 'EngineCore is asleep');
      }
      counts.runs++;
      working.add(asked);
      await streamWords(asked, { cut: () => fake.asleep });
      working.delete(asked);
      return undefined;
    }
    if (!fake.canSleep) return error(404, 'Not Found');
    if (method === 'GET' && path === '/is_sleeping') return json({ is_sleeping: fake.asleep });
    if (method === 'POST' && path === '/sleep' && query.get('level') === '1') {
      counts.sleeps++;
      while (query.get('mode') === 'wait' && working.size > 0) await pause(10);
      await pause(30);
      fake.asleep = true;
      return { status: 200 };
    }
    if (method === 'POST' && path === '/wake_up') {
      counts.wakes++;
      await pause(fake.wakeMs);
      fake.asleep = false;
      return { status: 200 };
    }
    return error(404, 'Not Found');
  };
  const fake: FakeVllm = Object.assign(await openProgram(respond), {
    asleep: false,
    canSleep: true,
    wakeMs: 150,
    counts,
    respond,
  });
  return fake;
}
