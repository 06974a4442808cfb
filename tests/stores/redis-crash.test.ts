// The Redis store when its process is killed or stopped between any two commands: nothing is lost, nothing is done twice.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Store } from '../../src/store.ts';
import { root } from '../support/gateway.ts';
import { openRedisStoreForTests, withoutRedis, type RedisUnderTest } from '../support/redis.ts';
import { toPut, until } from '../support/store-cases-helpers.ts';

const CHILD = join(root, 'tests/support/redis-child.ts');
/** More commands than the child sends, each counted before and after. */
const PLACES = 120;
/** From the first command of a claim to the last of what follows it. */
const STOPS = [10, 12, 14, 16, 18, 20];

describe.skipIf(withoutRedis !== undefined)('Redis store, killed', () => {
  it('loses nothing and does nothing twice, between whichever commands', { timeout: 300_000 }, async () => {
    const redis = await openRedisStoreForTests();
    const store = await redis.open();
    const [added, ended] = [new Set<string>(), new Set<string>()];
    let kills = 0;
    try {
      let place = 0;
      let whole = false;
      const lane = async (n: number) => {
        while (!whole && ++place < PLACES) {
          const said = await startChild(redis, n, place, 'SIGKILL').said;
          for (const [what, id] of said) {
            if (what === 'added') added.add(id);
            if (what === 'ended') ended.add(id);
          }
          if (said.some(([what]) => what === 'whole')) whole = true;
          else kills++;
        }
      };
      await Promise.all([lane(7), lane(8), lane(9)]);
      expect(whole, 'the last places were not reached').toBe(true);
      expect(kills).toBeGreaterThan(20);
      const finished = await finishAll(store);
      for (const id of added) expect((await store.jobs.get(id))?.state, id).toBe('done');
      for (const id of ended) expect(finished.has(id), `${id} was done twice`).toBe(false);
      const { queued, running, done } = await store.jobs.counts();
      expect({ queued, running }).toEqual({ queued: 0, running: 0 });
      expect(done).toBeGreaterThanOrEqual(added.size);
      expect(await store.jobs.waiting('anna')).toBe(0);
    } finally {
      await redis.close();
    }
  });

  it(
    'refuses one who was stopped in the middle and goes on when others have done the work',
    { timeout: 120_000 },
    async () => {
      const redis = await openRedisStoreForTests();
      const store = await redis.open();
      try {
        const children = STOPS.map((place, n) => startChild(redis, 10 + n, place, 'SIGSTOP'));
        await until(async () => (await store.jobs.counts()).queued > 0, 'jobs of the children', 20_000);
        await sleep(3000);
        const finished = await finishAll(store);
        for (const { goOn } of children) goOn();
        const said = (await Promise.all(children.map((child) => child.said))).flat();
        const late = await finishAll(store);
        const ended = said.filter(([what]) => what === 'ended').map(([, id]) => id);
        expect(
          ended.filter((id) => finished.has(id) || late.has(id)),
          'jobs that were done twice',
        ).toEqual([]);
        expect(new Set(ended).size).toBe(ended.length);
        for (const [what, id] of said) if (what === 'added') expect((await store.jobs.get(id))?.state, id).toBe('done');
      } finally {
        await redis.close();
      }
    },
  );
});

/** Ends everything, as an engine would: what a dead process held goes back to wait, tickets it held come back by themselves. */
async function finishAll(store: Store): Promise<Set<string>> {
  const finished = new Set<string>();
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(100)) {
    for (const job of await store.jobs.running()) await store.jobs.requeue(job, { runAt: Date.now() });
    for (let job; (job = await store.jobs.claim('parent', Date.now()));) {
      const made = toPut(job.id, { if: 'absent' });
      expect(await store.jobs.finish(job, { state: 'done', at: Date.now() }, [made])).toBe(true);
      expect(finished.has(job.id)).toBe(false);
      finished.add(job.id);
    }
    const { queued, running } = await store.jobs.counts();
    if (queued + running === 0) return finished;
  }
  throw new Error(`jobs are left: ${JSON.stringify(await store.jobs.counts())}`);
}

function startChild({ server, journal }: RedisUnderTest, n: number, place: number, signal: string) {
  const child = spawn(process.execPath, [CHILD, server.url, journal(n), String(place), signal], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, NODE_NO_WARNINGS: '1' },
  });
  let output = '';
  child.stdout.on('data', (bytes: Uint8Array) => (output += Buffer.from(bytes).toString()));
  const said = once(child, 'close').then(() =>
    output
      .trim()
      .split('\n')
      .map((line) => line.split(' ') as [string, string]),
  );
  return { said, goOn: () => child.kill('SIGCONT') };
}
