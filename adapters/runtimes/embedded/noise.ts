// Seeded Gaussian noise, the same to the last bit on every host.
import { seededRandom } from './sampler.ts';

/** Normally distributed numbers (Marsaglia's polar method). */
export function createNoise(seed: number): () => number {
  const random = seededRandom(seed);
  let spare: number | undefined;
  return () => {
    if (spare !== undefined) {
      const value = spare;
      spare = undefined;
      return value;
    }
    for (;;) {
      const x = 2 * random() - 1;
      const y = 2 * random() - 1;
      const square = x * x + y * y;
      if (square === 0 || square >= 1) continue;
      const scale = Math.sqrt((-2 * logarithm(square)) / square);
      spare = y * scale;
      return x * scale;
    }
  };
}

/**
 * The natural logarithm of a positive number. Not Math.log: engines round it differently in the last digit. What is used here
 * is exact by IEEE 754.
 */
function logarithm(value: number): number {
  let exponent = 0;
  let mantissa = value;
  for (; mantissa < Math.SQRT1_2; mantissa *= 2) exponent--;
  for (; mantissa > Math.SQRT2; mantissa /= 2) exponent++;
  const ratio = (mantissa - 1) / (mantissa + 1);
  const square = ratio * ratio;
  let sum = 0;
  // The odd powers of the series, smallest first; |ratio| < 0.172, so that the next one is below 1e-17.
  for (let power = 21; power >= 1; power -= 2) sum = sum * square + 1 / power;
  return exponent * Math.LN2 + 2 * ratio * sum;
}
