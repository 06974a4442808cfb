// Models that are to be in memory from the start: loaded one after the other, and tried again when their runtime comes back.
import { toGatewayError } from '../../error.ts';
import type { RuntimeAdapter } from '../../runtime.ts';
import type { ModelPolicy } from '../residency.ts';

export interface Preloads {
  add(policy: ModelPolicy): void;
  /** Tries whatever is due. Never throws. */
  work(signal: AbortSignal): Promise<void>;
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
  tries: number;
  since: number;
  nextAt: number;
}

/** Loads that fail although the runtime answers are tried so often, this long apart in milliseconds, twice as long each time. */
const MAX_TRIES = 4;
const AGAIN_MS = 15_000;
/** A runtime that is away is asked for so often and so long, in milliseconds. */
const ASK_MS = 5000;
const PATIENCE_MS = 3_600_000;
const HEALTH_MS = 1500;
/** A load that takes longer than this, in milliseconds, is stuck. */
const LOAD_MS = 900_000;

export function createPreloads({ runtimes, isWanted, load, now, warn }: PreloadOptions): Preloads {
  let pending: Pending[] = [];

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
    const { runtime, model } = one;
    if (!isWanted(runtime, model)) return true;
    if (!(await isThere(runtime, signal))) return wait(one);
    try {
      await load(runtime, model, AbortSignal.any([signal, AbortSignal.timeout(LOAD_MS)]));
      return true;
    } catch (thrown) {
      if (signal.aborted) return true;
      one.tries++;
      one.nextAt = now() + AGAIN_MS * 2 ** (one.tries - 1);
      const over = one.tries >= MAX_TRIES;
      const { message, hint } = toGatewayError(thrown);
      const end = over ? 'It is not tried again.' : 'It is tried again.';
      warn(`${model} could not be preloaded: ${message} ${end}`, { runtime, model, ...(hint ? { hint } : {}) });
      return over;
    }
  }

  function wait(one: Pending): boolean {
    const { runtime, model, since } = one;
    const over = now() - since >= PATIENCE_MS;
    if (one.nextAt === since) {
      warn(`${model} is preloaded as soon as ${runtime} can be reached.`, { runtime, model });
    } else if (over) {
      warn(`${model} is not preloaded: ${runtime} did not come back.`, { runtime, model });
    }
    one.nextAt = now() + ASK_MS;
    return over;
  }

  return {
    add({ runtime, model }) {
      if (pending.some((one) => one.runtime === runtime && one.model === model)) return;
      pending.push({ runtime, model, tries: 0, since: now(), nextAt: now() });
    },
    async work(signal) {
      for (const one of pending.filter(({ nextAt }) => nextAt <= now())) {
        if (signal.aborted) return;
        if (await attempt(one, signal)) pending = pending.filter((other) => other !== one);
      }
    },
  };
}
