// What waiters are told of their turn, against when it really comes: the arbiter itself in virtual time.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { createTimings, type Timings } from '../../src/arbiter/timings.ts';
import { forecast, type Expected } from '../../src/arbiter/forecast.ts';
import {
  decide,
  type Decision,
  type Held,
  type Policy,
  type Snapshot,
  type Waiting,
} from '../../src/arbiter/policy.ts';
import type { StatusEvent } from '../../src/event.ts';
import { createDice, openFakeCard, type FakeCardOptions } from '../support/fake-card.ts';

const EVICT_MS = 1000;
const CLASSES = ['interactive', 'normal', 'background'] as const;

interface Order {
  model: string;
  footprint: number;
  caller: string;
  class: (typeof CLASSES)[number];
  loadMs: number;
  runMs: number;
}

/** Models of different sizes and speeds, each always the same, and runs that are all different. */
function toOrders(count: number, seed: number): Order[] {
  const dice = createDice(seed);
  const models = ['a', 'b', 'c', 'd', 'e'].map((model, index) => {
    return { model, footprint: 2 + index, loadMs: 3000 + 1700 * index };
  });
  return Array.from({ length: count }, (_, index) => ({
    ...models[Math.floor(dice() * models.length)]!,
    caller: `caller ${Math.floor(dice() * 4)}`,
    class: CLASSES[Math.floor(dice() * 3)]!,
    runMs: 500 + 13 * index + Math.floor(dice() * 9000),
  }));
}

/** Knows before how long everything takes: `work` is the length of the run. */
function createOracle(orders: readonly Order[]): Timings {
  const loadMs = ({ model }: { model: string }) => orders.find((order) => order.model === model)?.loadMs ?? 0;
  return { ...createTimings(), loadMs, runMs: (_, work = '') => Number(work) };
}

/** Without what changes as time goes by: what is promised grows with what there is to do, and what was asked for fades. */
const steady: Policy = (snapshot) =>
  decide({
    ...snapshot,
    waiting: snapshot.waiting.map((one) => ({ ...one, dueAt: one.since + 1e9 })),
    demand: () => 1,
    usage: () => 0,
  });

/** All ask at once; what was foreseen then, and what came. */
async function compare(orders: readonly Order[], options: FakeCardOptions) {
  let foreseen = new Map<number, Expected>();
  let most = 0;
  const policy = (snapshot: Snapshot): Decision => {
    // Nothing has begun yet, and everybody is there.
    if (snapshot.waiting.length > most) {
      most = snapshot.waiting.length;
      foreseen = forecast(snapshot, steady);
    }
    return steady(snapshot);
  };
  const card = openFakeCard({ policy, timings: createOracle(orders), queueMs: 1e9, leaseMs: 1e9, ...options });
  const { clock } = card;
  // Somebody works already, so that nobody of them begins while others are still coming.
  const first: Order = { model: 'first', footprint: 11, caller: 'x', class: 'interactive', loadMs: 0, runMs: 7000 };
  const lease = await clock.finish(card.take({ ...first, work: '7000' }));
  const before = card.work(lease, { runtime: 'r', ...first }, first).then(() => lease.release());
  const starts = await clock.finish(
    Promise.all(
      orders.map(async (order) => {
        const mine = await card.take({ ...order, work: String(order.runMs) });
        const granted = clock.now();
        const run = card.work(mine, { runtime: 'r', ...order }, order);
        await run;
        const { swapMs } = mine.cost();
        mine.release();
        return { grantMs: granted, startMs: clock.now() - order.runMs, endMs: clock.now(), swapMs };
      }),
    ),
  );
  await before;
  // Ids are counted from the first, who is 1.
  return starts.map((came, index) => ({ came, told: foreseen.get(index + 2) }));
}

