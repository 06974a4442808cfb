// When the next of several models answers instead of one that failed, and how that is told.
import type { Route } from '../catalog.ts';
import type { ErrorCode, GatewayError } from '../error.ts';

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

/**
 * Which of the routes answers instead of the one at `failed`, before anything came out of that; undefined: none. Models that
 * somebody listed stand in for each other whenever that can help. What nobody listed stands in only for a runtime that is down.
 */
export function standIn(routes: readonly Route[], failed: number, error: GatewayError): number | undefined {
  const route = routes[failed]!;
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
export function toPassed({ model }: Route, { code }: GatewayError): string {
  return `${model.id} ${SAID[code] ?? 'failed'}`;
}

/** “alias gpt-4o, because qwen3:8b cannot be reached”. */
export function toReason({ reason }: Route, passed: readonly string[]): string {
  return passed.length > 0 ? `${reason}, because ${passed.join(' and ')}` : reason;
}

export function toWarning(what: string, { model, runtime }: Route): string {
  return `${what} ${model.id} on ${runtime.name} answers instead.`;
}
