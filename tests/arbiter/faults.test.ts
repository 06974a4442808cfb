// Runtimes that hang, lie, break and hold on: whatever they do, the card goes on for everybody else.
import { describe, expect, it, vi } from 'vitest';
import { openFakeCard, type FakeCardOptions, type Manners } from '../support/fake-card.ts';

const QUICK = { loadMs: 1000, runMs: 2000, beatMs: 500 };
const want = (model: string, footprint: number, runtime = 'r') => ({ runtime, model, footprint });

/** `a` (6 of 8) lies idle on the card of a runtime with such manners; beside it is one that behaves. */
async function openWithIdle(manners: Manners, options: FakeCardOptions = {}) {
  const now: { manners: Manners } = { manners: {} };
  const card = openFakeCard({ budget: 8, runtimes: { bad: () => now.manners, r: {} }, ...options });
  const { clock, take, work } = card;
  const lease = await clock.finish(take(want('a', 6, 'bad')));
  await clock.finish(work(lease, want('a', 6, 'bad'), QUICK));
  lease.release();
  now.manners = manners;
  return { ...card, now };
}

/** Milliseconds that it took, and what came of it. */
async function timed(
  card: Pick<Awaited<ReturnType<typeof openWithIdle>>, 'clock' | 'take'>,
  ...args: Parameters<typeof want>
) {
  const { clock, take } = card;
  const began = clock.now();
  const lease = await clock.finish(take(want(...args))).catch((error: { code: string }) => error);
  return {
    ms: clock.now() - began,
    code: 'code' in lease ? lease.code : undefined,
    lease: 'code' in lease ? undefined : lease,
  };
}

describe('a runtime that does not unload', () => {
  it.each(['throws', 'hangs', 'deaf', 'lies'] as const)(
    'and %s fails the one request within a bound; what fits beside it goes on',
    async (evict) => {
      const card = await openWithIdle({ evict });
      const failed = await timed(card, 'b', 6);
      expect(failed).toMatchObject({ code: 'insufficient_vram' });
      expect(failed.ms).toBeLessThan(65_000);
      const small = await timed(card, 'c', 2);
      expect(small).toMatchObject({ code: undefined });
      expect(small.ms).toBeLessThan(65_000);
      small.lease!.release();
      expect(card.inside()).toBeLessThanOrEqual(8);
    },
  );

  it('is asked again after a while, and whoever waits then has the card', async () => {
    const card = await openWithIdle({ evict: 'throws' });
    expect(await timed(card, 'b', 6)).toMatchObject({ code: 'insufficient_vram' });
    card.now.manners = {};
    const later = await timed(card, 'b', 6);
    expect(later).toMatchObject({ code: undefined });
    expect(later.ms).toBeLessThan(60_000);
    expect(card.inside()).toBe(0);
    later.lease!.release();
  });

  it('and cannot be restarted either holds nobody up', async () => {
    for (const onWedged of [async () => Promise.reject(new Error('no')), () => new Promise<boolean>(() => {})]) {
      const card = await openWithIdle({ evict: 'hangs' }, { onWedged });
      const failed = await timed(card, 'b', 6);
      expect(failed.code, String(onWedged)).toBeDefined();
      const small = await timed(card, 'c', 2);
      expect(small).toMatchObject({ code: undefined });
      small.lease!.release();
    }
  });

  it('is tried once more after it was restarted', async () => {
    const onWedged = vi.fn<() => Promise<boolean>>(async () => ((card.now.manners = {}), card.crash('bad'), true));
    const card = await openWithIdle({ evict: 'hangs' }, { onWedged });
    expect(await timed(card, 'b', 6)).toMatchObject({ code: undefined });
    expect(onWedged).toHaveBeenCalledExactlyOnceWith('bad', 'holds_on');
  });

  it('does not spin when the card is lent and wanted empty', async () => {
    for (const evict of ['throws', 'hangs'] as const) {
      const card = await openWithIdle({ evict });
      card.arbiter.close({ until: undefined, because: 'lent' }, { empty: true });
      const before = card.evictions.length;
      await card.clock.run(card.clock.now() + 300_000);
      const asked = card.evictions.length - before;
      expect(asked).toBeGreaterThan(0);
      expect(asked).toBeLessThanOrEqual(12);
      card.now.manners = {};
      await card.clock.run(card.clock.now() + 120_000);
      expect(card.inside()).toBe(0);
    }
  });
});

