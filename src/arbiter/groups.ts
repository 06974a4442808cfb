// Those who wait, by the model that they wait for: how many, for how long, and who of them goes first.
import type { Entry } from './card.ts';
import type { Class, Waiting } from './snapshot.ts';

export interface Group {
  /** The model, where it is on the card. */
  entry: Entry | undefined;
  /** Who has waited longest, and who needs the most of the card. */
  oldest: Waiting;
  largest: Waiting;
  count: number;
  /** What they count together, by their class. */
  weight: number;
  /** Milliseconds that running them takes. */
  workMs: number;
  /** When the first of them is due. */
  dueAt: number;
  loadMs: number;
  /** They themselves, once they were listed; in no order that counts. */
  waiters: Waiting[];
  isListed: boolean;
}

export interface Groups {
  all: readonly Group[];
  /** Those of them that `want` get to know who is in them. */
  list(want: (group: Group) => boolean): void;
  /** Of a group that is listed, those alone who `want`, as a group of their own; there is one at least. */
  narrow(group: Group, want: (waiter: Waiting) => boolean): Group;
}

export type Order = (a: Waiting, b: Waiting) => number;

/** What one who waits counts, by who waits for the answer. */
const WEIGHTS: Record<Class, number> = { interactive: 4, normal: 2, background: 1 };
/** Who has waited for this share of his patience is ripe: from then on age alone counts. */
const RIPE = 0.7;

/** Sums up in one pass in which nothing is made but the groups: there may be ten thousand who wait. */
export function toGroups(waiting: readonly Waiting[], isOut: (waiter: Waiting) => boolean): Groups {
  const groups: Group[] = [];
  const lines: (Group | undefined)[] = [];
  // Two levels: names that are strings already are found faster than any that must be put together.
  const runtimes = new Map<string, Map<string, Group>>();

  function find(waiter: Waiting): Group {
    let models = runtimes.get(waiter.runtime);
    if (!models) runtimes.set(waiter.runtime, (models = new Map()));
    let group = models.get(waiter.model);
    if (group) return group;
    group = open(waiter);
    models.set(waiter.model, group);
    groups.push(group);
    return group;
  }

  function of(waiter: Waiting): Group {
    const { line } = waiter;
    if (line === undefined) return find(waiter);
    return (lines[line] ??= find(waiter));
  }

  for (const waiter of waiting) {
    if (isOut(waiter)) continue;
    add(of(waiter), waiter);
  }

  return {
    all: groups,
    list(want) {
      const some = new Set(groups.filter((group) => !group.isListed && want(group)));
      if (some.size === 0) return;
      for (const group of some) group.isListed = true;
      for (const waiter of waiting) {
        const group = of(waiter);
        if (group.isListed && some.has(group) && !isOut(waiter)) group.waiters.push(waiter);
      }
    },
    narrow({ entry, waiters }, want) {
      const wanted = waiters.filter(want);
      const group = { ...open(wanted[0]!), entry, waiters: wanted, isListed: true };
      for (const waiter of wanted) add(group, waiter);
      return group;
    },
  };
}

function open(waiter: Waiting): Group {
  return {
    entry: undefined,
    oldest: waiter,
    largest: waiter,
    count: 0,
    weight: 0,
    workMs: 0,
    dueAt: Infinity,
    loadMs: 0,
    waiters: [],
    isListed: false,
  };
}

function add(group: Group, waiter: Waiting): void {
  group.count++;
  group.weight += WEIGHTS[waiter.class];
  group.workMs += waiter.runMs;
  if (waiter.since < group.oldest.since) group.oldest = waiter;
  if (waiter.footprint > group.largest.footprint) group.largest = waiter;
  if (waiter.dueAt < group.dueAt) group.dueAt = waiter.dueAt;
  if (waiter.loadMs > group.loadMs) group.loadMs = waiter.loadMs;
}

/** It waits no more. */
export function take(group: Group, waiter: Waiting): void {
  const { waiters } = group;
  waiters[waiters.lastIndexOf(waiter)] = waiters.at(-1)!;
  waiters.pop();
  group.count--;
  group.weight -= WEIGHTS[waiter.class];
  group.workMs -= waiter.runMs;
}

export function first(waiters: readonly Waiting[], order: Order): Waiting | undefined {
  let best = waiters[0];
  for (const one of waiters) if (order(one, best!) < 0) best = one;
  return best;
}

/** Ripe ones by age; else by class, by least use, by age. */
export function createOrder(now: number, usage: (caller: string) => number = () => 0): Order {
  const used = new Map<string, number>();
  const usageOf = (caller: string) => {
    let found = used.get(caller);
    if (found === undefined) used.set(caller, (found = usage(caller)));
    return found;
  };
  return (a, b) => {
    const ripe = isRipe(a, now);
    if (ripe !== isRipe(b, now)) return ripe ? -1 : 1;
    if (ripe) return byAge(a, b);
    if (a.class !== b.class) return WEIGHTS[b.class] - WEIGHTS[a.class];
    if (a.caller !== b.caller) return usageOf(a.caller) - usageOf(b.caller) || byAge(a, b);
    return byAge(a, b);
  };
}

export function byAge(a: Waiting, b: Waiting): number {
  return a.since - b.since || a.id - b.id;
}

export function isRipe({ since, dueAt }: Waiting, now: number): boolean {
  return now - since > RIPE * (dueAt - since);
}
