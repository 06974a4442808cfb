// When the next of several models answers instead of one that failed, and how that is told.
import type { Route } from '../catalog.ts';
import { GatewayError, type ErrorCode } from '../error.ts';

/** Failures of a model or its runtime that another may not have; what is said of the one that failed. The request's own faults are none. */
const SAID: Partial<Record<ErrorCode, string>> = {
  upstream_unavailable: 'cannot be reached',
  upstream_timeout: 'did not answer in time',
  upstream_idle: 'fell silent',
  upstream_terminated: 'broke off',
  upstream_truncated: 'ended without an answer',
  upstream_invalid: 'answered nothing that can be understood',
  upstream_error: 'failed',
  provider_auth: 'refuses the key',
  rate_limited: 'takes no more requests now',
  overloaded: 'is too busy',
  insufficient_vram: 'does not fit on the card now',
  model_unavailable: 'is not here',
  model_not_found: 'is not there any more',
  not_supported: 'does not offer it',
  context_length_exceeded: 'has too short a context',
};

/** Whoever is listed after it and needs no card answers rather than have anybody wait that long. */
export class WaitTooLong extends GatewayError {
  readonly said: string;

  /** `said` completes “qwen3:8b would wait …”. */
  constructor({ model }: Route, said: string) {
    super('overloaded', `${model.id} would wait ${said}.`, { retryAfter: 30 });
    this.said = `would wait ${said}`;
  }
}

/** The first of those listed after it that is not on the card. */
export function toOverflow(routes: readonly Route[], from: number): number | undefined {
  const next = routes.findIndex(({ runtime }, index) => index > from && !runtime.gpu);
  return routes[from]!.listed && next >= 0 ? next : undefined;
}

/** As they are tried when the one at `to` answers rather than that at `from`: what was passed over stays the last resort. */
export function toOverflowed(routes: readonly Route[], from: number, to: number): Route[] {
  return [...routes.slice(to), ...routes.slice(from, to)];
}

/**
 * Which of the routes answers instead of the one at `failed`, before anything came out of that; undefined: none. Models that
 * somebody listed stand in for each other whenever that can help. What nobody listed stands in only for a runtime that is down.
 */
export function standIn(routes: readonly Route[], failed: number, error: GatewayError): number | undefined {
  const route = routes[failed]!;
  if (error instanceof WaitTooLong) return toOverflow(routes, failed);
  const helps = route.listed ? error.code in SAID : error.code === 'upstream_unavailable';
  if (!helps) return undefined;
  const next = routes.findIndex(({ model }, index) => {
    if (index <= failed) return false;
    // The same request is too long for every model whose context is no longer.
    if (error.code === 'context_length_exceeded') return (model.contextWindow ?? 0) > (route.model.contextWindow ?? 0);
    return true;
  });
  return next < 0 ? undefined : next;
}

/** “qwen3:8b cannot be reached”. */
export function toPassed({ model }: Route, error: GatewayError): string {
  return `${model.id} ${error instanceof WaitTooLong ? error.said : (SAID[error.code] ?? 'failed')}`;
}

/** “alias gpt-4o, because qwen3:8b cannot be reached”. */
export function toReason({ reason }: Route, passed: readonly string[]): string {
  return passed.length > 0 ? `${reason}, because ${passed.join(' and ')}` : reason;
}

export function toWarning(what: string, { model, runtime }: Route): string {
  return `${what} ${model.id} on ${runtime.name} answers instead.`;
}
