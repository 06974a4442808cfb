// What any good policy keeps to, whatever the snapshot: the budget, what must not be touched, who goes first, and that nobody waits in vain.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { decide, toKey, type Decision, type Held, type Snapshot, type Waiting } from '../../src/arbiter/policy.ts';

const NOW = 2_000_000;
/** Longer than any model of these takes to earn its load. */
const LONG_MS = 500_000;
const RUNS = { numRuns: Number(process.env['RUNS'] ?? 2000) };

const heldArbitrary = fc.record({
  footprint: fc.integer({ min: 1, max: 8 }),
  leases: fc.constantFrom(0, 0, 1, 2),
  usedAgo: fc.nat(300_000),
  loadMs: fc.nat(20_000),
  state: fc.constantFrom('', '', '', '', 'loading', 'leaving', 'stuck'),
  pinned: fc.constantFrom(false, false, false, true),
});
const waitingArbitrary = fc.record({
  /** Of those on the card, or beyond. */
  model: fc.nat(8),
  footprint: fc.integer({ min: 1, max: 13 }),
  grows: fc.constantFrom(0, 0, 0, 1, 3),
  caller: fc.constantFrom('ann', 'bob', 'eve'),
  class: fc.constantFrom('interactive', 'normal', 'background'),
  ago: fc.nat(200_000),
  runMs: fc.nat(30_000),
});
const worldArbitrary = fc.record({
  held: fc.array(heldArbitrary, { maxLength: 5 }),
  waiting: fc.array(waitingArbitrary, { maxLength: 8 }),
  budget: fc.constantFrom(10, 12, 16, 30, undefined),
  isFirm: fc.boolean(),
  swapping: fc.constantFrom(false, false, false, true),
  closed: fc.constantFrom(
    undefined,
    undefined,
    undefined,
    { until: NOW + 5000, because: 'lent' },
    { until: undefined, because: 'lent' },
  ),
  quiet: fc.constantFrom(undefined, undefined, { until: NOW + 9000, because: 'quiet hours' }),
  slots: fc.constantFrom(
    undefined,
    { model: 1, runtime: Infinity },
    { model: 2, runtime: 2 },
    { model: Infinity, runtime: 1 },
  ),
  demand: fc.constantFrom(0, 3),
  /** How long each waits until he is due, and how long what is on the card has been there. */
  patience: fc.constantFrom(30_000, 100_000, 1_000_000),
  hereFor: fc.constantFrom(0, 10_000, 1_000_000),
});
type World = typeof worldArbitrary extends fc.Arbitrary<infer T> ? T : never;

interface Case {
  snapshot: Snapshot;
  decision: Decision;
  pinned: (one: Pick<Held, 'model'>) => boolean;
  find: (one: Pick<Waiting, 'runtime' | 'model'>) => Held | undefined;
  /** What is to be begun is not held back by the clock. */
  isOpen: (one: Waiting) => boolean;
}

/** Some models are on the card, of two runtimes; the footprint of a model that is there is what it was let in with, or grows. */
function toCase(world: World): Case {
  const pins = new Set<string>();
  const held = world.held.map(({ state, usedAgo, pinned, ...one }, index): Held => {
    const name = `m${index}`;
    if (pinned) pins.add(name);
    const leases =
      state === 'leaving' || state === 'stuck' ? 0 : state === 'loading' ? Math.max(1, one.leases) : one.leases;
    const since = NOW - usedAgo - 1 - world.hereFor;
    const flags = { loading: state === 'loading', leaving: state === 'leaving', stuck: state === 'stuck' };
    return { ...one, ...flags, runtime: index % 2 ? 's' : 'r', model: name, leases, usedAt: NOW - usedAgo, since };
  });
  const sizes = new Map<number, number>();
  const waiting = world.waiting
    .toSorted((a, b) => b.ago - a.ago)
    .map(({ model, footprint, grows, ago, ...one }, index): Waiting => {
      const there = held[model];
      const size = there ? there.footprint + grows : (sizes.get(model) ?? footprint);
      sizes.set(model, size);
      const place = { runtime: model % 2 ? 's' : 'r', model: `m${model}` };
      const times = { since: NOW - ago, dueAt: NOW - ago + world.patience, loadMs: there ? 0 : 4000 };
      return { ...one, ...place, ...times, class: one.class as never, footprint: size, id: index + 1 };
    });
  const isPinned = ({ model }: Pick<Held, 'model'>) => pins.has(model);
  const { budget, isFirm, swapping, closed, quiet, slots } = world;
  const snapshot: Snapshot = {
    now: NOW,
    waiting,
    held,
    budget,
    isFirm,
    swapping,
    isPinned,
    closed,
    quiet,
    running: held.flatMap(({ runtime, model, leases }) =>
      Array.from({ length: leases }, () => ({
        runtime,
        model,
        caller: 'ann',
        class: 'normal' as const,
        endsAt: NOW + 3000,
      })),
    ),
    ...(slots ? { slots: () => slots } : {}),
    usage: (caller) => caller.length,
    demand: () => world.demand,
  };
  return {
    snapshot,
    decision: decide(snapshot),
    pinned: isPinned,
    find: (one) => held.find((entry) => toKey(entry) === toKey(one)),
    isOpen: (one) => !closed && !(quiet && one.class === 'background'),
  };
}

