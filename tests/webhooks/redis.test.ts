// Webhooks over a real Redis: the same promises as over the embedded store.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openRedisStoreForTests, withoutRedis, type RedisUnderTest } from '../support/redis.ts';
import { openTestWebhooks, PATIENT, type TestWebhooks } from './open-webhooks.ts';

describe.skipIf(withoutRedis)('over Redis', { timeout: 60_000 }, () => {
  let redis: RedisUnderTest;
  let test: TestWebhooks;

  beforeEach(async () => {
    redis = await openRedisStoreForTests();
    test = await openTestWebhooks({}, ({ now }) => redis.open({ now }));
  });
  afterEach(async () => {
    await test.close();
    await redis.close();
  });

  const add = (path: string) =>
    test.webhooks.endpoints.create('anna', { url: test.receiver.url + path, events: ['*'] });

  it('a delivery is tried again under its id until it arrives, and can be replayed', async () => {
    await add('/fail');
    const [id] = await test.announce();
    await test.until(id!, { state: 'pending', attempts: 1, status: 500 });
    test.receiver.answer('/fail', (response) => response.end());
    test.advance(5000);
    await test.until(id!, { state: 'delivered', attempts: 2 });
    await test.webhooks.deliveries.replay('anna', id!);
    await test.until(id!, { state: 'delivered', attempts: 3 });
    expect(test.receiver.received.map(({ headers }) => headers['webhook-id'])).toEqual([id, id, id]);
  });

  it('410 ends what waits, and nothing reaches an endpoint that is removed', async () => {
    const gone = await add('/fail');
    const [first] = await test.announce();
    await test.until(first!, { attempts: 1, status: 500 });
    test.receiver.answer('/fail', (response) => response.writeHead(410).end());
    const [second] = await test.announce();
    for (const id of [first!, second!]) await test.until(id, { state: 'dead', error: 'gone' });
    expect(await test.webhooks.endpoints.get('anna', gone.id)).toMatchObject({ disabled_because: 'gone' });
    const removed = await add('/reset');
    const [third] = await test.announce();
    // Counted before it is sent: what counts here is that it has arrived.
    await expect.poll(() => test.receiver.of('/reset').length, PATIENT).toBe(1);
    await test.webhooks.endpoints.remove('anna', removed.id);
    test.advance(5000);
    await expect.poll(() => test.delivery(third!), PATIENT).toBeUndefined();
    expect(test.receiver.of('/reset')).toHaveLength(1);
  });

  it('two gateways never make the same try', async () => {
    const other = await test.another();
    const ids: string[] = [];
    for (let count = 0; count < 100; count++) {
      const url = `${test.receiver.url}/ok/${count % 10}`;
      const puts = await test.webhooks.announce({ type: 'job.done', owner: 'anna', data: {}, url });
      await test.store.documents.put(puts);
      ids.push(puts[0]!.id);
      if (count % 10 === 9) for (const gateway of [test.webhooks, other]) gateway.wake();
    }
    for (let round = 0; round < 100 && test.receiver.received.length < 100; round++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      test.advance(1000);
    }
    for (const id of ids) await test.until(id, { state: 'delivered', attempts: 1 });
    expect(test.receiver.received.map(({ headers }) => headers['webhook-id']).toSorted()).toEqual(ids.toSorted());
  });
});
