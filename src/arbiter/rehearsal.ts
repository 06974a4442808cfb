// The card run ahead of time: what the arbiter would do, if the policy stays what it is and loads and runs take what is expected.
import {
  toKey,
  type Closed,
  type Decision,
  type Held,
  type Policy,
  type Snapshot,
  type Waiting,
  type Want,
} from './policy.ts';
import { createShares } from './shares.ts';

/** What is expected of one who waits, in milliseconds from now. */
export interface Expected {
  /** It is let in. */
  grantMs: number;
  /** It has the card, and is loaded where it was not. */
  startMs: number;
  /** Of that, what goes into making room and loading for it. */
  swapMs: number;
  /** It is done. */
  endMs: number;
  /** What leaves the card for it. */
  evicts: readonly Want[];
}

export interface Rehearsal {
  /** By their ids, in the order of their turns. */
  expected: Map<number, Expected>;
  /** They would be told that it cannot be. */
  refused: ReadonlySet<number>;
  /** How far it was run, in milliseconds from now. */
  ranMs: number;
  /** It was ended for its length alone: those who are missing would have had their turn. */
  cut: boolean;
}

export interface RehearsalOptions {
  /** Those who wait, roughly in the order of their turns: so many of them are looked at, and others as these have theirs. */
  line: readonly Waiting[];
  window: number;
  /** When it is long enough: decisions, each weighed by how many it is made about. */
  effort: number;
  /** Milliseconds that one model takes to leave the card. */
  evictMs: number;
}

/** A lease as it is expected to go. */
interface Use {
  entry: Held;
  endsAt: number;
  /** Ends what it has of its caller's share; who only loads has none. */
  leave: (() => void) | undefined;
  caller: string | undefined;
}

/** A swap under way: what has to leave before it is decided anew. */
interface Swapping {
  forId: number | undefined;
  leaving: Held[];
  nextAt: number;
  round: number;
}

/** What should have ended is about to: in milliseconds, or as a share of how late it is. */
const SOON_MS = 100;
const LATE_SHARE = 0.25;
/** What a decision costs beside what it costs for each who waits. */
const EFFORT = 30;
/** Looks in a row of which nothing came, with nothing under way, after which it is given up. */
const BARREN = 8;
/** As the arbiter has it. */
const ROUNDS = 4;

