// Deliveries from the announcement to their end: what every kind of answer does, on the spec's schedule, by a clock that the test sets.
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Hook } from '../../src/webhooks/records.ts';
import { SCHEDULE } from '../../src/webhooks/schedule.ts';
import { eventually } from '../support/gateway.ts';
import { openTestWebhooks, PATIENT, START, toPayloadOf, type TestWebhooks } from './open-webhooks.ts';

const DAY = 86_400_000;
let test: TestWebhooks;

beforeEach(async () => void (test = await openTestWebhooks({ timeoutMs: 300 })));
afterEach(() => test.close());

async function addEndpoint(path: string, events: Hook['events'] = ['*'], owner = 'anna') {
  return test.webhooks.endpoints.create(owner, { url: test.receiver.url + path, events });
}

/** Lets a delivery be tried as often as the schedule says. */
async function exhaust(id: string, tries = SCHEDULE.length): Promise<void> {
  for (let attempts = 1; attempts <= tries; attempts++) {
    await test.until(id, { attempts });
    if (attempts < SCHEDULE.length) await test.until(id, { next_try_at: toIso(test.now() + SCHEDULE[attempts]!) });
    if (attempts < tries) test.advance(SCHEDULE[attempts]!);
  }
}

const toIso = (at: number) => new Date(at).toISOString();

describe('an announcement', () => {
  it('reaches every endpoint that wants it, and the address that the job brought', async () => {
    const all = await addEndpoint('/ok/all');
    await addEndpoint('/ok/done', ['job.done']);
    await addEndpoint('/ok/failed', ['job.failed']);
    await addEndpoint('/ok/other', ['*'], 'berta');
    const disabled = await addEndpoint('/ok/disabled');
    await test.webhooks.endpoints.update('anna', disabled.id, { enabled: false });
    const ids = await test.announce({ url: `${test.receiver.url}/ok/own` });
    for (const id of ids) await test.until(id, { state: 'delivered', attempts: 1, status: 200, error: null });
    expect(test.receiver.received.map(({ path }) => path).toSorted()).toEqual(['/ok/all', '/ok/done', '/ok/own']);
    const { headers, body } = test.receiver.of('/ok/all')[0]!;
    expect(headers).toMatchObject({ 'content-type': 'application/json' });
    expect(ids).toContain(headers['webhook-id']);
    expect(JSON.parse(body)).toEqual({ type: 'job.done', timestamp: toIso(START), data: { job: { id: 'job_1' } } });
    expect(all.secret).toMatch(/^whsec_/);
  });

  it('leaves nothing where nobody wants it', async () => {
    expect(await test.announce()).toEqual([]);
  });

  it('sends exactly the text that was stored', async () => {
    await addEndpoint('/ok');
    const puts = await test.webhooks.announce({ type: 'job.done', owner: 'anna', data: { text: 'ä\u2028"\u0000🎈' } });
    await test.store.documents.put(puts);
    test.webhooks.wake();
    await test.until(puts[0]!.id, { state: 'delivered' });
    expect(test.receiver.received[0]!.body).toBe(toPayloadOf(puts[0]!));
  });

  it('that is not committed is never sent', async () => {
    await addEndpoint('/ok');
    await test.webhooks.announce({ type: 'job.done', owner: 'anna', data: {} });
    test.advance(DAY);
    const [id] = await test.announce();
    await test.until(id!, { state: 'delivered' });
    expect(test.receiver.received).toHaveLength(1);
  });
});

