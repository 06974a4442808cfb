// What came of a trace under one policy, in figures.
import type { Outcome, Served } from './simulate.ts';
import { CLASSES, type Class } from './trace.ts';

/** Times are in seconds. A wait ends when the run begins: queue, swap and load are all in it. */
export interface Figures extends Waits {
  name: string;
  /** Loads: each sends something away, but for the first few. */
  swaps: number;
  p99Wait: number;
  /** From arrival to the end of the run. */
  meanFlow: number;
  /** Fairness between callers over 1 s + their mean wait: 1 where all are equal, 1/n where one has it all. */
  jain: number;
  makespan: number;
  /** Share of the makespan during which the card computed. */
  utilization: number;
  /** Of those classes that were there. */
  classes: Partial<Record<Class, Waits & { count: number }>>;
  /** Longest wait that was promised to anybody, where the policy promises one, and how many waited longer than they were promised. */
  bound?: number;
  late?: number;
  /** Requests that were refused; absent where there were none. */
  refused?: number;
}

interface Waits {
  meanWait: number;
  p95Wait: number;
  maxWait: number;
}

export function toFigures(name: string, outcome: Outcome, { promises = false } = {}): Figures {
  const { served, refused, loads, makespan, busyMs } = outcome;
  const first = Math.min(...[...served, ...refused].map(({ row }) => row.at));
  const waits = toWaits(served);
  return {
    name,
    swaps: loads,
    meanWait: waits.meanWait,
    p95Wait: waits.p95Wait,
    p99Wait: toRank(served, 0.99),
    maxWait: waits.maxWait,
    meanFlow: round(toMean(served.map(({ row, endedAt }) => endedAt - (row.at - first)))),
    jain: round(toJain(served)),
    makespan: round(makespan),
    utilization: round(makespan > 0 ? busyMs / 1000 / makespan : 0),
    classes: Object.fromEntries(
      CLASSES.map((name) => [name, served.filter(({ row }) => row.class === name)] as const)
        .filter(([, some]) => some.length > 0)
        .map(([name, some]) => [name, { count: some.length, ...toWaits(some) }]),
    ),
    ...(promises ? toBound(served) : {}),
    ...(refused.length > 0 ? { refused: refused.length } : {}),
  };
}

function toBound(served: readonly Served[]): { bound: number; late: number } {
  const bound = round(served.reduce((most, { promised }) => Math.max(most, promised), 0));
  return { bound, late: served.filter(({ wait, promised }) => wait > promised).length };
}

function toWaits(served: readonly Served[]): Waits {
  return {
    meanWait: round(toMean(served.map(({ wait }) => wait))),
    p95Wait: toRank(served, 0.95),
    maxWait: toRank(served, 1),
  };
}

function toRank(served: readonly Served[], share: number): number {
  const waits = served.map(({ wait }) => wait).toSorted((a, b) => a - b);
  return round(waits[Math.min(waits.length - 1, Math.floor(share * waits.length))] ?? 0);
}

function toJain(served: readonly Served[]): number {
  const means = [...Map.groupBy(served, ({ row }) => row.caller).values()].map(
    (some) => 1 + toMean(some.map(({ wait }) => wait)),
  );
  if (means.length === 0) return 1;
  return toSum(means) ** 2 / (means.length * toSum(means.map((mean) => mean ** 2)));
}

function toMean(numbers: readonly number[]): number {
  return numbers.length === 0 ? 0 : toSum(numbers) / numbers.length;
}

function toSum(numbers: readonly number[]): number {
  return numbers.reduce((sum, one) => sum + one, 0);
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
