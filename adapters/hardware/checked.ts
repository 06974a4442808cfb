// What sensors may say: numbers that a card can have, and null for all others.
import type { Card } from '../../src/hardware.ts';
import { toNumber, type Limits } from './tree.ts';

/** A card as one reader found it; which is chosen is decided over all of them. */
export type Found = Omit<Card, 'chosen'>;

/** What one reader has to say. */
export interface Findings {
  cards: Found[];
  problems: string[];
}

/** Bytes; no card is larger than this for years to come. */
export const MEMORY: Limits = { max: 2 ** 44 };
const CELSIUS: Limits = { min: -40, max: 150 };
const WATTS: Limits = { max: 3000 };
const RPM: Limits = { max: 30_000 };

/** Whatever is garbage becomes null. `scale` is how many of its units make one of ours: 1000 for millidegrees. */
export const toCelsius = (text: string | undefined, scale = 1) => scaled(text, CELSIUS, scale);
export const toWatts = (text: string | undefined, scale = 1) => scaled(text, WATTS, scale);
export const toRpm = (text: string | undefined) => scaled(text, RPM, 1);
/** Percent → 0 to 1. */
export const toShare = (text: string | undefined) => scaled(text, { max: 1 }, 100);

/** Used is never more than there is; what is not known is taken as it was, or as none. */
export function toMemory(total: number, used: number | undefined, before: number | undefined) {
  const known = used !== undefined && used <= total ? used : before;
  return { total, used: Math.min(total, known ?? 0) };
}

function scaled(text: string | undefined, { min = 0, max = Infinity }: Limits, scale: number): number | null {
  const value = toNumber(text, { min: min * scale, max: max * scale });
  return value === undefined ? null : value / scale;
}
