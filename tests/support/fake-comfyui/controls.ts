// What a test does to the executions of a fake ComfyUI: holds them at a stage, and makes the next one fail.
import { isSampler } from './execution.ts';
import type { Queue } from './queue.ts';
import { Interrupted, RaisedError } from './raised.ts';
import type { Failure, Stage } from './types.ts';

export interface Controls {
  hold(stage?: Stage): void;
  held(): Promise<string>;
  release(): void;
  failNext(kind: Failure): void;
  /** Called by an execution that comes to a stage. */
  stage(stage: Stage, id: string, queue: Queue): Promise<void>;
  /** Called before each node; throws where this one shall fail. */
  fail(type: string, last: boolean, unload: () => void): void;
  /** Lets whatever stands still go on to its end. */
  wake(): void;
  reset(): void;
}

export function createControls(): Controls {
  let gate: { at: Stage; open: PromiseWithResolvers<void> } | undefined;
  let standing: string | undefined;
  let waiting: ((id: string) => void)[] = [];
  let failures: Exclude<Failure, 'oom-twice'>[] = [];

  const release = (): void => {
    gate?.open.resolve();
    gate = undefined;
  };

  return {
    hold(at = 'sampling') {
      gate?.open.resolve();
      gate = { at, open: Promise.withResolvers<void>() };
    },
    held() {
      if (standing !== undefined) return Promise.resolve(standing);
      return new Promise((resolve) => waiting.push(resolve));
    },
    release,
    failNext: (kind) => void failures.push(...(kind === 'oom-twice' ? (['oom', 'oom'] as const) : [kind])),
    async stage(at, id, queue) {
      if (gate?.at === at) {
        standing = id;
        for (const resolve of waiting.splice(0)) resolve(id);
        await Promise.race([gate.open.promise, queue.onInterrupt()]);
        standing = undefined;
      }
      if (queue.isInterrupted()) throw new Interrupted();
    },
    fail(type, last, unload) {
      const [kind] = failures;
      if (kind === undefined) return;
      const here = kind === 'loader' ? /Load/.test(type) : isSampler(type);
      if (!here && !last) return;
      failures.shift();
      if (kind === 'loader') {
        const message = 'Error while deserializing header: header too small';
        throw new RaisedError('safetensors._safetensors_rust.SafetensorError', message);
      }
      if (kind === 'error') {
        throw new RaisedError('RuntimeError', 'mat1 and mat2 shapes cannot be multiplied (154x2048 and 768x320)');
      }
      // Whatever was loaded is let go of, as after a real one.
      unload();
      const message =
        'HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 11.98 GiB of which 1.21 GiB is free.';
      throw new RaisedError('torch.OutOfMemoryError', message);
    },
    wake: release,
    reset() {
      release();
      standing = undefined;
      waiting = [];
      failures = [];
    },
  };
}
