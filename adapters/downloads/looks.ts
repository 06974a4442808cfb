// What is asked about files without fetching them: how large they are, their first bytes, and the documents that list them.
import { setTimeout as sleep } from 'node:timers/promises';
import { GatewayError } from '../../src/error.ts';
import { Unreachable } from '../../src/webhooks/send.ts';
import { Again, refused } from './failures.ts';
import type { RemoteFile } from './index.ts';
import { toSize, type Answer, type Requests } from './request.ts';

const MAX_RANGE = 64 * 1024 ** 2;
/** Bytes that are read past to come to a range, from a server that gives none. */
const MAX_SKIP = 8 * 1024 ** 2;
const MAX_DOCUMENT = 8 * 1024 ** 2;
/** Statuses of servers that answer HEAD otherwise than GET: addresses signed for one method, and those that know no HEAD. */
const NO_HEAD = new Set([400, 403, 405, 501]);

export function createLooks(requests: Requests) {
  async function look(url: string, signal: AbortSignal): Promise<RemoteFile> {
    const enough = ({ linked }: Answer) => linked.size !== undefined;
    let answer = await requests.ask(url, { method: 'HEAD', signal, enough });
    answer.drop();
    if (NO_HEAD.has(answer.status) && answer.header('x-error-code') === undefined) {
      answer = await requests.ask(url, { method: 'GET', headers: { range: 'bytes=0-0' }, signal, enough });
      answer.drop();
    }
    const { status, linked } = answer;
    const redirected = status >= 300 && status < 400;
    if (status !== 200 && status !== 206 && !(redirected && linked.size !== undefined)) throw refused(answer);
    const whole = /\/(\d{1,16})$/.exec(answer.header('content-range') ?? '')?.[1];
    const length = status === 200 ? answer.header('content-length') : whole;
    return {
      url,
      size: linked.size ?? toSize(length),
      sha256: linked.sha256,
      etag: redirected ? undefined : answer.header('etag'),
      ranges: redirected || status === 206 || answer.header('accept-ranges') === 'bytes',
    };
  }

  /** Fewer bytes where the file ends before. */
  async function range(url: string, signal: AbortSignal, start: number, end: number): Promise<Uint8Array> {
    if (!(start >= 0 && end > start && end - start <= MAX_RANGE)) throw new RangeError('no such range');
    const headers = { range: `bytes=${start}-${end - 1}` };
    const answer = await requests.ask(url, { method: 'GET', headers, signal });
    try {
      if (answer.status === 416) return new Uint8Array();
      if (answer.status !== 200 && answer.status !== 206) throw refused(answer);
      const given = /^bytes (\d{1,16})-/i.exec(answer.header('content-range') ?? '')?.[1];
      const from = answer.status === 206 ? Number(given) : 0;
      if ((answer.status === 206 && from !== start) || start - from > MAX_SKIP) throw noRanges();
      return (await collect(answer, end - from)).subarray(start - from, end - from);
    } finally {
      answer.drop();
    }
  }

  async function page(url: string, signal: AbortSignal, limit = MAX_DOCUMENT) {
    const answer = await requests.ask(url, { method: 'GET', headers: { accept: 'application/json' }, signal });
    try {
      if (answer.status !== 200) throw refused(answer);
      const bytes = await collect(answer, limit + 1);
      if (bytes.byteLength > limit) throw unreadable(`sent more than ${limit} bytes`);
      return { value: parse(bytes), next: toNext(answer.header('link'), url) };
    } finally {
      answer.drop();
    }
  }

  /** What was cut is asked for once more, at once. */
  async function twice<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const heals =
        error instanceof Unreachable ? error.reason === 'broken' : error instanceof Again && error.wait <= 1;
      if (!heals || signal.aborted) throw error;
      await sleep(300, undefined, { signal });
      return await work();
    }
  }

  return { look, range, page, twice };
}

/** At most so many bytes; what follows is left. */
async function collect(answer: Answer, limit: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const bytes of answer.body()) {
    pieces.push(bytes);
    size += bytes.byteLength;
    if (size >= limit) break;
  }
  return Buffer.concat(pieces).subarray(0, limit);
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as unknown;
  } catch (cause) {
    throw unreadable('did not answer with JSON', cause);
  }
}

/** The next page, always of the same host: a mirror may pass on what the hub calls the same list, and no other is its own. */
function toNext(header: string | undefined, from: string): string | undefined {
  const link = /<([^<>]{1,2000})>\s*;\s*rel="?next"?/i.exec(header?.slice(0, 8192) ?? '')?.[1];
  if (link === undefined || !URL.canParse(link, from)) return undefined;
  const { origin, pathname } = new URL(from);
  const next = new URL(link, from);
  return next.origin === origin || next.pathname === pathname ? origin + next.pathname + next.search : undefined;
}

function unreadable(how: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_invalid', `The server of the files ${how}.`, { cause });
}

function noRanges(): GatewayError {
  return new GatewayError('model_unavailable', 'The server does not give parts of this file.', { retry: false });
}
