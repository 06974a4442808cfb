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

  it('gives the card to what is too large for a budget that nobody set, and to nothing beside it', () => {
    const ask = (models: Held[]) =>
      decide({ want: want('big', 9), held: models, budget: 8 * GB, isFirm: false, swapping: false });
    expect(ask([]).do).toBe('grant');
    expect(ask([held('a', 1)])).toMatchObject({ do: 'evict', victims: [{ model: 'a' }] });
    expect(ask([held('a', 1, 1)]).do).toBe('wait');
    const beside = { want: want('b', 1), held: [held('big', 9, 1)], budget: 8 * GB, isFirm: false, swapping: false };
    expect(decide(beside).do).toBe('wait');
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

describe('pinned models', () => {
  const isPinned = ({ model }: Held) => model.startsWith('pin');
  const ask = (size: number, models: Held[], { budget }: { budget: number | undefined } = { budget: 8 * GB }) =>
    decide({ want: want('x', size), held: models, budget, swapping: false, isPinned });

  it('are never sent away: others go, or the request is refused with their names and the remedy', () => {
    expect(ask(4, [held('pin', 4, 0, 1), held('b', 4, 0, 9)])).toMatchObject({
      do: 'evict',
      victims: [{ model: 'b' }],
    });
    const refused = ask(5, [held('pin', 4, 0, 1), held('b', 4, 0, 9)]);
    expect(refused).toMatchObject({ do: 'refuse', remedy: 'To make room: hono-ai models pin pin --off.' });
    expect(refused).toHaveProperty('because', expect.stringContaining('pin is pinned'));
  });

  it('are refused for at once, busy or not: waiting would not end', () => {
    expect(ask(5, [held('pin', 4, 1)]).do).toBe('refuse');
    const remedy = expect.stringContaining('HONO_AI_VRAM');
    expect(ask(1, [held('pin', 4)], { budget: undefined })).toMatchObject({ do: 'refuse', remedy });
    expect(ask(4, [held('pin', 4, 1), held('b', 4, 1)]).do).toBe('wait');
  });

  it('are no victims of any snapshot, and whoever waits waits for somebody', () => {
    const model = fc.record({ footprint: fc.nat(8), leases: fc.nat(2), usedAt: fc.integer(), pin: fc.boolean() });
    fc.assert(
      fc.property(fc.array(model, { maxLength: 6 }), fc.nat(12), fc.boolean(), (models, size, knows) => {
        const all = models.map(({ footprint, leases, usedAt, pin }, index) =>
          held(`${pin ? 'pin' : 'm'}${index}`, footprint, leases, usedAt),
        );
        const decision = ask(size, all, { budget: knows ? 10 * GB : undefined });
        if (decision.do === 'evict') expect(decision.victims.some(isPinned)).toBe(false);
        if (decision.do === 'wait') expect(all.some((one) => one.leases > 0 && !isPinned(one))).toBe(true);
      }),
    );
  });
});