const check = (holds: (one: Case) => void, worlds: fc.Arbitrary<World> = worldArbitrary) =>
  fc.assert(
    fc.property(worlds, (world) => holds(toCase(world))),
    RUNS,
  );

describe('decide', () => {
  it('is a function: twice the same, and it changes nothing', () => {
    check(({ snapshot, decision }) => {
      const before = structuredClone({ waiting: snapshot.waiting, held: snapshot.held, running: snapshot.running });
      expect(decide(snapshot)).toEqual(decision);
      expect({ waiting: snapshot.waiting, held: snapshot.held, running: snapshot.running }).toEqual(before);
    });
  });

  it('decides of each who waits at most one thing, says why the others wait, and when to look again', () => {
    check(({ snapshot: { waiting }, decision: { grant, refuse, swap, because, wakeAt } }) => {
      const decided = [...grant, ...refuse.map((one) => one.waiting), ...(swap ? [swap.for] : [])];
      expect(new Set(decided.map(({ id }) => id)).size).toBe(decided.length);
      for (const one of decided) expect(waiting).toContain(one);
      for (const one of waiting) {
        if (decided.every((other) => toKey(other) !== toKey(one)))
          expect(because.get(toKey(one)), toKey(one)).toBeTruthy();
      }
      if (wakeAt !== undefined) expect(wakeAt).toBeGreaterThan(NOW);
    });
  });

  it('keeps the budget: what is in use fits, also where a model grows, and growth finds free memory', () => {
    check(({ snapshot, decision: { grant }, find }) => {
      const { held, budget, isFirm } = snapshot;
      const size = toSize(grant);
      const isUsed = (entry: Held) => entry.leases > 0 || entry.loading;
      const before = held.filter(isUsed);
      const after = held.filter((entry) => isUsed(entry) || grant.some((one) => toKey(one) === toKey(entry)));
      if (budget === undefined) {
        if (before.length <= 1) expect(after.length).toBeLessThanOrEqual(1);
        return;
      }
      const [was, is] = [sum(before), sum(after, size)];
      const isAlone = !isFirm && after.length <= 1;
      if (is > was && !isAlone) expect(is).toBeLessThanOrEqual(budget);
      const growth = sum(held, size) - sum(held);
      const largest = held.length === 1 && !isFirm;
      if (growth > 0 && !largest) expect(sum(held, size)).toBeLessThanOrEqual(budget);
      for (const one of grant) expect(find(one)).toMatchObject({ leaving: false });
    });
  });

  it('swaps only where nothing else is being swapped, and so that it fits then', () => {
    check(({ snapshot, decision: { swap, grant }, find, isOpen }) => {
      if (!swap) return;
      const { held, budget, isFirm, swapping } = snapshot;
      const entry = find(swap.for);
      expect(swapping).toBe(false);
      expect(isOpen(swap.for)).toBe(true);
      // Of a model that is there only where it must grow.
      if (entry) expect(entry.footprint).toBeLessThan(swap.for.footprint);
      const rest = held.filter((one) => !swap.victims.includes(one) && one !== entry);
      if (budget === undefined) return void expect(rest).toEqual([]);
      if (rest.length === 0 && !isFirm) return;
      const grown = toSize(grant);
      expect(sum(rest, grown) + swap.for.footprint).toBeLessThanOrEqual(budget);
    });
  });

  it('sends away only what is idle, and neither pinned, leaving, stuck, loading nor just granted', () => {
    check(({ snapshot, decision: { swap, grant }, pinned }) => {
      for (const victim of swap?.victims ?? []) {
        expect(snapshot.held).toContain(victim);
        expect(victim).toMatchObject({ leases: 0, loading: false, leaving: false, stuck: false });
        expect(pinned(victim)).toBe(false);
        expect(grant.map(toKey)).not.toContain(toKey(victim));
        expect(toKey(victim)).not.toBe(toKey(swap!.for));
      }
      expect(new Set(swap?.victims).size).toBe(swap?.victims.length ?? 0);
    });
  });

  it('sends away nobody without whose leaving it would fit as well', () => {
    check(({ snapshot: { held, budget }, decision: { swap, grant }, find }) => {
      if (!swap || budget === undefined) return;
      const entry = find(swap.for);
      const rest = held.filter((one) => !swap.victims.includes(one) && one !== entry);
      for (const victim of swap.victims) {
        expect(sum([...rest, victim], toSize(grant)) + swap.for.footprint).toBeGreaterThan(budget);
      }
    });
  });

  it('refuses exactly what waiting would not help: too large, or in the way of what is pinned', () => {
    check(({ snapshot, decision: { refuse }, pinned, find, isOpen }) => {
      const { waiting, held, budget, isFirm } = snapshot;
      const never = (one: Waiting) => {
        if (budget !== undefined && isFirm && one.footprint > budget) return true;
        const others = held.filter((entry) => pinned(entry) && toKey(entry) !== toKey(one));
        if (others.length === 0) return false;
        return budget === undefined || sum(others) + Math.min(one.footprint, budget) > budget;
      };
      const refused = new Set(refuse.map((one) => one.waiting));
      for (const one of refused) expect(never(one), JSON.stringify(one)).toBe(true);
      // What is there as it is wanted is no question of room.
      const isThere = (one: Waiting) => (find(one)?.footprint ?? 0) >= one.footprint;
      for (const one of waiting) if (isOpen(one) && !isThere(one) && never(one)) expect(refused).toContain(one);
      for (const { because } of refuse) expect(because).not.toBe('');
    });
  });

  it('begins nothing on a closed card, and nothing of the background in quiet hours', () => {
    check(({ decision: { grant, swap }, isOpen }) => {
      for (const one of grant) expect(isOpen(one)).toBe(true);
      if (swap) expect(isOpen(swap.for)).toBe(true);
    });
  });

  it('lets in no more than there are slots for', () => {
    check(({ snapshot: { held, slots }, decision: { grant, swap } }) => {
      if (!slots) return;
      const added = [...grant, ...(swap ? [swap.for] : [])];
      const used = (is: (one: { runtime: string; model: string }) => boolean) =>
        sum(held.filter(is), ({ leases }) => leases);
      for (const one of added) {
        const most = slots(one.runtime);
        const ofModel = (other: { runtime: string; model: string }) => toKey(other) === toKey(one);
        const ofRuntime = (other: { runtime: string }) => other.runtime === one.runtime;
        expect(used(ofModel) + added.filter(ofModel).length).toBeLessThanOrEqual(Math.max(most.model, used(ofModel)));
        expect(used(ofRuntime) + added.filter(ofRuntime).length).toBeLessThanOrEqual(
          Math.max(most.runtime, used(ofRuntime)),
        );
      }
    });
  });

  it('lets those in first who are due: of one model, and onto the card', () => {
    check(({ snapshot, decision: { grant, refuse, swap }, isOpen, pinned, find }) => {
      const refused = new Set(refuse.map((one) => one.waiting));
      const left = snapshot.waiting.filter(
        (one) => isOpen(one) && !grant.includes(one) && !refused.has(one) && one !== swap?.for,
      );
      const due = left.filter(isDue);
      for (const one of grant.filter((other) => !isDue(other))) {
        const passed = due.filter(
          (other) => toKey(other) === toKey(one) && other.footprint <= (find(one)?.footprint ?? 0),
        );
        expect(passed).toEqual([]);
      }
      if (!swap || isDue(swap.for) || snapshot.budget === undefined) return;
      // Somebody else was let onto the card: none who is due could have been.
      const { slots = () => ({ model: Infinity, runtime: Infinity }), budget } = snapshot;
      const mayLeave = (one: Held) =>
        one.leases === 0 &&
        !one.loading &&
        !one.leaving &&
        !one.stuck &&
        !pinned(one) &&
        grant.every((other) => toKey(other) !== toKey(one));
      const stays = snapshot.held.filter((one) => !mayLeave(one));
      const taken = (runtime: string) =>
        sum(
          snapshot.held.filter((one) => one.runtime === runtime),
          ({ leases }) => leases,
        ) + grant.filter((one) => one.runtime === runtime).length;
      for (const one of due.filter((other) => !find(other) && toKey(other) !== toKey(swap.for))) {
        const fits = sum(stays) + Math.min(one.footprint, budget) <= budget;
        expect(fits && taken(one.runtime) < slots(one.runtime).runtime, toKey(one)).toBe(false);
      }
    });
  });

  it('lets no model grow for one who has just come because another, whom it answers as it is, has waited long', () => {
    const idle = { leases: 0, usedAt: NOW, since: NOW, loadMs: 0, loading: false, leaving: false, stuck: false };
    const wants = { runtime: 'r', caller: 'ann', class: 'interactive' as const, runMs: 1000, loadMs: 4000 };
    const { grant, swap } = decide({
      now: NOW,
      running: [],
      budget: 10,
      swapping: false,
      held: [
        { ...idle, runtime: 'r', model: 'there', footprint: 4 },
        { ...idle, runtime: 'r', model: 'other', footprint: 4 },
      ],
      waiting: [
        { ...wants, id: 1, model: 'there', footprint: 4, since: NOW - 60_000, dueAt: NOW - 30_000 },
        { ...wants, id: 2, model: 'missing', footprint: 1, since: NOW - 40_000, dueAt: NOW - 10_000 },
        { ...wants, id: 3, model: 'there', footprint: 7, since: NOW, dueAt: NOW + 30_000 },
      ],
    });
    expect(grant.map(({ id }) => id)).toEqual([1]);
    expect(swap?.for.id).toBe(2);
  });

  it('begins nothing new on what the one who is due longest waits for', () => {
    check(({ snapshot, decision: { grant, refuse, swap }, isOpen, pinned, find }) => {
      const { budget, waiting, held } = snapshot;
      // What has just come may stay for a while, or models would chase each other off the card.
      if (held.some(({ since }) => NOW - since < LONG_MS)) return;
      const refused = new Set(refuse.map((one) => one.waiting));
      const due = waiting.filter((one) => isOpen(one) && isDue(one) && !refused.has(one));
      const first = due[0];
      if (!first || find(first) || swap || budget === undefined || due.length > 1) return;
      // None of the others would be late in turn.
      const others = waiting.filter((one) => one !== first);
      if (others.some((one) => toKey(one) === toKey(first) || one.dueAt - NOW < 50_000)) return;
      const begun = held.filter((one) => pinned(one) || grant.some((other) => toKey(other) === toKey(one)));
      const room = Math.min(first.footprint, budget);
      expect(sum(begun) + room).toBeLessThanOrEqual(budget);
    });
  });

  it('leaves the card to nobody while somebody waits for it, but for a while, and never where one is due', () => {
    const calm = worldArbitrary.map((world) => ({
      ...world,
      swapping: false,
      closed: undefined,
      quiet: undefined,
      held: world.held.map((one) => ({ ...one, leases: 0, state: '' as const })),
    }));
    check(
      ({ snapshot: { waiting, held }, decision: { grant, swap, refuse, wakeAt } }) => {
        if (waiting.length === 0 || grant.length > 0 || swap || refuse.length === waiting.length) return;
        expect(wakeAt).toBeGreaterThan(NOW);
        if (held.some(({ since }) => NOW - since < LONG_MS)) return;
        const refused = new Set(refuse.map((one) => one.waiting));
        expect(waiting.filter((one) => isDue(one) && !refused.has(one))).toEqual([]);
      },
      calm as typeof worldArbitrary,
    );
  });
});

/** What each takes once those who are let in have what they want. */
function toSize(grant: readonly Waiting[]): (entry: Held) => number {
  return (entry) => {
    const wants = grant.filter((one) => toKey(one) === toKey(entry)).map(({ footprint }) => footprint);
    return Math.max(entry.footprint, ...wants);
  };
}

function isDue({ dueAt }: Waiting): boolean {
  return dueAt <= NOW;
}

function sum(held: readonly Held[], size: (one: Held) => number = ({ footprint }) => footprint): number {
  return held.reduce((total, one) => total + size(one), 0);
}
