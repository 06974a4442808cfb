// Who is passed over: by a model that is asked for more than the card can do, by one that keeps the only slot of a runtime, by whoever does not wait.
import { describe, expect, it } from 'vitest';
import { decide, type Held, type Waiting } from '../../src/arbiter/policy.ts';
import type { StatusEvent } from '../../src/event.ts';
import { openFakeCard, type FakeCard } from '../support/fake-card.ts';

const WORK = { loadMs: 10_000, runMs: 3000, beatMs: 1000 };
const HOUR_MS = 3_600_000;

/** So many clients that ask again as soon as they are served, until `stop`. */
function crowd({ take, work }: FakeCard, want: { runtime: string; model: string; footprint: number }, count: number) {
  const stop = new AbortController();
  const ends = Array.from({ length: count }, async (_, index) => {
    while (!stop.signal.aborted) {
      const lease = await take({ ...want, caller: `crowd ${index}` });
      await work(lease, want, WORK);
      lease.release();
    }
  });
  return { stop: () => stop.abort(), ended: Promise.all(ends) };
}

/** Milliseconds that one waits who comes while the crowd is there. */
async function waitBeside(card: FakeCard, want: { runtime: string; model: string; footprint: number }, count: number) {
  const { clock, take } = card;
  const all = crowd(card, { runtime: 'r', model: 'a', footprint: 6 }, count);
  await clock.run(60_000);
  const began = clock.now();
  const lease = await clock.finish(take({ ...want, caller: 'one' }), began + HOUR_MS);
  const waited = clock.now() - began;
  lease.release();
  all.stop();
  await clock.finish(all.ended);
  return waited;
}

describe('nobody waits for ever', () => {
  it('for a card that is asked for another model more than it can do', async () => {
    const card = openFakeCard({ budget: 8, slots: { model: 1 }, queueMs: HOUR_MS, foresee: false });
    const waited = await waitBeside(card, { runtime: 'r', model: 'b', footprint: 6 }, 100);
    // In plain order it would be a hundred runs and two loads.
    expect(waited).toBeLessThan(100 * WORK.runMs + 6 * WORK.loadMs);
  });

  it('for the only slot of a runtime, though there is room for both models', async () => {
    const card = openFakeCard({ budget: 24, slots: { runtime: 1 }, queueMs: HOUR_MS, foresee: false });
    const waited = await waitBeside(card, { runtime: 'r', model: 'b', footprint: 6 }, 5);
    expect(waited).toBeLessThan(90_000);
  });
});

describe('who waits', () => {
  it('is told that room was made for him and somebody else goes first now', async () => {
    const { clock, take, put } = openFakeCard({ budget: 8, runtimes: { r: { unloadMs: 2000 } }, queueMs: HOUR_MS });
    put('r', 'a', 6);
    const statuses: StatusEvent[] = [];
    const night = take({ model: 'night', footprint: 6, class: 'background' }, statuses);
    await clock.run(1000);
    expect(statuses.at(-1)).toMatchObject({ state: 'swapping' });
    const screen = take({ model: 'screen', footprint: 6 });
    await clock.run(3000);
    expect(statuses.at(-1)).toMatchObject({ state: 'queued', message: expect.stringContaining('screen') });
    (await clock.finish(screen)).release();
    (await clock.finish(night)).release();
  });

  it('no longer than so long does not wait longer because the card is lent', async () => {
    const { clock, take, arbiter } = openFakeCard({ budget: 8, queueMs: HOUR_MS });
    arbiter.close({ because: 'lent', until: undefined });
    const failed = take({ model: 'a', footprint: 6, limitMs: 5000 }).catch((error: unknown) => error);
    await clock.run(4900);
    expect(arbiter.snapshot().waiting).toHaveLength(1);
    await clock.run(5100);
    expect(await failed).toMatchObject({ code: 'overloaded' });
  });

  it('to send a model away has his turn between the swaps of those who ask without end', async () => {
    const card = openFakeCard({ budget: 8, runtimes: { r: { unloadMs: 500 } }, queueMs: HOUR_MS, foresee: false });
    const { clock, arbiter, put } = card;
    put('r', 'small', 1);
    await arbiter.look('r', new AbortController().signal);
    const crowds = ['a', 'b'].map((model) => crowd(card, { runtime: 'r', model, footprint: 6 }, 2));
    for (let at = 60_000; at < 90_000 && !arbiter.snapshot().held.some(({ leaving }) => leaving); at += 50)
      await clock.run(at);
    expect(arbiter.snapshot().held.some(({ leaving }) => leaving)).toBe(true);
    const asked = clock.now();
    expect(await clock.finish(arbiter.dismiss({ runtime: 'r', model: 'small' }))).toBe('gone');
    expect(clock.now() - asked).toBeLessThanOrEqual(1100);
    for (const one of crowds) one.stop();
    await clock.finish(Promise.all(crowds.map(({ ended }) => ended)));
  });
});

