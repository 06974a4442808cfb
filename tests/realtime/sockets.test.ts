// What is said over sockets: rooms, refusals, both ways, on every engine.
import { request as httpRequest } from 'node:http';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  openIo,
  openSocket,
  openStream,
  openWatchers,
  quiet,
  types,
  until,
  watcherEngines,
  type Heard,
  type Watchers,
} from '../support/watchers.ts';

const KEY = 'key-0123456789-0123456789';
const OTHER = 'other-0123456789-0123456789';
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
const lasting = (heard: Heard[]) => types(heard.filter(({ type }) => type.startsWith('job:')));

describe.each(watcherEngines)('%s', (engine) => {
  let server: Watchers;
  const open: { close(): void }[] = [];
  beforeAll(async () => {
    server = await openWatchers(engine, { HONO_AI_API_KEY: KEY, HONO_AI_CALLERS: `other:${OTHER}` }, KEY);
  });
  afterEach(() => open.splice(0).forEach((client) => client.close()));
  afterAll(() => server?.close());

  const keep = <T extends { close(): void }>(client: T): T => {
    open.push(client);
    return client;
  };
  const say = (type: string, job: string, owner = 'owner') => server.publish({ type, job, owner });

  describe('WebSocket', () => {
    const connect = async (key = KEY, query = '') =>
      keep(await openSocket(`${server.url}/ws${query}`, { headers: bearer(key) }));

    it('greets, and hears everything until it asks for a job', async () => {
      const client = await connect();
      await until(client, 'subscribed');
      expect(client.heard.slice(0, 2)).toEqual([
        { type: 'hello', data: { caller: 'owner' } },
        { type: 'subscribed', data: { job: null, ended: false } },
      ]);
      await say('job:running', 'job_a');
      await until(client, 'job:running');
      client.say({ type: 'subscribe', job: 'job_a' });
      await until(client, 'subscribed', 2);
      await say('job:queued', 'job_b');
      await say('job:done', 'job_a');
      await until(client, 'job:done');
      expect(client.heard.filter(({ data }) => data['job']?.id === 'job_b')).toEqual([]);
    });

    it('hears several jobs, no longer those it leaves, and everything again on request', async () => {
      const client = await connect();
      for (const job of ['job_1', 'job_2']) {
        await say('job:running', job);
        client.say({ type: 'subscribe', job });
      }
      await until(client, 'subscribed', 3);
      client.say({ type: 'unsubscribe', job: 'job_1' });
      await until(client, 'unsubscribed');
      client.heard.length = 0;
      await say('job:done', 'job_1');
      await say('job:done', 'job_2');
      await until(client, 'job:done');
      client.say({ type: 'subscribe' });
      await until(client, 'subscribed');
      await say('job:failed', 'job_3');
      await until(client, 'job:failed');
      expect(client.heard.filter(({ type }) => type === 'job:done').map(({ data }) => data['job'].id)).toEqual([
        'job_2',
      ]);
    });

    it('says the same of a job that is somebody else’s and of one that is not there, and goes on as before', async () => {
      await say('job:running', 'job_foreign', 'other');
      const client = await connect();
      client.say({ type: 'subscribe', job: 'job_foreign' });
      client.say({ type: 'subscribe', job: 'job_none' });
      await until(client, 'error', 2);
      const [first, second] = client.heard.filter(({ type }) => type === 'error');
      expect(first).toEqual(second);
      expect(first!.data).toEqual({ code: 'not_found', message: 'There is no such job.' });
      await say('job:progress', 'job_foreign', 'other');
      await say('job:queued', 'job_mine');
      await until(client, 'job:queued');
      expect(client.heard.filter(({ type }) => type === 'job:progress')).toEqual([]);
    });

    it('hears the end once, whenever it asks', { timeout: 60_000 }, async () => {
      for (let round = 0; round < 60; round++) {
        const job = `job_race_${round}`;
        await say('job:running', job);
        const client = await connect(KEY, round % 3 === 0 ? `?job=${job}` : '');
        const done = say('job:done', job);
        if (round % 2) await new Promise((resolve) => setTimeout(resolve, round / 10));
        client.say({ type: 'subscribe', job });
        await done;
        await until(client, 'job:done');
        await new Promise((resolve) => setTimeout(resolve, 20));
        expect(client.heard.filter(({ type, data }) => type === 'job:done' && data['job'].id === job)).toHaveLength(1);
        client.close();
      }
    });

    it('answers a ping', async () => {
      const client = await connect();
      client.say({ type: 'ping' });
      await until(client, 'pong');
    });

    it('is asked for with an upgrade', async () => {
      const reply = await fetch(`${server.url}/ws`, { headers: bearer(KEY) });
      expect(reply.status).toBe(426);
      expect(reply.headers.get('upgrade')).toBe('websocket');
      expect(await reply.json()).toMatchObject({ error: { code: 'upgrade_required' } });
    });

    it('is refused like a request, with the reason in the body', async () => {
      const handshake = {
        connection: 'upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      };
      const cases: [string, Record<string, string>, number, string][] = [
        ['/ws', {}, 401, 'invalid_api_key'],
        ['/ws', { ...bearer(KEY), origin: 'https://evil.example' }, 403, 'forbidden_origin'],
        ['/ws', { ...bearer(KEY), host: 'evil.example' }, 421, 'misdirected_request'],
        ['/socket.io/?EIO=4&transport=websocket', {}, 401, 'invalid_api_key'],
        ['/socket.io/?EIO=4&transport=websocket', { ...bearer(KEY), origin: 'null' }, 403, 'forbidden_origin'],
        ['/socket.io/?EIO=4&transport=polling', { ...bearer(KEY), host: 'evil.example' }, 421, 'misdirected_request'],
      ];
      for (const [path, headers, status, code] of cases) {
        const request = httpRequest(server.url + path, { headers: { ...handshake, ...headers } }).end();
        const [reply] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
        let text = '';
        for await (const piece of reply) text += piece;
        expect([path, reply.statusCode, JSON.parse(text).error.code]).toEqual([path, status, code]);
        expect(reply.headers['x-request-id']).toBeDefined();
      }
    });
  });

  describe('Socket.IO', () => {
    const connect = async (key = KEY, options: object = {}) =>
      keep(await openIo(server.url, { transports: ['websocket'], extraHeaders: bearer(key), ...options }));

    it('takes the key from the query, as browsers must send it', async () => {
      const client = keep(await openIo(server.url, { query: { key: OTHER } }));
      await until(client, 'hello');
      expect(client.heard[0]!.data).toEqual({ caller: 'other' });
    });

    it('acknowledges rooms, and refuses those of others', async () => {
      await say('job:running', 'job_io');
      await say('job:running', 'job_io_foreign', 'other');
      const client = await connect();
      expect(await client.ask('subscribe', { job: 'job_io' })).toEqual({ ok: true, job: 'job_io', ended: false });
      const foreign = await client.ask('subscribe', { job: 'job_io_foreign' });
      expect(foreign).toEqual(await client.ask('subscribe', { job: 'job_io_none' }));
      expect(foreign).toMatchObject({ ok: false, error: { code: 'not_found' } });
      await say('job:progress', 'job_io_foreign', 'other');
      await say('job:progress', 'job_unheard');
      await say('job:done', 'job_io');
      await until(client, 'job:done');
      expect(lasting(client.heard.slice(types(client.heard).lastIndexOf('job:running')))).toEqual([
        'job:running',
        'job:done',
      ]);
      expect(await client.ask('unsubscribe', { job: 'job_io' })).toEqual({ ok: true });
    });

    it('gives each event its id, by which another connection goes on', async () => {
      const client = await connect();
      await quiet();
      await server.publish({ type: 'job:progress', job: 'job_p', owner: 'owner', times: 10 });
      await until(client, 'job:progress', 10);
      const after = client.heard.filter(({ type }) => type === 'job:progress')[4]!.id!;
      const back = await connect(KEY, { auth: { after } });
      await until(back, 'job:progress', 5);
      await quiet();
      expect(back.heard.filter(({ type }) => type === 'job:progress').map(({ data }) => data['n'])).toEqual([
        5, 6, 7, 8, 9,
      ]);
    });

    it('answers nobody who knows the session of another caller', async () => {
      const ask = (key: string, query: string, init: RequestInit = {}) =>
        fetch(`${server.url}/socket.io/?EIO=4&transport=polling${query}`, { headers: bearer(key), ...init });
      const { sid } = JSON.parse((await (await ask(KEY, '')).text()).slice(1)) as { sid: string };
      const [stolen, unknown] = [await ask(OTHER, `&sid=${sid}`), await ask(OTHER, '&sid=nobody')];
      expect([stolen.status, await stolen.text()]).toEqual([unknown.status, await unknown.text()]);
      expect(stolen.status).toBe(400);
      expect((await ask(KEY, `&sid=${sid}`, { method: 'POST', body: '40' })).status).toBe(200);
      expect(await (await ask(KEY, `&sid=${sid}`)).text()).toContain('40{"sid"');
    });

    it('may be asked by a page of an allowed origin, with polling too', async () => {
      const reply = await fetch(`${server.url}/socket.io/?EIO=4&transport=polling`, {
        headers: { ...bearer(KEY), origin: 'http://localhost:5173' },
      });
      expect(reply.headers.get('access-control-allow-origin')).toBe('http://localhost:5173');
    });
  });
});

describe.each(watcherEngines)('%s', (engine) => {
  it('refuses more watchers than there may be, of whatever kind', async () => {
    const server = await openWatchers(engine, { HONO_AI_MAX_WATCHERS: '2' });
    try {
      const clients = [await openStream(`${server.url}/events`), await openSocket(`${server.url}/ws`)];
      await quiet();
      const refused = await fetch(`${server.url}/events`);
      expect(refused.status).toBe(503);
      expect(refused.headers.get('retry-after')).toBe('10');
      expect(await refused.json()).toMatchObject({ error: { code: 'overloaded' } });
      await expect(openSocket(`${server.url}/ws`)).rejects.toThrow('503');
      expect((await fetch(`${server.url}/socket.io/?EIO=4&transport=polling`)).status).toBe(503);
      for (const client of clients) client.close();
      await expect.poll(async () => (await server.stats()).watchers).toBe(0);
      (await openSocket(`${server.url}/ws`)).close();
    } finally {
      await server.close();
    }
  });

  it('ends every connection when it ends, and then its process', async () => {
    const server = await openWatchers(engine);
    try {
      const stream = await openStream(`${server.url}/events`);
      const socket = await openSocket(`${server.url}/ws`);
      const upgraded = await openIo(server.url);
      const polling = await openIo(server.url, { transports: ['polling'] });
      await quiet();
      const exited = once(server.child, 'exit');
      server.child.kill('SIGTERM');
      await Promise.all([stream.ended, upgraded.closed, polling.closed]);
      // Deno says itself that it goes away.
      expect([1001, 1012]).toContain(await socket.closed);
      expect(await exited).toEqual([0, null]);
    } finally {
      await server.close();
    }
  });
});
