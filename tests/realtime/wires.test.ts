// The same events over every wire, on every engine: who hears what, once, from where it left off.
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

interface Listening {
  heard: Heard[];
  close(): void;
}

interface Wire {
  /** Hears everything of the caller, or a job, from `after` on. */
  open(url: string, key: string, to?: { job?: string; after?: string }): Promise<Listening>;
  /** What a client without a key, or of another origin, is told. */
  refusal(url: string, headers: Record<string, string>): Promise<string>;
}

const query = (to: Record<string, string | undefined>) =>
  new URLSearchParams(Object.entries(to).filter((pair): pair is [string, string] => pair[1] !== undefined)).toString();

const throughIo = (transports: ('polling' | 'websocket')[]): Wire => ({
  open: (url, key, to = {}) => openIo(url, { transports, auth: to, extraHeaders: bearer(key) }),
  refusal: async (url, extraHeaders) => {
    const refused = openIo(url, { transports, extraHeaders }).catch((error) => error);
    const { context, description } = await refused;
    return String(context?.status ?? description?.message ?? description);
  },
});

const throughSocket = (global: boolean): Wire => ({
  open: (url, key, to = {}) =>
    openSocket(
      `${url}/ws?${query({ ...to, ...(global ? { key } : {}) })}`,
      global ? { global } : { headers: bearer(key) },
    ),
  refusal: (url, headers) =>
    openSocket(`${url}/ws`, { headers }).then(
      () => 'let in',
      (error: Error) => error.message,
    ),
});

const wires: Record<string, Wire> = {
  SSE: {
    open: (url, key, { job, after } = {}) =>
      openStream(job ? `${url}/jobs/${job}/events` : `${url}/events`, {
        ...bearer(key),
        ...(after ? { 'last-event-id': after } : {}),
      }),
    refusal: async (url, headers) => String((await openStream(`${url}/events`, headers)).status),
  },
  ws: throughSocket(false),
  WebSocket: throughSocket(true),
  'Socket.IO, websocket': throughIo(['websocket']),
  'Socket.IO, polling': throughIo(['polling']),
  'Socket.IO, upgraded': throughIo(['polling', 'websocket']),
};

describe.each(watcherEngines)('%s', (engine) => {
  let server: Watchers;
  let count = 0;
  const open: Listening[] = [];
  beforeAll(async () => {
    server = await openWatchers(
      engine,
      { HONO_AI_API_KEY: KEY, HONO_AI_CALLERS: `other:${OTHER}`, HONO_AI_EVENT_WINDOW: '10100' },
      KEY,
    );
  });
  afterEach(() => open.splice(0).forEach((client) => client.close()));
  afterAll(() => server?.close());

  describe.each(Object.entries(wires))('%s', (_, wire) => {
    const listen = async (key = KEY, to: { job?: string; after?: string } = {}) => {
      const client = await wire.open(server.url, key, to);
      open.push(client);
      // What is published from now on is heard.
      await quiet();
      return client;
    };
    const newJob = () => `job_${engine}_${++count}`;
    const say = (type: string, job: string, owner = 'owner', extra: object = {}) =>
      server.publish({ type, job, owner, ...extra });

    it('tells a caller its own events, and nobody else’s', async () => {
      const [mine, others] = [await listen(), await listen(OTHER)];
      const job = newJob();
      await say('job:queued', job);
      await say('job:progress', job, 'owner', { data: { percent: 50 } });
      await say('job:done', job);
      await say('job:done', 'job_of_other', 'other');
      await server.publish({ type: 'gpu', data: { used: 1 } });
      await Promise.all([until(mine, 'gpu'), until(others, 'gpu')]);
      expect(types(mine.heard.filter(({ id }) => id !== undefined))).toEqual([
        'job:queued',
        'job:progress',
        'job:done',
        'gpu',
      ]);
      expect(mine.heard.find(({ type }) => type === 'job:progress')!.data).toMatchObject({ id: job, percent: 50 });
      expect(types(others.heard.filter(({ id }) => id !== undefined))).toEqual(['job:done', 'gpu']);
    });

    it('tells of one job alone, and its end once', async () => {
      const [job, another] = [newJob(), newJob()];
      await say('job:running', job);
      const client = await listen(KEY, { job });
      await say('job:progress', another);
      await say('job:progress', job);
      await say('job:done', job);
      await say('job:progress', job);
      await until(client, 'job:done');
      await quiet();
      const about = client.heard.filter(({ type }) => type.startsWith('job:'));
      expect(types(about)).toEqual(['job:running', 'job:progress', 'job:done']);
    });

    it('tells who comes after the end that it has ended', async () => {
      const job = newJob();
      await say('job:failed', job);
      const client = await listen(KEY, { job });
      await until(client, 'job:failed');
      await quiet();
      expect(types(client.heard.filter(({ type }) => type.startsWith('job:')))).toEqual(['job:failed']);
    });

    it('goes on after the last event that was seen, without a gap and without a repetition', async () => {
      const first = await listen();
      const job = newJob();
      await say('job:progress', job, 'owner', { times: 20 });
      await until(first, 'job:progress', 20);
      const after = first.heard.filter(({ type }) => type === 'job:progress')[9]!.id!;
      const second = await listen(KEY, { after });
      await say('job:progress', job, 'owner', { times: 5 });
      await until(second, 'job:progress', 15);
      await until(first, 'job:progress', 25);
      const ids = (client: Listening) => client.heard.filter(({ type }) => type === 'job:progress').map(({ id }) => id);
      expect(ids(second)).toEqual(ids(first).slice(10));
    });

    it('goes on after ten thousand missed events without a gap', async () => {
      const first = await listen();
      const job = newJob();
      await say('job:progress', job);
      await until(first, 'job:progress');
      const after = first.heard.findLast(({ type }) => type === 'job:progress')!.id!;
      first.close();
      for (let part = 0; part < 10; part++) await say('job:progress', job, 'owner', { times: 1000 });
      const second = await listen(KEY, { after });
      await say('job:done', job);
      await until(second, 'job:done');
      const ids = second.heard.map(({ id }) => id).filter((id) => id !== undefined);
      expect(ids).toHaveLength(10_001);
      expect(new Set(ids).size).toBe(10_001);
      expect(types(second.heard)).not.toContain('reset');
    });

    it('says so where the window does not reach back, and how things stand', async () => {
      const job = newJob();
      await say('job:running', job);
      const client = await listen(KEY, { after: 'long-ago' });
      await until(client, 'job:running');
      const from = types(client.heard).indexOf('reset');
      expect(from).toBeGreaterThanOrEqual(0);
      expect(client.heard.slice(from + 1)).toContainEqual(
        expect.objectContaining({ type: 'job:running', data: { job: { id: job } } }),
      );
      await say('job:done', job);
    });

    it('lets nobody in without a key, nor a page of another origin', async () => {
      expect(await wire.refusal(server.url, {})).toMatch(/401/);
      expect(await wire.refusal(server.url, { ...bearer(KEY), origin: 'https://evil.example' })).toMatch(/403/);
    });
  });
});
