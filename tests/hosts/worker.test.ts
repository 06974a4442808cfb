// The edge Worker, in real workerd, in front of a real HTTP origin that counts what reaches it.
import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { publicPaths } from '../../src/http/guard.ts';
import { openWorker, type RunningWorker } from '../support/workerd.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => unknown;

const SLOW = 20_000;
const LIMIT_MS = 2_500;

let handle: Handler = notSet;
let upgrade: ((request: IncomingMessage, socket: Socket) => void) | undefined;
let seen: IncomingMessage[] = [];
let origin: Server;
let originUrl: string;
let worker: RunningWorker;

beforeAll(async () => {
  origin = createServer((request, response) => {
    seen.push(request);
    response.on('error', () => {});
    handle(request, response);
  });
  origin.on('upgrade', (request: IncomingMessage, socket: Socket) => {
    seen.push(request);
    upgrade?.(request, socket);
  });
  originUrl = await listen(origin);
  worker = await openWorker({ ORIGIN: originUrl, EDGE_TOKEN: 'edge-secret', ORIGIN_TIMEOUT_MS: String(LIMIT_MS) });
}, SLOW);

afterEach(() => {
  handle = notSet;
  upgrade = undefined;
  seen = [];
});

afterAll(async () => {
  await worker.close();
  origin.closeAllConnections();
  await new Promise((done) => origin.close(done));
});

