// What a decision costs with ten thousand who wait for a hundred models: no more than n log n, and next to nothing for each.
import { expect, it } from 'vitest';
import { decide, type Held, type Snapshot, type Waiting } from '../../src/arbiter/policy.ts';
import { createDice } from '../support/fake-card.ts';

const MODELS = 100;
const NOW = 1_000_000;

/** Half of the models are on the card; every tenth who waits is due. */
function toSnapshot(count: number, seed: number): Snapshot {
  const dice = createDice(seed);
  const held = Array.from({ length: MODELS / 2 }, (_, index): Held => {
    const times = { usedAt: NOW - dice() * 100_000, since: NOW - 200_000, loadMs: 4000 + dice() * 4000 };
    const state = { loading: false, leaving: false, stuck: false, leases: index % 3 === 0 ? 1 : 0 };
    return { runtime: `r${index % 4}`, model: `m${index}`, footprint: 1 + Math.floor(dice() * 8), ...times, ...state };
  });
  const waiting = Array.from({ length: count }, (_, id): Waiting => {
    const index = Math.floor(dice() * MODELS);
    const since = NOW - (count - id);
    return {
      id,
      runtime: `r${index % 4}`,
      model: `m${index}`,
      line: index,
      caller: `c${id % 50}`,
      since,
      footprint: held[index]?.footprint ?? 1 + (index % 8),
      class: (['interactive', 'normal', 'background'] as const)[id % 3]!,
      dueAt: dice() < 0.1 ? NOW - 1 : NOW + 60_000 * dice(),
      loadMs: held[index] ? 0 : 4000,
      runMs: 2000 + dice() * 8000,
    };
  });
  return {
    now: NOW,
    waiting,
    held,
    budget: held.reduce((sum, { footprint }) => sum + footprint, 0),
    swapping: false,
    running: held
      .filter(({ leases }) => leases > 0)
      .map((one) => ({ ...one, caller: 'c', class: 'normal' as const, endsAt: NOW + 2000 })),
    slots: () => ({ model: 2, runtime: 40 }),
    usage: (caller) => caller.length * 1000,
    demand: () => 2,
  };
}

it('looks at each who waits a few times, however many there are', () => {
  const readsFor = (count: number) => {
    const snapshot = toSnapshot(count, 7);
    let reads = 0;
    const watched = snapshot.waiting.map(
      (one) => new Proxy(one, { get: (target, name) => (reads++, Reflect.get(target, name)) }),
    );
    decide({ ...snapshot, waiting: watched });
    return reads / count;
  };
  const [few, many] = [readsFor(1000), readsFor(10_000)];
  expect(many).toBeLessThanOrEqual(few * 2);
  expect(many).toBeLessThan(200);
});

it('asks for the share of each caller, and the demand for each model, not once for everybody who waits', () => {
  const snapshot = toSnapshot(10_000, 9);
  let asked = 0;
  decide({ ...snapshot, demand: () => ++asked });
  expect(asked).toBeLessThanOrEqual(10 * MODELS);
});
