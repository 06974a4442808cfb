// Artifacts over HTTP: ranges, links, names, types, and senders and readers that are slow or hostile.
import { connect } from 'node:net';
import { get as httpGet, type IncomingMessage } from 'node:http';
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { OpenAPIHono } from '@hono/zod-openapi';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { toGatewayError } from '../../src/error.ts';
import type { AppEnv, AppOptions } from '../../src/http/context.ts';
import { guard } from '../../src/http/guard.ts';
import { respondError } from '../../src/http/respond.ts';
import { serveArtifacts } from '../../src/routes/artifacts.ts';
import { openInProcess, openServed, type TestGateway } from '../support/gateway.ts';
import { openArtifacts, sha256, toPng, type OpenedArtifacts } from '../support/open-artifacts.ts';

interface View {
  id: string;
  name: string;
  media_type: string;
  size: number;
  sha256: string;
  url: string;
  made: unknown;
}

const key = { authorization: 'Bearer key-of-the-owner-1' };
const other = { authorization: 'Bearer key-of-somebody-2' };
let gateway: TestGateway;
beforeAll(async () => {
  gateway = await openInProcess({
    env: {
      HONO_AI_API_KEY: 'key-of-the-owner-1',
      HONO_AI_CALLERS: 'bert:key-of-somebody-2',
      HONO_AI_MAX_UPLOAD: '4MB',
      HONO_AI_EMBEDDED: 'false',
    },
  });
});
afterAll(async () => gateway?.close());

const asOwner = async (path: string, init: RequestInit = {}) =>
  gateway.request(path, { ...init, headers: { ...key, ...init.headers } });

async function upload(bytes: Uint8Array | string, query = '', headers: Record<string, string> = {}): Promise<View> {
  const body = typeof bytes === 'string' ? bytes : new Uint8Array(bytes);
  const answer = await asOwner(`/artifacts${query}`, { method: 'POST', body, headers });
  expect(answer.status).toBe(201);
  return (await answer.json()) as View;
}

const codeOf = async (answer: Response) => ((await answer.json()) as { error: { code: string } }).error.code;

describe('an upload', () => {
  it('is kept, described and linked', async () => {
    const bytes = randomBytes(10_000);
    const answer = await asOwner('/artifacts?name=data.bin&purpose=batch', {
      method: 'POST',
      body: new Uint8Array(bytes),
    });
    expect(answer.status).toBe(201);
    const view = (await answer.json()) as View;
    expect(answer.headers.get('location')).toBe(`/artifacts/${view.id}`);
    expect(view).toMatchObject({
      object: 'artifact',
      name: 'data.bin',
      size: 10_000,
      sha256: sha256(bytes),
      purpose: 'batch',
    });
    const again = await asOwner(`/artifacts/${view.id}`);
    expect(((await again.json()) as View).sha256).toBe(sha256(bytes));
    const content = await gateway.request(view.url);
    expect(Buffer.from(await content.arrayBuffer()).equals(bytes)).toBe(true);
  });

  it.each([
    [`attachment; filename="cat (1).txt"`, 'cat (1).txt'],
    [`attachment; filename="fallback.txt"; filename*=UTF-8''n%C3%A4me.txt`, 'näme.txt'],
    [`attachment; filename=plain.txt`, 'plain.txt'],
    [`attachment; filename="a\\"b.txt"`, 'a_b.txt'],
    [`attachment; filename="../../etc/passwd.txt"`, 'passwd.txt'],
  ])('takes its name from Content-Disposition: %s', async (header, name) => {
    expect((await upload('text', '', { 'content-disposition': header })).name).toBe(name);
  });

  it('of a form is refused, with the remedy', async () => {
    const body = new FormData();
    body.set('file', new Blob(['x']), 'x.txt');
    const answer = await asOwner('/artifacts', { method: 'POST', body });
    expect(answer.status).toBe(415);
  });

  it.each([
    ['announced', () => new Uint8Array(4 * 1024 * 1024 + 1)],
    ['not announced', () => toStream(Array.from({ length: 5 }, () => new Uint8Array(1024 * 1024)))],
  ])('beyond the limit is refused, %s', async (_, body) => {
    const before = (await (await asOwner('/artifacts?limit=100')).json()) as { data: unknown[] };
    const answer = await asOwner('/artifacts', {
      method: 'POST',
      body: body() as BodyInit,
      duplex: 'half',
    } as RequestInit);
    expect(answer.status).toBe(413);
    expect(answer.headers.get('connection')).toBe('close');
    const after = (await (await asOwner('/artifacts?limit=100')).json()) as { data: unknown[] };
    expect(after.data.length).toBe(before.data.length);
    const blobs = join(gateway.env['HONO_AI_STATE_DIR']!, 'artifacts', 'tmp');
    expect(readdirSync(blobs)).toEqual([]);
  });

  it.each(['?purpose=../x', '?purpose=A', `?name=${'x'.repeat(5000)}`])(
    'with a bad query is refused: %s',
    async (query) => {
      expect((await asOwner(`/artifacts${query}`, { method: 'POST', body: 'x' })).status).toBe(400);
    },
  );
});

