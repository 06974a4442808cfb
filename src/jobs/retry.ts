// Which failures another attempt may heal, and how long to wait before it.
import type { ErrorCode, GatewayError } from '../error.ts';

/** The runtime never began: no attempt was made, and the job waits until it can be. */
const NOT_STARTED = new Set<ErrorCode>([
  'upstream_unavailable',
  'overloaded',
  'rate_limited',
  'draining',
  'storage_unavailable',
]);

/** The runtime went away, or had no room, in the middle of it. */
const RETRYABLE = new Set<ErrorCode>(['upstream_terminated', 'insufficient_vram', 'model_unavailable']);

const FIRST_MS = 1000;
const LONGEST_MS = 60_000;

/** A model that is missing while a runtime is down (the catalog then says when to come back) may be there when it is up. */
export function wasNotStarted({ code, retryAfter }: GatewayError): boolean {
  const missing = code === 'model_not_found' || code === 'not_supported';
  return NOT_STARTED.has(code) || (missing && retryAfter !== undefined);
}

/** Whatever SDKs are told: the attempts of a job are counted and bounded, those of an SDK are not. */
export function isRetryable({ code }: GatewayError): boolean {
  return RETRYABLE.has(code);
}

/** Milliseconds before the next try: doubling, with jitter so that many do not come back at once, never before `retryAfter` seconds. */
export function delayOf(tries: number, retryAfter = 0, random: () => number = Math.random): number {
  const doubled = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(16, Math.max(0, tries - 1)));
  return Math.round(Math.max(retryAfter * 1000, doubled * (0.75 + random() / 2)));
}
