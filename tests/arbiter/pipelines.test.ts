// Pipelines that cross on a card where two of their models do not fit: each step gives back what it had before the next is asked for.
import { describe, expect, it } from 'vitest';
import { createDice, openFakeCard, type FakeCard } from '../support/fake-card.ts';

const GB = { a: 5, b: 6, c: 7 };
const LOAD_MS = 4000;
const RUN_MS = 1000;
const STEPS = ['ab', 'ba', 'abc', 'cba', 'bca'] as const;
const QUEUE_MS = 3_600_000;
const PATIENCE_MS = 60_000;

interface Walk {
  steps: string;
  waits: number[];
}

/** Steps one after the other; `since` says since when it is under way, so that a later step keeps its place. */
async function walk(card: FakeCard, steps: string, { keepsPlace = true } = {}): Promise<Walk> {
  const { clock, take, work } = card;
  const since = clock.now();
  const waits: number[] = [];
  for (const model of steps) {
    const asked = clock.now();
    const want = { runtime: 'r', model, footprint: GB[model as keyof typeof GB] };
    const lease = await take({ ...want, ...(keepsPlace ? { since } : {}), caller: steps });
    waits.push(clock.now() - asked);
    await work(lease, want, { loadMs: LOAD_MS, runMs: RUN_MS, beatMs: 500 });
    lease.release();
  }
  return { steps, waits };
}

describe('crossing pipelines', () => {
  it('all end: 200 that come at once, and 200 one after the other', async () => {
    for (const gapMs of [0, 3000]) {
      const card = openFakeCard({ budget: 10, queueMs: QUEUE_MS });
      const { clock, arbiter } = card;
      const dice = createDice(5);
      const all = Array.from({ length: 200 }, async (_, index) => {
        await clock.sleep(index * gapMs + dice() * 100);
        return walk(card, STEPS[index % STEPS.length]!);
      });
      const walks = await clock.finish(Promise.all(all));
      expect(walks).toHaveLength(200);
      // Nobody starves: the work of all, each load paid for every step of everybody, is more than anybody waits.
      const steps = walks.reduce((sum, { steps: each }) => sum + each.length, 0);
      expect(Math.max(...walks.flatMap(({ waits }) => waits))).toBeLessThan(steps * (LOAD_MS + RUN_MS));
      expect(card.most()).toBeLessThanOrEqual(10);
      expect(arbiter.snapshot()).toMatchObject({ waiting: [] });
      await clock.run();
      expect(clock.now()).toBeLessThan(2 * steps * (LOAD_MS + RUN_MS) + 200 * gapMs);
    }
  });

  it('share a card that is asked for one model all the time: no step waits much longer than it is promised', async () => {
    const card = openFakeCard({ budget: 10, queueMs: QUEUE_MS });
    const { clock, take, work } = card;
    const stop = new AbortController();
    const chat = async () => {
      const want = { runtime: 'r', model: 'a', footprint: GB.a };
      while (!stop.signal.aborted) {
        const lease = await take({ ...want, caller: 'chat' });
        await work(lease, want, { loadMs: LOAD_MS, runMs: RUN_MS, beatMs: 500 });
        lease.release();
      }
    };
    const chats = Array.from({ length: 4 }, chat);
    const walks = await clock.finish(Promise.all([walk(card, 'bc'), walk(card, 'ba'), walk(card, 'cb')]));
    stop.abort();
    await clock.finish(Promise.all(chats));
    for (const { waits } of walks) expect(Math.max(...waits)).toBeLessThan(PATIENCE_MS + 10 * (LOAD_MS + RUN_MS));
  });

  it('that hold one model while they ask for another are refused within the bound, and everybody else goes on', async () => {
    const queueMs = 30_000;
    const card = openFakeCard({ budget: 10, queueMs, leaseMs: 600_000 });
    const { clock, take, work } = card;
    const outcomes: string[] = [];
    let longest = 0;
    const hold = async (steps: string) => {
      const held = [];
      for (const model of steps) {
        const want = { runtime: 'r', model, footprint: GB[model as keyof typeof GB] };
        const asked = clock.now();
        const lease = await take(want).catch((error: { code: string }) => void outcomes.push(error.code));
        longest = Math.max(longest, clock.now() - asked);
        if (!lease) break;
        held.push(lease);
        await work(lease, want, { loadMs: LOAD_MS, runMs: RUN_MS, beatMs: 500 });
      }
      for (const lease of held) lease.release();
      if (held.length === steps.length) outcomes.push('done');
    };
    const polite = async (steps: string) => {
      // Whoever is refused because others hold on asks again; it is over when they are.
      for (let tries = 0; tries < 5; tries++) {
        const walked = await walk(card, steps).catch(() => undefined);
        if (walked) return walked;
      }
      return undefined;
    };
    const all = [hold('ab'), hold('ba'), hold('ab'), hold('cb'), polite('ab'), polite('bac'), polite('c')];
    const ends = await clock.finish(Promise.all(all));
    expect(outcomes).toContain('overloaded');
    expect(outcomes.every((one) => one === 'overloaded' || one === 'done')).toBe(true);
    expect(longest).toBeLessThanOrEqual(queueMs);
    for (const end of ends.slice(4)) expect(end).toBeDefined();
    expect(card.most()).toBeLessThanOrEqual(10);
    expect(card.arbiter.snapshot()).toMatchObject({ waiting: [] });
  });
});
