// Which failures of a pull another try may heal, and how long to wait before it.
import type { ErrorCode, GatewayError } from '../../error.ts';

const HEALABLE = new Set<ErrorCode>([
  'upstream_terminated',
  'upstream_idle',
  'upstream_unavailable',
  'upstream_timeout',
  'overloaded',
  'rate_limited',
]);

const FIRST_MS = 2000;
const LONGEST_MS = 60_000;
/** Who says to come back later than this is asked sooner: it may have meant somebody else's quota. */
const LATEST_MS = 15 * 60_000;

export function mayHeal({ code, retryAfter }: GatewayError): boolean {
  return HEALABLE.has(code) || (code === 'model_unavailable' && retryAfter !== undefined);
}

/** Milliseconds before the next try: doubling, with jitter, never before `retryAfter` seconds. */
export function backoff(misses: number, retryAfter = 0): number {
  const doubled = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(16, Math.max(0, misses - 1)));
  return Math.round(Math.max(Math.min(LATEST_MS, retryAfter * 1000), doubled * (0.75 + Math.random() / 2)));
}
