// What is known of the card where some of those who could tell do not: memory of others, and models of runtimes that are gone.
import { describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import { openFakeCard, type Manners } from '../support/fake-card.ts';

const WORK = { loadMs: 1000, runMs: 1000 };

/** A card of 24 that tells what is in use: of ours, and `game` of others. A model of `gone` was used; then its runtime went down. */
async function openWithout(options: { isEmpty: boolean; game: number }) {
  const now: { manners: Manners } = { manners: {} };
  let isEmpty = false;
  const card = openFakeCard({
    budget: 24,
    runtimes: { gone: () => now.manners, r: {} },
    used: async () => options.game + (isEmpty ? 0 : card.inside()),
  });
  const want = { runtime: 'gone', model: 'a', footprint: 16 };
  const lease = await card.clock.finish(card.take(want));
  await card.clock.finish(card.work(lease, want, WORK));
  lease.release();
  const down = () => Promise.reject(new GatewayError('upstream_unavailable', 'gone cannot be reached.'));
  Object.assign(card.tenants['gone']!, { residents: down, evict: down });
  isEmpty = options.isEmpty;
  return card;
}

const want = { runtime: 'r', model: 'b', footprint: 12 };

describe('a runtime that is down', () => {
  it('hides nothing of what others hold', async () => {
    const { clock, take, arbiter } = openFakeCard({
      budget: 24,
      runtimes: { gone: { residents: 'throws' }, r: {} },
      used: async () => 3,
    });
    (await clock.finish(take({ runtime: 'r', model: 'b', footprint: 12 }))).release();
    expect(arbiter.snapshot().others).toBe(3);
  });

  it('is not waited for where the card tells that its model has left with it', async () => {
    const { clock, take, arbiter } = await openWithout({ isEmpty: true, game: 10 });
    const lease = await clock.finish(take(want));
    expect(arbiter.snapshot().held.map(({ model }) => model)).toEqual(['b']);
    lease.release();
  });

  it('and may hold the card still is no reason to load onto it, and none to think another one down', async () => {
    const { clock, take, arbiter } = await openWithout({ isEmpty: false, game: 1 });
    await expect(clock.finish(take(want))).rejects.toMatchObject({ code: 'insufficient_vram' });
    expect(arbiter.snapshot().held.map(({ model }) => model)).toEqual(['a']);
  });
});

it('figures that are none make none of the budget', async () => {
  const { clock, take, arbiter } = openFakeCard({
    budget: 8,
    runtimes: { odd: { residents: 'absurd' }, r: {} },
    used: async () => 2,
  });
  (await clock.finish(take({ runtime: 'r', model: 'b', footprint: 6 }))).release();
  expect(arbiter.snapshot().others).toBe(2);
});

it('a runtime that hangs is waited for once, and not before every load', async () => {
  const { clock, take } = openFakeCard({ budget: 8, runtimes: { odd: { residents: 'hangs' }, r: {} } });
  const waits: number[] = [];
  for (const model of ['a', 'b', 'c']) {
    const began = clock.now();
    (await clock.finish(take({ runtime: 'r', model, footprint: 2 }))).release();
    waits.push(clock.now() - began);
  }
  expect(waits[0]).toBeGreaterThan(1000);
  expect(Math.max(...waits.slice(1))).toBeLessThan(500);
});