describe('the content', () => {
  const bytes = randomBytes(1000);
  let view: View;
  beforeAll(async () => {
    view = await upload(bytes, '?name=data.bin');
  });
  const content = async (headers: Record<string, string>) => asOwner(`/artifacts/${view.id}/content`, { headers });

  it('says everything that a player needs, with and without a body', async () => {
    const answers = [await content({}), await asOwner(`/artifacts/${view.id}/content`, { method: 'HEAD' })];
    for (const answer of answers) {
      expect(answer.status).toBe(200);
      expect(Object.fromEntries(answer.headers)).toMatchObject({
        'accept-ranges': 'bytes',
        'content-length': '1000',
        etag: `"sha256-${sha256(bytes)}"`,
        'cache-control': 'private, max-age=3600, immutable',
        'x-content-type-options': 'nosniff',
        'content-security-policy': "sandbox; default-src 'none'",
        'cross-origin-resource-policy': 'same-origin',
        'content-disposition': 'attachment; filename="data.bin"',
      });
    }
    expect((await answers[0]!.arrayBuffer()).byteLength).toBe(1000);
    expect((await answers[1]!.arrayBuffer()).byteLength).toBe(0);
  });

  it.each([
    ['bytes=0-0', 0, 1],
    ['bytes=0-499', 0, 500],
    ['bytes=500-', 500, 1000],
    ['bytes=-1', 999, 1000],
    ['bytes=-5000', 0, 1000],
    ['bytes=990-99999', 990, 1000],
    ['BYTES = 10-19', 10, 20],
  ])('gives the range %s', async (range, start, end) => {
    const answer = await content({ range });
    expect(answer.status).toBe(206);
    expect(answer.headers.get('content-range')).toBe(`bytes ${start}-${end - 1}/1000`);
    expect(answer.headers.get('content-length')).toBe(String(end - start));
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes.subarray(start, end));
  });

  it.each([
    'bytes=1000-',
    'bytes=5000-6000',
    'bytes=-0',
    'bytes=5-4',
    'bytes=-',
    'bytes=',
    'bytes=a-b',
    'bytes=1-2-3',
    'bytes=--5',
    'bytes=99999999999999999999-',
    `bytes=${Array.from({ length: 11 }, (_, index) => `${index}-${index}`).join(',')}`,
    `bytes=${Array.from({ length: 1000 }, () => '0-').join(',')}`,
  ])('has no range %s', async (range) => {
    const answer = await content({ range });
    expect(answer.status).toBe(416);
    expect(answer.headers.get('content-range')).toBe('bytes */1000');
    expect(await codeOf(answer)).toBe('range_not_satisfiable');
  });

  it.each(['bytes=0-1,5-6', 'bytes=0-1, 900-', 'lines=1-2'])('is whole for %s', async (range) => {
    const answer = await content({ range });
    expect(answer.status).toBe(200);
    expect((await answer.arrayBuffer()).byteLength).toBe(1000);
  });

  it('is whole where the reader has part of something else', async () => {
    const etag = `"sha256-${sha256(bytes)}"`;
    const fresh = await content({ range: 'bytes=5-', 'if-range': etag });
    expect([fresh.status, (await fresh.arrayBuffer()).byteLength]).toEqual([206, 995]);
    for (const stale of ['"sha256-other"', `W/${etag}`, new Date().toUTCString()]) {
      const answer = await content({ range: 'bytes=5-', 'if-range': stale });
      expect([answer.status, (await answer.arrayBuffer()).byteLength]).toEqual([200, 1000]);
    }
  });

  it('is not sent to who has it', async () => {
    const etag = `"sha256-${sha256(bytes)}"`;
    for (const known of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
      const answer = await content({ 'if-none-match': known });
      expect([answer.status, answer.headers.get('etag')]).toEqual([304, etag]);
      expect(await answer.text()).toBe('');
    }
    const answer = await content({ 'if-none-match': '"other"' });
    expect([answer.status, (await answer.arrayBuffer()).byteLength]).toEqual([200, 1000]);
  });

  it.each([
    ['a page', '<!DOCTYPE html><script>alert(1)</script>', 'text/html', 'application/octet-stream', 'attachment'],
    [
      'a drawing',
      '<svg xmlns="http://www.w3.org/2000/svg"/>',
      'image/svg+xml',
      'application/octet-stream',
      'attachment',
    ],
    ['markup', '<?xml version="1.0"?><a/>', 'application/xml', 'application/octet-stream', 'attachment'],
    ['a script', 'alert(1)', 'text/javascript', 'application/octet-stream', 'attachment'],
    ['a document', '%PDF-1.7', 'application/pdf', 'application/pdf', 'attachment'],
    ['bytes', new Uint8Array([0, 1, 2]), 'text/html', 'application/octet-stream', 'attachment'],
    ['a text', 'Zażółć', 'text/plain', 'text/plain; charset=utf-8', 'inline'],
    ['a picture', toPng({}), 'text/html', 'image/png', 'inline'],
  ])('of %s is sent so that it cannot act', async (_, body, label, contentType, disposition) => {
    const file = await upload(body as Uint8Array, '?name=x', { 'content-type': label });
    const answer = await gateway.request(file.url);
    expect(answer.headers.get('content-type')).toBe(contentType);
    expect(answer.headers.get('content-disposition')).toMatch(new RegExp(`^${disposition};`));
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
    expect(answer.headers.get('content-security-policy')).toContain('sandbox');
    await answer.arrayBuffer();
  });

  it.each([
    ['näme "1" 100%.txt', `filename="n_me _1_ 100_.txt"; filename*=UTF-8''n%C3%A4me%20_1_%20100%25.txt`],
    [`it's (a) *.txt`, `filename="it's (a) _.txt"`],
    ['a\r\nset-cookie: x=1.txt', 'filename="aset-cookie_ x=1.txt"'],
    ['猫.txt', `filename="_.txt"; filename*=UTF-8''%E7%8C%AB.txt`],
  ])('is named %j in a header that is one', async (name, expected) => {
    const file = await upload('text', `?name=${encodeURIComponent(name)}`);
    const answer = await gateway.request(file.url);
    expect(answer.headers.get('content-disposition')).toBe(`inline; ${expected}`);
    expect(answer.headers.get('set-cookie')).toBeNull();
    await answer.arrayBuffer();
  });
});

