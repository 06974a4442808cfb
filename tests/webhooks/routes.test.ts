// The routes of webhooks, through the whole gateway: as each caller sees them, and nobody else's.
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFakeReceiver, type FakeReceiver } from '../support/fake-receiver.ts';
import { eventually, openInProcess, post, type TestGateway } from '../support/gateway.ts';

const KEYS = { anna: 'key-of-anna-1234567', berta: 'key-of-berta-123456' };
let gateway: TestGateway;
let receiver: FakeReceiver;

beforeAll(async () => {
  receiver = await openFakeReceiver();
  gateway = await openInProcess({
    env: {
      HONO_AI_CALLERS: Object.entries(KEYS)
        .map((pair) => pair.join(':'))
        .join(','),
      HONO_AI_WEBHOOK_ALLOW: '127.0.0.1',
    },
  });
});
afterAll(async () => {
  await gateway.close();
  await receiver.close();
});

async function call(path: string, init: RequestInit = {}, who: keyof typeof KEYS = 'anna') {
  const headers = { ...init.headers, authorization: `Bearer ${KEYS[who]}` };
  const response = await gateway.request(path, { ...init, headers });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

const create = async (path: string, more: object = {}) =>
  (await call('/webhooks', post({ url: receiver.url + path, ...more }))).body;

describe('an endpoint', () => {
  it('is made, shown, changed and removed', async () => {
    const made = await call('/webhooks', post({ url: `${receiver.url}/ok#part`, events: ['job.done'] }));
    expect(made).toMatchObject({ status: 201, body: { object: 'webhook', enabled: true, events: ['job.done'] } });
    expect(made.body.url).toBe(`${receiver.url}/ok`);
    const path = `/webhooks/${made.body.id}`;
    expect(made.headers.get('location')).toBe(path);
    const { secret: _, ...shown } = made.body;
    expect((await call(path)).body).toEqual(shown);
    expect((await call('/webhooks')).body).toMatchObject({ object: 'list', data: [shown], has_more: false });
    const changed = await call(path, post({ enabled: false, events: ['*'] }, { method: 'PATCH' }));
    expect(changed.body).toEqual({ ...shown, enabled: false, events: ['*'] });
    expect((await call(path, { method: 'DELETE' })).body).toEqual({ id: shown.id, object: 'webhook', deleted: true });
    expect((await call(path)).status).toBe(404);
  });

  it('gets a test that its secret proves, the old one too for a day', async () => {
    const { id, secret } = await create('/ok/test');
    const { body: rotated } = await call(`/webhooks/${id}/rotate`, { method: 'POST' });
    const { body: result } = await call(`/webhooks/${id}/test`, { method: 'POST' });
    expect(result).toMatchObject({ object: 'webhook.test', delivered: true, status: 200 });
    const { headers, body } = receiver.of('/ok/test')[0]!;
    for (const one of [secret, rotated.secret]) {
      expect(new Webhook(one).verify(body, headers)).toMatchObject({ type: 'webhook.test' });
    }
    expect(Date.parse(rotated.old_secret_until)).toBeGreaterThan(Date.now() + 23 * 3_600_000);
  });

  it('of another caller answers as one that is not there', async () => {
    const { id } = await create('/ok');
    const calls: [string, RequestInit][] = [
      ['', {}],
      ['', post({ enabled: false }, { method: 'PATCH' })],
      ['', { method: 'DELETE' }],
      ['/rotate', { method: 'POST' }],
      ['/test', { method: 'POST' }],
    ];
    for (const [end, init] of calls) {
      const foreign = await call(`/webhooks/${id}${end}`, init, 'berta');
      const unknown = await call(`/webhooks/hook_${'0'.repeat(32)}${end}`, init, 'berta');
      for (const { body } of [foreign, unknown]) delete body.error.request_id;
      expect(foreign.status).toBe(404);
      expect(foreign.body).toEqual(unknown.body);
    }
    expect((await call('/webhooks', {}, 'berta')).body.data).toEqual([]);
  });
});

describe('an address', () => {
  it.each([
    'ftp://example.com/',
    'javascript:alert(1)',
    'not an address',
    'https://user:secret@example.com/',
    'http://169.254.169.254/latest/meta-data',
    'http://[::ffff:10.0.0.1]/',
    'http://2130706434/',
    `https://example.com/${'x'.repeat(3000)}`,
    '',
  ])('may not be %j', async (url) => {
    const { status, body } = await call('/webhooks', post({ url }));
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ code: 'invalid_request', param: 'url' });
    const { id } = await create('/ok');
    expect((await call(`/webhooks/${id}`, post({ url }, { method: 'PATCH' }))).status).toBe(400);
    await call(`/webhooks/${id}`, { method: 'DELETE' });
  });

  it('is all that is taken: unknown events and fields are refused', async () => {
    const url = `${receiver.url}/ok`;
    expect((await call('/webhooks', post({ url, events: ['job.started'] }))).body.error.param).toBe('events.0');
    expect((await call('/webhooks', post({ url, events: [] }))).status).toBe(400);
    expect((await call('/webhooks', post({ url, headers: { 'x-evil': '1\r\nhost: a' } }))).status).toBe(400);
  });
});