describe('what passes', () => {
  it('sends method, path, query and body on, and status, headers and body back', async () => {
    let body = '';
    handle = async (request, response) => {
      for await (const chunk of request) body += chunk;
      response.writeHead(207, { 'content-type': 'text/plain', 'x-request-id': 'gw-1', 'x-warning': 'seed ignored' });
      response.end('made');
    };
    const reply = await fetch(`${worker.url}/v1/models/a%2Fb:c?x=1&y=a%20b`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json', authorization: 'Bearer k' },
      body: '{"a":1}',
    });
    expect(reply.status).toBe(207);
    expect(await reply.text()).toBe('made');
    expect(reply.headers.get('x-warning')).toBe('seed ignored');
    expect(reply.headers.get('x-request-id')).toBe('gw-1');
    expect(seen).toHaveLength(1);
    expect(seen[0]!.method).toBe('PUT');
    expect(seen[0]!.url).toBe('/v1/models/a%2Fb:c?x=1&y=a%20b');
    expect(seen[0]!.headers['authorization']).toBe('Bearer k');
    expect(seen[0]!.headers['content-length']).toBe('7');
    expect(body).toBe('{"a":1}');
  });

  it('streams server-sent events chunk by chunk', async () => {
    const open = Promise.withResolvers<ServerResponse>();
    handle = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'x-request-id': 'sse' });
      response.write('data: 0\n\n');
      open.resolve(response);
    };
    const reply = await fetch(`${worker.url}/v1/chat/completions`, { method: 'POST', body: '{}' });
    const reader = reply.body!.getReader();
    const response = await open.promise;
    // Each event is written only after the one before has arrived, so nothing in between may hold it back.
    for (let index = 0; index < 5; index++) {
      const { value } = await reader.read();
      expect(new TextDecoder().decode(value)).toBe(`data: ${index}\n\n`);
      if (index < 4) response.write(`data: ${index + 1}\n\n`);
    }
    response.end();
    expect((await reader.read()).done).toBe(true);
  });

  it('lets a stream run longer than the limit on its beginning', async () => {
    handle = async (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'x-request-id': 'long' });
      response.write(': ping\n\n');
      await sleep(LIMIT_MS + 1_000);
      response.end('data: late\n\n');
    };
    const reply = await fetch(worker.url);
    expect(await reply.text()).toBe(': ping\n\ndata: late\n\n');
  });

  it('streams an upload while it is sent', async () => {
    const first = Promise.withResolvers<string>();
    handle = async (request, response) => {
      let all = '';
      for await (const chunk of request) {
        all += chunk;
        first.resolve(String(chunk));
      }
      response.writeHead(200, { 'x-request-id': 'up' }).end(all);
    };
    const upload = httpRequest(`${worker.url}/up`, { method: 'POST' });
    upload.write('one,');
    expect(await first.promise).toBe('one,');
    upload.end('two');
    const [reply] = (await once(upload, 'response')) as [IncomingMessage];
    expect(await text(reply)).toBe('one,two');
  });

  it(
    'passes 48 MB up and down unchanged',
    async () => {
      const bytes = Buffer.alloc(48 * 1024 ** 2, 'chunk-of-a-picture');
      handle = async (request, response) => {
        response.writeHead(200, { 'content-length': bytes.length, 'x-request-id': 'big' });
        for await (const chunk of request) {
          if (!response.write(chunk)) await once(response, 'drain');
        }
        response.end();
      };
      const reply = await fetch(worker.url, { method: 'POST', body: bytes });
      const back = Buffer.from(await reply.arrayBuffer());
      expect(reply.headers.get('content-length')).toBe(String(bytes.length));
      expect(sha256(back)).toBe(sha256(bytes));
    },
    SLOW,
  );

  it('keeps compressed answers, empty answers and HEAD as they are', async () => {
    handle = (request, response) => {
      if (request.url === '/gzip') {
        response.writeHead(200, { 'content-encoding': 'gzip', 'content-type': 'text/plain', 'x-request-id': 'z' });
        response.end(gzipSync('squeezed'));
      } else if (request.method === 'HEAD') {
        response.writeHead(200, { 'content-length': '12', 'x-request-id': 'h' }).end();
      } else response.writeHead(204, { 'x-request-id': 'n' }).end();
    };
    expect(await (await fetch(`${worker.url}/gzip`)).text()).toBe('squeezed');
    expect((await fetch(`${worker.url}/none`)).status).toBe(204);
    const head = await fetch(`${worker.url}/head`, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length')]).toEqual([200, '12']);
  });

  it('hands redirects to the caller and follows none', async () => {
    handle = (_, response) => response.writeHead(302, { location: '/elsewhere', 'x-request-id': 'r' }).end();
    const reply = await fetch(worker.url, { redirect: 'manual' });
    expect([reply.status, reply.headers.get('location')]).toEqual([302, '/elsewhere']);
    expect(seen).toHaveLength(1);
  });

  it('passes the gateway’s own failures through untouched', async () => {
    handle = (_, response) => {
      response.writeHead(503, { 'content-type': 'application/json', 'retry-after': '7', 'x-request-id': 'busy' });
      response.end('{"error":{"code":"overloaded"}}');
    };
    const reply = await fetch(worker.url);
    expect([reply.status, reply.headers.get('retry-after')]).toEqual([503, '7']);
    expect(await reply.json()).toEqual({ error: { code: 'overloaded' } });
  });

  it('keeps the path on the origin, whatever it looks like', async () => {
    handle = (_, response) => response.writeHead(200, { 'x-request-id': 'p' }).end();
    const raw = httpRequest(worker.url, { path: '//example.com/x' }).end();
    const [reply] = (await once(raw, 'response')) as [IncomingMessage];
    await text(reply);
    expect(reply.statusCode).toBe(200);
    expect(seen[0]!.url).toBe('//example.com/x');
    expect(seen[0]!.headers.host).toBe(new URL(originUrl).host);
  });

  it('passes a WebSocket both ways', async () => {
    upgrade = echoFirstFrame;
    const socket = new WebSocket(`${worker.url.replace('http', 'ws')}/ws?key=abc`);
    await once(socket, 'open');
    const answer = once(socket, 'message') as Promise<[MessageEvent]>;
    socket.send('hello');
    expect((await answer)[0].data).toBe('hello');
    expect(seen[0]!.url).toBe('/ws?key=abc');
    expect(seen[0]!.headers['x-edge-token']).toBe('edge-secret');
    const closed = once(socket, 'close');
    socket.close();
    await closed;
  });
});

