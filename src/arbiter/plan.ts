// What would come of a request, without making it: the policy's word on somebody who is not there.
import type { Place } from './books.ts';
import { forecast } from './forecast.ts';
import { toKey, type Policy, type Snapshot, type Waiting } from './policy.ts';

export interface Plan {
  /** `run`: at once, it is there. */
  would: 'run' | 'load' | 'swap' | 'wait' | 'refuse';
  because: string;
  remedy?: string;
  /** What would leave the card for it. */
  evicts: readonly Place[];
  /** Milliseconds; undefined where nobody can tell. */
  queueMs?: number;
  swapMs?: number;
  runMs: number;
}

/** `toSnapshot`: how things stand, with him who is not there as the last in the queue. */
export function toPlan(mine: Waiting, toSnapshot: (extra: readonly Waiting[]) => Snapshot, policy: Policy): Plan {
  const snapshot = toSnapshot([mine]);
  const { grant, swap, refuse, because } = policy(snapshot);
  const { runMs } = mine;
  const refusal = refuse.find(({ waiting }) => waiting === mine);
  if (refusal) {
    const { because: why, remedy } = refusal;
    return { would: 'refuse', because: why, evicts: [], runMs, ...(remedy === undefined ? {} : { remedy }) };
  }
  if (grant.includes(mine)) {
    return { would: 'run', because: `${mine.model} is on the card`, evicts: [], queueMs: 0, swapMs: 0, runMs };
  }
  const ahead = forecast(snapshot, policy).get(mine.id);
  const times = ahead ? { queueMs: ahead.startMs - ahead.swapMs, swapMs: ahead.swapMs } : {};
  if (swap?.for !== mine) {
    const why = because.get(toKey(mine)) ?? 'others go first';
    return { would: 'wait', because: why, evicts: (ahead?.evicts ?? []).map(toPlace), runMs, ...times };
  }
  const would = swap.victims.length > 0 ? 'swap' : 'load';
  return { would, because: swap.because, evicts: swap.victims.map(toPlace), runMs, ...times };
}

function toPlace({ runtime, model }: Place): Place {
  return { runtime, model };
}
