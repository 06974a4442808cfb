// A fake llama-swap: servers that are started by the first request and stopped when told to.
import { setTimeout as pause } from 'node:timers/promises';
import { json, plain } from './fake-http.ts';
import { list, openProgram, streamWords } from './fake-program.ts';
import type { Program, Respond } from './fake-program.ts';

export interface FakeLlamaSwap extends Program {
  models: string[];
  /** By model; none for those that are stopped. */
  states: Map<string, string>;
  startMs: number;
  stopMs: number;
  /** Their servers end as soon as they start. */
  broken: Set<string>;
  /** Before it could stop a single one. */
  old: boolean;
  counts: { starts: number; stops: number };
  respond: Respond;
}

export async function openFakeLlamaSwap(): Promise<FakeLlamaSwap> {
  const counts = { starts: 0, stops: 0 };
  const starting = new Map<string, { done?: Promise<boolean> }>();

  function start(model: string): Promise<boolean> {
    if (fake.states.get(model) === 'ready') return Promise.resolve(true);
    const running = starting.get(model)?.done;
    if (running) return running;
    counts.starts++;
    fake.states.set(model, 'starting');
    const one: { done?: Promise<boolean> } = {};
    starting.set(model, one);
    one.done = (async () => {
      await pause(fake.startMs);
      // Stopped on the way, and perhaps started anew.
      if (starting.get(model) !== one) return false;
      starting.delete(model);
      if (fake.broken.has(model)) fake.states.delete(model);
      else fake.states.set(model, 'ready');
      return !fake.broken.has(model);
    })();
    return one.done;
  }

  async function stop(model: string) {
    counts.stops++;
    starting.delete(model);
    fake.states.set(model, 'stopping');
    await pause(fake.stopMs);
    fake.states.delete(model);
  }

  /** Model ids hold slashes, and the path goes on behind them. */
  const modelIn = (path: string) => fake.models.find((model) => path === model || path.startsWith(`${model}/`));

  const respond: Respond = async (asked) => {
    const { method, path, body } = asked;
    if (method === 'GET' && (path === '/v1/models' || path === '/models')) {
      return list(
        fake.models.map((id) => ({
          id,
          object: 'model',
          created: 1,
          owned_by: 'llama-swap',
          status: { value: fake.states.has(id) ? 'loaded' : 'unloaded' },
          meta: { llamaswap: { type: 'model', ...(id === 'qwen' ? { aliases: ['small', 7] } : {}) } },
        })),
      );
    }
    if (method === 'GET' && path === '/running') {
      const entries = [...fake.states].map(([model, state]) => ({ model, state, cmd: 'llama-server', ttl: 0 }));
      return json({ running: entries });
    }
    const [, upstream] = /^\/upstream\/(.+)$/.exec(path) ?? [];
    if (upstream !== undefined) {
      const model = modelIn(upstream);
      if (model === undefined) return unknown();
      return (await start(model)) ? json({ status: 'ok' }) : plain('unable to start process', 502);
    }
    const [, unload] = /^\/api\/models\/unload\/(.+)$/.exec(path) ?? [];
    if (method === 'POST' && unload !== undefined && !fake.old) {
      if (!fake.models.includes(unload)) return unknown();
      await stop(unload);
      return plain('OK', 200);
    }
    if (method === 'POST' && path === '/v1/chat/completions') {
      const model = String(body['model']);
      if (!(await start(model))) return plain('unable to start process', 502);
      await streamWords(asked, { cut: () => fake.states.get(model) !== 'ready' });
      return undefined;
    }
    return plain('404 page not found', 404);
  };

  const fake: FakeLlamaSwap = Object.assign(await openProgram(respond), {
    models: ['qwen', 'org/llama'],
    states: new Map<string, string>(),
    startMs: 150,
    stopMs: 40,
    broken: new Set<string>(),
    old: false,
    counts,
    respond,
  });
  return fake;
}

const unknown = () =>
  json(
    { src: 'llama-swap', error: { message: 'model not found', type: 'invalid_request_error', code: 'not_found' } },
    404,
  );
