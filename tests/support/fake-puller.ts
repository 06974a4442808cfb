// A puller that fetches nothing real: bytes come in steps, what has come stays, and it fails, stalls and misbehaves as a test wants.
import { setTimeout as sleep } from 'node:timers/promises';
import { GatewayError } from '../../src/error.ts';
import type { Puller, PullEvent, PullWant } from '../../src/puller.ts';

export interface FakePullerOptions {
  runtime?: string;
  /** Bytes of every model, of each step, and milliseconds between two steps. */
  size?: number;
  step?: number;
  ms?: number;
  claims?: Puller['claims'];
  /** Asked before every step: what it throws there. `count` is the try, from 1. */
  fails?: (want: PullWant, count: number, done: number) => GatewayError | undefined;
  /** Once so many bytes of a model have come, it holds by itself; see `hold`. */
  holdAt?: number;
  /** In place of all that. */
  pull?: Puller['pull'];
  /** The id that a model has once it is here. */
  toId?: (model: string) => string;
  /** What has come, of whatever puller before this one. */
  disk?: Map<string, number>;
}

export interface FakePuller extends Puller {
  /** Every try, in order. */
  begun: PullWant[];
  /** Bytes of each model that have come. */
  disk: Map<string, number>;
  /** Bytes that were fetched in all. */
  fetched(): number;
  /** Tries that are under way, and the most there ever were. */
  running(): number;
  most(): number;
  /** No step is taken from now on until it is let go. */
  hold(): void;
  letGo(): void;
  removed: string[];
}

export function createFakePuller(options: FakePullerOptions = {}): FakePuller {
  const { runtime = 'fake', size = 1000, step = 100, ms = 1, toId = (model: string) => model } = options;
  const disk = options.disk ?? new Map<string, number>();
  const begun: PullWant[] = [];
  const removed: string[] = [];
  const tries = new Map<string, number>();
  let fetched = 0;
  let running = 0;
  let most = 0;
  let gate: PromiseWithResolvers<void> | undefined;
  let { holdAt = Infinity } = options;

  async function* pull(want: PullWant, signal: AbortSignal): AsyncGenerator<PullEvent> {
    const { model } = want;
    begun.push(want);
    const count = (tries.get(model) ?? 0) + 1;
    tries.set(model, count);
    running++;
    most = Math.max(most, running);
    try {
      if (options.pull) return yield* options.pull(want, signal);
      yield { type: 'status', state: 'running', message: 'looking' };
      yield { type: 'progress', done: disk.get(model) ?? 0, total: size, unit: 'bytes', label: `${model}.bin` };
      for (;;) {
        const done = disk.get(model) ?? 0;
        const failure = options.fails?.(want, count, done);
        if (failure) throw failure;
        if (done >= size) break;
        await sleep(ms, undefined, { signal });
        if (done >= holdAt) {
          holdAt = Infinity;
          gate ??= Promise.withResolvers();
        }
        if (gate) await Promise.race([gate.promise, aborted(signal)]);
        signal.throwIfAborted();
        disk.set(model, Math.min(size, done + step));
        fetched += Math.min(step, size - done);
        yield { type: 'progress', done: disk.get(model)!, total: size, unit: 'bytes', label: `${model}.bin` };
      }
      yield { type: 'pulled', model: toId(model), files: [{ name: `${model}.bin`, size }] };
    } finally {
      running--;
    }
  }

  return {
    runtime,
    begun,
    disk,
    removed,
    fetched: () => fetched,
    running: () => running,
    most: () => most,
    hold: () => void (gate ??= Promise.withResolvers()),
    letGo() {
      // Who left just before it was held must not leave the next one held.
      holdAt = Infinity;
      gate?.resolve();
      gate = undefined;
    },
    claims: options.claims ?? (() => 10),
    plan: async ({ model }) => ({
      model,
      files: [],
      bytes: size - (disk.get(model) ?? 0),
      facts: { size },
      warnings: [],
    }),
    pull,
    search: async (words) => [
      { model: words, capabilities: ['text.generate'], size, present: (disk.get(words) ?? 0) >= size },
    ],
    async remove(model) {
      if (!disk.delete(model)) throw new GatewayError('model_not_found', `There is no ${model}.`, { source: runtime });
      removed.push(model);
      return { freed: size, files: [{ name: `${model}.bin`, size }] };
    },
  };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
