// A loopback server of files as content networks are: ranges, If-Range, ETags, and every way in which the bytes can fail to come.
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** `times`: so many requests meet it; all if absent. */
export type Trouble = { times?: number } & (
  | { kind: 'status'; status: number; errorCode?: string; retryAfter?: string }
  /** Sends the first half of the file, never more, and cuts the connection. */
  | { kind: 'cut' }
  /** Sends a tenth of what is left, and cuts the connection. */
  | { kind: 'crumbs' }
  /** Sends the first half of the file, then nothing. */
  | { kind: 'stall' }
  /** Accepts the request and never answers. */
  | { kind: 'silence' }
  /** Sends every byte, one of them wrong. */
  | { kind: 'corrupt' }
  /** Ends in good order before the end, and says that this is all. */
  | { kind: 'short' }
  /** Sends more than there is. */
  | { kind: 'long' }
  | { kind: 'slow'; bytesPerSecond: number }
  /** Answers ranges with others than were asked for. */
  | { kind: 'lying' }
  | { kind: 'redirect'; to: string }
  /** Says that it is a page. */
  | { kind: 'page' }
);

export interface FakeFiles {
  url: string;
  files: Map<string, Uint8Array>;
  /** `METHOD path` of every request so far. */
  requests: string[];
  headers: IncomingMessage['headers'][];
  /** Bytes of files that were written to sockets, as [from, to). */
  served: [from: number, to: number][];
  trouble: Trouble | undefined;
  /** false: answers ranges with everything. */
  ranges: boolean;
  /** false: says nothing of the version of a file. */
  etags: boolean;
  /** false: HEAD is refused. */
  head: boolean;
  /** Answers that were not read to their end. */
  aborts(): number;
  /** Answers that are being sent. */
  open(): number;
  close(): Promise<void>;
}

const PIECE = 64 * 1024;

export async function openFakeFiles(files: Record<string, Uint8Array> = {}): Promise<FakeFiles> {
  let aborts = 0;
  let open = 0;
  const server = createServer((request, response) => {
    fake.requests.push(`${request.method} ${request.url}`);
    fake.headers.push(request.headers);
    open++;
    response.on('close', () => {
      open--;
      if (!response.writableFinished) aborts++;
    });
    answer(fake, request, response).catch(() => response.destroy());
  });
  const fake: FakeFiles = {
    url: '',
    files: new Map(Object.entries(files)),
    requests: [],
    headers: [],
    served: [],
    trouble: undefined,
    ranges: true,
    etags: true,
    head: true,
    aborts: () => aborts,
    open: () => open,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  fake.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return fake;
}

export function takeTrouble(fake: { trouble: Trouble | undefined }): Trouble | undefined {
  const { trouble } = fake;
  if (trouble?.times === undefined) return trouble;
  if (trouble.times <= 0) return undefined;
  trouble.times--;
  return trouble;
}

/** True where it was answered so. */
export function answerTrouble(trouble: Trouble | undefined, response: ServerResponse): boolean {
  if (trouble?.kind === 'silence') return true;
  if (trouble?.kind === 'status') {
    response.writeHead(trouble.status, {
      ...(trouble.errorCode && { 'x-error-code': trouble.errorCode }),
      ...(trouble.retryAfter && { 'retry-after': trouble.retryAfter }),
    });
    response.end('trouble');
    return true;
  }
  if (trouble?.kind !== 'redirect') return false;
  response.writeHead(302, { location: trouble.to }).end();
  return true;
}

const hashes = new WeakMap<Uint8Array, Map<string, string>>();

/** Remembered: files of tests are asked for again and again. */
export function hashOf(algorithm: string, bytes: Uint8Array): string {
  const known = hashes.get(bytes) ?? new Map<string, string>();
  hashes.set(bytes, known);
  const hash = known.get(algorithm) ?? createHash(algorithm).update(bytes).digest('hex');
  known.set(algorithm, hash);
  return hash;
}

async function answer(fake: FakeFiles, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const head = request.method === 'HEAD';
  // A look at a file tells what is true of it; only its bytes are in trouble.
  const trouble = head ? undefined : takeTrouble(fake);
  if (answerTrouble(trouble, response)) return;
  if (head && !fake.head) return void response.writeHead(405).end();
  const bytes = fake.files.get(decodeURIComponent(new URL(request.url!, fake.url).pathname.slice(1)));
  if (!bytes) return void response.writeHead(404).end();
  const etag = `"${hashOf('md5', bytes)}"`;
  const common = {
    ...(fake.etags && { etag }),
    ...(fake.ranges && { 'accept-ranges': 'bytes' }),
    ...(trouble?.kind === 'page' && { 'content-type': 'text/html; charset=utf-8' }),
  };
  const asked = fake.ranges ? /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') : null;
  const condition = request.headers['if-range'];
  const isRange = asked !== null && (condition === undefined || (fake.etags && condition === etag));
  const from = isRange ? Number(asked[1]) : 0;
  const to = isRange && asked[2] ? Math.min(Number(asked[2]) + 1, bytes.length) : bytes.length;
  if (isRange && from >= bytes.length) {
    return void response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
  }
  if (trouble?.kind === 'short') {
    const end = from + ((to - from) >> 1);
    response.writeHead(200, { ...common, 'content-length': end - from }).end(bytes.subarray(from, end));
    return;
  }
  const lie = trouble?.kind === 'lying' ? 7 : 0;
  response.writeHead(isRange ? 206 : 200, {
    ...common,
    ...(trouble?.kind !== 'long' && { 'content-length': to - from }),
    ...(isRange && { 'content-range': `bytes ${from + lie}-${to - 1}/${bytes.length}` }),
  });
  if (head) return void response.end();
  await send(fake, response, { bytes, from, to, trouble });
}

async function send(
  fake: FakeFiles,
  response: ServerResponse,
  { bytes, from, to, trouble }: { bytes: Uint8Array; from: number; to: number; trouble: Trouble | undefined },
): Promise<void> {
  const kind = trouble?.kind;
  const half = bytes.length >> 1;
  const end =
    kind === 'cut' || kind === 'stall'
      ? Math.max(from, Math.min(half, to))
      : kind === 'crumbs'
        ? from + Math.max(1, Math.floor((to - from) / 10))
        : to;
  const entry: [number, number] = [from, from];
  fake.served.push(entry);
  const piece =
    kind === 'slow' ? Math.max(1, Math.ceil(trouble!.kind === 'slow' ? trouble!.bytesPerSecond / 50 : 1)) : PIECE;
  for (let at = from; at < end && !response.destroyed; at += piece) {
    const part = Buffer.from(bytes.subarray(at, Math.min(at + piece, end)));
    if (kind === 'corrupt' && at <= half && half < at + part.length) part[half - at]! ^= 0xff;
    const full = !response.write(part);
    entry[1] = at + part.length;
    if (full) await room(response);
    if (kind === 'slow') await sleep(20);
  }
  if (kind === 'stall') return;
  if (kind === 'cut' || kind === 'crumbs') {
    // What was written before must arrive.
    await sleep(20);
    response.destroy();
    return;
  }
  if (kind === 'long') response.write(Buffer.alloc(1000));
  response.end();
}

async function room(response: ServerResponse): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  response.on('drain', resolve).on('close', resolve);
  await promise;
  response.off('drain', resolve).off('close', resolve);
}
