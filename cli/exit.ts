// How a command ends: the exit codes, and the failure that carries one.

import { errorTable, type ErrorCode } from '../src/error.ts';

export const exitCodes = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  auth: 4,
  unavailable: 5,
  busy: 6,
  timeout: 124,
  cancelled: 130,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

export interface FailureDetails {
  /** The remedy in one line. */
  hint?: string;
  /** The error code of the gateway, or one of ours. */
  code?: string;
  /** Further fields of the gateway's envelope, for `--json`. */
  fields?: Record<string, unknown>;
}

/** An expected failure: shown as one line and a hint, never with a stack. */
export class CommandFailure extends Error {
  readonly exitCode: ExitCode;
  readonly code: string;
  readonly hint: string | undefined;
  readonly fields: Record<string, unknown>;

  constructor(exitCode: ExitCode, message: string, { hint, code, fields = {} }: FailureDetails = {}) {
    super(message);
    this.name = 'CommandFailure';
    this.exitCode = exitCode;
    this.code = code ?? (exitCode === exitCodes.usage ? 'usage' : 'failure');
    this.hint = hint;
    this.fields = fields;
  }
}

export function usageError(message: string, hint?: string): CommandFailure {
  return new CommandFailure(exitCodes.usage, message, hint === undefined ? {} : { hint });
}

/** Codes that say more than their HTTP status does. */
const byCode: Record<string, ExitCode> = {
  cancelled: exitCodes.cancelled,
  context_length_exceeded: exitCodes.failure,
  model_unavailable: exitCodes.notFound,
  provider_auth: exitCodes.auth,
  unusable_output: exitCodes.failure,
};

const byStatus: Record<number, ExitCode> = {
  400: exitCodes.usage,
  401: exitCodes.auth,
  403: exitCodes.auth,
  404: exitCodes.notFound,
  405: exitCodes.usage,
  410: exitCodes.notFound,
  413: exitCodes.usage,
  415: exitCodes.usage,
  422: exitCodes.usage,
  429: exitCodes.busy,
  499: exitCodes.cancelled,
  502: exitCodes.unavailable,
  503: exitCodes.busy,
  504: exitCodes.timeout,
};

export function toExitCode(status: number, code?: string): ExitCode {
  return (code === undefined ? undefined : byCode[code]) ?? byStatus[status] ?? exitCodes.failure;
}

/** A failed answer's body → the failure. `status` is 200 where the failure came as an event of a stream. */
export function toFailure(status: number, body: unknown): CommandFailure {
  const error = (body as { error?: unknown } | null)?.error;
  if (typeof error !== 'object' || error === null) {
    const message = typeof error === 'string' ? error : `The gateway answered ${status}.`;
    const hint = 'Is this the address of a hono-ai gateway?';
    return new CommandFailure(toExitCode(status), message, { hint, code: `http_${status}` });
  }
  const { message, code, hint, ...fields } = error as Record<string, unknown>;
  const known = typeof code === 'string' ? code : `http_${status}`;
  // In the middle of a stream only the code tells; one that this version does not know is taken for the caller's fault.
  const real = status === 200 ? (isErrorCode(known) ? errorTable[known][0] : 400) : status;
  return new CommandFailure(toExitCode(real, known), typeof message === 'string' ? message : 'The request failed.', {
    code: known,
    fields,
    ...(typeof hint === 'string' ? { hint } : {}),
  });
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorTable, code);
}
