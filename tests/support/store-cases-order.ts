// Who is claimed next: classes, callers in turn, the oldest first, never early, and by one holder only.
import assert from 'node:assert/strict';
import type { Store } from '../../src/store.ts';
import {
  classes,
  createRandom,
  done,
  get,
  HOUR,
  take,
  takeAll,
  toCase,
  toJob,
  toJobs,
  type StoreCase,
} from './store-cases-helpers.ts';

export const orderCases: readonly StoreCase[] = [
  toCase('gives a job back as it was taken, also to a store that is opened later', async (store, subject) => {
    const job = toJob({ model: 'm/1:x', batch: 'batch_1', index: 4, notes: { metadata: { a: [1, null, 'b'] } } });
    await store.jobs.add([job]);
    await store.close();
    const again = await subject.open();
    const { input, ...head } = job;
    const kept = await get(again.jobs, job.id);
    const fresh = { state: 'queued', since: job.createdAt, attempts: 0, fence: 0, beat: kept.beat };
    assert.deepEqual(kept, { ...head, input, ...fresh });
  }),
  toCase('claims nothing where nothing waits', async ({ jobs }) => {
    assert.equal(await jobs.claim('w1', Date.now()), undefined);
  }),
  toCase('claims the first class first, whenever its jobs came', async ({ jobs }) => {
    for (const priority of classes.toReversed()) await jobs.add(toJobs(2, { priority }));
    const order = (await takeAll(jobs)).map(({ priority }) => priority);
    assert.deepEqual(order, ['interactive', 'interactive', 'normal', 'normal', 'background', 'background']);
  }),
  toCase('claims the jobs of a caller in the order in which they came', async ({ jobs }) => {
    const queued = toJobs(30);
    for (const job of queued.slice(0, 10)) await jobs.add([job]);
    await jobs.add(queued.slice(10));
    assert.deepEqual(
      (await takeAll(jobs)).map(({ id }) => id),
      queued.map(({ id }) => id),
    );
  }),
  toCase('lets callers take turns, however many jobs each has waiting', async ({ jobs }) => {
    await jobs.add(toJobs(200, { owner: 'anna' }));
    await jobs.add(toJobs(40, { owner: 'ben' }));
    await jobs.add(toJobs(40, { owner: 'cleo' }));
    const share: Record<string, number> = { anna: 0, ben: 0, cleo: 0 };
    for (let n = 0; n < 60; n++) share[(await take(jobs)).owner]!++;
    // Twenty would be each one's share.
    for (const [owner, n] of Object.entries(share)) assert.ok(n <= 40 && n >= 10, `${owner} got ${n} of 60`);
  }),
  toCase('lets a caller who comes late go beside those who wait, not behind them', async ({ jobs }) => {
    await jobs.add(toJobs(100, { owner: 'anna' }));
    for (let n = 0; n < 30; n++) await take(jobs);
    const late = toJob({ owner: 'ben' });
    await jobs.add([late]);
    const next = [await take(jobs), await take(jobs), await take(jobs)].map(({ id }) => id);
    assert.ok(next.includes(late.id), 'ben waits behind many of anna’s jobs');
  }),
  toCase('does not let a caller who was away catch up at the cost of the others', async ({ jobs }) => {
    await jobs.add(toJobs(80, { owner: 'anna' }));
    for (let n = 0; n < 40; n++) await take(jobs);
    await jobs.add(toJobs(40, { owner: 'ben' }));
    let ben = 0;
    for (let n = 0; n < 20; n++) if ((await take(jobs)).owner === 'ben') ben++;
    assert.ok(ben >= 5 && ben <= 15, `ben got ${ben} of 20`);
  }),
  toCase('holds nothing against a caller whose waiting jobs were cancelled', async ({ jobs }) => {
    const many = toJobs(60, { owner: 'anna' });
    await jobs.add(many);
    for (const { id } of many) await jobs.stop(id, { state: 'cancelled', at: Date.now() });
    await jobs.add(toJobs(20, { owner: 'ben' }));
    const last = toJob({ owner: 'anna' });
    await jobs.add([last]);
    const next = [await take(jobs), await take(jobs), await take(jobs)].map(({ id }) => id);
    assert.ok(next.includes(last.id), 'anna waits behind all of ben’s jobs');
  }),
  toCase('never gives out a job before its time', async ({ jobs }) => {
    const now = Date.now();
    const later = toJob({ runAt: now + HOUR });
    const much = toJob({ runAt: now + 2 * HOUR, priority: 'interactive' });
    await jobs.add([later, much]);
    assert.equal(await jobs.claim('w1', now + HOUR - 1), undefined);
    assert.equal((await take(jobs, now + HOUR)).id, later.id);
    assert.equal(await jobs.claim('w1', now + HOUR), undefined);
    assert.equal((await take(jobs, now + 2 * HOUR)).id, much.id);
  }),
  toCase('lets a job whose time has come go by its class', async ({ jobs }) => {
    const now = Date.now();
    const later = toJob({ runAt: now + HOUR, priority: 'interactive' });
    await jobs.add([later, ...toJobs(3)]);
    assert.equal((await take(jobs, now + HOUR)).id, later.id);
  }),
  toCase('never gives one job to two gateways', async (store, subject) => {
    const other = await subject.open();
    const queued = toJobs(200);
    await store.jobs.add(queued);
    const taken: string[] = [];
    await Promise.all(
      [store, other, store, other].map(async ({ jobs }, n) => {
        for (const job of await takeAll(jobs, Date.now(), `w${n}`)) taken.push(job.id);
      }),
    );
    assert.equal(taken.length, 200);
    assert.deepEqual(new Set(taken), new Set(queued.map(({ id }) => id)));
  }),
  toCase('counts attempt and fence with every claim, before it answers', async (store, subject) => {
    const job = toJob();
    await store.jobs.add([job]);
    const other = await subject.open();
    const first = await take(store.jobs, 1000 + Date.now(), 'w1');
    assert.equal(first.state, 'running');
    assert.equal(first.worker, 'w1');
    assert.equal(first.attempts, 1);
    assert.deepEqual(await other.jobs.get(job.id), first);
    assert.ok(await store.jobs.requeue(first, { runAt: Date.now() }));
    const second = await take(other.jobs, 2000 + Date.now(), 'w2');
    assert.equal(second.attempts, 2);
    assert.ok(second.fence > first.fence, 'the fence has not grown');
    assert.ok(second.startedAt! >= first.startedAt!);
  }),
  toCase('keeps classes and shares over many mixed jobs', async (store) => mixed(store)),
  toCase('tells the place of a waiting job, up to a bound', async ({ jobs }) => {
    const queued = toJobs(20);
    await jobs.add(queued);
    const background = toJob({ priority: 'background' });
    await jobs.add([background]);
    assert.equal(await jobs.position(queued[0]!.id, 100), 1);
    assert.equal(await jobs.position(queued[7]!.id, 100), 8);
    assert.equal(await jobs.position(background.id, 100), 21);
    assert.equal(await jobs.position(background.id, 5), 5);
    const running = await take(jobs);
    assert.equal(await jobs.position(running.id, 100), undefined);
    assert.equal(await jobs.position(queued[7]!.id, 100), 7);
    assert.equal(await jobs.position('job_none', 100), undefined);
    await jobs.finish(running, done());
    assert.equal(await jobs.position(running.id, 100), undefined);
    const later = toJob({ runAt: Date.now() + HOUR });
    await jobs.add([later]);
    assert.ok((await jobs.position(later.id, 100))! >= 1, 'a delayed job waits too');
  }),
];

