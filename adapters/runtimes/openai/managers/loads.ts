// One load of a model however many wait for it; it ends when the last of them has left.
import { cancelled } from '../failure.ts';
import { unlessAborted } from '../films.ts';

interface Loading {
  abort: AbortController;
  done: Promise<void>;
  waiting: number;
}

export interface Loads {
  /** Throws client_closed at once where `signal` aborts; what `begin` throws. */
  join(model: string, signal: AbortSignal, begin: (signal: AbortSignal) => Promise<void>): Promise<void>;
}

export function createLoads(): Loads {
  const loads = new Map<string, Loading>();

  function start(model: string, begin: (signal: AbortSignal) => Promise<void>): Loading {
    const before = loads.get(model);
    const abort = new AbortController();
    const loading: Loading = {
      abort,
      waiting: 0,
      // One that was given up first puts back what it began.
      done: (before?.done.catch(() => {}) ?? Promise.resolve())
        .then(() => begin(abort.signal))
        .finally(() => {
          if (loads.get(model) === loading) loads.delete(model);
        }),
    };
    loading.done.catch(() => {});
    loads.set(model, loading);
    return loading;
  }

  return {
    async join(model, signal, begin) {
      if (signal.aborted) throw cancelled();
      const running = loads.get(model);
      const loading = running && !running.abort.signal.aborted ? running : start(model, begin);
      loading.waiting++;
      try {
        await unlessAborted(loading.done, signal);
      } finally {
        if (--loading.waiting === 0) loading.abort.abort();
      }
    },
  };
}