describe('a link', () => {
  let view: View;
  beforeAll(async () => {
    view = await upload('a file that is shown elsewhere');
  });

  it('opens the file without a key, for other sites too', async () => {
    const answer = await gateway.request(view.url, {
      headers: { 'sec-fetch-site': 'cross-site', 'sec-fetch-dest': 'image' },
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('cross-origin-resource-policy')).toBe('cross-origin');
    expect(await answer.text()).toBe('a file that is shown elsewhere');
    expect((await gateway.request(view.url, { method: 'HEAD' })).status).toBe(200);
  });

  it.each(['POST', 'PUT', 'PATCH', 'DELETE'])('does nothing else: %s', async (method) => {
    const answer = await gateway.request(view.url, { method });
    expect(answer.status).toBe(403);
    expect(await codeOf(answer)).toBe('invalid_signature');
    expect(await (await gateway.request(view.url)).text()).toBe('a file that is shown elsewhere');
  });

  it('that was changed in any way opens nothing', async () => {
    const [path, query] = view.url.split('?') as [string, string];
    const [exp, sig] = query.split('&') as [string, string];
    const foreign = await upload('another file');
    const wrong = [
      `${path}?${sig}&${exp}`,
      `${path}?exp=${Number(exp.slice(4)) + 60}&${sig}`,
      `${path}?${query}&download=1`,
      `${path}?${exp}`,
      `${path}?${sig}`,
      `${foreign.url.split('?')[0]}?${query}`,
    ];
    for (const url of wrong) {
      const answer = await gateway.request(url);
      expect([url, answer.status, await codeOf(answer)]).toEqual([url, 403, 'invalid_signature']);
      // A key beside a wrong signature does not mend it: who sends a signature means it.
      expect((await asOwner(url)).status).toBe(403);
    }
  });

  it.each([
    ['', 401],
    ['?', 401],
    ['?x=1', 401],
    ['?x#&sig=1', 403],
    ['?x=1?&exp=1', 401],
    ['?%73ig=1', 401],
    ['#?exp=1&sig=1', 403],
    ['?exp', 403],
    ['?sig=', 403],
  ])('cannot be pretended: %j', async (query, status) => {
    const answer = await gateway.request(`/artifacts/${view.id}/content${query}`);
    expect([query, answer.status]).toEqual([query, status]);
    expect(await answer.text()).not.toContain('shown elsewhere');
  });

  it('opens the bytes and nothing else of the file', async () => {
    const query = view.url.split('?')[1]!;
    expect((await gateway.request(`/artifacts/${view.id}?${query}`)).status).toBe(401);
    expect((await gateway.request(`/artifacts?${query}`)).status).toBe(401);
    expect((await gateway.request(`/artifacts/${view.id}/made?${query}`, { method: 'DELETE' })).status).toBe(401);
  });
});

describe('callers', () => {
  it('see their own files only: a foreign one is answered like an unknown one', async () => {
    const { id } = await upload('private');
    const unknown = `art_${'0'.repeat(32)}`;
    const ask = async (method: string, path: string) => {
      const answer = await gateway.request(path, { method, headers: other });
      const { error } = (await answer.json()) as { error: { request_id: string } };
      return [answer.status, { ...error, request_id: '' }];
    };
    for (const [method, tail] of [
      ['GET', ''],
      ['GET', '/content'],
      ['DELETE', ''],
      ['DELETE', '/made'],
    ] as const) {
      const foreign = await ask(method, `/artifacts/${id}${tail}`);
      expect(foreign).toEqual(await ask(method, `/artifacts/${unknown}${tail}`));
      expect(foreign[0]).toBe(404);
    }
    const list = (await (await gateway.request('/artifacts', { headers: other })).json()) as { data: unknown[] };
    expect(list.data).toEqual([]);
  });

  it('list page by page', async () => {
    for (let index = 0; index < 3; index++) await upload(`page ${index}`, '?purpose=pages');
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const path: string = `/artifacts?purpose=pages&limit=2${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`;
      const page = (await (await asOwner(path)).json()) as {
        data: View[];
        has_more: boolean;
        next_cursor: string | null;
      };
      expect(page.has_more).toBe(page.next_cursor !== null);
      seen.push(...page.data.map(({ id }) => id));
      cursor = page.next_cursor;
    } while (cursor);
    expect(new Set(seen).size).toBe(3);
  });

  it('delete a file, and then it is not there', async () => {
    const { id, url } = await upload('gone soon');
    const answer = await asOwner(`/artifacts/${id}`, { method: 'DELETE' });
    expect(await answer.json()).toEqual({ id, object: 'artifact', deleted: true });
    expect((await asOwner(`/artifacts/${id}`)).status).toBe(404);
    expect((await gateway.request(url)).status).toBe(404);
    expect((await asOwner(`/artifacts/${id}`, { method: 'DELETE' })).status).toBe(404);
  });

  it('make us forget what is written in a picture', async () => {
    const { id } = await upload(toPng({ prompt: 'a secret wish' }));
    const view = (await (await asOwner(`/artifacts/${id}/made`, { method: 'DELETE' })).json()) as View;
    expect(view.made).toBeNull();
    const bytes = Buffer.from(await (await gateway.request(view.url)).arrayBuffer());
    expect(bytes).toEqual(toPng({}));
  });

  it.each(['..%2f..%2fetc%2fpasswd', '..%5c', '%00', 'con', 'x'.repeat(4096), 'art_%2e%2e', 'sha256:..%2fx'])(
    'find nothing under %s',
    async (id) => {
      for (const tail of ['', '/content', '/content?exp=1&sig=x']) {
        const answer = await asOwner(`/artifacts/${id}${tail}`);
        expect([400, 404]).toContain(answer.status);
        expect(await answer.text()).not.toMatch(/root:|ENOENT|\/tmp/);
      }
    },
  );
});