/** Never throws: what the policy cannot decide ends it. */
export function rehearse(
  snapshot: Snapshot,
  policy: Policy,
  { line, window, effort, evictMs }: RehearsalOptions,
): Rehearsal {
  const start = snapshot.now;
  let now = start;
  let left = effort;
  let next = 0;
  let wakeAt = Infinity;
  let barren = 0;
  let waiting: Waiting[] = [];
  const expected = new Map<number, Expected>();
  const refused = new Set<number>();
  const spent = new Map<number, { swapMs: number; evicts: Want[] }>();
  const shares = createShares({ now: () => now });
  const used = memoize((caller) => snapshot.usage?.(caller) ?? 0);
  const held = snapshot.held.map((entry) => ({ ...entry }));
  /** What waiters believe of a model that was there when they came is old news once it has left. */
  const loadMs = new Map<string, number>();
  for (const one of held) loadMs.set(toKey(one), toMs(one.loadMs));
  const arrivals = new Map<Held, number>();
  for (const entry of held) if (entry.loading) arrivals.set(entry, toSoon(entry.since + toMs(entry.loadMs), start));
  let uses = toUses(snapshot, held, arrivals);
  let swap = toSwapping();

  /** The snapshot tells that a swap is under way, not whose. */
  function toSwapping(): Swapping | undefined {
    const leaving = held.filter((entry) => entry.leaving);
    if (leaving.length === 0 && (!snapshot.swapping || arrivals.size > 0)) return undefined;
    return { forId: undefined, leaving, nextAt: start + (leaving.length > 0 ? evictMs : 0), round: 0 };
  }

  function fill(): boolean {
    if (next >= line.length || waiting.length >= window) return false;
    while (next < line.length && waiting.length < window) {
      const waiter = line[next++]!;
      waiting.push(waiter);
      const key = toKey(waiter);
      loadMs.set(key, Math.max(toMs(waiter.loadMs), loadMs.get(key) ?? 0));
    }
    // In the order of arrival, as the policy knows them.
    waiting.sort((a, b) => a.id - b.id);
    return true;
  }

  function take(id: number): Waiting | undefined {
    const waiter = waiting.find((one) => one.id === id);
    if (waiter) waiting = waiting.filter((one) => one !== waiter);
    return waiter;
  }

  function ask(swapping: boolean): Decision {
    left -= EFFORT + waiting.length;
    const shut = (how: Closed | undefined) => (how && (how.until ?? Infinity) > now ? how : undefined);
    const decision = policy({
      ...snapshot,
      now,
      waiting,
      held,
      running: uses.map(({ entry: { runtime, model }, endsAt }) => ({ runtime, model, endsAt })),
      swapping,
      usage: (caller) => used(caller) + shares.usage(caller),
      closed: shut(snapshot.closed),
      quiet: shut(snapshot.quiet),
    });
    for (const refusal of decision.refuse) if (take(refusal.waiting.id)) refused.add(refusal.waiting.id);
    return decision;
  }

  function begin(waiter: Waiting): void {
    const key = toKey(waiter);
    let entry = held.find((one) => toKey(one) === key);
    if (!entry) {
      const { runtime, model, footprint } = waiter;
      const ms = loadMs.get(key) ?? 0;
      const state = { leases: 0, usedAt: now, since: now, loading: true, loadMs: ms, leaving: false, stuck: false };
      entry = { runtime, model, footprint, ...state };
      held.push(entry);
      arrivals.set(entry, now + ms);
    }
    const startsAt = arrivals.get(entry) ?? now;
    const endsAt = startsAt + toMs(waiter.runMs);
    entry.leases++;
    entry.usedAt = now;
    const { caller } = waiter;
    uses.push({ entry, endsAt, caller, leave: entry.loading ? undefined : shares.begin(caller) });
    const { swapMs = 0, evicts = [] } = spent.get(waiter.id) ?? {};
    expected.set(waiter.id, {
      grantMs: now - start,
      startMs: startsAt - start,
      swapMs: swapMs + startsAt - now,
      endMs: endsAt - start,
      evicts,
    });
  }

  const isLoading = () => held.some((entry) => entry.loading);

  /** Looks, makes room, looks again: whether who is first now can be let in. */
  function step(decision: Decision, round: number): void {
    swap = undefined;
    const waiter = decision.swap && waiting.find(({ id }) => id === decision.swap!.for.id);
    if (!waiter) return;
    const keys = new Set(decision.swap!.victims.map(toKey));
    const leaving = held.filter((entry) => keys.has(toKey(entry)));
    if (leaving.length === 0) return begin(take(waiter.id)!);
    if (round >= ROUNDS) return void take(waiter.id);
    for (const entry of leaving) entry.leaving = true;
    swap = { forId: waiter.id, leaving, nextAt: now + evictMs, round };
  }

  function pump(): void {
    for (let again = true; again && left > 0;) {
      const before = waiting.length;
      const decision = ask(swap !== undefined || isLoading());
      wakeAt = decision.wakeAt !== undefined && decision.wakeAt > now ? decision.wakeAt : Infinity;
      const granted = decision.grant.flatMap(({ id }) => take(id) ?? []);
      for (const waiter of granted) begin(waiter);
      const isNew = decision.swap !== undefined && swap === undefined;
      // What was granted beside it may have changed what comes next.
      if (isNew) step(granted.length > 0 ? ask(isLoading()) : decision, 0);
      const isShorter = waiting.length < before;
      again = (fill() || isNew) && isShorter;
    }
  }

  /** The next that happens has happened. False where nothing will. */
  function advance(): boolean {
    const ends = uses.map(({ endsAt }) => endsAt);
    const opens = [snapshot.closed?.until, snapshot.quiet?.until].map((at) =>
      at !== undefined && at > now ? at : Infinity,
    );
    const at = [...ends, ...arrivals.values(), ...opens, swap?.nextAt ?? Infinity, wakeAt].reduce(
      (a, b) => Math.min(a, b),
      Infinity,
    );
    if (!Number.isFinite(at)) return false;
    // Only the policy wanted to look again: if nothing comes of that many times, nothing will.
    barren = at === wakeAt && uses.length === 0 && arrivals.size === 0 && !swap ? barren + 1 : 0;
    now = Math.max(now, at);
    for (const [entry, arrivesAt] of arrivals) {
      if (arrivesAt > now) continue;
      arrivals.delete(entry);
      entry.loading = false;
      entry.since = now;
      for (const use of uses)
        if (use.entry === entry && use.caller !== undefined) use.leave ??= shares.begin(use.caller);
    }
    for (const use of uses.filter(({ endsAt }) => endsAt <= now)) {
      use.entry.leases--;
      use.entry.usedAt = now;
      use.leave?.();
    }
    uses = uses.filter(({ endsAt }) => endsAt > now);
    if (swap && swap.nextAt <= now) goOn(swap);
    return true;
  }

  /** One has left the card; when all have, it is decided anew. */
  function goOn(current: Swapping): void {
    const { forId, leaving, round } = current;
    const gone = leaving.shift();
    if (gone && held.includes(gone)) {
      held.splice(held.indexOf(gone), 1);
      const { runtime, model, footprint } = gone;
      const { swapMs = 0, evicts = [] } = (forId === undefined ? undefined : spent.get(forId)) ?? {};
      if (forId !== undefined)
        spent.set(forId, { swapMs: swapMs + evictMs, evicts: [...evicts, { runtime, model, footprint }] });
    }
    if (leaving.length > 0) current.nextAt = now + evictMs;
    else step(ask(isLoading()), round + 1);
  }

  const isOver = () => left <= 0 || waiting.length === 0 || barren > BARREN;
  try {
    fill();
    do pump();
    while (!isOver() && advance());
  } catch {
    left = Infinity;
  }
  return { expected, refused, ranMs: now - start, cut: left <= 0 };
}

