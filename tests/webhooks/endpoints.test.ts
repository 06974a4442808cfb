// Endpoints of a caller: nobody else's, gone when they are removed, and tested without telling what is inside the network.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createGuardedSend } from '../../adapters/transports/guarded.ts';
import type { HookRequest } from '../../src/webhooks/send.ts';
import { eventually } from '../support/gateway.ts';
import { openTestWebhooks, PATIENT, type TestWebhooks } from './open-webhooks.ts';

let test: TestWebhooks;

beforeEach(async () => void (test = await openTestWebhooks()));
afterEach(() => test.close());

const add = (path: string) => test.webhooks.endpoints.create('anna', { url: test.receiver.url + path, events: ['*'] });

describe('an endpoint', () => {
  it('shows its secret when it is made and rotated, never else', async () => {
    const { id, secret } = await add('/ok');
    const { secret: fresh } = await test.webhooks.endpoints.rotate('anna', id);
    expect(fresh).not.toBe(secret);
    const shown = JSON.stringify([
      await test.webhooks.endpoints.list('anna'),
      await test.webhooks.endpoints.get('anna', id),
      await test.webhooks.endpoints.update('anna', id, { events: ['job.done'] }),
      await test.webhooks.secret.get('anna'),
    ]);
    expect(shown).not.toContain('whsec_');
  });

  it('is unknown to every other caller, in the same words', async () => {
    const { id } = await add('/ok');
    const { endpoints } = test.webhooks;
    const tell = async (call: Promise<unknown>) =>
      call.then(
        () => 'done',
        ({ code, message, hint }) => ({ code, message, hint }),
      );
    for (const what of ['get', 'remove', 'rotate', 'test'] as const) {
      const foreign = await tell(endpoints[what]('berta', id));
      expect(foreign).toMatchObject({ code: 'not_found' });
      expect(foreign).toEqual(await tell(endpoints[what]('berta', `hook_${'0'.repeat(32)}`)));
    }
    expect(await tell(endpoints.update('berta', id, { enabled: false }))).toMatchObject({ code: 'not_found' });
    expect(await endpoints.list('berta')).toEqual([]);
    expect((await endpoints.get('anna', id)).enabled).toBe(true);
  });

  it('cannot be made without end', async () => {
    for (let count = 0; count < 50; count++) await add(`/ok/${count}`);
    await expect(add('/ok')).rejects.toMatchObject({ code: 'conflict' });
  });

  it('gets what is waiting at its new address', async () => {
    const { id } = await add('/fail');
    const [delivery] = await test.announce();
    await test.until(delivery!, { attempts: 1, status: 500 });
    await test.webhooks.endpoints.update('anna', id, { url: `${test.receiver.url}/ok` });
    test.advance(5000);
    await test.until(delivery!, { state: 'delivered' });
  });

  it('that its owner disables has its waiting deliveries dead when they are due', async () => {
    const { id } = await add('/fail');
    const [delivery] = await test.announce();
    await test.until(delivery!, { attempts: 1, status: 500 });
    await test.webhooks.endpoints.update('anna', id, { enabled: false });
    test.advance(5000);
    await test.until(delivery!, { state: 'dead', error: 'disabled' });
    await expect(test.webhooks.deliveries.replay('anna', delivery!)).rejects.toMatchObject({ code: 'conflict' });
    expect(test.receiver.received).toHaveLength(1);
  });
});

