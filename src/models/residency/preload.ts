// Models that are to be in memory: loaded one after the other, from the start or when their turn has come, and tried again when their runtime comes back.
import { toGatewayError } from '../../error.ts';
import type { RuntimeAdapter } from '../../runtime.ts';
import type { ModelPolicy } from '../residency.ts';

export interface Preloads {
  /** From the start, or in that way. One that is on its way already comes as it was to come. */
  add(place: Pick<ModelPolicy, 'runtime' | 'model'>, way?: Way): void;
  /** Tries whatever is due. Never throws. */
  work(signal: AbortSignal): Promise<void>;
}

/** How a model comes to memory, and when. */
export interface Way {
  /** What is done with it, for people: `preloaded`. */
  verb: string;
  /** Loads that fail although the runtime answers are tried so often, this long apart in milliseconds, twice as long each time. */
  tries: number;
  againMs: number;
  /** Its runtime may be away for so long, in milliseconds. */
  patienceMs: number;
  /** Still to be brought. */
  isWanted(): boolean;
  /** Whether its turn may have come. */
  isDue(): boolean;
  /** false: not now, and later again. */
  load(signal: AbortSignal): Promise<boolean>;
}

export interface PreloadOptions {
  runtimes: RuntimeAdapter[];
  /** Still wanted. */
  isWanted: (runtime: string, model: string) => boolean;
  load: (runtime: string, model: string, signal: AbortSignal) => Promise<void>;
  now: () => number;
  warn(message: string, fields: Record<string, unknown>): void;
}

interface Pending {
  runtime: string;
  model: string;
  way: Way;
  tries: number;
  nextAt: number;
  /** Since when its runtime is away. */
  awaySince?: number | undefined;
}

const MAX_TRIES = 4;
const AGAIN_MS = 15_000;
const LONGEST_MS = 3_600_000;
/** What is not there yet is asked for so often and so long, in milliseconds. */
const ASK_MS = 5000;
const PATIENCE_MS = 3_600_000;
const HEALTH_MS = 1500;
/** A load that takes longer than this, in milliseconds, is stuck. */
const LOAD_MS = 900_000;

export function createPreloads({ runtimes, isWanted, load, now, warn }: PreloadOptions): Preloads {
  let pending: Pending[] = [];

  const fromTheStart = ({ runtime, model }: Pick<ModelPolicy, 'runtime' | 'model'>): Way => ({
    verb: 'preloaded',
    tries: MAX_TRIES,
    againMs: AGAIN_MS,
    patienceMs: PATIENCE_MS,
    isWanted: () => isWanted(runtime, model),
    isDue: () => true,
    load: (signal) => load(runtime, model, signal).then(() => true),
  });

  async function isThere(name: string, signal: AbortSignal): Promise<boolean> {
    const runtime = runtimes.find((one) => one.name === name);
    if (!runtime) return false;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(HEALTH_MS)]);
    return runtime.health(limit).then(
      () => true,
      () => false,
    );
  }

  /** Whether that was the last of it. */
  async function attempt(one: Pending, signal: AbortSignal): Promise<boolean> {
    const { runtime, model, way } = one;
    if (!way.isWanted()) return true;
    if (!way.isDue()) return false;
    if (!(await isThere(runtime, signal))) return wait(one);
    one.awaySince = undefined;
    try {
      one.nextAt = now() + ASK_MS;
      return await way.load(AbortSignal.any([signal, AbortSignal.timeout(LOAD_MS)]));
    } catch (thrown) {
      if (signal.aborted) return true;
      one.tries++;
      one.nextAt = now() + Math.min(way.againMs * 2 ** (one.tries - 1), LONGEST_MS);
      const { code, message, hint } = toGatewayError(thrown);
      const over = one.tries >= way.tries || code === 'not_supported';
      const end = over ? 'It is not tried again.' : 'It is tried again.';
      warn(`${model} could not be ${way.verb}: ${message} ${end}`, { runtime, model, ...(hint ? { hint } : {}) });
      return over;
    }
  }

  function wait(one: Pending): boolean {
    const { runtime, model, way } = one;
    if (one.awaySince === undefined) {
      warn(`${model} is ${way.verb} as soon as ${runtime} can be reached.`, { runtime, model });
    }
    one.awaySince ??= now();
    one.nextAt = now() + ASK_MS;
    const over = now() - one.awaySince >= way.patienceMs;
    if (over) warn(`${model} is not ${way.verb}: ${runtime} did not come back.`, { runtime, model });
    return over;
  }

  return {
    add(place, way = fromTheStart(place)) {
      const { runtime, model } = place;
      if (pending.some((one) => one.runtime === runtime && one.model === model)) return;
      pending.push({ runtime, model, way, tries: 0, nextAt: now() });
    },
    async work(signal) {
      for (const one of pending.filter(({ nextAt }) => nextAt <= now())) {
        if (signal.aborted) return;
        if (await attempt(one, signal)) pending = pending.filter((other) => other !== one);
      }
    },
  };
}