describe('a job', () => {
  it('that names its own address calls it when it is done, signed with the caller’s secret, and can be replayed', async () => {
    const { body: made } = await call('/webhooks/secret', { method: 'POST' });
    expect(made).toMatchObject({ object: 'webhook.secret', old_secret_until: null });
    const { body: known } = await call('/webhooks/secret');
    expect(known).toEqual({ object: 'webhook.secret', created_at: made.created_at, old_secret_until: null });
    const job = await call(
      '/text/embed',
      post({ input: ['a'], job: { webhook: `${receiver.url}/ok/job` } }, { headers: { prefer: 'respond-async' } }),
    );
    expect(job.status).toBe(202);
    await eventually('the webhook arrives', () => receiver.of('/ok/job').length === 1);
    const { headers, body } = receiver.of('/ok/job')[0]!;
    expect(new Webhook(made.secret).verify(body, headers)).toMatchObject({
      type: 'job.done',
      data: { job: { id: job.body.id, state: 'done' } },
    });
    const id = headers['webhook-id']!;
    await expect
      .poll(async () => (await call('/webhooks/deliveries?state=delivered')).body.data)
      .toContainEqual(expect.objectContaining({ id, event: 'job.done', attempts: 1, endpoint: null }));
    const replay = `/webhooks/deliveries/${id}/replay`;
    expect((await call(replay, { method: 'POST' }, 'berta')).status).toBe(404);
    expect(await call(replay, { method: 'POST' })).toMatchObject({ status: 202, body: { id, state: 'pending' } });
    await eventually('it arrives again', () => receiver.of('/ok/job').length === 2);
    expect(receiver.of('/ok/job')[1]!.headers['webhook-id']).toBe(id);
    expect((await call('/webhooks/deliveries', {}, 'berta')).body.data).toEqual([]);
  });

  it('is refused where its address may not be used', async () => {
    const { status, body } = await call(
      '/text/embed',
      post({ input: ['a'], job: { webhook: 'http://10.0.0.1/' } }, { headers: { prefer: 'respond-async' } }),
    );
    expect(status).toBe(400);
    expect(body.error.param).toMatch(/webhook$/);
  });
});

it('the API document tells every route', async () => {
  const { body } = await call('/openapi.json');
  const told = Object.entries(body.paths as Record<string, object>)
    .filter(([path]) => path.startsWith('/webhooks'))
    .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
  expect(told.toSorted()).toEqual([
    'delete /webhooks/{id}',
    'get /webhooks',
    'get /webhooks/deliveries',
    'get /webhooks/secret',
    'get /webhooks/{id}',
    'patch /webhooks/{id}',
    'post /webhooks',
    'post /webhooks/deliveries/{id}/replay',
    'post /webhooks/secret',
    'post /webhooks/{id}/rotate',
    'post /webhooks/{id}/test',
  ]);
});