describe('headers', () => {
  it('strips hop-by-hop headers and those that Connection names', async () => {
    handle = (_, response) => {
      response.writeHead(200, { connection: 'x-hidden, close', 'x-hidden': '1', 'x-shown': '1', 'x-request-id': 'i' });
      response.end();
    };
    const raw = httpRequest(worker.url, {
      headers: {
        connection: 'x-private, "?, keep-alive',
        'x-private': 'secret',
        'x-public': 'yes',
        te: 'trailers',
        'proxy-authorization': 'Basic eA==',
        'keep-alive': 'timeout=1',
      },
    }).end();
    const [reply] = (await once(raw, 'response')) as [IncomingMessage];
    await text(reply);
    const { headers } = seen[0]!;
    for (const name of ['x-private', 'te', 'proxy-authorization', 'keep-alive'])
      expect(headers, name).not.toHaveProperty(name);
    expect(headers['x-public']).toBe('yes');
    expect(reply.headers).not.toHaveProperty('x-hidden');
    expect(reply.headers['x-shown']).toBe('1');
  });

  it('believes nobody who claims to be somebody', async () => {
    handle = (_, response) => response.writeHead(200, { 'x-request-id': 'i' }).end();
    await fetch(worker.url, {
      headers: {
        'cf-connecting-ip': '203.0.113.9', // what Cloudflare itself puts here, whatever the caller sent
        'cf-ray': 'forged',
        'cf-access-client-secret': 'forged',
        'cf-access-jwt-assertion': 'forged',
        'x-forwarded-for': '6.6.6.6',
        'x-forwarded-user': 'root',
        'x-real-ip': '6.6.6.6',
        forwarded: 'for=6.6.6.6',
        'true-client-ip': '6.6.6.6',
        'x-edge-token': 'forged',
      },
    });
    const { headers } = seen[0]!;
    expect(JSON.stringify(headers)).not.toMatch(/forged|6\.6\.6\.6|root/);
    expect(headers['x-edge-token']).toBe('edge-secret');
    expect(headers['x-forwarded-proto']).toBe('http');
    expect(headers['x-forwarded-host']).toBe(new URL(worker.url).host);
    expect(headers['x-forwarded-for']).toBe('203.0.113.9');
    expect(headers).not.toHaveProperty('cf-connecting-ip');
  });

  it('passes a request id on, and makes one where it is missing or no id', async () => {
    handle = (request, response) => response.writeHead(200).end(request.headers['x-request-id']);
    const given = await fetch(worker.url, { headers: { 'x-request-id': 'abc-1' } });
    expect([given.headers.get('x-request-id'), await given.text()]).toEqual(['abc-1', 'abc-1']);
    const made = await fetch(worker.url, { headers: { 'x-request-id': '<script>' } });
    const id = await made.text();
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(made.headers.get('x-request-id')).toBe(id);
  });

  it('never caches, and says no-store unless the origin says otherwise', async () => {
    let count = 0;
    handle = (request, response) => {
      const cache = request.url === '/a.css' ? { 'cache-control': 'public, max-age=3600' } : {};
      response.writeHead(200, { ...cache, 'x-request-id': 'c' }).end(String(++count));
    };
    const plain = await fetch(`${worker.url}/plain`);
    expect(plain.headers.get('cache-control')).toBe('no-store');
    const first = await fetch(`${worker.url}/a.css`);
    expect(first.headers.get('cache-control')).toBe('public, max-age=3600');
    expect(await first.text()).toBe('2');
    expect(await (await fetch(`${worker.url}/a.css`)).text()).toBe('3');
  });
});

describe('a caller who leaves', () => {
  // A reset is how a server learns that nobody is there; a plain close may be a caller who has only finished sending,
  // so workerd waits for its next write to know. Cloudflare's own front tells the Worker at once in both cases.
  it('is seen by the origin within two seconds in mid-stream', async () => {
    const { begun, gone } = endless({ begins: true });
    const caller = httpRequest(worker.url)
      .on('error', () => {})
      .end();
    await once(caller, 'response');
    await begun;
    const left = Date.now();
    caller.socket!.resetAndDestroy();
    expect((await gone) - left).toBeLessThan(2_000);
  });

  it('is seen by the origin within two seconds before the first byte', async () => {
    const { begun, gone } = endless({ begins: false });
    const caller = httpRequest(worker.url, { method: 'POST' })
      .on('error', () => {})
      .end('{}');
    await begun;
    const left = Date.now();
    caller.socket!.resetAndDestroy();
    expect((await gone) - left).toBeLessThan(2_000);
  });

  it('is seen at the next heartbeat when it merely closes', async () => {
    const { gone } = endless({ begins: true, everyMs: 100 });
    const caller = new AbortController();
    const reply = await fetch(worker.url, { signal: caller.signal });
    await reply.body!.getReader().read();
    const left = Date.now();
    caller.abort();
    expect((await gone) - left).toBeLessThan(2_000);
  });
});

