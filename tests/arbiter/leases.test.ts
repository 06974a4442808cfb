// Leases: numbers that never come again, signs of life, an end by either side, and what each has cost.
import { describe, expect, it, vi } from 'vitest';
import { createTimings } from '../../src/arbiter/timings.ts';
import { openFakeCard } from '../support/fake-card.ts';

const want = (model: string, footprint = 5) => ({ runtime: 'r', model, footprint });
const LEASE_MS = 30_000;
const open = (options: Parameters<typeof openFakeCard>[0] = {}) =>
  openFakeCard({ budget: 8, leaseMs: LEASE_MS, queueMs: 600_000, ...options });

describe('a lease', () => {
  it('has a larger number than every lease before it', async () => {
    const { clock, take } = open();
    let before = 0;
    for (const model of 'abacbb') {
      const lease = await clock.finish(take(want(model)));
      expect(lease.id).toBeGreaterThan(before);
      before = lease.id;
      lease.release();
    }
  });

  it('ends once: what is done with it then changes nothing, neither for itself nor for the one after it', async () => {
    const { clock, take, arbiter } = open();
    const first = await clock.finish(take(want('a')));
    first.running();
    first.release();
    const second = await clock.finish(take(want('a')));
    first.release();
    first.running();
    first.beat();
    expect(arbiter.snapshot().held).toMatchObject([{ model: 'a', leases: 1 }]);
    await clock.run(clock.now() + LEASE_MS - 1);
    expect(second.signal.aborted).toBe(false);
    second.release();
    expect(arbiter.snapshot().held).toMatchObject([{ model: 'a', leases: 0 }]);
  });

  it('lives as long as it is heard of, and is taken back when it is not: then others go on', async () => {
    const { clock, take, arbiter } = open();
    const lease = await clock.finish(take(want('a')));
    const other = take(want('b'));
    for (let beats = 0; beats < 5; beats++) {
      await clock.run(clock.now() + LEASE_MS - 1000);
      lease.beat();
    }
    expect(lease.signal.aborted).toBe(false);
    const silentSince = clock.now();
    const next = await clock.finish(other);
    expect(clock.now() - silentSince).toBeLessThanOrEqual(LEASE_MS + 1);
    expect(lease.signal.reason).toMatchObject({ code: 'upstream_idle', source: 'r' });
    // It is fenced off: the model is the other's now.
    lease.running();
    lease.beat();
    lease.release();
    expect(arbiter.snapshot().held.filter(({ leases }) => leases > 0)).toMatchObject([{ model: 'b', leases: 1 }]);
    next.release();
    await clock.run(clock.now() + 1000);
    expect(clock.pending()).toBe(0);
  });

  it('is kept where the runtime was dealt with, and asked about again when it stays silent', async () => {
    const answers = [true, false];
    const onWedged = vi.fn<(runtime: string, how: string) => Promise<boolean>>(async () => answers.shift()!);
    const { clock, take } = open({ onWedged });
    const lease = await clock.finish(take(want('a')));
    await clock.run(LEASE_MS + 1000);
    expect([lease.signal.aborted, onWedged.mock.calls]).toEqual([false, [['r', 'silent']]]);
    await clock.run(2 * LEASE_MS + 2000);
    expect([lease.signal.aborted, onWedged.mock.calls.length]).toEqual([true, 2]);
  });

  it.each([
    ['rejects', () => Promise.reject(new Error('no such command'))],
    ['never answers', () => new Promise<boolean>(() => {})],
  ])('is taken back where the watchdog %s', async (_, onWedged) => {
    const { clock, take } = open({ onWedged });
    const lease = await clock.finish(take(want('a')));
    const other = take(want('b'));
    (await clock.finish(other, LEASE_MS + 120_000)).release();
    expect(lease.signal.aborted).toBe(true);
  });

  it('that gives a sign of life while the watchdog works is not taken back', async () => {
    const { clock, take } = open({ onWedged: async () => (await clock.sleep(5000), false) });
    const lease = await clock.finish(take(want('a')));
    await clock.run(LEASE_MS + 2000);
    lease.beat();
    await clock.run(LEASE_MS + 10_000);
    expect(lease.signal.aborted).toBe(false);
    lease.release();
    await clock.run(clock.now() + 1000);
    expect(clock.pending()).toBe(0);
  });

  it('that ends while the watchdog works leaves no timer behind', async () => {
    const { clock, take } = open({ onWedged: async () => (await clock.sleep(5000), true) });
    const lease = await clock.finish(take(want('a')));
    await clock.run(LEASE_MS + 2000);
    lease.release();
    await clock.run(LEASE_MS + 6000);
    expect(clock.pending()).toBe(0);
  });

  it('that ends before the runtime has begun teaches nothing of how long runs take', async () => {
    const timings = createTimings();
    const { clock, take } = open({ timings });
    const first = await clock.finish(take(want('a')));
    first.running();
    await clock.run(clock.now() + 5000);
    first.release();
    const failed = await clock.finish(take(want('a')));
    await clock.run(clock.now() + 10);
    failed.release();
    expect(timings.runMs(want('a'))).toBe(5000);
  });

  it('that was cut off half-way teaches nothing of that either', async () => {
    const timings = createTimings();
    const { clock, take } = open({ timings });
    const run = async (ms: number, how: 'whole' | 'cut') => {
      const lease = await clock.finish(take(want('a')));
      lease.running();
      await clock.run(clock.now() + ms);
      lease.release(how);
    };
    await run(5000, 'whole');
    await run(100, 'cut');
    expect(timings.runMs(want('a'))).toBe(5000);
    await run(100, 'whole');
    expect(timings.runMs(want('a'))).toBeLessThan(5000);
  });

  it('tells what it cost: the wait for others, the swap with the load, and the run', async () => {
    const { clock, take, work } = open({ runtimes: { r: { unloadMs: 2000 } } });
    const first = await clock.finish(take(want('a')));
    const using = work(first, want('a'), { loadMs: 1000, runMs: 9000, beatMs: 1000 });
    const waiting = take(want('b'));
    await clock.finish(using);
    first.release();
    const lease = await clock.finish(waiting);
    await clock.finish(work(lease, want('b'), { loadMs: 3000, runMs: 4000, beatMs: 1000 }));
    lease.release();
    await clock.run(clock.now() + 5000);
    const { evicted, ...cost } = lease.cost();
    expect(evicted).toEqual([{ runtime: 'r', model: 'a' }]);
    expect(cost).toEqual({ queueMs: 10_000, swapMs: 5000, runMs: 4000 });
    expect(lease.cold).toBe(true);
    const warm = await clock.finish(take(want('b')));
    expect(warm).toMatchObject({ cold: false, evicted: [] });
    expect(warm.cost()).toMatchObject({ queueMs: 0, swapMs: 0 });
    warm.release();
  });
});

