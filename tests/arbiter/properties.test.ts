// What must hold whatever comes: random clients on random runtimes, in virtual time; fast-check prints seed and history of what fails.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import type { Lease } from '../../src/arbiter/arbiter.ts';
import type { StatusEvent } from '../../src/event.ts';
import { createDice, openFakeCard, TODAY, type FakeCard, type Manners } from '../support/fake-card.ts';

const QUEUE_MS = 120_000;
const LEASE_MS = 30_000;
/** When a card that is still closed is opened again. */
const END_MS = 300_000;
/** Of the one whose turn it is at any time: how often those whose time stands still are looked at. */
const SLACK_MS = 1000;

const model = fc.record({
  runtime: fc.constantFrom('r', 's'),
  bytes: fc.integer({ min: 1, max: 9 }),
  loadMs: fc.integer({ min: 0, max: 20_000 }),
});

const client = fc.record({
  at: fc.integer({ min: 0, max: 100_000 }),
  model: fc.nat(),
  /** Asks for more than others do: a longer context. */
  more: fc.constantFrom(0, 0, 0, 1, 2),
  runMs: fc.integer({ min: 0, max: 15_000 }),
  class: fc.constantFrom('interactive', 'normal', 'background'),
  caller: fc.constantFrom('ann', 'bob'),
  does: fc.oneof(
    { weight: 5, arbitrary: fc.constant('well') },
    {
      weight: 5,
      arbitrary: fc.constantFrom('leaves', 'half', 'half-leaves', 'returns', 'silent', 'unread', 'load', 'run'),
    },
  ),
  afterMs: fc.integer({ min: 0, max: 40_000 }),
});

const event = fc.record({
  at: fc.integer({ min: 0, max: 120_000 }),
  does: fc.constantFrom('close', 'lend', 'open', 'dismiss', 'look', 'crash', 'plan'),
  ms: fc.integer({ min: 1, max: 60_000 }),
  model: fc.nat(),
});

const honest: fc.Arbitrary<Manners> = fc.record({
  answerMs: fc.constantFrom(0, 10, 900),
  unloadMs: fc.constantFrom(0, 200, 5000),
});

const rogue: fc.Arbitrary<Manners> = fc.record({
  residents: fc.constantFrom('true', 'stale', 'nothing', 'more', 'ghost', 'absurd', 'throws', 'hangs', 'deaf'),
  evict: fc.constantFrom('well', 'throws', 'hangs', 'deaf', 'lies'),
  answerMs: fc.constantFrom(0, 900, 4000),
  unloadMs: fc.constantFrom(0, 200, 25_000),
  beyond: fc.constantFrom(0, 0, 2),
});

const history = (manners: fc.Arbitrary<Manners>, moods: number) =>
  fc.record({
    budget: fc.constantFrom(8, 10, 12, undefined),
    isFirm: fc.boolean(),
    isPinned: fc.constantFrom(false, false, false, true),
    models: fc.array(model, { minLength: 1, maxLength: 5 }),
    clients: fc.array(client, { minLength: 1, maxLength: 14 }),
    events: fc.array(event, { maxLength: 4 }),
    /** A runtime has one of these at each call. */
    moods: fc.array(manners, { minLength: 1, maxLength: moods }),
    seed: fc.nat(),
  });

type History = ReturnType<typeof history> extends fc.Arbitrary<infer T> ? T : never;
const OPTIONS = { numRuns: Number(process.env['RUNS'] ?? 400), endOnFailure: process.env['SHRINK'] === undefined };

type Client = History['clients'][number];

describe('whatever comes', () => {
  it('honest runtimes never hold more than the budget, and everybody is answered and forgotten', async () => {
    await fc.assert(
      fc.asyncProperty(history(honest, 1), (one) => play(one, true)),
      OPTIONS,
    );
  });

  it('runtimes that are slow, lie, crash and hold on bring nobody beyond his bound and the books not over the budget', async () => {
    await fc.assert(
      fc.asyncProperty(history(rogue, 4), (one) => play(one, false)),
      OPTIONS,
    );
  });
});

