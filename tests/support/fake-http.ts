// Requests and answers of the fakes: bodies whole, answers as the Python servers give them.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

export interface Asked {
  method: string;
  /** Without `/api`. */
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  body: Uint8Array<ArrayBuffer>;
}

export interface Answer {
  status: number;
  headers?: Record<string, string>;
  body?: Uint8Array | string;
}

export async function readBody(
  request: IncomingMessage,
  limit = Infinity,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Uint8Array>) {
    size += part.length;
    if (size <= limit) parts.push(part);
  }
  return size > limit ? undefined : new Uint8Array(Buffer.concat(parts));
}

export function json(value: unknown, status = 200): Answer {
  return { status, headers: { 'content-type': 'application/json; charset=utf-8' }, body: JSON.stringify(value) };
}

export function plain(text: string, status: number): Answer {
  return { status, headers: { 'content-type': 'text/plain; charset=utf-8' }, body: text };
}

export const empty = (status = 200): Answer => ({ status });

/** What aiohttp says when a handler raises. */
export const trouble: Answer = plain('500 Internal Server Error\n\nServer got itself in trouble', 500);

export function write(response: ServerResponse, { status, headers = {}, body = '' }: Answer, head = false): void {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  response.writeHead(status, { 'content-length': bytes.length, server: 'Python/3.11 aiohttp/3.13.1', ...headers });
  response.end(head ? undefined : bytes);
}

/** The form of a multipart body. */
export async function readForm(asked: Asked): Promise<FormData> {
  const type = asked.headers['content-type'] ?? '';
  return new Response(asked.body, { headers: { 'content-type': type } }).formData();
}

export function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

/** A file as aiohttp sends one: conditional and in ranges. */
export function fileAnswer(
  asked: Asked,
  file: { bytes: Uint8Array; etag: string; modified: Date },
  headers: Record<string, string>,
): Answer {
  const kept = { ...headers, etag: file.etag, 'last-modified': file.modified.toUTCString(), 'accept-ranges': 'bytes' };
  if (asked.headers['if-none-match']?.includes(file.etag)) return { status: 304, headers: kept };
  const size = file.bytes.length;
  const range = /^bytes=(\d*)-(\d*)$/.exec(asked.headers.range ?? '');
  if (!range || (range[1] === '' && range[2] === '')) return { status: 200, headers: kept, body: file.bytes };
  const start = range[1] === '' ? Math.max(0, size - Number(range[2])) : Number(range[1]);
  const end = range[1] === '' || range[2] === '' ? size - 1 : Math.min(size - 1, Number(range[2]));
  if (start >= size || start > end) return { status: 416, headers: { ...headers, 'content-range': `bytes */${size}` } };
  const part = { ...kept, 'content-range': `bytes ${start}-${end}/${size}` };
  return { status: 206, headers: part, body: file.bytes.subarray(start, end + 1) };
}

/** A server on 127.0.0.1 that can be stopped at once, with everything that hangs on it. */
export async function listen(
  respond: (request: IncomingMessage, response: ServerResponse) => void,
  port = 0,
): Promise<{ server: Server; port: number; stop(): Promise<void> }> {
  const server = createServer(respond);
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    server,
    port: (server.address() as AddressInfo).port,
    async stop() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
      // Clients in this process hear of it before anybody asks again.
      await pause(20);
    },
  };
}
