// Files from elsewhere → this machine: resumed where they were cut, checked before they are visible, never outside their folder.
import { GatewayError } from '../../src/error.ts';
import type { ProgressEvent, StatusEvent } from '../../src/event.ts';
import type { Lookup } from '../transports/lookup.ts';
import { toFailure } from './failures.ts';
import { createFetch } from './fetch.ts';
import { createLooks } from './looks.ts';
import { freeIn } from './places.ts';
import { createRequests } from './request.ts';

export interface DownloadsOptions {
  /** Origin → token that is sent there and nowhere else. */
  tokens: Record<string, string>;
  /** Origins that the configuration names: they may be on this machine or in its network. */
  trusted: string[];
  /** Host names, addresses or networks inside the own network that files may be got from. */
  allow: string[];
  /** Milliseconds without a byte until a connection is given up. */
  stallMs: number;
  /** Tries in a row that bring nothing until it fails. */
  tries: number;
  /** Milliseconds before a second try, twice as long before each next one; default 500. */
  backoffMs?: number;
  /** In place of the name servers and the system's own; for tests. */
  lookup?: Lookup;
}

export interface RemoteFile {
  url: string;
  /** Bytes; undefined where the server does not say. */
  size: number | undefined;
  /** Of the whole file, where the server tells (Hugging Face's large files). */
  sha256: string | undefined;
  etag: string | undefined;
  /** It gives ranges. */
  ranges: boolean;
}

export interface Wanted {
  url: string;
  /** Folder that it stays within, and its place there, `/` between the parts: no part may lead elsewhere. */
  root: string;
  path: string;
  size?: number | undefined;
  sha256?: string | undefined;
  /** false: another file that has this name already stays, and this one is not fetched. */
  replace?: boolean | undefined;
}

export interface Fetched {
  path: string;
  size: number;
  sha256: string;
  /** It was there already. */
  already: boolean;
}

export interface Downloads {
  /** Throws model_not_found, model_unavailable (terms, network), invalid_request for an address that is not allowed. */
  look(url: string, signal: AbortSignal): Promise<RemoteFile>;
  /**
   * One after the other; each is visible when it is whole and its hash is right. What has come is kept when it is cut, aborted or
   * this process is killed, and used by the next who asks. Where another process fetches the same file, that one is waited for.
   * Throws conflict for a name that is taken where `replace` is false; storage_full before the first byte, or when the disk became full; storage_unavailable; digest_mismatch;
   * upstream_terminated, upstream_idle, rate_limited, model_unavailable after the last try; and what `look` does.
   */
  fetch(
    files: Wanted[],
    options: { signal: AbortSignal; source: string },
  ): AsyncGenerator<ProgressEvent | StatusEvent, Fetched[]>;
  /** Bytes of a file, `end` exclusive; for headers. */
  range(url: string, start: number, end: number, signal: AbortSignal): Promise<Uint8Array>;
  /** A JSON document, at most `limit` bytes. */
  json<T>(url: string, signal: AbortSignal, limit?: number): Promise<T>;
  /** The pages of a list that links from each to the next (`Link: <…>; rel="next"`), each a JSON document of at most `limit` bytes. */
  pages<T>(url: string, signal: AbortSignal, limit?: number): AsyncGenerator<T, void>;
  /** Bytes that are free in a folder, or in the nearest one above it that is there. */
  free(folder: string): Promise<number | undefined>;
}

/** Pages of a list: more than any repository has. */
const MAX_PAGES = 100;

/** Throws a ConfigError where `allow` cannot be used. */
export function createDownloads(options: DownloadsOptions): Downloads {
  const { stallMs, tries, backoffMs = 500 } = options;
  const requests = createRequests(options);
  const looks = createLooks(requests);
  const fetchAll = createFetch({ requests, look: looks.look, patience: { tries, backoffMs, stallMs } });

  /** Whatever goes wrong has the caller's words. */
  function translate(error: unknown, signal: AbortSignal, source?: string, label = 'the file'): GatewayError {
    if (!signal.aborted) return withSource(toFailure(error, label, stallMs), source);
    if (signal.reason instanceof GatewayError) return signal.reason;
    return new GatewayError('client_closed', 'The download was stopped; what has come is kept.', { cause: error });
  }

  const guarded =
    <Args extends unknown[], Result>(work: (url: string, signal: AbortSignal, ...rest: Args) => Promise<Result>) =>
    async (url: string, signal: AbortSignal, ...rest: Args): Promise<Result> => {
      try {
        signal.throwIfAborted();
        return await looks.twice(() => work(url, signal, ...rest), signal);
      } catch (error) {
        throw translate(error, signal);
      }
    };
  const range = guarded(looks.range);
  const page = guarded(looks.page);

  return {
    look: guarded(looks.look),
    range: (url, start, end, signal) => range(url, signal, start, end),
    async json<T>(url: string, signal: AbortSignal, limit?: number) {
      return (await page(url, signal, limit)).value as T;
    },
    async *pages<T>(url: string, signal: AbortSignal, limit?: number) {
      for (let next: string | undefined = url, count = 0; next !== undefined && count < MAX_PAGES; count++) {
        const found: { value: unknown; next: string | undefined } = await page(next, signal, limit);
        yield found.value as T;
        next = found.next;
      }
    },
    free: freeIn,
    async *fetch(files, { signal, source }) {
      const label = files.length === 1 ? (files[0]!.path.split('/').at(-1) ?? '') : `${files.length} files`;
      try {
        return yield* fetchAll(files, signal);
      } catch (error) {
        throw translate(error, signal, source, label);
      }
    },
  };
}

function withSource(error: GatewayError, source: string | undefined): GatewayError {
  if (source === undefined || error.source === source) return error;
  const { code, message, hint, param, retry, retryAfter } = error;
  return new GatewayError(code, message, {
    source,
    cause: error.cause,
    ...(hint === undefined ? {} : { hint }),
    ...(param === undefined ? {} : { param }),
    ...(retry === undefined ? {} : { retry }),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  });
}