describe('an endpoint that is removed', () => {
  it('gets nothing any more once that is answered, whatever was under way or waiting', async () => {
    await test.close();
    const guarded = createGuardedSend({ allow: ['127.0.0.1'] });
    const open = new Set<object>();
    let removed = false;
    const late: string[] = [];
    const send = async (request: HookRequest) => {
      if (removed) late.push(request.headers['webhook-id']!);
      open.add(request);
      return guarded(request).finally(() => open.delete(request));
    };
    test = await openTestWebhooks({ send: Object.assign(send, { permits: guarded.permits }) });
    const { id } = await add('/slow');
    test.receiver.answer('/slow', (response) => setTimeout(() => response.writeHead(500).end(), 50));
    const ids = (await Promise.all(Array.from({ length: 20 }, () => test.announce()))).flat();
    await eventually('the second arrives', () => test.receiver.received.length > 1);
    await test.webhooks.endpoints.remove('anna', id);
    removed = true;
    expect(open.size).toBe(0);
    test.advance(86_400_000);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(late).toEqual([]);
    for (const delivery of ids) expect(await test.delivery(delivery)).toBeUndefined();
    expect(test.logged.filter(({ level }) => level === 'warn')).toEqual([]);
  });

  it('gets nothing of an event that was announced before and committed after', async () => {
    const { id } = await add('/ok');
    const puts = await test.webhooks.announce({ type: 'job.done', owner: 'anna', data: {} });
    await test.webhooks.endpoints.remove('anna', id);
    await test.store.documents.put(puts);
    test.webhooks.wake();
    await expect.poll(() => test.delivery(puts[0]!.id), PATIENT).toBeUndefined();
    expect(test.receiver.received).toEqual([]);
  });

  it('is unknown, and so is the way back for what had arrived', async () => {
    const { id } = await add('/ok');
    const [delivery] = await test.announce();
    await test.until(delivery!, { state: 'delivered' });
    await test.webhooks.endpoints.remove('anna', id);
    await expect(test.webhooks.endpoints.get('anna', id)).rejects.toMatchObject({ code: 'not_found' });
    await expect(test.webhooks.endpoints.remove('anna', id)).rejects.toMatchObject({ code: 'not_found' });
    await expect(test.webhooks.deliveries.replay('anna', delivery!)).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('deliveries', () => {
  it('are listed by state and endpoint, a page at a time, to their owner only', async () => {
    const good = await add('/ok');
    const bad = await add('/fail');
    const ids: string[] = [];
    for (let count = 0; count < 5; count++) ids.push(...(await test.announce()));
    for (const id of ids) await test.until(id, { attempts: 1 });
    await expect
      .poll(
        async () => (await test.webhooks.deliveries.list('anna', { state: 'delivered', limit: 9 })).deliveries.length,
        PATIENT,
      )
      .toBe(5);
    const all: string[] = [];
    for (let cursor: string | undefined; ;) {
      const page = await test.webhooks.deliveries.list('anna', { limit: 3, ...(cursor ? { cursor } : {}) });
      expect(page.deliveries.length).toBeLessThanOrEqual(3);
      all.push(...page.deliveries.map(({ id }) => id));
      if (page.next === undefined) break;
      cursor = page.next;
    }
    expect(all.toSorted()).toEqual(ids.toSorted());
    const of = async (endpoint: string) =>
      (await test.webhooks.deliveries.list('anna', { endpoint, limit: 9 })).deliveries;
    expect((await of(good.id)).map(({ state }) => state)).toEqual(Array(5).fill('delivered'));
    expect((await of(bad.id)).map(({ state }) => state)).toEqual(Array(5).fill('pending'));
    expect((await test.webhooks.deliveries.list('berta', { limit: 9 })).deliveries).toEqual([]);
    await expect(test.webhooks.deliveries.replay('berta', ids[0]!)).rejects.toMatchObject({ code: 'not_found' });
  });

  it.each(['rubbish', 'hook.1', 'delivered.', 'delivery.$$'])('take no cursor %j of another list', async (cursor) => {
    await expect(test.webhooks.deliveries.list('anna', { state: 'pending', cursor, limit: 5 })).rejects.toMatchObject({
      code: 'invalid_request',
    });
  });

  it('can be replayed when they have arrived, not while they wait', async () => {
    await add('/ok');
    const [id] = await test.announce();
    await test.until(id!, { state: 'delivered' });
    await test.webhooks.deliveries.replay('anna', id!);
    await test.until(id!, { state: 'delivered', attempts: 2 });
    expect(new Set(test.receiver.received.map(({ headers }) => headers['webhook-id']))).toEqual(new Set([id]));
    await add('/fail');
    const [, waiting] = (await test.announce()).toSorted();
    await expect.poll(async () => (await test.delivery(waiting!))?.attempts, PATIENT).toBe(1);
    const pending = (await test.webhooks.deliveries.list('anna', { state: 'pending', limit: 1 })).deliveries[0]!;
    await expect(test.webhooks.deliveries.replay('anna', pending.id)).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('a test', () => {
  it('is sent at once, signed, and says what came of it', async () => {
    const { id } = await add('/ok');
    const result = await test.webhooks.endpoints.test('anna', id);
    expect(result).toMatchObject({ delivered: true, status: 200, error: null, message: null });
    const { headers, body } = test.receiver.received[0]!;
    expect(headers['webhook-id']).toBe(result.id);
    expect(JSON.parse(body).type).toBe('webhook.test');
  });

  it('says the status of a receiver that refuses, and nothing of its answer', async () => {
    const { id } = await add('/fail');
    const result = await test.webhooks.endpoints.test('anna', id);
    expect(result).toMatchObject({ delivered: false, status: 500, message: 'The receiver answered 500.' });
    expect(JSON.stringify(result)).not.toContain('inside');
  });

  it('does not tell an open port from a closed one, a blocked address or an unknown name', async () => {
    const hosts: Record<string, string[]> = {
      'blocked.test': ['10.0.0.1'],
      'mixed.test': ['93.184.216.34', '10.0.0.1'],
      'closed.test': ['127.0.0.1'],
      'reset.test': ['127.0.0.1'],
    };
    await test.close();
    const lookup = async (name: string) => hosts[name] ?? Promise.reject(new Error('ENOTFOUND'));
    test = await openTestWebhooks({ send: createGuardedSend({ allow: ['127.0.0.1'], lookup }) });
    const { port } = test.receiver;
    const urls = [
      `http://blocked.test:${port}/ok`,
      'http://blocked.test:1/ok',
      `http://mixed.test:${port}/ok`,
      'http://closed.test:1/ok',
      'http://unknown.test/ok',
      `http://reset.test:${port}/reset`,
      `https://closed.test:${port}/ok`,
    ];
    const answers = [];
    for (const url of urls) {
      const { id } = await test.webhooks.endpoints.create('anna', { url, events: ['*'] });
      const begun = performance.now();
      const { id: _, ...answer } = await test.webhooks.endpoints.test('anna', id);
      answers.push({ answer, ms: performance.now() - begun });
    }
    const expected = {
      object: 'webhook.test',
      delivered: false,
      status: null,
      error: 'unreachable',
      message: 'The receiver could not be reached.',
    };
    expect(answers.map(({ answer }) => answer)).toEqual(urls.map(() => expected));
    const times = answers.map(({ ms }) => ms);
    expect(Math.max(...times) - Math.min(...times)).toBeLessThan(100);
    // However soon the failure came, for a name server far away may not be the only thing that takes time.
    expect(Math.min(...times)).toBeGreaterThan(490);
    const reasons = test.logged.map(({ reason }) => reason);
    expect(reasons).toEqual(['blocked', 'blocked', 'blocked', 'refused', 'dns', 'broken', 'tls']);
  });
});