const NOW = 1_000_000;
const held = (model: string, more: Partial<Held> = {}): Held => ({
  runtime: 'r',
  model,
  footprint: 6,
  leases: 0,
  usedAt: 1,
  since: 1,
  loading: false,
  loadMs: 5000,
  leaving: false,
  stuck: false,
  ...more,
});
const waiting = (id: number, model: string, more: Partial<Waiting> = {}): Waiting => ({
  id,
  runtime: 'r',
  model,
  footprint: 6,
  caller: 'ann',
  class: 'interactive',
  since: NOW - 1000 + id,
  dueAt: NOW + 60_000,
  loadMs: 5000,
  runMs: 1000,
  ...more,
});
const card = { now: NOW, running: [], budget: 24, swapping: false };

describe('the only slot of a runtime', () => {
  const slots = () => ({ model: Infinity, runtime: 1 });

  it('goes by class, whichever of its models that is for', () => {
    const night = [1, 2, 3].map((id) => waiting(id, 'a', { class: 'background' }));
    const screen = waiting(4, 'b');
    const { grant } = decide({ ...card, slots, held: [held('a'), held('b')], waiting: [...night, screen] });
    expect(grant).toEqual([screen]);
  });

  it('is kept for one who is due and whose model fits beside what is there', () => {
    const late = waiting(1, 'b', { dueAt: NOW - 1 });
    const { grant, swap } = decide({ ...card, slots, held: [held('a')], waiting: [late, waiting(2, 'a')] });
    expect(grant).toEqual([]);
    expect(swap).toMatchObject({ for: late, victims: [] });
  });

  it('is kept for somebody at the screen from the night, before he is due', () => {
    const night = [1, 2, 3].map((id) => waiting(id, 'a', { class: 'background', dueAt: NOW + 600_000 }));
    const screen = waiting(4, 'b', { loadMs: 2000 });
    const long = night.map((one) => ({ ...one, runMs: 60_000 }));
    const { grant, swap } = decide({ ...card, slots, held: [held('a')], waiting: [...long, screen] });
    expect(grant).toEqual([]);
    expect(swap).toMatchObject({ for: screen, victims: [] });
    // Not where those of the night are late themselves, nor for one of their own class.
    const late = long.map((one) => ({ ...one, dueAt: NOW + 10_000 }));
    expect(decide({ ...card, slots, held: [held('a')], waiting: [...late, screen] }).grant).toHaveLength(1);
    const peer = { ...screen, class: 'background' as const };
    expect(decide({ ...card, slots, held: [held('a')], waiting: [...long, peer] }).grant).toHaveLength(1);
  });

  it('is not, while what must leave for him is busy', () => {
    const late = waiting(1, 'b', { dueAt: NOW - 1 });
    const other = waiting(2, 'a', { footprint: 2 });
    const there = [held('a', { footprint: 2 }), held('c', { runtime: 's', footprint: 10, leases: 1 })];
    const { grant } = decide({ ...card, slots, budget: 12, held: there, waiting: [late, other] });
    expect(grant).toEqual([other]);
  });
});

it('many who begin at once go in their order, and are decided on in no time', () => {
  const classes = ['background', 'normal', 'interactive'] as const;
  const many = Array.from({ length: 10_000 }, (_, id) => waiting(id, 'a', { class: classes[id % 3]! }));
  const began = performance.now();
  const { grant } = decide({ ...card, held: [held('a')], waiting: many });
  expect(performance.now() - began).toBeLessThan(10_000);
  expect(grant).toHaveLength(10_000);
  const order = grant.map((one) => classes.indexOf(one.class));
  expect(order).toEqual(order.toSorted((a, b) => b - a));
});
