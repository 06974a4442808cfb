// What an answer means for a delivery, and when it is tried again.
import type { HookAnswer } from './send.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** Milliseconds before each try; the schedule of the Standard Webhooks spec, three days in all. */
export const SCHEDULE: readonly number[] = [
  0,
  5 * SECOND,
  5 * MINUTE,
  30 * MINUTE,
  2 * HOUR,
  5 * HOUR,
  10 * HOUR,
  14 * HOUR,
  20 * HOUR,
  24 * HOUR,
];

/** Longest wait that a receiver may ask for, in milliseconds. */
const MAX_RETRY_AFTER = 24 * HOUR;
/** Share of a pause by which it is longer or shorter at random, so that tries do not come in waves. */
const JITTER = 0.1;

/** What the owner is told about a try that failed; deliberately no more. */
export type Failure = 'unreachable' | 'timeout' | 'status' | 'redirect' | 'gone' | 'disabled';

/** Undefined for success. */
export function toFailure({ status }: HookAnswer): Failure | undefined {
  if (status >= 200 && status < 300) return undefined;
  if (status === 410) return 'gone';
  return status >= 300 && status < 400 ? 'redirect' : 'status';
}

/** Milliseconds that the receiver asks to be left alone for. The header is seconds or a date; anything else counts as absent. */
export function toRetryAfter({ status, retryAfter }: HookAnswer, now: number): number | undefined {
  if (retryAfter === undefined || (status !== 429 && status !== 503)) return undefined;
  const text = retryAfter.trim();
  // Date.parse alone takes almost anything for a date, `-5` for one.
  const wait = /^\d+$/.test(text) ? Number(text) * SECOND : text.endsWith(' GMT') ? Date.parse(text) - now : Number.NaN;
  return Number.isNaN(wait) ? undefined : Math.min(Math.max(wait, 0), MAX_RETRY_AFTER);
}

/** Milliseconds until the try that follows `tries` failed ones; undefined where there is none. */
export function toPause(
  tries: number,
  options: { schedule: readonly number[]; retryAfter: number | undefined; random: () => number },
): number | undefined {
  const pause = options.schedule[tries];
  if (pause === undefined) return undefined;
  const spread = 1 + JITTER * (2 * options.random() - 1);
  return Math.max(Math.round(pause * spread), options.retryAfter ?? 0);
}