async function play(given: History, isHonest: boolean): Promise<void> {
  const { budget, isFirm, moods, seed } = given;
  const dice = createDice(seed);
  const mood = () => moods[Math.floor(dice() * moods.length)]!;
  const models = given.models.map((one, index) => ({ ...one, name: `m${index}` }));
  const sizes = new Map<string, number>();
  const card = openFakeCard({
    budget,
    isFirm,
    start: TODAY,
    queueMs: QUEUE_MS,
    leaseMs: LEASE_MS,
    runtimes: { r: mood, s: mood },
    isPinned: (_, name) => given.isPinned && name === 'm0',
    check: () => void guard(() => checkBudget(card, { budget, isFirm, isHonest, sizes })),
  });
  const { clock, arbiter } = card;
  let broken: unknown;
  const guard = (look: () => void) => {
    try {
      look();
    } catch (error) {
      broken ??= error;
    }
  };
  watchEvictions(card, guard);
  const closed = closeAndOpen(card, given, models, guard);
  const owners = new Map<string, { leases: Set<Lease>; halves: number }>(
    models.map(({ runtime, name }) => [`${runtime} ${name}`, { leases: new Set(), halves: 0 }]),
  );
  const ids = new Set<number>();

  async function come(one: Client): Promise<void> {
    await clock.sleep(one.at);
    const { runtime, name, bytes, loadMs } = models[one.model % models.length]!;
    // Only honest ones are asked for more than before: what others hold cannot be told from what they were asked for.
    const footprint = bytes + (isHonest ? one.more : 0);
    const key = `${runtime} ${name}`;
    sizes.set(key, Math.max(sizes.get(key) ?? 0, footprint));
    const mine = owners.get(key)!;
    const leaving = new AbortController();
    const request = { runtime, model: name, footprint, signal: leaving.signal, class: one.class, caller: one.caller };
    const waiting = arbiter.acquire({ ...request, tenant: card.tenants[runtime]! } as never);
    if (one.does === 'unread') return;
    if (one.does === 'half' || one.does === 'half-leaves' || one.does === 'returns') {
      mine.halves++;
      const first = await waiting.next().catch(() => undefined);
      if (first?.done) {
        mine.leases.add(first.value);
        mine.halves--;
      }
      await clock.sleep(one.afterMs);
      if (one.does === 'half') return;
      if (one.does === 'half-leaves') leaving.abort();
      else await waiting.return(undefined as never);
      if (!first?.done) return void mine.halves--;
      mine.leases.delete(first.value);
      first.value.release();
      return;
    }
    const cancel = one.does === 'leaves' ? clock.after(one.afterMs, () => leaving.abort()) : () => {};
    const began = clock.now();
    const lease = await read(waiting).catch((error: { code?: string }) => {
      expect(['insufficient_vram', 'overloaded', 'client_closed']).toContain(error.code);
      if (error.code === 'client_closed') expect(leaving.signal.aborted).toBe(true);
      if (error.code === 'overloaded') expect(clock.now() - began - closed(began)).toBeGreaterThanOrEqual(QUEUE_MS - 1);
    });
    expect(clock.now() - began - closed(began)).toBeLessThanOrEqual(QUEUE_MS + SLACK_MS);
    if (!lease) return cancel();
    expect(ids.has(lease.id)).toBe(false);
    ids.add(lease.id);
    mine.leases.add(lease);
    const beatMs = one.does === 'silent' ? undefined : 5000;
    const runMs = one.does === 'silent' ? 2 * LEASE_MS : one.runMs;
    const fails = one.does === 'load' || one.does === 'run' ? { fails: one.does } : {};
    await card
      .work(
        lease,
        { runtime, model: name, footprint },
        { loadMs, runMs, ...fails, ...(beatMs ? { beatMs } : {}) } as never,
        leaving.signal,
      )
      .catch(() => {});
    if (one.does === 'silent' && lease.signal.aborted) useInVain(card, lease);
    mine.leases.delete(lease);
    lease.release();
    lease.release();
    cancel();
  }

  const everybody = Promise.all(given.clients.map(come));
  const look = () => guard(() => checkOwners(card, owners));
  const sample = (): void => {
    look();
    cancelSample = clock.after(4993, sample);
  };
  let cancelSample = clock.after(4993, sample);
  await clock.finish(everybody, TODAY + END_MS + QUEUE_MS + 60_000);
  await clock.run(TODAY + END_MS + QUEUE_MS + 60_000);
  cancelSample();
  look();
  if (broken) throw broken;
  // Nothing is left: no waiter, no lease, no timer. What would not leave the card may be asked again for half a minute.
  await clock.run(clock.now() + LEASE_MS + 31_000);
  expect(arbiter.snapshot().waiting).toEqual([]);
  expect(arbiter.snapshot().held.filter(({ leases, loading, leaving }) => leases > 0 || loading || leaving)).toEqual(
    [],
  );
  expect(clock.pending()).toBe(0);
}

async function read(waiting: AsyncGenerator<StatusEvent, Lease>): Promise<Lease> {
  for (;;) {
    const { done, value } = await waiting.next();
    if (done) return value;
  }
}

