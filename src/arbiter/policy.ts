// Who may use the card now: a pure decision over a snapshot.
import { toCard, type Card, type Entry } from './card.ts';
import { grantAll } from './grants.ts';
import { byAge, createOrder, first, isRipe, toGroups, type Group } from './groups.ts';
import { toKey, type Decision, type Held, type Refusal, type Snapshot, type Swap, type Waiting } from './snapshot.ts';

export { toKey } from './snapshot.ts';
export type * from './snapshot.ts';

/** A model that is asked for stays for so many times what it takes to load what displaces it, and itself again. */
const STINT = 2.5;
/**
 * Whoever is made to wait by a detour must have so many of it left until he is due: for one who is due, and for a higher class.
 * Where he has not, he must be due so many of it later than the one who is.
 */
const SLACK = { due: 0.5, yield: 5, late: 1 };
/** A higher class displaces a lower one where it makes so many times as much of the card's time. */
const GAIN = 4;
/**
 *  1. The card is lent, or quiet hours hold background work  → wait.
 *  2. It can never fit, or only pinned models are in its way → refuse: waiting would not end.
 *  3. Somebody is due, who has waited longest                → what stands in his way is drained: nothing that came later begins on it.
 *     Not where it has yet to earn its load, nor where others would be as late in turn. Then the next slot is his, too.
 *  4. A higher class would make far more of the card's time  → the same, where those it displaces can spare the time. There may be
 *                                                             room, and what its runtime has at work keep the slot.
 *     Where that is allowed, and he waits at the screen, work of the background in his way is ended.
 *  5. The model is there, it fits, and a slot is free        → grant: ripe ones by age; else by class, by least use, by age.
 *  6. A swap is under way                                    → wait: one at a time, or two would take the same free memory.
 *  7. What had to be drained is idle                         → swap it out; until then nothing else is loaded.
 *  8. It fits beside what is there, or without models that   → load: ripe ones by age; else whoever serves most in its time.
 *     are idle and that nobody waits for                       What leaves is worth least: seldom asked for, quick to load, large.
 *  9. The rest is busy, or somebody waits for it             → wait.
 */