describe('a sender', () => {
  let opened: OpenedArtifacts;
  let app: OpenAPIHono<AppEnv>;
  beforeAll(async () => {
    opened = await openArtifacts();
    app = new OpenAPIHono<AppEnv>();
    const config = { allowed_hosts: ['*'], allowed_origins: [], host: '127.0.0.1' };
    app.use('*', guard({ config, log: () => {}, version: 'test', now: Date.now } as unknown as AppOptions));
    serveArtifacts(app, opened.artifacts, { slowMs: 400 });
    app.onError((error, c) => respondError(c, toGatewayError(error)));
  });
  afterAll(async () => opened.close());

  const send = (count: number, bytes: number, everyMs: number) =>
    app.request('/artifacts', {
      method: 'POST',
      duplex: 'half',
      body: toStream(
        (async function* () {
          for (let index = 0; index < count; index++) {
            await new Promise((resolve) => setTimeout(resolve, everyMs));
            yield new Uint8Array(bytes).fill(index + 1);
          }
        })(),
      ),
    } as RequestInit);

  it.each([
    ['a byte now and then', 1000, 1, 50],
    ['nothing at all', 1, 1, 60_000],
  ])('of %s is sent away, and nothing of it is left', async (_, count, bytes, everyMs) => {
    const answer = await send(count, bytes, everyMs);
    expect(answer.status).toBe(408);
    expect(await codeOf(answer)).toBe('request_timeout');
    expect(answer.headers.get('connection')).toBe('close');
    await expect.poll(() => readdirSync(join(opened.dir, 'blobs', 'tmp'))).toEqual([]);
    expect(await opened.kept()).toEqual([]);
  });

  it('that is slow but steady is heard to the end', async () => {
    const answer = await send(30, 200, 50);
    expect(answer.status).toBe(201);
  });
});

