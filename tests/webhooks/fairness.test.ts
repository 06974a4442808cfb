// Many receivers, many gateways: who hangs delays nobody, and nothing is sent twice.
import { afterEach, describe, expect, it } from 'vitest';
import { openTestWebhooks, type TestWebhooks } from './open-webhooks.ts';

let test: TestWebhooks;

afterEach(() => test.close());

/** Milliseconds from the announcement to the arrival, for each. */
async function arrivals(path: string, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < count; round++) {
    const announced = Date.now();
    const [id] = await test.announce({ url: test.receiver.url + path });
    await expect.poll(() => test.receiver.of(path).length, { interval: 5 }).toBe(round + 1);
    times.push(test.receiver.of(path)[round]!.at - announced);
    expect(id).toBeDefined();
  }
  return times;
}

/** What was put aside for a second waits for the clock of these tests. */
async function goOn(count: number): Promise<void> {
  const end = performance.now() + 20_000;
  while (test.receiver.received.length < count && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    test.advance(1000);
  }
}

describe('a hundred receivers that hang', () => {
  it('do not delay a healthy one', { timeout: 60_000 }, async () => {
    test = await openTestWebhooks({ timeoutMs: 20_000 });
    const hanging = Array.from({ length: 100 }, (_, number) => `${test.receiver.url}/hang/${number}`);
    for (let round = 0; round < 5; round++) {
      for (const url of hanging) {
        await test.store.documents.put(
          await test.webhooks.announce({ type: 'job.done', owner: 'anna', data: {}, url }),
        );
      }
    }
    test.webhooks.wake();
    await expect.poll(() => test.receiver.received.length).toBe(100);
    const times = (await arrivals('/ok', 20)).toSorted((a, b) => a - b);
    expect(times.at(-1)).toBeLessThan(1000);
  });
});

describe('one receiver', () => {
  it('gets no more at once than is allowed', async () => {
    test = await openTestWebhooks({ concurrency: 3 });
    test.receiver.answer('/slow', (response) => setTimeout(() => response.end(), 30));
    const ids: string[] = [];
    for (let count = 0; count < 40; count++) {
      const url = `${test.receiver.url}/slow`;
      const puts = await test.webhooks.announce({ type: 'job.done', owner: 'anna', data: {}, url });
      await test.store.documents.put(puts);
      ids.push(puts[0]!.id);
    }
    test.webhooks.wake();
    await goOn(ids.length);
    expect(test.receiver.received.map(({ headers }) => headers['webhook-id']).toSorted()).toEqual(ids.toSorted());
    expect(test.receiver.open('/slow').most).toBe(3);
  });

  it('gets all of a thousand in the end, though only few are held in memory', { timeout: 60_000 }, async () => {
    test = await openTestWebhooks();
    const puts = await Promise.all(
      Array.from({ length: 1000 }, () =>
        test.webhooks.announce({ type: 'job.done', owner: 'anna', data: {}, url: `${test.receiver.url}/ok` }),
      ),
    );
    await test.store.documents.put(puts.flat());
    test.webhooks.wake();
    await goOn(1000);
    const ids = test.receiver.received.map(({ headers }) => headers['webhook-id']);
    expect(new Set(ids).size).toBe(1000);
    expect(ids).toHaveLength(1000);
  });
});

describe('two gateways on one store', () => {
  it('never make the same try', { timeout: 60_000 }, async () => {
    test = await openTestWebhooks();
    const other = await test.another();
    test.receiver.answer('/slow', (response) => setTimeout(() => response.end(), 5));
    const urls = Array.from({ length: 10 }, (_, number) => `${test.receiver.url}/slow/${number}`);
    const ids: string[] = [];
    for (let round = 0; round < 20; round++) {
      for (const url of urls) {
        const puts = await test.webhooks.announce({ type: 'job.done', owner: 'anna', data: {}, url });
        await test.store.documents.put(puts);
        ids.push(puts[0]!.id);
      }
      test.webhooks.wake();
      other.wake();
    }
    await goOn(ids.length);
    for (const id of ids) await test.until(id, { state: 'delivered', attempts: 1 });
    expect(test.receiver.received.map(({ headers }) => headers['webhook-id']).toSorted()).toEqual(ids.toSorted());
  });
});
