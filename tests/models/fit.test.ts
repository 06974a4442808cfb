// What a model will take of the card, against figures that are known, and whether it fits.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { defaultContext, estimateVram, judge, type Facts } from '../../src/models/fit.ts';
import type { Footprint } from '../../src/models/footprints.ts';

const qwen8: Facts = { size: 5_225_000_000, kvPerToken: 36 * 8 * 128 * 2 * 2, contextWindow: 40_960 };
const llama3: Facts = { size: 2_019_393_189, kvPerToken: 28 * 8 * 128 * 2 * 2, contextWindow: 131_072 };
const gb = (facts: Facts, context?: number) => estimateVram(facts, undefined, context)!.bytes / 1e9;

describe('estimateVram', () => {
  it.each([
    ['qwen3:8b at 8k', gb(qwen8, 8192), 6.2, 6.9],
    ['llama3.2:3b at 4k', gb(llama3, 4096), 2.75, 3],
    ['llama3.2:3b at 8k', gb(llama3, 8192), 3, 3.5],
    ['llama3.2:3b whose cache nobody knows', gb({ size: 2_019_393_189, contextWindow: 131_072 }), 2.6, 3.5],
    ['gpt-oss:20b', gb({ size: 13_000_000_000, contextWindow: 131_072 }), 12.9, 15],
    ['SDXL', gb({ size: 6_940_000_000 }), 8, 10],
  ])('%s is about as documented', (_, told, least, most) => {
    expect(told).toBeGreaterThanOrEqual(least);
    expect(told).toBeLessThanOrEqual(most);
  });

  it('goes by measurement first, then by what it is told, then by its weights', () => {
    const measured: Footprint = { bytes: 7e9, extent: 8192, count: 1, confidence: 'seen' };
    const told = { ...qwen8, vram: 9e9 };
    expect(estimateVram(told, measured)).toEqual({ bytes: 7e9, basis: 'measured', context: 8192 });
    expect(estimateVram(told, measured, 8000)).toMatchObject({ bytes: 7e9, basis: 'measured' });
    expect(estimateVram(told, undefined, 8192)).toEqual({ bytes: 9e9, basis: 'told', context: null });
    expect(estimateVram(qwen8, undefined, 8192)).toMatchObject({ basis: 'estimated', context: 8192 });
  });

  it('takes a measurement for another context along', () => {
    const measured: Footprint = { bytes: 6e9, extent: 4096, count: 1, confidence: 'seen' };
    const larger = estimateVram(qwen8, measured, 16_384)!;
    expect(larger).toEqual({ bytes: 6e9 + 12_288 * qwen8.kvPerToken!, basis: 'estimated', context: 16_384 });
    // What was told is of another context, and what was seen of several tells best what more of it takes.
    expect(estimateVram({ ...qwen8, vram: 5e9 }, measured, 16_384)).toEqual(larger);
    const sloped = estimateVram(qwen8, { ...measured, perUnit: 1000 }, 16_384);
    expect(sloped).toMatchObject({ bytes: 6e9 + 12_288_000 });
  });

  it('lets a larger picture take more than the one that was measured, and a smaller one no less', () => {
    const measured: Footprint = { bytes: 9e9, extent: 1024 ** 2, count: 1, confidence: 'seen' };
    const of = (extent: number) => estimateVram({ size: 6.9e9, vram: 9.5e9 }, measured, extent)!;
    expect(of(1024 ** 2)).toEqual({ bytes: 9e9, basis: 'measured', context: null });
    expect(of(4 * 1024 ** 2)).toEqual({ bytes: 9e9 + 3 * 1.8e9, basis: 'estimated', context: null });
    expect(of(512 ** 2)).toMatchObject({ bytes: 9e9 });
  });

  it('takes a guess only where it is the larger one', () => {
    const guess: Footprint = { bytes: 7e9, extent: 8192, count: 0, confidence: 'guess' };
    expect(estimateVram({ vram: 9e9 }, guess, 8192)).toEqual({ bytes: 9e9, basis: 'told', context: null });
    expect(estimateVram({ vram: 6e9 }, guess, 8192)).toEqual({ bytes: 7e9, basis: 'estimated', context: null });
    expect(estimateVram({}, guess)).toMatchObject({ bytes: 7e9 });
  });

  it('takes no more context than the model has, and Ollama’s own where nobody says', () => {
    expect(estimateVram(qwen8, undefined, 1e9)).toMatchObject({ context: 40_960 });
    expect(estimateVram(qwen8)).toMatchObject({ context: 4096 });
    expect(estimateVram(qwen8, undefined, undefined, 32_768)).toMatchObject({ context: 32_768 });
    expect(estimateVram(qwen8, undefined, 8192, 32_768)).toMatchObject({ context: 8192 });
    expect([12, 24, 48].map((size) => defaultContext(size * 1024 ** 3))).toEqual([4096, 32_768, 262_144]);
  });

  it('counts weights where nobody says how large the files are', () => {
    const facts = { parameters: 8.2e9, quantization: 'Q4_K_M' };
    expect(gb(facts)).toBeGreaterThan(5);
    expect(gb({ ...facts, quantization: 'F16' })).toBeGreaterThan(16);
    expect(estimateVram({ parameters: 8e9 })).toBeUndefined();
    expect(estimateVram({})).toBeUndefined();
  });

  it('gives a whole number of bytes or nothing, whatever it is told, and never less for more context', () => {
    const number = fc.oneof(fc.double(), fc.integer(), fc.constant(undefined));
    const facts = fc.record({
      size: number,
      vram: number,
      kvPerToken: number,
      contextWindow: number,
      parameters: number,
    });
    const sizes = fc.record({
      bytes: fc.nat(),
      extent: fc.option(fc.integer({ min: 1, max: 1e9 }), { nil: undefined }),
      count: fc.nat(),
      confidence: fc.constantFrom('guess' as const, 'seen' as const, 'sure' as const),
    });
    fc.assert(
      fc.property(
        facts,
        fc.option(sizes, { nil: undefined }),
        fc.integer({ min: 1, max: 300_000 }),
        fc.integer({ min: 1, max: 300_000 }),
        (odd, seen, a, b) => {
          const given = JSON.parse(JSON.stringify(odd)) as Facts;
          const [less, more] = [Math.min(a, b), Math.max(a, b)].map((context) => estimateVram(given, seen, context));
          for (const vram of [less, more]) {
            if (vram) expect(Number.isSafeInteger(vram.bytes) && vram.bytes >= 0).toBe(true);
          }
          if (less) expect(more!.bytes).toBeGreaterThanOrEqual(less.bytes);
        },
      ),
    );
    expect(estimateVram({ size: Number.NaN, vram: -1, kvPerToken: Infinity })).toBeUndefined();
  });
});

