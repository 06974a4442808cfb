// What pullers are asked without pulling: what a pull would take, and what there is; none of them is waited for longer than it deserves.
import { GatewayError, toGatewayError } from '../../error.ts';
import type { Offer, Puller, PullPlan } from '../../puller.ts';
import type { Chosen } from './choose.ts';
import { untilAborted } from '../../timers.ts';

const SEARCH_MS = 3000;
const PLAN_MS = 30_000;
const READY_MS = 2000;

/** Whoever is not ready by then claims what it can. */
export async function prepare(pullers: Puller[]): Promise<void> {
  const limit = AbortSignal.timeout(READY_MS);
  await Promise.allSettled(pullers.map(async (puller) => untilAborted(Promise.resolve(puller.ready?.(limit)), limit)));
}

/** Throws what the puller throws, and upstream_timeout. */
export function planPull({ puller, want }: Chosen, signal: AbortSignal): Promise<PullPlan> {
  return ask(puller, signal, PLAN_MS, (until) => puller.plan(want, until));
}

/** All are asked side by side; those that fail are named. */
export async function searchPullers(
  pullers: Puller[],
  words: string,
  signal: AbortSignal,
): Promise<{ offers: (Offer & { runtime: string })[]; problems: string[] }> {
  const problems: string[] = [];
  const asked = pullers.map(async (puller) => {
    const { runtime } = puller;
    try {
      const found = await ask(puller, signal, SEARCH_MS, async (until) => (await puller.search?.(words, until)) ?? []);
      return found.map((offer) => ({ ...offer, runtime }));
    } catch (error) {
      problems.push(`${runtime}: ${toGatewayError(error).message}`);
      return [];
    }
  });
  const offers = (await Promise.all(asked)).flat();
  signal.throwIfAborted();
  return { offers, problems };
}

async function ask<T>(
  { runtime }: Puller,
  signal: AbortSignal,
  ms: number,
  work: (until: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = AbortSignal.timeout(ms);
  const until = AbortSignal.any([signal, limit]);
  try {
    return await untilAborted(work(until), until);
  } catch (error) {
    // Its own time limit is no fault of the caller's.
    if (signal.aborted || !limit.aborted) throw error;
    throw new GatewayError('upstream_timeout', `${runtime} did not answer in time.`, { source: runtime });
  }
}
