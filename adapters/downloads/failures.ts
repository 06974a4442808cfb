// What can go wrong between a file elsewhere and this disk, in words for the caller: no address, no path, and the fix in one line.
import { GatewayError, type ErrorDetails } from '../../src/error.ts';
import { Unreachable } from '../../src/webhooks/send.ts';
import type { Answer } from './request.ts';

/** Another try may bring it; where none does, this is what it failed of. */
export class Again extends Error {
  readonly failure: GatewayError;
  /** Seconds that the server asks to be left alone. */
  readonly wait: number;

  constructor(failure: GatewayError, wait = 0) {
    super(failure.message);
    this.failure = failure;
    this.wait = wait;
  }
}

const MIRROR = 'Check the network; HF_ENDPOINT names a mirror of the Hugging Face hub.';
const KEPT = 'Ask again: what has come is kept, and it goes on from there.';
/** Longer than this nobody waits for one answer. */
const MAX_WAIT_S = 120;

export function notAllowed(why: string): GatewayError {
  return new GatewayError('invalid_request', `Files may not be fetched from this address: ${why}.`, {
    hint: 'Give an https address of a public host; HONO_AI_PULL_ALLOW names hosts in the own network that may be used.',
    retry: false,
  });
}

export function wrongRedirect(why?: string): GatewayError {
  const reason = why?.replace(/^.*?: /, '').replace(/\.$/, '');
  return gone(`The server sends to an address that is not allowed${reason ? `: ${reason}` : ''}.`, {
    hint: 'Where the host is yours, name it in HONO_AI_PULL_ALLOW.',
  });
}

export function tooManyRedirects(): GatewayError {
  return gone('The server sends from one address to the next without end.', { hint: 'Check the address.' });
}

/** An answer that brings no file: thrown as it is, or as Again where another try may bring it. */
export function refused(answer: Answer): GatewayError | Again {
  const { status } = answer;
  const reason = answer.header('x-error-code');
  const retryAfter = toRetryAfter(answer.header('retry-after'));
  if (reason === 'GatedRepo') return locked();
  // An address of a content network is signed for a while only; the next request gets a new one.
  if (!answer.atHome && (status === 401 || status === 403)) {
    return new Again(gone('The server of the bytes refuses to give them.', { hint: MIRROR, retryAfter: 30 }));
  }
  if (status === 404 || status === 410 || /^(Repo|Entry|Revision)NotFound$/.test(reason ?? '')) return notThere();
  if (status === 401 || status === 403) return locked();
  const wait = retryAfter ?? 0;
  if (status === 429) {
    const hint = 'Ask again later; with HF_TOKEN the hub allows more.';
    const details = { hint, retryAfter: Math.max(wait, 30) };
    const limited = new GatewayError('rate_limited', 'The server of the files limits requests.', details);
    return wait > MAX_WAIT_S ? limited : new Again(limited, wait);
  }
  const told = `The server of the files answered with status ${status}.`;
  if (status >= 500 || status === 408 || status === 425) {
    const failure = gone(told, { hint: 'Try again later, or set HF_ENDPOINT to a mirror.', retryAfter: 30 });
    return new Again(failure, Math.min(wait, MAX_WAIT_S));
  }
  return gone(told, { hint: 'Check the address, or get the file with a browser.', retry: false });
}

function locked(): GatewayError {
  return gone('The server does not give these files to this gateway.', {
    hint: 'Accept the terms of the model where it is offered, and set HF_TOKEN to a token that may read it.',
    retry: false,
  });
}

function notThere(): GatewayError {
  return new GatewayError('model_not_found', 'There is no such file or repository.', {
    hint: 'Check the name and the revision; a mirror may not carry this model, and private ones need HF_TOKEN.',
  });
}

/** Bytes that are not those that were to come. */
export function wrongBytes(what: string): GatewayError {
  return new GatewayError('digest_mismatch', `${what}, so it was not kept.`, {
    hint: 'Ask again; if it stays like this, the source has changed or is damaged.',
    retryAfter: 5,
  });
}

/** The file that is there is somebody's, and is not the one that was to come. */
export function nameTaken(label: string): GatewayError {
  return new GatewayError('conflict', `There is another file called ${label} already, which stays.`, {
    hint: 'Give this one another name, or delete that one first.',
    retry: false,
  });
}

export function noRoom(label: string, need?: number, free?: number): GatewayError {
  if (need === undefined || free === undefined) {
    return new GatewayError('storage_full', `There is no room on disk for ${label}.`, {
      hint: `Free some space. ${KEPT}`,
    });
  }
  return new GatewayError('storage_full', `There is no room on disk: ${gb(need)} are needed, ${gb(free)} are free.`, {
    hint: `Free ${gb(need - free)} there, or choose a smaller model. What had come before is kept.`,
  });
}

/** Anything thrown while something was fetched → what the caller is told. `label` names what it was about. */
export function toFailure(error: unknown, label: string, stallMs: number): GatewayError {
  if (error instanceof GatewayError) return error;
  if (error instanceof Again) return error.failure;
  if (error instanceof Unreachable) return ofNetwork(error, stallMs);
  const code = String((error as { code?: unknown } | undefined)?.code);
  if (/^(ENOSPC|EDQUOT|EFBIG)$/.test(code)) return noRoom(label);
  if (
    /^(EACCES|EPERM|ENOENT|EROFS|ENOTDIR|EISDIR|ELOOP|EEXIST|ENOTEMPTY|EBUSY|EIO|EMFILE|ENFILE|ENAMETOOLONG)$/.test(
      code,
    )
  ) {
    return new GatewayError('storage_unavailable', `The folder for ${label} cannot be written.`, {
      hint: `Make it writable for the user that runs the gateway (${code}).`,
      retry: false,
      cause: error,
    });
  }
  return new GatewayError('internal', `Fetching ${label} failed in a way that nobody foresaw.`, { cause: error });
}

function ofNetwork(error: Unreachable, stallMs: number): GatewayError {
  const cause = error;
  if (error.reason === 'blocked') return notAllowed('its name leads into the own network');
  if (error.reason === 'timeout') {
    const message = `The download stalled: nothing came for ${Math.round(stallMs / 100) / 10} s.`;
    return new GatewayError('upstream_idle', message, { hint: KEPT, retryAfter: 30, cause });
  }
  if (error.reason === 'broken') {
    const message = 'The connection to the server of the files was cut.';
    return new GatewayError('upstream_terminated', message, { hint: KEPT, retryAfter: 30, cause });
  }
  const why = { dns: ': its name cannot be resolved', tls: ': its certificate is not trusted', refused: '' };
  return gone(`The server of the files cannot be reached${why[error.reason]}.`, {
    hint: MIRROR,
    retryAfter: 30,
    cause,
  });
}

function gone(message: string, details: ErrorDetails): GatewayError {
  return new GatewayError('model_unavailable', message, details);
}

/** Seconds, or a date. */
function toRetryAfter(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const seconds = /^\d{1,9}$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : undefined;
}

function gb(bytes: number): string {
  return bytes >= 1e8 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(0.1, bytes / 1e6).toFixed(1)} MB`;
}