describe('a receiver that answers', () => {
  it.each([
    ['/ok', 200],
    ['/204', 204],
    ['/half', 200],
    ['/big', 200],
  ])('%s has taken it', async (path, status) => {
    await addEndpoint(path);
    const [id] = await test.announce();
    const done = await test.until(id!, { state: 'delivered' });
    expect(done).toMatchObject({ status, attempts: 1, next_try_at: null });
    expect(test.receiver.received).toHaveLength(1);
  });

  it.each([
    ['/fail', 500, 'status'],
    ['/redirect', 302, 'redirect'],
    ['/permanent', 308, 'redirect'],
    ['/hang', null, 'timeout'],
    ['/reset', null, 'unreachable'],
  ])('%s is tried again after five seconds, under the same id', async (path, status, error) => {
    await addEndpoint(path);
    const [id] = await test.announce();
    await test.until(id!, { state: 'pending', attempts: 1, status, error, next_try_at: toIso(START + 5000) });
    test.receiver.answer(path, (response) => response.end());
    test.advance(5000);
    await test.until(id!, { state: 'delivered', attempts: 2, status: 200, error: null });
    expect(test.receiver.of(path).map(({ headers }) => headers['webhook-id'])).toEqual([id, id]);
    expect(test.receiver.received).toHaveLength(2);
  });

  it('/big is not read beyond 64 KB and what the sockets hold', async () => {
    await addEndpoint('/big');
    const [id] = await test.announce();
    await test.until(id!, { state: 'delivered' });
    const written = test.receiver.written('/big');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(test.receiver.written('/big')).toBe(written);
    expect(written).toBeLessThan(16 * 1024 * 1024);
  });

  it('429 with Retry-After is left alone for that long, other deliveries included', async () => {
    await addEndpoint('/busy');
    const [first] = await test.announce();
    await test.until(first!, { attempts: 1, status: 429, next_try_at: toIso(START + 120_000) });
    const [second] = await test.announce();
    await test.until(second!, { attempts: 0, next_try_at: toIso(START + 120_000) });
    test.advance(119_000);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(test.receiver.received).toHaveLength(1);
    test.receiver.answer('/busy', (response) => response.end());
    test.advance(1000);
    for (const id of [first!, second!]) await test.until(id, { state: 'delivered' });
  });

  it('410 disables the endpoint, and what waits for it is dead at once', async () => {
    const endpoint = await addEndpoint('/fail');
    const [waiting] = await test.announce();
    await test.until(waiting!, { attempts: 1, status: 500 });
    test.receiver.answer('/fail', (response) => response.writeHead(410).end());
    const [last] = await test.announce();
    await test.until(last!, { state: 'dead', status: 410, error: 'gone', attempts: 1 });
    await test.until(waiting!, { state: 'dead', error: 'gone', attempts: 1 });
    expect(await test.webhooks.endpoints.get('anna', endpoint.id)).toMatchObject({
      enabled: false,
      disabled_because: 'gone',
    });
    expect(await test.announce()).toEqual([]);
    expect(test.logged).toContainEqual(expect.objectContaining({ endpoint: endpoint.id, because: 'gone' }));
  });
});

describe('a receiver that is dead for three days', () => {
  it('has been tried on the schedule of the spec when its delivery is given up', async () => {
    await addEndpoint('/fail');
    const [id] = await test.announce();
    await exhaust(id!);
    const dead = await test.until(id!, { state: 'dead', status: 500, attempts: SCHEDULE.length });
    expect(dead.next_try_at).toBeNull();
    expect(Date.parse(dead.expires_at!)).toBeGreaterThanOrEqual(test.now() + 30 * DAY);
    const spent = SCHEDULE.reduce((sum, pause) => sum + pause, 0);
    expect(test.now() - START).toBe(spent);
  });

  it('does not keep others from theirs', async () => {
    await addEndpoint('/fail');
    await addEndpoint('/ok');
    const ids = await test.announce();
    const views = await Promise.all(ids.map((id) => test.until(id, { attempts: 1 })));
    await eventually('the healthy one has it', () => test.receiver.of('/ok').length === 1);
    expect(views).toHaveLength(2);
  });

  it('gets a replay under the same id, with the whole schedule again', async () => {
    await addEndpoint('/fail');
    const [id] = await test.announce();
    await exhaust(id!);
    await test.until(id!, { state: 'dead' });
    await test.webhooks.deliveries.replay('anna', id!);
    await test.until(id!, { state: 'pending', attempts: 11, next_try_at: toIso(test.now() + 5000) });
    test.receiver.answer('/fail', (response) => response.end());
    test.advance(5000);
    await test.until(id!, { state: 'delivered', attempts: 12 });
    const ids = test.receiver.received.map(({ headers }) => headers['webhook-id']);
    expect(new Set(ids)).toEqual(new Set([id]));
    expect(new Set(test.receiver.received.map(({ body }) => body)).size).toBe(1);
  });

  it('is disabled after five days without one success', async () => {
    const endpoint = await addEndpoint('/fail');
    const [first] = await test.announce();
    await exhaust(first!);
    await test.until(first!, { state: 'dead' });
    expect((await test.webhooks.endpoints.get('anna', endpoint.id)).failing_since).toBe(toIso(START));
    test.advance(2 * DAY);
    const [second] = await test.announce();
    await test.until(second!, { attempts: 1 });
    await expect
      .poll(() => test.webhooks.endpoints.get('anna', endpoint.id), PATIENT)
      .toMatchObject({
        enabled: false,
        disabled_because: 'failing',
      });
    const enabled = await test.webhooks.endpoints.update('anna', endpoint.id, { enabled: true });
    expect(enabled).toMatchObject({ enabled: true, disabled_because: null, failing_since: null });
  });

  it('is well again with its first success', async () => {
    const endpoint = await addEndpoint('/fail');
    const [id] = await test.announce();
    await test.until(id!, { attempts: 1, status: 500 });
    test.receiver.answer('/fail', (response) => response.end());
    test.advance(5000);
    await test.until(id!, { state: 'delivered' });
    await expect
      .poll(() => test.webhooks.endpoints.get('anna', endpoint.id), PATIENT)
      .toMatchObject({ failing_since: null });
  });
});