describe('a forecast', () => {
  it.each([
    ['one after the other', { budget: 11, slots: { model: 1, runtime: 1 } }, 1],
    ['two at a time', { budget: 11, slots: { model: 2 } }, 2],
    ['as many as come', { budget: 11 }, 3],
    ['one model at a time', { budget: undefined, slots: { model: 1 } }, 4],
  ] satisfies [string, FakeCardOptions, number][])('comes true for 50 mixed requests, %s', async (_, options, seed) => {
    const runtimes = { r: { unloadMs: EVICT_MS } };
    const turns = await compare(toOrders(50, seed), { ...options, runtimes });
    expect(turns.filter(({ told }) => told)).toHaveLength(50);
    for (const { came, told } of turns) expect(came).toEqual({ ...came, ...pick(told!) });
    expect(turns.some(({ told }) => told!.evicts.length > 0)).toBe(true);
  });

  it('is off by no more than evictions take longer than is thought', async () => {
    const runtimes = { r: { unloadMs: EVICT_MS + 300 } };
    const turns = await compare(toOrders(50, 5), { budget: 11, slots: { model: 1 }, runtimes });
    const evictions = turns.reduce((sum, { told }) => sum + told!.evicts.length, 1);
    for (const { came, told } of turns)
      expect(Math.abs(came.startMs - told!.startMs)).toBeLessThanOrEqual(300 * evictions);
  });

  it('tells the order of the turns', async () => {
    const turns = await compare(toOrders(30, 6), { budget: 11, slots: { model: 1, runtime: 1 } });
    const byCome = turns.toSorted((a, b) => a.came.grantMs - b.came.grantMs);
    const byTold = turns.toSorted((a, b) => a.told!.grantMs - b.told!.grantMs);
    expect(byTold).toEqual(byCome);
  });
});

describe('what a waiting client is told', () => {
  it('falls until it is done', async () => {
    const orders = toOrders(12, 7);
    const runtimes = { r: { unloadMs: EVICT_MS } };
    const timings = createOracle(orders);
    const card = openFakeCard({ policy: steady, budget: 11, slots: { model: 1, runtime: 1 }, runtimes, timings });
    const { clock } = card;
    const told = orders.map((): { at: number; eta: number | undefined }[] => []);
    const ends = await clock.finish(
      Promise.all(
        orders.map(async (order, index) => {
          const statuses: StatusEvent[] = [];
          // Seen when it comes, not when the wait is over.
          statuses.push = (status) => told[index]!.push({ at: clock.now(), eta: status.eta });
          const lease = await card.take({ ...order, work: String(order.runMs) }, statuses);
          await card.work(lease, { runtime: 'r', ...order }, order);
          lease.release();
          return clock.now();
        }),
      ),
    );
    // While the others are still coming, nobody can know.
    const heard = told.map((each) => each.filter(({ at, eta }) => at > 0 && eta !== undefined));
    expect(heard.filter((each) => each.length >= 3).length).toBeGreaterThan(6);
    heard.forEach((each, index) => {
      const etas = each.map(({ eta }) => eta!);
      expect(etas.every((eta, at) => at === 0 || eta <= etas[at - 1]! + 1)).toBe(true);
      if (each.length < 3) return;
      const { at, eta } = each.at(-1)!;
      expect(Math.abs(at + eta! * 1000 - ends[index]!)).toBeLessThanOrEqual(1000);
    });
  });
});

