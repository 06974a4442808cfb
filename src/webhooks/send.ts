// How a webhook leaves this gateway: the contract of whoever carries it, and of what may go wrong on the way.

export interface HookRequest {
  url: string;
  headers: Record<string, string>;
  body: string;
  /** For everything: the name, the connection, the answer. */
  timeoutMs: number;
  signal: AbortSignal;
}

export interface HookAnswer {
  status: number;
  /** The header, as it came. */
  retryAfter?: string;
}

/** Follows no redirect, and reaches only what it may. Throws Unreachable where no answer came. */
export interface SendHook {
  (request: HookRequest): Promise<HookAnswer>;
  /** False for a host that cannot be allowed whatever it resolves to: an address or a name inside the own network. */
  permits(hostname: string): boolean;
}

/** Ids, words and counts; never an address, a body or a secret. */
export type HookLog = (entry: { level: 'info' | 'warn'; message: string; [field: string]: unknown }) => void;

/** Why no answer came. For the operator's log only: to a caller it would tell what is open inside the own network. */
export type UnreachableReason = 'blocked' | 'dns' | 'refused' | 'tls' | 'timeout' | 'broken';

export class Unreachable extends Error {
  readonly reason: UnreachableReason;

  constructor(reason: UnreachableReason, cause?: unknown) {
    super(UNREACHABLE, cause === undefined ? undefined : { cause });
    this.name = 'Unreachable';
    this.reason = reason;
  }
}

/** The one sentence for closed, blocked, unknown and silent alike. */
export const UNREACHABLE = 'The receiver could not be reached.';