describe('a secret that is rotated', () => {
  it('signs beside the new one for a day, then no more', async () => {
    const { id, secret: old } = await addEndpoint('/ok');
    const { secret: fresh } = await test.webhooks.endpoints.rotate('anna', id);
    const verify = (secret: string, at: number) => {
      const { headers, body } = test.receiver.received.at(-1)!;
      // The library reads the machine's clock; the gateway here lives by the test's.
      const delta = Math.floor(Date.now() / 1000) - Math.floor(at / 1000);
      expect(Number(headers['webhook-timestamp']) + delta).toBe(Math.floor(Date.now() / 1000));
      const signer = new Webhook(secret);
      const expected = signer.sign(headers['webhook-id']!, new Date(at), body);
      return headers['webhook-signature']!.split(' ').includes(expected);
    };
    const [first] = await test.announce();
    await test.until(first!, { state: 'delivered' });
    expect([verify(fresh, test.now()), verify(old, test.now())]).toEqual([true, true]);
    test.advance(DAY);
    const [second] = await test.announce();
    await test.until(second!, { state: 'delivered' });
    expect([verify(fresh, test.now()), verify(old, test.now())]).toEqual([true, false]);
  });

  it('is the caller’s own where the job brought the address', async () => {
    const { secret } = await test.webhooks.secret.rotate('anna');
    const [id] = await test.announce({ url: `${test.receiver.url}/ok` });
    await test.until(id!, { state: 'delivered' });
    const { headers, body } = test.receiver.received[0]!;
    expect(headers['webhook-signature']).toBe(new Webhook(secret).sign(id!, new Date(test.now()), body));
  });

  it('is made by the first delivery where nobody has asked for one, and overlaps with the one then asked for', async () => {
    const [id] = await test.announce({ url: `${test.receiver.url}/ok` });
    await test.until(id!, { state: 'delivered' });
    expect(test.receiver.received[0]!.headers['webhook-signature']).toMatch(/^v1,\S+$/);
    expect(await test.webhooks.secret.rotate('anna')).toMatchObject({ old_secret_until: toIso(START + DAY) });
  });
});

describe('what is kept', () => {
  it('is deleted when its time is over', async () => {
    await addEndpoint('/ok');
    const [id] = await test.announce();
    await test.until(id!, { state: 'delivered', expires_at: toIso(START + DAY) });
    test.advance(DAY + 60_000);
    await expect.poll(() => test.delivery(id!), PATIENT).toBeUndefined();
  });

  it('holds neither secrets nor addresses in the log', async () => {
    const { secret } = await addEndpoint('/fail?token=sesame');
    const [id] = await test.announce();
    await test.until(id!, { attempts: 1, status: 500 });
    await addEndpoint('/reset?token=sesame');
    const [, second] = await test.announce();
    await test.until(second!, { attempts: 1 });
    const log = JSON.stringify(test.logged);
    expect(log).not.toContain(secret);
    expect(log).not.toContain('sesame');
  });
});