describe('of a snapshot', () => {
  it('what should have ended is about to, and the later it is the longer it may take', () => {
    const start = (endsAt: number) => {
      const running = [{ runtime: 'r', model: 'a', endsAt }];
      const held = [toHeld({ model: 'a', leases: 1, footprint: 8 })];
      return forecast(toSnapshot({ now: 50_000, held, running, waiting: [toWaiting(1)] }), decide).get(1)!.startMs;
    };
    const [soon, late, never] = [start(49_999), start(10_000), start(-Infinity)];
    expect(soon).toBeGreaterThan(0);
    // The eviction and the load are in it.
    expect(soon).toBeLessThan(4500);
    expect(late).toBeGreaterThan(soon!);
    expect(late).toBeLessThan(20_000);
    expect(never).toBeGreaterThan(0);
  });

  it('a model that is on its way is waited for', () => {
    const held = [toHeld({ leases: 1, loading: true, since: 0, loadMs: 4000 })];
    const running = [{ runtime: 'r', model: 'm', endsAt: 6000 }];
    const slots = () => ({ model: 1, runtime: 1 });
    const snapshot = toSnapshot({
      now: 1000,
      held,
      running,
      swapping: true,
      slots,
      waiting: [toWaiting(1), toWaiting(2)],
    });
    expect([...forecast(snapshot, decide).values()]).toMatchObject([
      { startMs: 5000, swapMs: 0, endMs: 6000 },
      { startMs: 6000, endMs: 7000 },
    ]);
  });

  it('a card that is closed begins when that ends, and nobody knows when where it has no end', () => {
    const because = 'lent';
    const waiting = [toWaiting(1)];
    const [ahead] = forecast(toSnapshot({ waiting, closed: { until: 60_000, because } }), decide).values();
    expect(ahead).toMatchObject({ startMs: 60_000 + 3000 });
    expect(forecast(toSnapshot({ waiting, closed: { until: undefined, because } }), decide).size).toBe(0);
  });

  it('quiet hours hold background work alone', () => {
    const waiting = [toWaiting(1, { class: 'background' }), toWaiting(2)];
    const told = (until: number | undefined) =>
      forecast(toSnapshot({ waiting, quiet: { until, because: 'quiet hours' } }), decide);
    expect(told(undefined).has(1)).toBe(false);
    expect(told(undefined).get(2)).toMatchObject({ startMs: 3000 });
    expect(told(90_000).get(1)).toMatchObject({ startMs: 90_000 });
    const many = Array.from({ length: 2000 }, (_, index) => {
      return toWaiting(index + 1, { class: index % 2 ? 'background' : 'interactive', model: `m${index % 7}` });
    });
    const long = forecast(toSnapshot({ waiting: many, quiet: { until: 9e9, because: 'quiet hours' } }), decide);
    expect(long.size).toBe(2000);
    for (const one of many)
      if (one.class === 'background') expect(long.get(one.id)!.startMs).toBeGreaterThanOrEqual(9e9);
  });

  it('who is refused is missing', () => {
    const waiting = [toWaiting(1, { model: 'huge', footprint: 20 }), toWaiting(2)];
    expect([...forecast(toSnapshot({ waiting }), decide).keys()]).toEqual([2]);
  });

  it('nothing is changed', () => {
    const waiting = Array.from({ length: 40 }, (_, index) =>
      toWaiting(index + 1, { model: `m${index % 4}`, footprint: 5 }),
    );
    const held = [toHeld({ model: 'm1', leases: 1, footprint: 5 }), toHeld({ model: 'm2', leaving: true })];
    const snapshot = toSnapshot({ waiting, held, running: [{ runtime: 'r', model: 'm1', endsAt: 5 }], swapping: true });
    const before = structuredClone({ ...snapshot });
    forecast(snapshot, decide);
    expect({ ...snapshot }).toEqual(before);
  });
});

describe('a long queue', () => {
  const toQueue = (count: number) =>
    Array.from({ length: count }, (_, index) => {
      const model = `m${(index * 7) % 20}`;
      return toWaiting(index + 1, { model, footprint: 3, runMs: 1000 + (index % 5) * 500, caller: `c${index % 9}` });
    });

  it('is told to its end, at the pace of its beginning', () => {
    const slots = () => ({ model: 1, runtime: 1 });
    const told = forecast(toSnapshot({ waiting: toQueue(3000), slots }), decide);
    expect(told.size).toBe(3000);
    // One at a time: all of it takes at least as long as its runs do, and not much longer than swaps add.
    const runs = toQueue(3000).reduce((sum, { runMs }) => sum + runMs, 0);
    const last = Math.max(...[...told.values()].map(({ endMs }) => endMs));
    expect(last).toBeGreaterThan(runs);
    expect(last).toBeLessThan(runs * 4);
    expect([...told.values()].every(({ startMs, endMs }) => startMs >= 0 && endMs > startMs)).toBe(true);
  });

  it('does not hide a caller with one request behind another with thousands', () => {
    const waiting = [
      ...toQueue(5000).map((one) => ({ ...one, caller: 'greedy' })),
      toWaiting(5001, { caller: 'modest', model: 'm0' }),
    ];
    const usage = (caller: string) => (caller === 'greedy' ? 100_000 : 0);
    const told = forecast(toSnapshot({ waiting, usage, slots: () => ({ model: 1, runtime: 1 }) }), decide);
    const order = [...told.keys()];
    expect(order.indexOf(5001)).toBeLessThan(300);
  });

  it('costs a bounded number of decisions, each over a part of it', () => {
    let calls = 0;
    let largest = 0;
    forecast(toSnapshot({ waiting: toQueue(10_000), slots: () => ({ model: 1, runtime: 1 }) }), (snapshot) => {
      calls++;
      largest = Math.max(largest, snapshot.waiting.length);
      return decide(snapshot);
    });
    expect(largest).toBeLessThanOrEqual(300);
    expect(calls * largest).toBeLessThan(50_000);
  });
});

