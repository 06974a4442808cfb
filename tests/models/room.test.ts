// How much of the card models may use: what was said, what there is, and what others leave of it.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { toBudget } from '../../src/models/room.ts';

const GB = 1024 ** 3;

function of(
  total: number | undefined,
  said: number | undefined,
  others = 0,
  kind: 'discrete' | 'integrated' | 'unified' = 'discrete',
) {
  const card = total === undefined ? undefined : { kind, vram: { total: total * GB, used: 0 } };
  const given = { said: said === undefined ? undefined : said * GB, headroom: GB, others: others * GB };
  const budget = toBudget(card, given);
  return budget === undefined ? undefined : budget / GB;
}

describe('the budget', () => {
  it.each([
    ['is what the card has, less the headroom', of(12, undefined), 11],
    ['lets others have the headroom', of(12, undefined, 0.9), 11],
    ['leaves others what they hold beyond the headroom', of(12, undefined, 3), 9],
    ['is what was said', of(12, 10), 10],
    ['is what was said as far as others leave it', of(12, 10, 4), 8],
    ['is never less than nothing', of(12, undefined, 20), 0],
    ['is never less than nothing, whatever was said', of(12, 10, 20), 0],
    ['is what was said where there is no card, or another one is meant', of(undefined, 10, 4), 10],
    ['is what was said of a card larger than the one that is here', of(8, 24, 4), 24],
    ['is unknown where nobody tells', of(undefined, undefined, 4), undefined],
    ['is unknown of what an APU has carved out', of(0.5, undefined), undefined],
    ['is what was said where the card is too small to plan with', of(0.5, 8, 0.4, 'integrated'), 8],
    ['is two thirds of memory that is shared with the processor', of(96, undefined, 40, 'unified'), 64],
    ['is what was said of memory that is shared', of(96, 50, 60, 'unified'), 50],
  ])('%s', (_, budget, expected) => {
    if (expected === undefined) expect(budget).toBeUndefined();
    else expect(budget).toBeCloseTo(expected, 6);
  });

  it('is never more where others hold more, and never below nothing', () => {
    const amount = fc.double({ min: 0, max: 100, noNaN: true });
    fc.assert(
      fc.property(amount, fc.option(amount, { nil: undefined }), amount, amount, (total, said, others, more) => {
        const [before, after] = [of(total, said, others), of(total, said, others + more)];
        expect(after === undefined).toBe(before === undefined);
        expect(after ?? 0).toBeLessThanOrEqual(before ?? 0);
        expect(after ?? 0).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});