/** The leases of a snapshot, as they are expected to end. */
function toUses({ now, running }: Snapshot, held: readonly Held[], arrivals: ReadonlyMap<Held, number>): Use[] {
  const entries = new Map(held.map((entry) => [toKey(entry), entry]));
  const uses: Use[] = [];
  const counts = new Map<Held, number>();
  for (const { runtime, model, endsAt } of running) {
    const entry = entries.get(toKey({ runtime, model }));
    if (!entry) continue;
    counts.set(entry, (counts.get(entry) ?? 0) + 1);
    // Who waits for a load that is late ends so much later.
    const late = Math.max(0, (arrivals.get(entry) ?? 0) - (entry.since + toMs(entry.loadMs)));
    uses.push({
      entry,
      endsAt: toSoon(endsAt + (arrivals.has(entry) ? late : 0), now),
      leave: undefined,
      caller: undefined,
    });
  }
  for (const entry of held) {
    // Somebody uses it of whom nothing is told.
    for (let count = counts.get(entry) ?? 0; count < entry.leases; count++) {
      uses.push({ entry, endsAt: now + SOON_MS, leave: undefined, caller: undefined });
    }
  }
  return uses;
}

/** What should have happened is late, and the later it is, the longer it may still take. */
function toSoon(at: number, now: number): number {
  if (at >= now) return at;
  return Number.isFinite(at) ? now + Math.max(SOON_MS, (now - at) * LATE_SHARE) : now + SOON_MS;
}

/** Guesses of others are no reason to fail. */
export function toMs(ms: number): number {
  return Number.isFinite(ms) && ms > 0 ? ms : 0;
}

function memoize(tell: (caller: string) => number): (caller: string) => number {
  const known = new Map<string, number>();
  return (caller) => {
    let value = known.get(caller);
    if (value === undefined) known.set(caller, (value = tell(caller)));
    return value;
  };
}