describe.each(['node', 'bun', 'deno'] as const)('a large file on %s', (engine) => {
  const size = 200 * 1024 * 1024;
  let served: TestGateway;
  let view: View;
  let pid: number;
  let slow: Promise<string>;
  beforeAll(async () => {
    served = await openServed(engine, { env: { HONO_AI_EMBEDDED: 'false' } });
    pid = (JSON.parse(readFileSync(join(served.env['HONO_AI_STATE_DIR']!, 'gateway.json'), 'utf8')) as { pid: number })
      .pid;
    const before = memory(pid);
    const body = toStream(
      (async function* () {
        for (let index = 0; index < 200; index++) yield new Uint8Array(1024 * 1024).fill(index);
      })(),
    );
    const answer = await served.request('/artifacts?name=film.bin', {
      method: 'POST',
      body,
      duplex: 'half',
    } as RequestInit);
    view = (await answer.json()) as View;
    expect(view.size).toBe(size);
    expect(memory(pid) - before).toBeLessThan(150);
    // It takes a quarter of a minute: the other tests run meanwhile.
    slow = sendSlowly(served.url!);
  });
  afterAll(async () => served?.close());

  it('has its length in the head, and a range in the middle', async () => {
    const head = await served.request(view.url, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length')]).toEqual([200, String(size)]);
    const part = await served.request(view.url, { headers: { range: 'bytes=104857599-104857600' } });
    expect(part.status).toBe(206);
    expect([...new Uint8Array(await part.arrayBuffer())]).toEqual([99, 100]);
  });

  it('waits for a slow reader in bounded memory, and reaches it whole', { timeout: 60_000 }, async () => {
    const before = memory(pid);
    const answer = await new Promise<IncomingMessage>((resolve) => httpGet(served.url! + view.url, resolve));
    let got = 0;
    // It takes what the connection holds, then nothing.
    answer.pause();
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(memory(pid) - before).toBeLessThan(60);
    answer.on('data', (piece: Buffer) => (got += piece.length)).resume();
    await new Promise((resolve, reject) => answer.once('end', resolve).once('error', reject));
    expect(got).toBe(size);
  });

  it('is closed when its reader leaves', async () => {
    const answer = await new Promise<IncomingMessage>((resolve) => httpGet(served.url! + view.url, resolve));
    answer.once('data', () => answer.destroy());
    await expect.poll(() => openFiles(pid).filter((path) => path.includes(view.sha256))).toEqual([]);
  });

  it('reaches who reads it while it is deleted', async () => {
    const answer = await served.request(view.url);
    const reader = answer.body!.getReader();
    let got = (await reader.read()).value!.byteLength;
    expect((await served.request(`/artifacts/${view.id}`, { method: 'DELETE' })).status).toBe(200);
    for (let step = await reader.read(); !step.done; step = await reader.read()) got += step.value.byteLength;
    expect(got).toBe(size);
    expect((await served.request(view.url)).status).toBe(404);
    await expect.poll(() => openFiles(pid).filter((path) => path.includes(view.sha256))).toEqual([]);
  });

  it('that comes too slowly is answered 408 on the wire', async () => {
    const said = await slow;
    expect(said).toMatch(/^HTTP\/1\.1 408/);
    expect(said).toContain('request_timeout');
    expect(readdirSync(join(served.env['HONO_AI_STATE_DIR']!, 'artifacts', 'tmp'))).toEqual([]);
  });
});

/** Uploads a byte a second until it is answered; gives the answer. */
async function sendSlowly(url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write('POST /artifacts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n');
  const timer = setInterval(() => socket.write('x'), 1000);
  let text = '';
  await new Promise<void>((resolve) => {
    // Deno keeps the connection until the sender leaves; the answer is there all the same.
    socket.on('data', (bytes) => (text += bytes.toString()).includes('}}') && resolve());
    socket.on('error', () => resolve());
    socket.on('close', () => resolve());
  });
  clearInterval(timer);
  socket.destroy();
  return text;
}

/** Node, Bun and Deno have ReadableStream.from; the types of the DOM do not know it yet. */
function toStream(source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  return (ReadableStream as unknown as { from(from: unknown): ReadableStream<Uint8Array> }).from(source);
}

/** MiB that a process holds. */
function memory(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

function openFiles(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return '';
    }
  });
}
