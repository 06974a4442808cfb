// Events over Redis: every gateway hears all of them, readers resume across restarts, and pictures do not fill the memory.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openHub } from '../../src/hub.ts';
import type { EventSpine, Happening } from '../../src/store.ts';
import { openRedisStoreForTests, withoutRedis, type RedisUnderTest } from '../support/redis.ts';
import { until } from '../support/store-cases-helpers.ts';

describe.skipIf(withoutRedis !== undefined)('events over Redis', () => {
  let redis: RedisUnderTest;
  beforeEach(async () => {
    redis = await openRedisStoreForTests();
  });
  afterEach(() => redis?.close());

  const toEvent = (n: number, more: object = {}): Happening => ({ type: 'job:progress', at: n, data: { n, ...more } });

  function listen(spine: EventSpine): { id: string; n: unknown }[] {
    const heard: { id: string; n: unknown }[] = [];
    spine.subscribe((id, event) => heard.push({ id, n: event.data['n'] }));
    return heard;
  }

  it('carries the events of each gateway to all, in one order and under the same ids', async () => {
    const [one, other] = [await redis.open(), await redis.open()];
    const [first, second] = [listen(one.spine), listen(other.spine)];
    for (let n = 0; n < 100; n++) (n % 2 ? one : other).spine.publish(toEvent(n));
    await until(() => first.length === 100 && second.length === 100, 'all events');
    expect(first).toEqual(second);
  });

  it('tells a gateway that starts later what was before, and then goes on without a gap', async () => {
    const one = await redis.open();
    const heard = listen(one.spine);
    for (let n = 0; n < 50; n++) one.spine.publish(toEvent(n));
    await until(() => heard.length === 50, 'all events');
    const other = await redis.open();
    const before = await other.spine.history(1000);
    for (let n = 50; n < 100; n++) one.spine.publish(toEvent(n));
    await until(() => heard.length === 100, 'all events');
    // Nobody has watched there until now.
    const after = listen(other.spine);
    await until(() => after.length === 50, 'the events since');
    expect([...before.map(({ id, event }) => ({ id, n: event.data['n'] })), ...after]).toEqual(heard);
  });

  it('lets a watcher resume at another gateway', async () => {
    const clock = { now: () => Date.now(), window: 100 };
    const hub = await openHub({ spine: (await redis.open()).spine, ...clock });
    const watch = hub.watch({ owner: 'anna', onEntry: () => {} });
    for (let n = 0; n < 10; n++) hub.publish({ type: 'job:progress', owner: 'anna', data: { n } });
    const seen: string[] = [];
    await until(() => seen.push(...watch.take().entries.map(({ id }) => id)) === 10, 'all events');
    const other = await openHub({ spine: (await redis.open()).spine, ...clock });
    const resumed = other.watch({ owner: 'anna', after: seen[3]!, onEntry: () => {} }).take();
    expect(resumed.reset).toBe(false);
    expect(resumed.entries.map(({ id }) => id)).toEqual(seen.slice(4));
    hub.close();
    other.close();
  });

  it('keeps no more than a bounded number of bytes', async () => {
    const { spine } = await redis.open();
    const heard = listen(spine);
    const data = 'x'.repeat(1024 * 1024);
    for (let n = 0; n < 80; n++) {
      spine.publish(toEvent(n, { data }));
      await sleep(5);
    }
    await until(() => heard.length === 80, 'all events', 20_000);
    const memory = Number(/used_memory:(\d+)/.exec(await redis.server.send('INFO memory'))![1]);
    expect(memory).toBeLessThan(60 * 1024 * 1024);
  });

  it('hears on after Redis was emptied', async () => {
    const store = await redis.open();
    const heard = listen(store.spine);
    store.spine.publish(toEvent(1));
    await until(() => heard.length === 1, 'an event');
    await redis.server.send('FLUSHALL');
    await until(
      () => {
        store.spine.publish(toEvent(2));
        return heard.length > 1;
      },
      'an event',
      10_000,
    );
    expect(new Set(heard.map(({ id }) => id)).size).toBe(heard.length);
  });
});
