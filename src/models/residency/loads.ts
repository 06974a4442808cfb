// Loads that are under way: each is done once however many wait for it, and given up when nobody does.
import { GatewayError } from '../../error.ts';
import { untilAborted } from '../../timers.ts';
import type { LoadView } from '../views.ts';
import { loadModel, type LoadOptions, type LoadOrder, type Spot } from './load.ts';

export interface Wish extends Pick<LoadOrder, 'caller' | 'class' | 'limitMs'> {
  signal: AbortSignal;
  keep?: number | undefined;
  renew?: boolean;
}

export interface Loads {
  /** Joins the load of the same model or begins it; see `loadModel`. Throws client_closed when the signal aborts. */
  join(spot: Spot, wish: Wish): Promise<LoadView>;
  /** Models that are on their way to a runtime's memory. */
  loading(runtime: string): ReadonlySet<string>;
  /** Ends all of them. */
  close(): void;
}

interface Shared {
  waiters: number;
  keep: number | undefined;
  renew: boolean;
  isBackground: boolean;
  abort: AbortController;
  done: Promise<LoadView>;
}

/** A load that was given up ends before the next of the same model begins, or is not waited for any longer, in milliseconds. */
const GIVEN_UP_MS = 3000;
const NOBODY: ReadonlySet<string> = new Set();

export function createLoads(options: LoadOptions & { onChange: (spot: Spot) => void }): Loads {
  const shared = new Map<string, Shared>();
  const loading = new Map<string, Set<string>>();
  let closed = false;

  function begin(key: string, spot: Spot, wish: Wish, before: Promise<unknown> | undefined): Shared {
    const { keep, renew = false } = wish;
    const abort = new AbortController();
    const work = async () => {
      if (before) await untilAborted(before, AbortSignal.timeout(GIVEN_UP_MS)).catch(() => {});
      const { signal } = abort;
      try {
        signal.throwIfAborted();
        return await loadModel(spot, { ...wish, signal, onLoading: () => mark(spot, true) }, options);
      } catch (error) {
        // Whatever broke because it was given up, that is the reason.
        throw signal.aborted ? signal.reason : error;
      }
    };
    const isBackground = wish.class === 'background';
    const mine: Shared = {
      waiters: 0,
      keep,
      renew,
      isBackground,
      abort,
      done: work().finally(() => end(key, spot, mine)),
    };
    // Those who wait hear of it; where all have left nobody needs to.
    mine.done.catch(() => {});
    shared.set(key, mine);
    return mine;
  }

  function end(key: string, spot: Spot, mine: Shared): void {
    // Another one may have taken its place.
    if (shared.get(key) !== mine) return;
    shared.delete(key);
    mark(spot, false);
  }

  function mark(spot: Spot, is: boolean): void {
    const { runtime, model } = spot;
    const names = loading.get(runtime.name) ?? new Set();
    if (names.has(model.id) === is) return;
    if (is) names.add(model.id);
    else names.delete(model.id);
    loading.set(runtime.name, names);
    options.onChange(spot);
  }

  async function follow(mine: Shared, signal: AbortSignal): Promise<LoadView> {
    mine.waiters++;
    try {
      return await untilAborted(mine.done, signal);
    } catch (error) {
      if (signal.aborted) throw gone();
      throw error;
    } finally {
      if (--mine.waiters === 0) mine.abort.abort(gone());
    }
  }

  return {
    async join(spot, wish) {
      const key = `${spot.runtime.name} ${spot.model.id}`;
      for (;;) {
        if (wish.signal.aborted) throw gone();
        if (closed) throw closing();
        const known = shared.get(key);
        // One in the background waits for everybody; whoever is waited for does not wait with it.
        const isWaiting = !loading.get(spot.runtime.name)?.has(spot.model.id);
        if (known?.isBackground && wish.class !== 'background' && isWaiting) known.abort.abort(gone());
        const mine = known && !known.abort.signal.aborted ? known : begin(key, spot, wish, known?.done);
        const view = await follow(mine, wish.signal);
        // Joined one that did less: once more, which costs nothing where the model is there.
        const enough = (wish.keep === undefined || mine.keep === wish.keep) && (wish.renew || !mine.renew);
        if (enough) return view;
      }
    },
    loading: (runtime) => loading.get(runtime) ?? NOBODY,
    close() {
      closed = true;
      for (const { abort } of shared.values()) abort.abort(closing());
    },
  };
}

function gone(): GatewayError {
  return new GatewayError('client_closed', 'Nobody waits for this model to be loaded any more.');
}

function closing(): GatewayError {
  return new GatewayError('draining', 'The gateway is shutting down.', { retryAfter: 5 });
}