export function decide(snapshot: Snapshot): Decision {
  const { now, waiting, held, swapping, closed, quiet, usage } = snapshot;
  const grant: Waiting[] = [];
  const refuse: Refusal[] = [];
  const because = new Map<string, string>();
  const decision: Decision = { grant, refuse, because };
  const wake = (at: number) => {
    decision.wakeAt = Math.min(decision.wakeAt ?? Infinity, Math.max(at, now + 1));
  };
  const card = toCard(snapshot);
  const isShut = (waiter: Waiting) => closed !== undefined || (quiet !== undefined && waiter.class === 'background');
  // 1
  const shut = closed ?? quiet;
  if (shut) {
    for (const waiter of waiting) if (isShut(waiter)) because.set(toKey(waiter), shut.because);
    if (shut.until !== undefined) wake(shut.until);
  }
  let groups = toGroups(waiting, isShut);
  // 2
  if (!groups.all.every(({ largest }) => card.canEver(largest))) {
    const refused = new Set<Waiting>();
    for (const waiter of waiting) {
      const refusal = isShut(waiter) || card.canEver(waiter) ? undefined : card.refusalOf(waiter);
      if (!refusal) continue;
      refuse.push({ waiting: waiter, ...refusal });
      refused.add(waiter);
    }
    groups = toGroups(waiting, (waiter) => isShut(waiter) || refused.has(waiter));
  }
  for (const group of groups.all) {
    group.entry = card.find(group.oldest);
    if (group.entry) card.asked(group.entry, group);
  }
  // Of a model that is there, those alone for whom it must grow: how long the others have waited does not speak for them.
  const cannot = (group: Group, waiter: Waiting) => !group.entry || !card.canUse(group.entry, waiter);
  const absent = groups.all.filter((group) => cannot(group, group.largest));
  groups.list((group) => group.entry !== undefined && absent.includes(group));
  const missing = absent.map((group) =>
    group.entry ? groups.narrow(group, (waiter) => cannot(group, waiter)) : group,
  );
  // 3, 4
  const claim = toDue(missing, card, now) ?? toYield(missing, card, now);
  const ended = claim && snapshot.preempts ? toPreempted(claim, snapshot) : [];
  if (ended.length > 0) decision.preempt = ended;
  // 5
  const order = createOrder(now, usage);
  const isThere = ({ entry }: Group) => entry !== undefined && !entry.held.leaving && card.slotsOf(entry) > 0;
  groups.list(isThere);
  // Where only a slot is missing, the next that is free is theirs.
  const isReady = claim !== undefined && [...claim.from].every(isIdle) && !held.some(({ loading }) => loading);
  const isDrained = (entry: Entry) => claim?.from.has(entry) ?? false;
  const isLast = ({ held: { runtime } }: Entry) =>
    isReady && runtime === claim.group.oldest.runtime && card.runtimeSlots(runtime) <= 1;
  const listed = groups.all.filter((group) => isThere(group) && !(claim?.isYield && isDrained(group.entry!)));
  const begin = grantAll(listed, {
    card,
    orderOf: (entry) => (isDrained(entry) ? byAge : order),
    // Whoever came before him who is due does not wait for him.
    isHeldBack: (entry, next) =>
      (isDrained(entry) || (entry !== claim?.group.entry && isLast(entry))) &&
      (claim!.isYield || byAge(next, claim!.group.oldest) > 0),
  });
  for (const waiter of begin) grant.push(waiter);
  // 6 to 9
  const turns = missing.filter(({ count }) => count > 0).toSorted((a, b) => byTurn(a, b, now));
  const swapFor = (group: Group, mine: Claim | undefined, may: (entry: Entry) => boolean): boolean => {
    const { entry, largest } = group;
    if ((entry ? card.slotsOf(entry) : card.runtimeSlots(largest.runtime)) <= 0) return false;
    const victims = card.room(largest, may);
    if (!victims) return false;
    groups.list((one) => one === group);
    const next = first(group.waiters, order);
    if (next) decision.swap = { for: next, victims, because: toReason(victims, mine) };
    return next !== undefined;
  };
  if (!swapping) {
    const isFree = (entry: Entry) => !entry.group?.count;
    const done = claim
      ? swapFor(claim.group, claim, (entry) => claim.from.has(entry))
      : turns.some((group) => swapFor(group, undefined, isFree));
    // Each of several that are there must grow, and the others are in its way: the card is not left to nobody.
    if (!done && card.isIdle()) turns.some((group) => swapFor(group, undefined, () => true));
  }
  // When nothing happens, these moments change the decision.
  for (const group of turns) {
    if (group.dueAt - group.loadMs > now) wake(group.dueAt - group.loadMs);
    const earned = card.all.map((entry) => earnedAt(group, entry)).filter((at) => at > now);
    if (earned.length > 0) wake(Math.min(...earned));
  }
  for (const group of groups.all) {
    if (group.count > 0) because.set(toKey(group.oldest), toWhy(group, { card, claim, swap: decision.swap, swapping }));
  }
  return decision;
}

/** What must leave, or be drained before it can, for somebody's sake. */
interface Claim {
  group: Group;
  from: ReadonlySet<Entry>;
  isYield: boolean;
}

/** 3. The one who has waited longest of those for whom room can be made, where his latest start is now. */
function toDue(missing: readonly Group[], card: Card, now: number): Claim | undefined {
  for (const group of missing.toSorted((a, b) => a.oldest.since - b.oldest.since)) {
    const from = card.drain(group.largest, (entry) => {
      const asked = entry.group;
      if (!asked) return true;
      const detour = toDetour(group, entry);
      // Where they are late anyway, he goes first who is later by more than that keeps them.
      const isSpared = asked.dueAt - SLACK.due * detour > now || asked.dueAt - SLACK.late * detour > group.dueAt;
      return asked.dueAt > group.dueAt && isSpared && earnedAt(group, entry) <= now;
    });
    if (!from) continue;
    const busy = from.map((entry) =>
      Math.max(entry.leftMs, entry.group && entry.held.leases === 0 ? toMean(entry.group) : 0),
    );
    if (now + group.loadMs + Math.max(0, ...busy) < group.dueAt) return undefined;
    return { group, from: new Set(from), isYield: false };
  }
  return undefined;
}