describe('judge', () => {
  const of = (bytes: number) => ({ bytes, basis: 'told' as const, context: null });

  it('says what fits beside the rest, what fits alone, and what never does', () => {
    const room = { budget: 10, held: 6, pinned: 2 };
    expect([4, 5, 8, 9].map((bytes) => judge(of(bytes), room))).toEqual([
      'fits',
      'fits_alone',
      'fits_alone',
      'too_big',
    ]);
    expect(judge(undefined, room)).toBeUndefined();
    expect(judge(of(1), { ...room, budget: undefined })).toBeUndefined();
  });

  it('is never kinder to what is larger, nor where more is held', () => {
    const order = ['fits', 'fits_alone', 'too_big'];
    const rank = (bytes: number, held: number, pinned: number, budget: number) =>
      order.indexOf(judge(of(bytes), { budget, held, pinned })!);
    fc.assert(
      fc.property(fc.nat(99), fc.nat(99), fc.nat(99), fc.nat(99), fc.nat(99), (bytes, held, share, budget, more) => {
        const pinned = Math.min(share, held);
        const now = rank(bytes, held, pinned, budget);
        expect(rank(bytes + more, held, pinned, budget)).toBeGreaterThanOrEqual(now);
        expect(rank(bytes, held + more, pinned, budget)).toBeGreaterThanOrEqual(now);
        expect(rank(bytes, held, pinned, budget + more)).toBeLessThanOrEqual(now);
        expect(now === 2).toBe(bytes + pinned > budget);
      }),
    );
  });
});
