// The parts of the embedded runtime that can be wrong without a model noticing: sampling, and text from tokens.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { createReader } from '../../adapters/runtimes/embedded/reader.ts';
import { createSampler, scoreToken, seededRandom } from '../../adapters/runtimes/embedded/sampler.ts';
import type { Sampling } from '../../adapters/runtimes/embedded/wire.ts';

const open: Sampling = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repeatPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 1,
};

describe('the sampler', () => {
  // Probabilities 0.5, 0.3, 0.15, 0.05.
  const logits = () => Float32Array.from([0.5, 0.3, 0.15, 0.05], Math.log);
  const shares = (knobs: Partial<Sampling>, ids: bigint[] = [], prompt = 0) => {
    const choose = createSampler({ ...open, ...knobs }, prompt);
    const counts = [0, 0, 0, 0];
    for (let round = 0; round < 4000; round++) counts[choose(logits(), ids, undefined).id]!++;
    return counts.map((count) => count / 4000);
  };

  it('draws as often as the model says', () => {
    for (const [id, share] of shares({}).entries()) expect(share).toBeCloseTo([0.5, 0.3, 0.15, 0.05][id]!, 1);
  });

  it('keeps to top_k, top_p and min_p', () => {
    const kept = (knobs: Partial<Sampling>) => shares(knobs).filter((share) => share > 0).length;
    expect(kept({ topK: 2 })).toBe(2);
    expect(kept({ topP: 0.6 })).toBe(2);
    expect(kept({ topP: 0.01 })).toBe(1);
    expect(kept({ minP: 0.2 })).toBe(3);
    expect(kept({ topK: 3, topP: 0.9, minP: 0.5 })).toBe(2);
  });

  it('takes the likeliest at temperature 0, and is flatter above 1 than below', () => {
    expect(shares({ temperature: 0 })).toEqual([1, 0, 0, 0]);
    expect(shares({ temperature: 2 })[3]).toBeGreaterThan(shares({ temperature: 0.5 })[3]!);
  });

  it('penalises presence and frequency in the answer only, repetition in the prompt too', () => {
    const greedy = (knobs: Partial<Sampling>, ids: bigint[], prompt: number) =>
      createSampler({ ...open, temperature: 0, ...knobs }, prompt)(logits(), ids, undefined).id;
    expect(greedy({ presencePenalty: 2 }, [0n], 1)).toBe(0);
    expect(greedy({ presencePenalty: 2 }, [0n], 0)).toBe(1);
    expect(greedy({ frequencyPenalty: 0.3 }, [0n], 0)).toBe(0);
    expect(greedy({ frequencyPenalty: 0.3 }, [0n, 0n], 0)).toBe(1);
    expect(greedy({ repeatPenalty: 2 }, [0n], 1)).toBe(1);
  });

  it('scores tokens by the distribution of the model', () => {
    const { logprob, top } = scoreToken(logits(), 2, 2);
    expect(Math.exp(logprob)).toBeCloseTo(0.15, 5);
    expect(top.map(({ id }) => id)).toEqual([0, 1]);
  });

  it('finds the same nucleus by the short way as by sorting everything', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: 1, maxLength: 40 }),
        fc.double({ min: 0.01, max: 0.999, noNaN: true }),
        (values, topP) => {
          const scores = Float32Array.from(values);
          const order = [...scores.keys()].toSorted((x, y) => scores[y]! - scores[x]! || x - y);
          const weights = order.map((id) => Math.exp(scores[id]! - scores[order[0]!]!));
          const total = weights.reduce((sum, weight) => sum + weight, 0);
          let mass = 0;
          const nucleus = order.filter((_, at) => {
            const inside = mass < topP * total * (1 + 1e-9);
            mass += weights[at]!;
            return inside;
          });
          const choose = createSampler({ ...open, topP }, 0);
          for (let round = 0; round < 20; round++) expect(nucleus).toContain(choose(scores.slice(), [], undefined).id);
        },
      ),
    );
  });

  it('gives each seed numbers of its own, spread over [0, 1)', () => {
    const first = (seed: number) => Array.from({ length: 3 }, seededRandom(seed)).join();
    expect(new Set([0, 1, 2, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1].map(first)).size).toBe(6);
    const random = seededRandom(3);
    const numbers = Array.from({ length: 10_000 }, random);
    expect(numbers.reduce((sum, value) => sum + value, 0) / numbers.length).toBeCloseTo(0.5, 1);
    expect(numbers.every((value) => value >= 0 && value < 1)).toBe(true);
  });
});

describe('the reader', () => {
  /** One token per byte: the worst case for characters of several bytes. */
  const decode = (ids: number[]) => new TextDecoder().decode(Uint8Array.from(ids));
  const read = (text: string, stop: string[]) => {
    const reader = createReader(decode, [], stop);
    const shown: string[] = [];
    for (const byte of new TextEncoder().encode(text)) {
      if (reader.stopped) break;
      shown.push(reader.push(byte).text);
    }
    return { shown: [...shown, reader.end().text], stopped: reader.stopped };
  };

  it('shows whole characters only', () => {
    const { shown } = read('Grüße 🌊!', []);
    expect(shown.join('')).toBe('Grüße 🌊!');
    expect(shown.join('')).not.toContain('\uFFFD');
    for (const piece of shown) expect(piece.isWellFormed()).toBe(true);
  });

  it('drops a character that is never completed', () => {
    const reader = createReader(decode, [], []);
    reader.push(0xf0);
    reader.push(0x9f);
    expect(reader.end().text).toBe('');
  });

  it('ends before a stop text, and never shows a part of one', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', 'b', 'ü', '🌊'), maxLength: 30 }),
        fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'ü'), minLength: 1, maxLength: 3 }), {
          minLength: 1,
          maxLength: 3,
        }),
        (text, stop) => {
          const { shown, stopped } = read(text, stop);
          const ends = stop.map((each) => text.indexOf(each)).filter((at) => at !== -1);
          const found = shown.join('');
          expect(stopped).toBe(ends.length > 0);
          expect(text.startsWith(found)).toBe(true);
          for (const each of stop) expect(found).not.toContain(each);
          if (!stopped) expect(found).toBe(text);
        },
      ),
    );
  });

  it('hands out the scores of a token with its text', () => {
    const reader = createReader(decode, [], ['cd']);
    const score = (token: string) => ({ token, logprob: -1, bytes: null, top_logprobs: [] });
    const pieces = [...'abcd'].map((token) => reader.push(token.charCodeAt(0), score(token)));
    expect(pieces.map(({ text, logprobs }) => text + logprobs.map(({ token }) => token).join(''))).toEqual([
      'aa',
      'bb',
      '',
      '',
    ]);
    expect(reader.end()).toEqual({ text: '', logprobs: [] });
  });
});
