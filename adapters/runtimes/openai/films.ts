// Films that a server makes while it is asked now and then how far it is: asked patiently, and what was paid for is not given up lightly.
import { GatewayError, toGatewayError } from '../../../src/error.ts';
import type { ErrorCode } from '../../../src/error.ts';
import type { ProgressEvent } from '../../../src/event.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { cancelled, notOpenAI, toObject } from './failure.ts';

/** What one look at a film told. */
export type Standing<Film> = { film: Film } | { percent: number | undefined };

export interface Watch {
  /** The runtime's name. */
  source: string;
  signal: AbortSignal;
  /** Milliseconds before the first look; each pause is longer than the one before, up to twenty times as long. */
  pauseMs: number;
}

const LONGER = 1.5;
const LONGEST = 20;
const LOOK_MS = 30_000;
/** Looks in a row that may fail: some minutes. */
const MAX_MISSES = 40;
const MAX_FETCHES = 4;
const PASSING = new Set<ErrorCode>([
  'upstream_unavailable',
  'upstream_terminated',
  'upstream_timeout',
  'upstream_idle',
  'upstream_error',
  'overloaded',
  'rate_limited',
  'request_timeout',
]);

/** Looks until there is a film. What `look` throws ends it, but for failures to get an answer. Throws client_closed at once. */
export async function* watchFilm<Film>(
  look: (signal: AbortSignal) => Promise<Standing<Film>>,
  { source, signal, pauseMs }: Watch,
): AsyncGenerator<ProgressEvent, Film> {
  let told = -1;
  let misses = 0;
  for (let wait = pauseMs; ; wait = Math.min(pauseMs * LONGEST, wait * LONGER)) {
    await pause(wait, signal);
    const standing = await lookOnce(look, signal);
    if (!standing) {
      if (++misses >= MAX_MISSES) throw lost(source, 'is being made there, but it no longer answers');
      continue;
    }
    misses = 0;
    if ('film' in standing) return standing.film;
    const { percent } = standing;
    if (percent === undefined || percent <= told) continue;
    told = percent;
    yield { type: 'progress', done: percent, total: 100, unit: 'percent' };
  }
}

/** Undefined where no answer came that another look could not better. */
export async function lookOnce<Seen>(
  look: (signal: AbortSignal) => Promise<Seen>,
  signal: AbortSignal,
): Promise<Seen | undefined> {
  try {
    return await look(AbortSignal.any([signal, AbortSignal.timeout(LOOK_MS)]));
  } catch (thrown) {
    if (signal.aborted) throw cancelled();
    const error = toGatewayError(thrown);
    if (error instanceof FilmFailure || !(PASSING.has(error.code) || error.code === 'client_closed')) throw error;
    return undefined;
  }
}

/** A film that is there is fetched again where that fails. */
export async function fetchFilm(
  fetch: (signal: AbortSignal) => Promise<Uint8Array<ArrayBuffer>>,
  { source, signal, pauseMs }: Watch,
): Promise<Uint8Array<ArrayBuffer>> {
  for (let left = MAX_FETCHES - 1; ; left--) {
    try {
      return await fetch(signal);
    } catch (thrown) {
      if (signal.aborted) throw cancelled();
      const error = toGatewayError(thrown);
      if (!PASSING.has(error.code)) throw error;
      // Not as it came: that would have the film made, and paid for, again.
      if (left === 0) throw lost(source, 'was made there, but it could not be fetched');
    }
    await pause(pauseMs * 4 ** (MAX_FETCHES - left), signal);
  }
}

/** The answer to a look. Its `error`, where it has a status or a film, is the film's and not one of the answer. */
export function toFilm<Film extends { status?: string | undefined }>(text: string, upstream: Upstream): Film {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw notOpenAI(upstream.name, cause);
  }
  if (typeof value === 'object' && value !== null && ('status' in value || 'video' in value)) return value as Film;
  toObject<object>(text, upstream);
  throw notOpenAI(upstream.name);
}

/** The server says that there will be no film. */
class FilmFailure extends GatewayError {}

export function filmFailed(source: string, reason: string | undefined): GatewayError {
  const refused = /moderat|policy|safety|inappropriate/i.test(reason ?? '');
  return new FilmFailure(refused ? 'invalid_request' : 'upstream_error', reason || `${source} made no film.`, {
    source,
    retry: false,
    ...(refused ? { param: 'prompt', hint: 'Change the prompt or the picture.' } : {}),
  });
}

function lost(source: string, what: string): GatewayError {
  return new GatewayError('upstream_error', `The film ${what}.`, {
    source,
    retry: false,
    hint: `Look at the network and at the status page of ${source}.`,
  });
}

/** Throws client_closed at once where the caller leaves. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(cancelled());
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', leave);
      resolve();
    }, ms);
    if (signal.aborted) leave();
    else signal.addEventListener('abort', leave, { once: true });
  });
}

/** Throws client_closed at once where the caller leaves; the work goes on. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const left = Promise.withResolvers<never>();
  const leave = () => left.reject(cancelled());
  if (signal.aborted) leave();
  else signal.addEventListener('abort', leave, { once: true });
  try {
    return await Promise.race([work, left.promise]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
