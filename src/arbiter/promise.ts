// What is promised to whoever waits: how long others may go before, and how long that can make the wait at most.
import { toKey, type Waiting } from './policy.ts';
import { createShadow, type Arrival, type ShadowOptions } from './shadow.ts';

export interface Promises {
  /** Somebody waits from now on. */
  arrive(waiting: Waiting): void;
  /** It left without running. */
  left(id: number): void;
  /** It had so many milliseconds of the card. */
  ran(id: number, ms: number): void;
  /** How long one who waits lets others go before, in milliseconds. */
  patienceMs(): number;
  /** The longest that a wait is to be, in milliseconds: what the plainer of two schedulers would have made of it, what runs by then, and two loads. */
  boundMs(): number;
}

export interface PromiseOptions extends ShadowOptions {
  now: () => number;
  /** Milliseconds of patience that everybody has at least. */
  leastMs: number;
}

/** Of what the better of two plain schedulers would have made the unluckiest wait: so we are to stay below both. */
const SHARE = 0.9;
/** Of the newest run, in the mean. */
const WEIGHT = 0.1;
const MAX_MODELS = 1000;
/** Longest runs and loads are remembered so long, in milliseconds. */
const MEMORY_MS = 3_600_000;

/**
 * Patience lets requests be grouped by model, which saves swaps; too much of it starves somebody. How much is too much depends on
 * what there is to do, so it is measured: by what two schedulers without any of our cleverness would do with the same requests.
 */
export function createPromises({ now, leastMs, ...options }: PromiseOptions): Promises {
  const shadows = [createShadow('strict', options), createShadow('grouped', options)];
  // Sums of small steps stay exact longest where they begin at 0.
  const start = now();
  const at = () => now() - start;
  const arrivals = new Map<number, Arrival>();
  /** Milliseconds of the card that runs of a model take. */
  const means = new Map<string, number>();
  const longest = { run: createPeak(now), load: createPeak(now) };

  const worsts = () => shadows.map((shadow) => shadow.worst(at()));
  const patienceMs = () => Math.max(leastMs, SHARE * Math.min(...worsts()));

  return {
    arrive({ id, runtime, model, footprint, since, loadMs, runMs }) {
      const known = means.get(toKey({ runtime, model }));
      const arrival: Arrival = { runtime, model, footprint, since: since - start, loadMs, runMs: known ?? runMs };
      arrivals.set(id, arrival);
      longest.load.see(loadMs);
      for (const shadow of shadows) shadow.arrive(arrival, at());
    },
    left(id) {
      const arrival = arrivals.get(id);
      if (arrival) arrival.gone = true;
      arrivals.delete(id);
    },
    ran(id, ms) {
      const arrival = arrivals.get(id);
      arrivals.delete(id);
      if (!arrival) return;
      arrival.runMs = ms;
      const key = toKey(arrival);
      const mean = means.get(key) ?? ms;
      // The newest last, so that the one not used for longest is forgotten first.
      means.delete(key);
      means.set(key, mean + WEIGHT * (ms - mean));
      if (means.size > MAX_MODELS) means.delete(means.keys().next().value!);
      longest.run.see(ms);
    },
    patienceMs,
    boundMs: () => Math.max(leastMs, ...worsts()) + longest.run.most() + 2 * longest.load.most(),
  };
}

/** The most that was seen within the last hour or two. */
function createPeak(now: () => number): { see(ms: number): void; most(): number } {
  let [from, before, most] = [now(), 0, 0];
  const turn = () => {
    const hours = Math.floor((now() - from) / MEMORY_MS);
    if (hours > 0) [from, before, most] = [from + hours * MEMORY_MS, hours > 1 ? 0 : most, 0];
  };
  return {
    see(ms) {
      turn();
      most = Math.max(most, ms);
    },
    most() {
      turn();
      return Math.max(before, most);
    },
  };
}
