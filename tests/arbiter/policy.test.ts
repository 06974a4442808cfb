// The policy's decision tree, branch by branch, and what must hold whatever the snapshot.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decide, type Held } from '../../src/arbiter/policy.ts';

const GB = 1024 ** 3;
const held = (model: string, footprint: number, leases = 0, usedAt = 0): Held => ({
  runtime: 'r',
  model,
  footprint: footprint * GB,
  leases,
  usedAt,
});
const want = (model: string, footprint: number) => ({ runtime: 'r', model, footprint: footprint * GB });

describe('decide', () => {
  it('grants a model that is held, even while another swap is under way', () => {
    expect(decide({ want: want('a', 4), held: [held('a', 4, 1)], budget: 8 * GB, swapping: true })).toEqual({
      do: 'grant',
    });
  });

  it('refuses what can never fit', () => {
    expect(decide({ want: want('big', 9), held: [], budget: 8 * GB, swapping: false }).do).toBe('refuse');
  });

  it('waits while a swap is under way', () => {
    expect(decide({ want: want('b', 1), held: [], budget: 8 * GB, swapping: true }).do).toBe('wait');
  });

  it('grants what fits beside the rest', () => {
    expect(decide({ want: want('b', 3), held: [held('a', 5, 1)], budget: 8 * GB, swapping: false }).do).toBe('grant');
  });

  it('evicts the least recently used, and no more than it must', () => {
    const models = [held('new', 3, 0, 20), held('old', 3, 0, 10), held('busy', 2, 1, 1)];
    const decision = decide({ want: want('b', 3), held: models, budget: 8 * GB, swapping: false });
    expect(decision).toEqual({ do: 'evict', victims: [models[1]] });
  });

  it('never evicts a busy model', () => {
    const decision = decide({ want: want('b', 5), held: [held('a', 5, 1)], budget: 8 * GB, swapping: false });
    expect(decision).toEqual({ do: 'wait', because: 'a is using the card' });
  });

  it('holds one model at a time where nobody knows the budget', () => {
    expect(decide({ want: want('b', 0), held: [held('a', 0, 1)], budget: undefined, swapping: false }).do).toBe('wait');
    expect(decide({ want: want('b', 0), held: [held('a', 0)], budget: undefined, swapping: false }).do).toBe('evict');
  });

  it('keeps the budget for any snapshot that keeps it', () => {
    const model = fc.record({
      footprint: fc.integer({ min: 0, max: 8 }),
      leases: fc.integer({ min: 0, max: 2 }),
      usedAt: fc.integer(),
    });
    fc.assert(
      fc.property(fc.array(model, { maxLength: 6 }), fc.integer({ min: 0, max: 12 }), (models, size) => {
        const all = models.map((one, index) => ({ ...held(`m${index}`, one.footprint, one.leases, one.usedAt) }));
        const sum = (list: readonly Held[]) => list.reduce((total, { footprint }) => total + footprint, 0);
        const budget = Math.max(8 * GB, sum(all));
        const decision = decide({ want: want('x', size), held: all, budget, swapping: false });
        if (decision.do === 'grant') expect(sum(all) + size * GB).toBeLessThanOrEqual(budget);
        if (decision.do === 'evict') {
          expect(decision.victims.every((victim) => victim.leases === 0)).toBe(true);
          const rest = all.filter((one) => !decision.victims.includes(one));
          expect(sum(rest) + size * GB).toBeLessThanOrEqual(budget);
        }
        if (decision.do === 'refuse') expect(size * GB).toBeGreaterThan(budget);
      }),
    );
  });
});