describe('a runtime that does not say what it holds', () => {
  it.each(['throws', 'hangs', 'deaf', 'absurd', 'ghost', 'nothing', 'stale'] as const)(
    'and answers with %s costs others seconds, no more',
    async (residents) => {
      const card = await openWithIdle({ residents });
      for (const model of ['b', 'c', 'd']) {
        const one = await timed(card, model, 2);
        expect(one).toMatchObject({ code: undefined });
        expect(one.ms).toBeLessThanOrEqual(30_000);
        await card.clock.finish(card.work(one.lease!, want(model, 2), QUICK));
        one.lease!.release();
      }
    },
  );

  it('holds nobody up where the card itself does not answer', async () => {
    const card = await openWithIdle({}, { used: () => new Promise(() => {}) });
    const one = await timed(card, 'b', 2);
    expect(one).toMatchObject({ code: undefined });
    expect(one.ms).toBeLessThanOrEqual(10_000);
  });
});

describe('loads', () => {
  it('that are left by whoever began them hold up others no longer than they take', async () => {
    const card = openFakeCard({ budget: 8 });
    const { clock, take, work } = card;
    const first = await clock.finish(take(want('a', 2)));
    const leaving = new AbortController();
    const loading = work(first, want('a', 2), { loadMs: 5000, runMs: 1000 }, leaving.signal).catch(() => {});
    const beside = clock.finish(take(want('a', 2)));
    const second = await beside;
    const working = work(second, want('a', 2), { loadMs: 5000, runMs: 40_000, beatMs: 1000 });
    await clock.run(2000);
    leaving.abort();
    await clock.finish(loading);
    first.release();
    await clock.run(6000);
    const other = await clock.finish(take(want('b', 2)), 10_000);
    other.release();
    await clock.finish(working);
    second.release();
  });

  it('that fail leave no model behind in the books that is not on the card', async () => {
    const card = openFakeCard({ budget: 8 });
    const { clock, take, work } = card;
    const lease = await clock.finish(take(want('a', 6)));
    const failing = work(lease, want('a', 6), { ...QUICK, fails: 'load' });
    await expect(clock.finish(failing)).rejects.toMatchObject({ code: 'upstream_error' });
    lease.release();
    card.crash('r');
    const other = await clock.finish(take(want('b', 6)), clock.now() + 1000);
    expect(card.evictions).toEqual([]);
    expect(card.arbiter.snapshot().held.map(({ model }) => model)).toEqual(['b']);
    other.release();
  });
});

describe('a model that grows', () => {
  it('is counted as what was measured, and nothing more comes beside it than fits', async () => {
    const card = openFakeCard({ budget: 8, runtimes: { r: { beyond: 2 } } });
    const { clock, take, work } = card;
    const first = await clock.finish(take(want('a', 3)));
    const working = work(first, want('a', 3), { ...QUICK, runMs: 20_000 });
    await clock.run(2000);
    const second = take(want('b', 4));
    await clock.run(3000);
    // 5 are taken, and 4 do not fit beside.
    expect(card.arbiter.snapshot()).toMatchObject({ held: [{ model: 'a', footprint: 5 }], waiting: [{ model: 'b' }] });
    await clock.finish(working);
    first.release();
    (await clock.finish(second)).release();
    expect(card.evictions).toEqual(['a']);
  });

  it('because more is asked of it waits until the growth fits', async () => {
    const card = openFakeCard({ budget: 8 });
    const { clock, take, work } = card;
    const a = await clock.finish(take(want('a', 3)));
    await clock.finish(work(a, want('a', 3), QUICK));
    const b = await clock.finish(take(want('b', 4)));
    a.release();
    const working = work(b, want('b', 4), { ...QUICK, runMs: 20_000 });
    await clock.run(clock.now() + 2000);
    const larger = take({ ...want('a', 6), extent: 32_000 });
    await clock.run(clock.now() + 5000);
    const held = card.arbiter.snapshot().held.filter(({ leases, loading }) => leases > 0 || loading);
    expect(held.reduce((sum, { footprint }) => sum + footprint, 0)).toBeLessThanOrEqual(8);
    await clock.finish(working);
    b.release();
    (await clock.finish(larger)).release();
  });
});