describe('whoever leaves', () => {
  /** One uses the card; another has asked and read `reads` words of where it stands. */
  async function openWaiting(reads: number) {
    const card = open();
    const { clock, take, arbiter, tenants } = card;
    const first = await clock.finish(take(want('a')));
    const leaving = new AbortController();
    const waiting = arbiter.acquire({ ...want('b'), tenant: tenants['r']!, signal: leaving.signal });
    for (let read = 0; read < reads; read++) await clock.finish(waiting.next());
    return { ...card, first, leaving, waiting };
  }

  it('without ever reading has asked for nothing', async () => {
    const { clock, first, take, arbiter } = await openWaiting(0);
    expect(arbiter.snapshot().waiting).toEqual([]);
    first.release();
    (await clock.finish(take(want('c')))).release();
  });

  it('having read and been given a lease that it does not come for loses it when its signal aborts', async () => {
    const { clock, first, leaving, waiting, arbiter } = await openWaiting(1);
    first.release();
    await clock.run(1000);
    expect(arbiter.snapshot().held.filter(({ leases }) => leases > 0)).toMatchObject([{ model: 'b' }]);
    leaving.abort();
    expect(arbiter.snapshot().held.filter(({ leases }) => leases > 0)).toEqual([]);
    await expect(waiting.next()).rejects.toMatchObject({ code: 'client_closed' });
    await clock.run(2000);
    expect(clock.pending()).toBe(0);
  });

  it('by return gives back what it was given', async () => {
    const { clock, first, waiting, arbiter } = await openWaiting(1);
    first.release();
    await clock.run(1000);
    await waiting.return(undefined as never);
    expect(arbiter.snapshot()).toMatchObject({ waiting: [] });
    expect(arbiter.snapshot().held.filter(({ leases }) => leases > 0)).toEqual([]);
    await clock.run(2000);
    expect(clock.pending()).toBe(0);
  });

  it('without a word, half-way, holds the card no longer than a lease without signs of life', async () => {
    const { clock, first, take } = await openWaiting(1);
    first.release();
    const other = await clock.finish(take(want('c')), LEASE_MS + 2000);
    other.release();
  });
});