describe('an origin that fails', () => {
  it(
    'answers 502 in the envelope when nothing listens',
    async () => {
      const closed = createServer();
      const ORIGIN = await listen(closed);
      await new Promise((done) => closed.close(done));
      await withWorker({ ORIGIN }, async (url) => {
        const reply = await fetch(`${url}/v1/models`, { headers: { 'x-request-id': 'down-1' } });
        expect(reply.status).toBe(502);
        expect(reply.headers.get('cache-control')).toBe('no-store');
        expect(reply.headers.get('x-request-id')).toBe('down-1');
        const { error } = (await reply.json()) as { error: Record<string, unknown> };
        expect(error).toEqual({
          message: expect.any(String),
          type: 'upstream_error',
          code: 'upstream_unavailable',
          param: null,
          request_id: 'down-1',
          source: 'edge',
          hint: expect.stringContaining('tunnel'),
        });
        expect(JSON.stringify(error)).not.toContain(new URL(ORIGIN).port);
      });
    },
    SLOW,
  );

  it('answers 504 when the origin does not begin its answer, and lets go of it', async () => {
    const { gone } = endless({ begins: false });
    const reply = await fetch(worker.url);
    expect(await failure(reply)).toEqual([504, 'upstream_timeout']);
    await gone;
  });

  it.each<[number, Record<string, string>, number, string]>([
    [530, {}, 502, 'upstream_unavailable'],
    [502, { 'content-type': 'text/html' }, 502, 'upstream_unavailable'],
    [524, {}, 504, 'upstream_timeout'],
    [403, { 'content-type': 'text/html' }, 502, 'provider_auth'],
    [302, { location: 'https://team.cloudflareaccess.com/cdn-cgi/access/login' }, 502, 'provider_auth'],
  ])('turns the tunnel’s own %i page into the envelope', async (status, headers, expected, code) => {
    handle = (_, response) => response.writeHead(status, headers).end('<html>error code: 1033</html>');
    expect(await failure(await fetch(worker.url, { redirect: 'manual' }))).toEqual([expected, code]);
  });

  it('never completes an answer that the origin broke off', async () => {
    const length: Record<string, string> = { '/sized': '1000' };
    handle = (request, response) => {
      const size = length[request.url!];
      response.writeHead(200, { 'x-request-id': 'cut', ...(size ? { 'content-length': size } : {}) });
      response.write('data: half\n\n', () => response.destroy());
    };
    await expect(fetch(`${worker.url}/sized`).then((reply) => reply.text())).rejects.toThrow();
    // Without a length workerd closes the chunked body in good form; the stream's own end mark is what is missing.
    expect(await (await fetch(`${worker.url}/stream`)).text()).toBe('data: half\n\n');
  });
});

