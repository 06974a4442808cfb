// How others decide, over the same snapshot as ours: what the benchmark compares with.
import {
  decide,
  toKey,
  type Decision,
  type Held,
  type Policy,
  type Snapshot,
  type Waiting,
} from '../../src/arbiter/policy.ts';

/** Makes one anew for each run, for some remember. */
export const policies: Readonly<Record<string, () => Policy>> = {
  ours: () => decide,
  fifo: () => fifo,
  lru: createLru,
  'set-swap': () => setSwap,
  'one-at-a-time': () => oneAtATime,
  'lru-passing': () => lruPassing,
};

/** Those that are compared unless others are asked for. */
export const compared = ['ours', 'fifo', 'lru', 'set-swap', 'one-at-a-time'];

/** Strict order: whoever is first is let in, or has room made for him by whoever came to the card first and is idle; the rest waits. */
function fifo(snapshot: Snapshot): Decision {
  const desk = createDesk(snapshot);
  for (const waiter of desk.waiting) {
    if (desk.isSwapping) break;
    if (desk.isFree(waiter)) desk.grant(waiter);
    else {
      if (!desk.find(waiter)) desk.swap(waiter, { order: (one) => one.since });
      break;
    }
  }
  return desk.decision;
}

/**
 * As Ollama: several models at once, requests for them pass each other, the one used longest ago leaves for the next.
 * The first whose model is not there holds up all who came after him, and so does his load.
 */
function createLru(): Policy {
  let loadedFor = -1;
  return (snapshot) => {
    const desk = createDesk(snapshot);
    for (const waiter of desk.waiting) {
      if (desk.isSwapping && waiter.id > loadedFor) break;
      if (desk.isFree(waiter)) desk.grant(waiter);
      else if (!desk.find(waiter)) {
        if (desk.swap(waiter, { order: (one) => one.usedAt })) loadedFor = waiter.id;
        break;
      }
    }
    return desk.decision;
  };
}

/** As Ollama where its own runners have the queues: whoever's model is there is let in at once, also past those who wait for a load. */
function lruPassing(snapshot: Snapshot): Decision {
  const desk = createDesk(snapshot);
  for (const waiter of desk.waiting) if (desk.isFree(waiter)) desk.grant(waiter);
  const next = desk.left().find((waiter) => !desk.find(waiter));
  if (next && !desk.isSwapping) desk.swap(next, { order: (one) => one.usedAt });
  return desk.decision;
}

/**
 * As llama-swap with a matrix of sets: whoever's model is there is let in; a model leaves only when nobody waits for it,
 * the one that is soonest loaded first, and nobody ages.
 */
function setSwap(snapshot: Snapshot): Decision {
  const desk = createDesk(snapshot);
  for (const waiter of desk.waiting) if (desk.isFree(waiter)) desk.grant(waiter);
  if (desk.isSwapping) return desk.decision;
  const wanted = new Set(desk.left().map(toKey));
  for (const waiter of desk.left()) {
    if (desk.find(waiter)) continue;
    if (desk.swap(waiter, { order: (one) => one.loadMs, keep: (one) => wanted.has(toKey(one)) })) break;
  }
  return desk.decision;
}

/** As gpu-broker: strict order, one model on the card, one run at a time. */
function oneAtATime(snapshot: Snapshot): Decision {
  const desk = createDesk(snapshot);
  const first = desk.waiting[0];
  if (!first || desk.isSwapping || snapshot.held.some(({ leases }) => leases > 0)) return desk.decision;
  if (desk.isFree(first)) desk.grant(first);
  else if (!desk.find(first)) desk.swap(first, { order: (one) => one.since, all: true });
  return desk.decision;
}

/** What all of them need: who may begin, who would have to leave, and the decision as it grows. */
function createDesk({ waiting, held, budget = 0, slots, swapping }: Snapshot) {
  const grant: Waiting[] = [];
  const decision: Decision = { grant, refuse: [], because: new Map() };
  const used = new Map(held.map((entry) => [toKey(entry), entry.leases]));
  const there = new Map(held.map((entry) => [toKey(entry), entry]));
  const isSwapping = swapping || held.some(({ loading }) => loading);
  const fitting = waiting.filter((waiter) => waiter.footprint <= budget);
  for (const waiter of waiting) {
    if (waiter.footprint > budget)
      decision.refuse = [...decision.refuse, { waiting: waiter, because: 'it never fits' }];
  }

  function isFree(want: Waiting): boolean {
    const entry = there.get(toKey(want));
    if (!entry || entry.leaving || entry.loading) return false;
    return used.get(toKey(want))! < (slots?.(want.runtime).model ?? Infinity);
  }

  /** Whether it could be: idle ones leave in that order until it fits. */
  function swap(want: Waiting, { order, keep = () => false, all = false }: Leaving): boolean {
    let free = held.reduce((left, { footprint }) => left - footprint, budget);
    const victims: Held[] = [];
    const idle = held.filter((entry) => used.get(toKey(entry)) === 0 && !entry.leaving && !entry.stuck && !keep(entry));
    for (const entry of idle.toSorted((a, b) => order(a) - order(b))) {
      if (free >= want.footprint && !all) break;
      victims.push(entry);
      free += entry.footprint;
    }
    if (free < want.footprint) return false;
    for (const entry of all ? [] : [...victims]) {
      if (free - entry.footprint < want.footprint) continue;
      victims.splice(victims.indexOf(entry), 1);
      free -= entry.footprint;
    }
    decision.swap = { for: want, victims, because: 'it is next' };
    return true;
  }

  return {
    decision,
    isSwapping,
    waiting: fitting,
    left: () => fitting.filter((waiter) => !grant.includes(waiter)),
    find: (want: Waiting) => there.get(toKey(want)),
    isFree,
    swap,
    grant(waiter: Waiting) {
      grant.push(waiter);
      used.set(toKey(waiter), (used.get(toKey(waiter)) ?? 0) + 1);
    },
  };
}

interface Leaving {
  /** Who leaves first has the least. */
  order: (entry: Held) => number;
  keep?: (entry: Held) => boolean;
  /** They all leave, also where it would fit beside them. */
  all?: boolean;
}
