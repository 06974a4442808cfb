// A runtime on the card whose work a test writes itself, event by event; it counts what it holds and what it was asked.
import type { Chunk, Input, Result } from '../../src/capabilities/index.ts';
import type { RunEvent } from '../../src/event.ts';
import type { Call, GpuTenant, Model, RuntimeAdapter } from '../../src/runtime.ts';

export const GB = 1024 ** 3;

export type Spoken = RunEvent<Chunk<'text.generate'>, Result<'text.generate'>>;
export type Work = (call: Call, input: Input<'text.generate'>) => AsyncIterable<Spoken>;

export interface CardRuntime extends RuntimeAdapter {
  gpu: GpuTenant;
  /** Models in memory. */
  inside: Map<string, number>;
  evictions: string[];
  /** Calls so far, by model. */
  calls: string[];
  /** What it does from now on. */
  work: Work;
}

/** `models`: GiB that each says it takes. */
export function createCardRuntime({
  name = 'card',
  priority = 100,
  models = { a: 4, b: 4 } as Record<string, number>,
  evict = async () => {},
  work = answering,
}: {
  name?: string;
  priority?: number;
  models?: Record<string, number>;
  /** Called before a model leaves. */
  evict?: (model: string, signal: AbortSignal) => Promise<void>;
  work?: Work;
} = {}): CardRuntime {
  const inside = new Map<string, number>();
  const evictions: string[] = [];
  const calls: string[] = [];
  const runtime: CardRuntime = {
    name,
    priority,
    inside,
    evictions,
    calls,
    work,
    models: async () =>
      Object.keys(models).map((id): Model => ({ id, capabilities: ['text.generate'], state: 'ready' })),
    health: async () => {},
    gpu: {
      footprint: ({ id }) => models[id]! * GB,
      residents: async () => [...inside].map(([model, vram]) => ({ model, vram })),
      async evict(model, signal) {
        await evict(model, signal);
        inside.delete(model);
        evictions.push(model);
      },
    },
    handles: {
      async *'text.generate'(input, call) {
        calls.push(call.model.id);
        inside.set(call.model.id, models[call.model.id]! * GB);
        yield* runtime.work(call, input);
      },
    },
  };
  return runtime;
}

export async function* answering(): AsyncGenerator<Spoken> {
  yield chunk('ok');
  yield result('ok');
}

/** Says that it works, and goes on until it is told to end. */
export async function* holding({ signal }: Call): AsyncGenerator<Spoken> {
  yield { type: 'status', state: 'running' };
  await ended(signal);
}

/** Rejects when the signal aborts. */
export function ended(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

export function chunk(text: string): Spoken {
  return { type: 'chunk', chunk: { text } };
}

export function result(text: string): Spoken {
  const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
  return { type: 'result', result: { text, finish_reason: 'stop', usage } };
}