describe('settings', () => {
  it(
    'refuses to serve without an origin, or as its own origin',
    async () => {
      await withWorker({}, async (url) => expect(await failure(await fetch(url))).toEqual([500, 'internal']));
      await withWorker({ ORIGIN: 'ftp://127.0.0.1' }, async (url) =>
        expect(await failure(await fetch(url))).toEqual([500, 'internal']),
      );
    },
    SLOW,
  );

  it(
    'keeps requests without a key from the origin when EDGE_REQUIRE_KEY is set',
    async () => {
      handle = (_, response) => response.writeHead(200, { 'x-request-id': 'k' }).end('ok');
      await withWorker({ ORIGIN: originUrl, EDGE_REQUIRE_KEY: 'true' }, async (url) => {
        for (const path of ['/v1/models', '/text/gen', '/docsx', '/healthz', '/assets', '/assets/site.css/x']) {
          const reply = await fetch(url + path);
          expect(reply.headers.get('www-authenticate')).toBe('Bearer');
          expect(await failure(reply), path).toEqual([401, 'invalid_api_key']);
        }
        expect(await failure(await fetch(`${url}/text/gen?key=k`, { method: 'POST' }))).toEqual([
          401,
          'invalid_api_key',
        ]);
        expect(await failure(await fetch(`${url}/docs`, { method: 'POST' }))).toEqual([401, 'invalid_api_key']);
        expect(seen).toHaveLength(0);
        for (const path of [...publicPaths, '/docs/assets/init.js']) {
          expect((await fetch(url + path)).status, path).toBe(200);
        }
        for (const [name, value] of [
          ['authorization', 'Bearer k'],
          ['x-api-key', 'k'],
          ['api-key', 'k'],
        ] as const) {
          expect((await fetch(`${url}/v1/models`, { headers: { [name]: value } })).status, name).toBe(200);
        }
        expect((await fetch(`${url}/v1/models`, { method: 'OPTIONS' })).status).toBe(200);
        expect((await fetch(`${url}/jobs/1/events?key=k`)).status).toBe(200);
      });
    },
    SLOW,
  );

  it(
    'signs in to Cloudflare Access, keeps a path prefix, and sends no token it does not have',
    async () => {
      handle = (_, response) => response.writeHead(200, { 'x-request-id': 'a' }).end();
      const bindings = {
        ORIGIN: `${originUrl}/base/`,
        CF_ACCESS_CLIENT_ID: 'id.access',
        CF_ACCESS_CLIENT_SECRET: 's3cret',
      };
      await withWorker(
        bindings,
        async (url) => void (await fetch(`${url}/v1/models?a=b`, { headers: { 'x-edge-token': 'x' } })),
      );
      expect(seen[0]!.url).toBe('/base/v1/models?a=b');
      expect(seen[0]!.headers).toMatchObject({
        'cf-access-client-id': 'id.access',
        'cf-access-client-secret': 's3cret',
      });
      expect(seen[0]!.headers).not.toHaveProperty('x-edge-token');
    },
    SLOW,
  );
});

/** Lets the origin never end its answer. `gone` resolves with the time at which its caller left. */
function endless(answer: { begins: boolean; everyMs?: number }): { begun: Promise<void>; gone: Promise<number> } {
  const begun = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<number>();
  handle = (_, response) => {
    const timer = answer.everyMs && setInterval(() => response.write(': ping\n\n'), answer.everyMs);
    response.on('close', () => {
      clearInterval(timer);
      gone.resolve(Date.now());
    });
    if (answer.begins) {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'x-request-id': 'endless' });
      response.write('data: 1\n\n');
    }
    begun.resolve();
  };
  return { begun: begun.promise, gone: gone.promise };
}

/** Accepts a WebSocket and returns its first short text frame and its close frame. */
function echoFirstFrame(request: IncomingMessage, socket: Socket): void {
  const accept = createHash('sha1')
    .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  socket.on('error', () => {});
  socket.on('data', (frame: Buffer) => {
    const length = frame[1]! & 0x7f;
    const mask = frame.subarray(2, 6);
    const payload = frame.subarray(6, 6 + length).map((byte, index) => byte ^ mask[index % 4]!);
    socket.write(Buffer.concat([Buffer.from([frame[0]!, length]), payload]));
    if ((frame[0]! & 0x0f) === 8) socket.end();
  });
}

async function withWorker(bindings: Record<string, string>, use: (url: string) => Promise<void>): Promise<void> {
  const other = await openWorker(bindings);
  try {
    await use(other.url);
  } finally {
    await other.close();
  }
}

async function failure(reply: Response): Promise<[number, string]> {
  const { error } = (await reply.json()) as { error: { code: string; source: string } };
  expect(error.source).toBe('edge');
  return [reply.status, error.code];
}

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function text(message: IncomingMessage): Promise<string> {
  let all = '';
  for await (const chunk of message) all += chunk;
  return all;
}

function notSet(_: IncomingMessage, response: ServerResponse): void {
  response.writeHead(500).end('no handler set');
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));