describe('an odd policy', () => {
  const nothing: Decision = { grant: [], refuse: [], because: new Map() };
  const waiting = [toWaiting(1), toWaiting(2, { model: 'n' })];
  const held = [toHeld({ model: 'o', leases: 1 })];
  const snapshot = toSnapshot({ waiting, held, running: [{ runtime: 'r', model: 'o', endsAt: NaN }] });

  it.each<[string, (given: Snapshot) => Decision]>([
    ['grants nothing', () => nothing],
    ['wants to be asked all the time', ({ now }) => ({ ...nothing, wakeAt: now + 1e-9 })],
    ['wants to be asked in the past', ({ now }) => ({ ...nothing, wakeAt: now - 5 })],
    ['grants whom nobody knows', () => ({ ...nothing, grant: [toWaiting(77), toWaiting(77)] })],
    [
      'refuses everybody',
      (given) => ({ ...nothing, refuse: given.waiting.map((one) => ({ waiting: one, because: 'no' })) }),
    ],
    ['swaps for nobody', () => ({ ...nothing, swap: { for: toWaiting(9), victims: [], because: '' } })],
    [
      'evicts for ever',
      (given) => ({ ...nothing, swap: { for: given.waiting[0]!, victims: given.held, because: '' } }),
    ],
    [
      'evicts what is not there',
      (given) => ({ ...nothing, swap: { for: given.waiting[0]!, victims: [toHeld({ model: 'x' })], because: '' } }),
    ],
    [
      'throws',
      () => {
        throw new Error('odd');
      },
    ],
  ])('that %s ends', (_, policy) => {
    expect(() => forecast(snapshot, policy)).not.toThrow();
  });

  it('and odd figures end', () => {
    const number = fc.oneof(fc.constantFrom(NaN, Infinity, -Infinity, -1, 0, 1e300), fc.double({ min: 0, max: 1e5 }));
    const one = fc.record({
      loadMs: number,
      runMs: number,
      dueAt: number,
      footprint: fc.integer({ min: 0, max: 12 }),
      model: fc.constantFrom('a', 'b', 'c'),
    });
    const there = fc.record({
      leases: fc.integer({ min: 0, max: 3 }),
      since: number,
      usedAt: number,
      loadMs: number,
      loading: fc.boolean(),
      leaving: fc.boolean(),
      stuck: fc.boolean(),
      model: fc.constantFrom('a', 'b', 'c'),
    });
    fc.assert(
      fc.property(
        fc.array(one, { maxLength: 12 }),
        fc.uniqueArray(there, { maxLength: 3, selector: ({ model }) => model }),
        number,
        fc.boolean(),
        (ones, models, endsAt, swapping) => {
          const told = forecast(
            toSnapshot({
              waiting: ones.map((each, index) => toWaiting(index + 1, each)),
              held: models.map(toHeld),
              running: models.map(({ model }) => ({ runtime: 'r', model, endsAt })),
              swapping,
            }),
            decide,
          );
          for (const { startMs, endMs, grantMs } of told.values())
            expect(grantMs <= startMs && startMs <= endMs).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });
});

function pick({ grantMs, startMs, endMs, swapMs }: Expected) {
  return { grantMs, startMs, endMs, swapMs };
}

function toWaiting(id: number, more: Partial<Waiting> = {}): Waiting {
  const times = { since: 0, dueAt: 1e12, loadMs: 3000, runMs: 1000 };
  return { id, runtime: 'r', model: 'm', footprint: 4, caller: 'c', class: 'interactive', ...times, ...more };
}

function toHeld(more: Partial<Held> = {}): Held {
  const state = { leases: 0, usedAt: 0, since: 0, loading: false, loadMs: 3000, leaving: false, stuck: false };
  return { runtime: 'r', model: 'm', footprint: 4, ...state, ...more };
}

function toSnapshot(more: Partial<Snapshot> = {}): Snapshot {
  return { now: 0, waiting: [], held: [], running: [], budget: 8, swapping: false, ...more };
}