function checkBudget(
  { arbiter, inside }: FakeCard,
  given: { budget: number | undefined; isFirm: boolean; isHonest: boolean; sizes: Map<string, number> },
): void {
  const { budget, isFirm, isHonest, sizes } = given;
  const used = arbiter.snapshot().held.filter(({ leases, loading }) => leases > 0 || loading);
  const size = (one: (typeof used)[number]) =>
    isHonest ? one.footprint : (sizes.get(`${one.runtime} ${one.model}`) ?? 0);
  const sum = used.reduce((total, one) => total + size(one), 0);
  const isAlone = used.length <= 1;
  if (budget === undefined) expect(used.length).toBeLessThanOrEqual(1);
  else if (isFirm || !isAlone) expect(sum).toBeLessThanOrEqual(budget);
  if (isHonest && isFirm && budget !== undefined) expect(inside()).toBeLessThanOrEqual(budget);
}

/** Every lease has somebody who has it, or who was given it and has not come for it yet. */
function checkOwners({ arbiter }: FakeCard, owners: Map<string, { leases: Set<Lease>; halves: number }>): void {
  for (const { runtime, model: name, leases } of arbiter.snapshot().held) {
    const mine = owners.get(`${runtime} ${name}`);
    const live = [...(mine?.leases ?? [])].filter(({ signal }) => !signal.aborted).length;
    expect(leases).toBeGreaterThanOrEqual(live);
    expect(leases).toBeLessThanOrEqual(live + (mine?.halves ?? 0));
  }
}

/** A lease that was taken back is nobody's. */
function useInVain({ arbiter }: FakeCard, lease: Lease): void {
  const before = arbiter.snapshot();
  lease.running();
  lease.beat();
  lease.release();
  expect(arbiter.snapshot().held).toEqual(before.held);
}

/** Nothing is done. */
function plan({ arbiter }: FakeCard, want: { runtime: string; model: string; footprint: number }): void {
  const before = arbiter.snapshot();
  const { would, because, queueMs = 0, swapMs = 0 } = arbiter.plan(want);
  expect(['run', 'load', 'swap', 'wait', 'refuse']).toContain(would);
  expect(because).not.toBe('');
  expect(Math.min(queueMs, swapMs)).toBeGreaterThanOrEqual(0);
  expect(arbiter.snapshot()).toEqual(before);
}

/** Nobody is sent away while somebody uses it. */
function watchEvictions({ tenants, arbiter }: FakeCard, guard: (look: () => void) => void): void {
  for (const [runtime, tenant] of Object.entries(tenants)) {
    const { evict } = tenant;
    tenant.evict = (name, signal) => {
      const entry = arbiter.snapshot().held.find((one) => one.runtime === runtime && one.model === name);
      guard(() => expect(entry?.leases ?? 0).toBe(0));
      return evict(name, signal);
    };
  }
}

/** What comes from outside; gives how long the card was closed since then. */
function closeAndOpen(
  card: FakeCard,
  { events }: History,
  models: { runtime: string; name: string }[],
  guard: (step: () => void) => void,
): (since: number) => number {
  const { clock, arbiter } = card;
  const spells: { from: number; to?: number; until: number }[] = [];
  const endOf = ({ to, until }: (typeof spells)[number]) => Math.min(to ?? clock.now(), until, clock.now());
  const current = () => spells.findLast(({ to, until }) => to === undefined && until > clock.now());
  const close = (until: number | undefined, empty: boolean) => {
    const before = current();
    if (before) before.to = clock.now();
    spells.push({ from: clock.now(), until: until ?? Infinity });
    arbiter.close({ until, because: 'lent' }, { empty });
  };
  const open = () => {
    const before = current();
    if (before) before.to = clock.now();
    arbiter.open();
  };
  for (const { at, does, ms, model: index } of events) {
    clock.after(at, () =>
      guard(() => {
        const { runtime, name } = models[index % models.length]!;
        if (does === 'close') close(ms % 2 ? undefined : clock.now() + ms, false);
        if (does === 'lend') close(clock.now() + ms, true);
        if (does === 'open') open();
        if (does === 'crash') card.crash(runtime);
        if (does === 'plan') plan(card, { runtime, model: name, footprint: 1 + (ms % 12) });
        if (does === 'look') arbiter.look(runtime, AbortSignal.abort()).catch(() => {});
        if (does === 'dismiss') {
          const leaving = new AbortController();
          clock.after(ms, () => leaving.abort());
          arbiter.dismiss({ runtime, model: name }, { signal: leaving.signal }).catch(() => {});
        }
      }),
    );
  }
  clock.after(END_MS, open);
  return (since) => spells.reduce((sum, spell) => sum + Math.max(0, endOf(spell) - Math.max(spell.from, since)), 0);
}
