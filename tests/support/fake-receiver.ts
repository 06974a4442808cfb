// A receiver of webhooks over real HTTP: it answers as the path says, and remembers what came.
import { once } from 'node:events';
import { createServer as createPlain } from 'node:http';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { createServer as createSecure } from 'node:https';
import type { AddressInfo } from 'node:net';

export interface Received {
  path: string;
  headers: Record<string, string>;
  body: string;
  /** Milliseconds since 1970. */
  at: number;
}

export interface FakeReceiver {
  url: string;
  port: number;
  /** Requests that arrived whole, oldest first. */
  received: Received[];
  /** Those of one path. */
  of(path: string): Received[];
  /** Makes a path answer otherwise from now on. */
  answer(path: string, how: Answer): void;
  /** Requests that are open now, and the most that ever were, under a path. */
  open(path: string): { now: number; most: number };
  /** Bytes of answers that were written, under a path. */
  written(path: string): number;
  close(): Promise<void>;
}

export type Answer = (response: ServerResponse, request: IncomingMessage) => void;

const answers: Record<string, Answer> = {
  '/ok': (response) => response.end('thanks'),
  '/204': (response) => response.writeHead(204).end(),
  '/redirect': (response, { url }) => response.writeHead(302, { location: `/ok?from=${url}` }).end(),
  '/permanent': (response) => response.writeHead(308, { location: '/ok' }).end(),
  '/refresh': (response) => response.writeHead(200, { refresh: '0; url=/secret', 'set-cookie': 'a=b' }).end(),
  '/gone': (response) => response.writeHead(410).end(),
  '/busy': (response) => response.writeHead(429, { 'retry-after': '120' }).end(),
  '/fail': (response) => response.writeHead(500).end('what went wrong inside'),
  '/hang': () => {},
  '/half': (response) => void response.writeHead(200).write('and then nothing'),
  '/reset': (response) => response.destroy(),
};

export async function openFakeReceiver(
  options: { host?: string; port?: number; tls?: { key: string; cert: string } } = {},
): Promise<FakeReceiver> {
  const received: Received[] = [];
  const own = new Map<string, Answer>(Object.entries(answers));
  const counts = new Map<string, { now: number; most: number }>();
  const written = new Map<string, number>();

  own.set('/big', (response, request) => {
    const piece = Buffer.alloc(16 * 1024, 'x');
    response.writeHead(200);
    const more = () => {
      while (!response.destroyed) {
        written.set(toPath(request), (written.get(toPath(request)) ?? 0) + piece.length);
        if (!response.write(piece)) return void response.once('drain', more);
      }
    };
    more();
  });

  const listener: RequestListener = (request, response) => {
    const path = toPath(request);
    const pieces: Buffer[] = [];
    const count = counts.get(path) ?? { now: 0, most: 0 };
    counts.set(path, count);
    count.now++;
    count.most = Math.max(count.most, count.now);
    response.once('close', () => count.now--);
    request.on('error', () => {});
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const headers = request.headers as Record<string, string>;
      received.push({ path: request.url!, headers, body: Buffer.concat(pieces).toString(), at: Date.now() });
      const first = `/${path.split('/')[1]}`;
      (own.get(path) ?? own.get(first) ?? own.get('/ok')!)(response, request);
    });
  };

  const server = options.tls ? createSecure(options.tls, listener) : createPlain(listener);
  server.listen(options.port ?? 0, options.host ?? '127.0.0.1', 1000);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    port,
    received,
    of: (path) => received.filter((request) => request.path === path),
    answer: (path, how) => void own.set(path, how),
    open: (path) => counts.get(path) ?? { now: 0, most: 0 },
    written: (path) => written.get(path) ?? 0,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

function toPath({ url }: IncomingMessage): string {
  return new URL(url!, 'http://fake').pathname;
}