/** Jobs of every kind, claimed while more come: at every claim the class must be the first that waits. */
async function mixed({ jobs }: Store): Promise<void> {
  const random = createRandom(11);
  const owners = ['anna', 'ben', 'cleo', 'dan'];
  const waiting = new Map<string, { owner: string; rank: number }>();
  for (let n = 0; n < 30; n++) {
    const more = Array.from({ length: 40 }, () => {
      // One caller submits most of all jobs.
      const owner = random.next() < 0.7 ? 'anna' : random.pick(owners);
      return toJob({ owner, priority: random.pick(classes) });
    });
    await jobs.add(more);
    for (const { id, owner, priority } of more) waiting.set(id, { owner, rank: classes.indexOf(priority) });
    for (let claims = 0; claims < 20; claims++) {
      const job = await take(jobs);
      const rank = Math.min(...[...waiting.values()].map((entry) => entry.rank));
      assert.equal(classes.indexOf(job.priority), rank, 'a job of a later class went first');
      waiting.delete(job.id);
    }
  }
  const share = new Map<string, number>();
  const [rank] = [...waiting.values()].map((entry) => entry.rank).toSorted();
  const amount = (owner: string) =>
    [...waiting.values()].filter((entry) => entry.owner === owner && entry.rank === rank).length;
  const claims = 4 * Math.min(...owners.map(amount));
  for (let n = 0; n < claims; n++) {
    const { owner } = await take(jobs);
    share.set(owner, (share.get(owner) ?? 0) + 1);
  }
  for (const owner of owners)
    assert.ok((share.get(owner) ?? 0) <= claims / 2, `${owner} got more than twice its share`);
}
