// The Redis store when Redis is down, frozen, emptied or badly set up.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { openRedisStore } from '../../adapters/stores/redis/index.ts';
import { ConfigError } from '../../src/config.ts';
import type { JobRecord, Store } from '../../src/store.ts';
import { openRedisStoreForTests, withoutRedis, type RedisUnderTest } from '../support/redis.ts';
import { done, HOUR, rejects, take, takeAll, toJob, toJobs, toPut, until } from '../support/store-cases-helpers.ts';

/** A refusal may take half a second; this machine may be busy. */
const REFUSED_MS = 10_000;
const BACK_MS = 20_000;

describe.skipIf(withoutRedis !== undefined)('Redis store', { timeout: 60_000 }, () => {
  let redis: RedisUnderTest;
  afterEach(() => redis?.close());

  async function open(settings?: readonly string[]): Promise<Store> {
    redis = await openRedisStoreForTests(settings);
    return redis.open();
  }

  async function refuses(store: Store): Promise<void> {
    const start = performance.now();
    await rejects(store.jobs.add([toJob()]), 'storage_unavailable');
    expect(performance.now() - start).toBeLessThan(REFUSED_MS);
  }

  const isBack = (store: Store) => () =>
    store.jobs.counts().then(
      () => true,
      () => false,
    );

  describe('down', () => {
    it('refuses at once, goes on by itself, and has lost nothing that was taken', async () => {
      const store = await open();
      const taken = toJobs(20);
      await store.jobs.add(taken);
      await redis.server.kill();
      for (let n = 0; n < 5; n++) await refuses(store);
      await rejects(store.jobs.claim('w1', Date.now()), 'storage_unavailable');
      await rejects(store.documents.get('thing', 'a'), 'storage_unavailable');
      const { ok, problems } = await store.health();
      expect(ok).toBe(false);
      expect(problems.join()).toMatch(/HONO_AI_REDIS_URL/);
      await sleep(1500);
      await redis.server.start();
      await until(isBack(store), 'an answer', BACK_MS);
      // It may close once more for a moment, while it looks at what the restart has cost.
      const late = toJob();
      const add = () =>
        store.jobs.add([late]).then(
          () => true,
          () => false,
        );
      await until(add, 'a job that is taken', BACK_MS);
      const ids: string[] = [];
      const take = async () => {
        try {
          for (let job; (job = await store.jobs.claim('w1', Date.now()));) ids.push(job.id);
        } catch {
          return false;
        }
        return ids.length >= 21;
      };
      await until(take, 'all jobs', BACK_MS);
      expect(ids).toEqual(expect.arrayContaining(taken.map(({ id }) => id)));
      expect(ids).toHaveLength(21);
      await until(async () => (await store.health()).ok, 'health', BACK_MS);
    });

    it('tells who listens when it is back', async () => {
      const store = await open();
      await redis.server.kill();
      let told = 0;
      store.jobs.onChange(() => told++);
      await redis.server.start();
      await until(() => told > 0, 'word', BACK_MS);
    });

    it('takes publishing events lightly, and carries them again later', async () => {
      const store = await open();
      const seen: unknown[] = [];
      store.spine.subscribe((_, event) => seen.push(event.data['n']));
      await redis.server.kill();
      store.spine.publish({ type: 'gpu', at: 1, data: { n: 'lost' } });
      await redis.server.start();
      await until(isBack(store), 'an answer', BACK_MS);
      await until(
        () => {
          store.spine.publish({ type: 'gpu', at: 1, data: { n: 'kept' } });
          return seen.length > 0;
        },
        'an event',
        BACK_MS,
      );
      expect(seen).not.toContain('lost');
    });

    it('refuses at once while Redis takes connections and answers nobody', async () => {
      const store = await open();
      const job = toJob();
      await store.jobs.add([job]);
      redis.server.freeze();
      for (let n = 0; n < 3; n++) await refuses(store);
      expect((await store.health()).ok).toBe(false);
      await sleep(4000);
      await refuses(store);
      redis.server.thaw();
      await until(isBack(store), 'an answer', BACK_MS);
      // What was refused may have arrived; what was taken is there.
      expect((await takeAll(store.jobs)).map(({ id }) => id)).toContain(job.id);
    });

    it('closes at once, whether Redis is there or not', async () => {
      const store = await open();
      await redis.server.kill();
      const start = performance.now();
      await store.close();
      expect(performance.now() - start).toBeLessThan(10_000);
    });

    it('refuses to open, and keeps the password to itself', async () => {
      redis = await openRedisStoreForTests();
      const { port } = redis.server;
      await redis.server.kill();
      const opening = openRedisStore({ url: `redis://anna:hidden@127.0.0.1:${port}` });
      const error = await opening.catch((thrown: unknown) => thrown as Error);
      expect(error).toBeInstanceOf(ConfigError);
      expect(String(error)).toMatch(/HONO_AI_REDIS_URL/);
      expect(String(error)).not.toMatch(/hidden|anna/);
    });
  });

  describe('emptied', () => {
    it('brings back what was queued and what ran, and says so', async () => {
      const store = await open();
      const queued = toJobs(30, { notes: { metadata: { tags: [] } } });
      const later = toJob({ runAt: Date.now() + HOUR });
      const over = toJob({ priority: 'interactive' });
      await store.jobs.add([...queued, later], [toPut('with-jobs')]);
      await store.jobs.add([over]);
      await store.jobs.finish(await take(store.jobs), done());
      const running = await take(store.jobs);
      await redis.server.send('FLUSHALL');
      await until(async () => (await store.jobs.counts().catch(() => undefined))?.queued === 31, 'the jobs', BACK_MS);
      const { ok, problems } = await store.health();
      expect(ok).toBe(true);
      expect(problems.join()).toMatch(/lost its data.*31 jobs were added again/);

      expect(await store.jobs.finish(running, done()), 'an earlier holder ends the job').toBe(false);
      const again = await takeAll(store.jobs);
      expect(toIds(again).toSorted()).toEqual(toIds(queued).toSorted());
      const first = again.find(({ id }) => id === running.id)!;
      expect(first.attempts).toBe(2);
      expect(first.fence).toBeGreaterThan(running.fence);
      expect(first.notes).toEqual({ metadata: { tags: [] } });
      expect(first.input).toEqual(queued[0]!.input);
      expect(await store.jobs.get(over.id)).toBeUndefined();
      expect(await store.documents.get('thing', 'with-jobs')).toBeDefined();
      expect((await take(store.jobs, Date.now() + HOUR)).id).toBe(later.id);
    });

    it('answers nobody from an empty Redis as if all were well', async () => {
      const store = await open();
      const job = toJob();
      await store.jobs.add([job]);
      await redis.server.send('FLUSHALL');
      const answer = await store.jobs.get(job.id).catch((error: { code: string }) => error.code);
      expect(answer === 'storage_unavailable' || (answer as JobRecord).id === job.id).toBe(true);
    });

    it('brings back what each of two gateways has taken, once', async () => {
      const store = await open();
      const other = await redis.open();
      const [mine, others] = [toJobs(10), toJobs(10)];
      await store.jobs.add(mine);
      await other.jobs.add(others);
      await redis.server.send('FLUSHALL');
      for (const { jobs } of [store, other]) {
        await until(async () => (await jobs.counts().catch(() => undefined))?.queued === 20, 'the jobs', BACK_MS);
      }
      const taken = [...(await takeAll(store.jobs)), ...(await takeAll(other.jobs))];
      expect(toIds(taken).toSorted()).toEqual(toIds([...mine, ...others]).toSorted());
    });

    it('brings back at the next start what was lost while no gateway ran', async () => {
      const store = await open();
      const jobs = toJobs(5);
      await store.jobs.add(jobs);
      await store.close();
      await redis.server.send('FLUSHALL');
      const again = await redis.open({ journalPath: redis.journal(0) });
      expect(toIds(await takeAll(again.jobs)).toSorted()).toEqual(toIds(jobs).toSorted());
      expect((await again.health()).problems.join()).toMatch(/5 jobs were added again/);
    });

    it('brings back the latest jobs where Redis restarts without them', async () => {
      const store = await open();
      const [kept, lost, deleted] = [toJob(), toJob(), toJob()];
      await store.jobs.add([kept, lost, deleted]);
      await eraseBehind(redis, lost.id);
      const other = await redis.open();
      await other.jobs.stop(deleted.id, { state: 'cancelled', at: Date.now() });
      await other.jobs.remove(deleted.id);
      await redis.server.kill();
      await redis.server.start();
      await until(async () => (await store.jobs.get(lost.id).catch(() => undefined)) !== undefined, 'the job', BACK_MS);
      expect((await store.jobs.get(kept.id))!.state).toBe('queued');
      expect(await store.jobs.get(deleted.id), 'a deleted job came back').toBeUndefined();
      expect((await store.health()).problems.join()).toMatch(/without its latest data.*1 job was added again/);
    });

    it('gives a ticket to what waits without one', async () => {
      const store = await open();
      const jobs = toJobs(10);
      await store.jobs.add(jobs);
      await redis.server.send('DEL {hono-ai}:order:prioritized');
      await until(async () => (await store.jobs.claim('w1', Date.now())) !== undefined, 'a claim', BACK_MS);
      expect(await takeAll(store.jobs)).toHaveLength(9);
    });
  });

  describe('badly set up', () => {
    it('names AOF that is off, with the remedy, and works', async () => {
      const lines: unknown[] = [];
      redis = await openRedisStoreForTests(['--appendonly', 'no', '--maxmemory-policy', 'noeviction']);
      const store = await redis.open({ log: (entry) => lines.push(entry) });
      const { ok, problems } = await store.health();
      expect(ok).toBe(true);
      expect(problems).toHaveLength(1);
      expect(problems[0]).toMatch(/CONFIG SET appendonly yes/);
      expect(JSON.stringify(lines)).toMatch(/AOF is off/);
    });

    it('names a policy that evicts, with the remedy', async () => {
      const store = await open(['--appendonly', 'yes', '--maxmemory-policy', 'allkeys-lru']);
      const { problems } = await store.health();
      expect(problems).toHaveLength(1);
      expect(problems[0]).toMatch(/allkeys-lru.*CONFIG SET maxmemory-policy noeviction/);
    });

    it('refuses new jobs as a whole where Redis is full, and still ends those it has', async () => {
      const store = await open();
      await store.jobs.add(toJobs(3));
      const running = await take(store.jobs);
      await redis.server.send('CONFIG SET maxmemory 1');
      await rejects(store.jobs.add([toJob()], [toPut('a')]), 'storage_full');
      await rejects(store.documents.put([toPut('a')]), 'storage_full');
      expect(await store.jobs.finish(running, done())).toBe(true);
      await redis.server.send('CONFIG SET maxmemory 0');
      expect(await store.jobs.counts()).toMatchObject({ queued: 2, done: 1 });
      expect(await store.documents.get('thing', 'a')).toBeUndefined();
    });
  });
});

const toIds = (jobs: readonly { id: string }[]): string[] => jobs.map(({ id }) => id);

/** What a Redis that writes its AOF once a second may not have written yet. */
async function eraseBehind({ server }: RedisUnderTest, id: string): Promise<void> {
  await server.send(`DEL {hono-ai}:j:${id} {hono-ai}:b:${id}`);
  await server.send(`ZREM {hono-ai}:os:queued:anna ${id}`);
  await server.send(`ZREM {hono-ai}:deadlines ${id}`);
}
