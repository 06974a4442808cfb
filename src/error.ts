// The one error class and the one table of failures: every code, its HTTP status and its OpenAI-style type.

/** code → [HTTP status, type]. The statuses are a promise to callers; see docs/contract.md. */
export const errorTable = {
  invalid_json: [400, 'invalid_request_error'],
  invalid_request: [400, 'invalid_request_error'],
  unsupported_parameter: [400, 'invalid_request_error'],
  context_length_exceeded: [400, 'invalid_request_error'],
  invalid_api_key: [401, 'authentication_error'],
  forbidden: [403, 'permission_error'],
  forbidden_origin: [403, 'permission_error'],
  invalid_signature: [403, 'permission_error'],
  not_found: [404, 'invalid_request_error'],
  model_not_found: [404, 'invalid_request_error'],
  method_not_allowed: [405, 'invalid_request_error'],
  request_timeout: [408, 'invalid_request_error'],
  conflict: [409, 'invalid_request_error'],
  cancelled: [409, 'invalid_request_error'],
  idempotency_running: [409, 'invalid_request_error'],
  expired: [410, 'invalid_request_error'],
  body_too_large: [413, 'invalid_request_error'],
  unsupported_media_type: [415, 'invalid_request_error'],
  range_not_satisfiable: [416, 'invalid_request_error'],
  misdirected_request: [421, 'invalid_request_error'],
  idempotency_mismatch: [422, 'invalid_request_error'],
  upgrade_required: [426, 'invalid_request_error'],
  rate_limited: [429, 'rate_limit_error'],
  client_closed: [499, 'client_error'],
  internal: [500, 'server_error'],
  poisoned: [500, 'server_error'],
  not_supported: [501, 'not_supported_error'],
  upstream_unavailable: [502, 'upstream_error'],
  upstream_terminated: [502, 'upstream_error'],
  upstream_truncated: [502, 'upstream_error'],
  upstream_invalid: [502, 'upstream_error'],
  upstream_error: [502, 'upstream_error'],
  provider_auth: [502, 'upstream_error'],
  unusable_output: [502, 'upstream_error'],
  digest_mismatch: [502, 'upstream_error'],
  overloaded: [503, 'overloaded_error'],
  draining: [503, 'overloaded_error'],
  storage_unavailable: [503, 'overloaded_error'],
  insufficient_vram: [503, 'overloaded_error'],
  model_unavailable: [503, 'overloaded_error'],
  upstream_timeout: [504, 'timeout_error'],
  upstream_idle: [504, 'timeout_error'],
  timed_out: [504, 'timeout_error'],
  storage_full: [507, 'server_error'],
} as const satisfies Record<string, readonly [number, string]>;

export type ErrorCode = keyof typeof errorTable;

export interface ErrorDetails {
  /** The input field at fault, as a dotted path. */
  param?: string;
  /** The remedy in one line. */
  hint?: string;
  /** `gateway`, or the name of the runtime that failed. */
  source?: string;
  /** Seconds until another try makes sense; becomes `Retry-After`. */
  retryAfter?: number;
  /** false where another try would repeat work that has already cost time; becomes `x-should-retry`. */
  retry?: boolean;
  /** Kept for the log, never sent to a caller. */
  cause?: unknown;
}

/** The only error that leaves a module. `message` is written for the caller: no stack, path, host or address. */
export class GatewayError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly type: string;
  readonly param: string | undefined;
  readonly hint: string | undefined;
  readonly source: string;
  readonly retryAfter: number | undefined;
  readonly retry: boolean | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'GatewayError';
    this.code = code;
    [this.status, this.type] = errorTable[code];
    this.param = details.param;
    this.hint = details.hint;
    this.source = details.source ?? 'gateway';
    this.retryAfter = details.retryAfter;
    this.retry = details.retry;
  }
}

/** Anything thrown → a GatewayError. What nobody foresaw becomes `internal`, its text kept from the caller. */
export function toGatewayError(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError) return thrown;
  if (isAbort(thrown)) return new GatewayError('client_closed', 'The request was cancelled.', { cause: thrown });
  return new GatewayError('internal', 'The gateway failed to handle this request.', {
    cause: thrown,
    hint: 'The log holds the details under this request id.',
    retry: false,
  });
}

export function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === 'AbortError';
}