/** 4. A higher class than all that it displaces, which would make far more of the time. */
function toYield(missing: readonly Group[], card: Card, now: number): Claim | undefined {
  for (const group of missing.toSorted((a, b) => byTurn(a, b, now))) {
    const isGain = (asked: Group, entry: Entry) => {
      const gain = group.weight / (group.loadMs + group.workMs + entry.held.loadMs);
      return (
        group.weight / group.count > asked.weight / asked.count &&
        gain > (GAIN * asked.weight) / Math.max(1, asked.workMs) &&
        asked.dueAt - SLACK.yield * toDetour(group, entry) > now
      );
    };
    const from = card.drain(
      group.largest,
      (entry) => !entry.group || (isGain(entry.group, entry) && earnedAt(group, entry) <= now),
    );
    if (!from) continue;
    // There is room for it, and what its runtime has at work keeps the slot: nothing is displaced but the next run.
    const { runtime } = group.oldest;
    const rivals = card.all.filter((entry) => entry.group && entry.held.runtime === runtime && !from.includes(entry));
    const isSlot = card.runtimeSlots(runtime) < Infinity && rivals.length > 0;
    const isKept = isSlot && rivals.every((entry) => isGain(entry.group!, entry));
    if (isKept || from.some((entry) => entry.group)) return { group, from: new Set(from), isYield: true };
  }
  return undefined;
}

/** 4. What is in his way and works for the background alone. */
function toPreempted({ group, from, isYield }: Claim, { running }: Snapshot): Held[] {
  if (isYield || group.oldest.class !== 'interactive') return [];
  const busy = [...from].map(({ held }) => held).filter(({ leases }) => leases > 0);
  return busy.filter((held) =>
    running.every((one) => one.class === 'background' || one.model !== held.model || one.runtime !== held.runtime),
  );
}

/** From when on it has been there for long enough, so that models do not chase each other off the card. */
function earnedAt(group: Group, { held }: Entry): number {
  return held.since + STINT * (group.loadMs + held.loadMs);
}

/** How long those who wait for what is there would be kept by serving the group first. */
function toDetour(group: Group, { held, leftMs }: Entry): number {
  return group.loadMs + group.workMs + held.loadMs + leftMs;
}

function isIdle({ held }: Entry): boolean {
  return held.leases === 0 && !held.loading;
}

function toMean({ workMs, count }: Group): number {
  return workMs / Math.max(1, count);
}

/** 8. */
function byTurn(a: Group, b: Group, now: number): number {
  const [ripeA, ripeB] = [isRipe(a.oldest, now), isRipe(b.oldest, now)];
  if (ripeA !== ripeB) return ripeA ? -1 : 1;
  if (ripeA) return a.oldest.since - b.oldest.since;
  return b.weight / (b.loadMs + b.workMs) - a.weight / (a.loadMs + a.workMs) || a.oldest.id - b.oldest.id;
}

function toReason(victims: readonly Held[], claim: Claim | undefined): string {
  if (victims.length === 0) return 'loading: it fits beside what is there';
  const names = victims.map(({ model }) => model).join(', ');
  if (!claim) return `making room: unloading ${names}, which nobody waits for`;
  return claim.isYield
    ? `making room: unloading ${names} for somebody who waits at the screen`
    : `making room: unloading ${names} for somebody who has waited long`;
}

function toWhy(
  group: Group,
  { card, claim, swap, swapping }: { card: Card; claim: Claim | undefined; swap: Swap | undefined; swapping: boolean },
): string {
  const { entry, oldest } = group;
  if (entry?.held.leaving) return `${oldest.model} is leaving the card, and comes back`;
  if (entry && claim?.from.has(entry)) return `${claim.group.oldest.model} goes first: somebody has waited for it`;
  if (entry && card.canUse(entry, group.largest)) {
    return card.runtimeSlots(oldest.runtime) <= 0 && entry.held.leases === 0
      ? `${oldest.runtime} is working on something else`
      : `${oldest.model} is answering others`;
  }
  if (swap && toKey(swap.for) === toKey(oldest)) return swap.because;
  if (swapping || swap) {
    const coming = swap?.for.model ?? card.all.find((one) => one.held.loading)?.held.model;
    return coming === undefined ? 'another model is being swapped' : `${coming} is being loaded`;
  }
  if (claim && toKey(claim.group.oldest) !== toKey(oldest))
    return `${claim.group.oldest.model} goes first: somebody has waited for it`;
  return card.inTheWay(oldest);
}
