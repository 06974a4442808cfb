// How a job lives and ends: every step from every state, by its holder and by one who holds it no more.
import assert from 'node:assert/strict';
import type { JobRecord, JobStore } from '../../src/store.ts';
import {
  cancelled,
  done,
  failed,
  get,
  HOUR,
  take,
  toCase,
  toId,
  toJob,
  toJobs,
  toPut,
  until,
  type StoreCase,
} from './store-cases-helpers.ts';

export const stateCases: readonly StoreCase[] = [
  toCase('ends a running job with its result, notes and time', async (store, subject) => {
    await store.jobs.add([toJob({ notes: { a: 1, b: 1 } })]);
    const job = await take(store.jobs);
    const at = Date.now();
    assert.equal(
      await store.jobs.finish(job, { state: 'done', at, result: { text: 'x' }, notes: { b: 2, c: 3 } }),
      true,
    );
    const kept = await get((await subject.open()).jobs, job.id);
    assert.equal(kept.state, 'done');
    assert.equal(kept.finishedAt, at);
    assert.deepEqual(kept.result, { text: 'x' });
    assert.deepEqual(kept.notes, { a: 1, b: 2, c: 3 });
    assert.equal(kept.worker, undefined);
    assert.equal(kept.attempts, 1);
  }),
  toCase('keeps why a job failed, and gives no result then', async ({ jobs }) => {
    await jobs.add([toJob()]);
    const job = await take(jobs);
    const error = { code: 'timed_out', message: 'Too long.', source: 'gateway', hint: 'Wait.' };
    await jobs.finish(job, { state: 'failed', at: Date.now(), error, result: { half: true } });
    const kept = await get(jobs, job.id);
    assert.equal(kept.state, 'failed');
    assert.deepEqual(kept.error, error);
    assert.ok(!('result' in kept), 'a failed job has a result');
  }),
  toCase('ends a job once', async ({ jobs }) => {
    await jobs.add([toJob()]);
    const job = await take(jobs);
    assert.equal(await jobs.finish(job, done('first')), true);
    assert.equal(await jobs.finish(job, failed()), false);
    assert.equal(await jobs.requeue(job, { runAt: Date.now() }), false);
    const kept = await get(jobs, job.id);
    assert.equal(kept.state, 'done');
    assert.equal(kept.result, 'first');
  }),
  toCase('ends a job once, however many try at a time', async (store, subject) => {
    const other = await subject.open();
    await store.jobs.add([toJob()]);
    const job = await take(store.jobs);
    const tries = await Promise.all(
      Array.from({ length: 20 }, (_, n) => (n % 2 ? store : other).jobs.finish(job, done(n), [toPut(`made_${n}`)])),
    );
    assert.equal(tries.filter(Boolean).length, 1);
    const winner = tries.indexOf(true);
    assert.equal((await get(store.jobs, job.id)).result, winner);
    for (const n of tries.keys()) {
      assert.equal((await store.documents.get('thing', `made_${n}`)) !== undefined, n === winner, `made_${n}`);
    }
  }),
  toCase('refuses everything from a holder who holds the job no more', async ({ jobs, documents }) => {
    await jobs.add([toJob()]);
    const old = await take(jobs, Date.now(), 'w1');
    await jobs.requeue(old, { runAt: Date.now() });
    const current = await take(jobs, Date.now(), 'w2');
    assert.equal(await jobs.finish(old, done(), [toPut('late')]), false);
    assert.equal(await documents.get('thing', 'late'), undefined);
    assert.equal(await jobs.requeue(old, { runAt: Date.now() }), false);
    assert.deepEqual(await jobs.beat([old, current]), { lost: [old.id], cancelled: [] });
    assert.deepEqual(await get(jobs, old.id), { ...current, beat: (await get(jobs, old.id)).beat });
    assert.equal(await jobs.finish(current, done()), true);
  }),
  toCase('refuses an ending of a job that was never claimed or is not there', async ({ jobs }) => {
    const job = toJob();
    await jobs.add([job]);
    for (const held of [
      { id: job.id, fence: 0 },
      { id: job.id, fence: 1 },
      { id: 'job_none', fence: 1 },
    ]) {
      assert.equal(await jobs.finish(held, done()), false);
      assert.equal(await jobs.requeue(held, { runAt: Date.now() }), false);
    }
    assert.equal((await get(jobs, job.id)).state, 'queued');
  }),
  toCase('ends a job and keeps its documents together, or does neither', async ({ jobs, documents }) => {
    await jobs.add([toJob()]);
    const job = await take(jobs);
    await documents.put([toPut('there')]);
    // A driver may say no or throw; nothing may be changed.
    const answer = await jobs.finish(job, done(), [toPut('new'), toPut('there', { if: 'absent' })]).catch(() => false);
    assert.equal(answer, false);
    assert.equal((await get(jobs, job.id)).state, 'running');
    assert.equal(await documents.get('thing', 'new'), undefined);
    assert.equal(await jobs.finish(job, done(), [toPut('new'), toPut('there', { value: 'changed' })]), true);
    assert.ok(await documents.get('thing', 'new'));
    assert.equal((await documents.get('thing', 'there'))!.value, 'changed');
  }),
  toCase('takes jobs and documents together, or tells which document was there', async ({ jobs, documents }) => {
    const [first, second] = [toJob(), toJob()];
    const key = toPut('key', { if: 'absent', value: { job: first.id } });
    assert.equal(await jobs.add([first], [key]), undefined);
    const conflict = await jobs.add(
      [second, toJob()],
      [toPut('other'), { ...key, value: { job: second.id } } as never],
    );
    assert.deepEqual(conflict?.value, { job: first.id });
    assert.equal(conflict?.id, 'key');
    assert.equal(await jobs.get(second.id), undefined);
    assert.equal(await documents.get('thing', 'other'), undefined);
    assert.equal((await jobs.counts()).queued, 1);
  }),
  toCase('lets one of many win who take a job under the same key at a time', async (store, subject) => {
    const other = await subject.open();
    const queued = toJobs(20);
    const answers = await Promise.all(
      queued.map((job, n) => (n % 2 ? store : other).jobs.add([job], [toPut('key', { if: 'absent', value: job.id })])),
    );
    assert.equal(answers.filter((answer) => answer === undefined).length, 1);
    const winner = queued[answers.indexOf(undefined)]!.id;
    for (const answer of answers) if (answer) assert.equal(answer.value, winner);
    assert.equal((await store.jobs.counts()).queued, 1);
  }),
  toCase('keeps a job that has ended already as such, and never hands it out', async ({ jobs }) => {
    const ended = { state: 'done', at: 7, result: { text: 'known' }, notes: { cached: true } } as const;
    const job = toJob({ ended });
    await jobs.add([job]);
    assert.equal(await jobs.claim('w', Date.now()), undefined);
    const kept = await get(jobs, job.id);
    assert.deepEqual(kept.result, ended.result);
    assert.deepEqual([kept.state, kept.finishedAt, kept.attempts, kept.notes['cached']], ['done', 7, 0, true]);
    assert.equal(await jobs.waiting(job.owner), 0);
    assert.equal((await jobs.counts()).done, 1);
    assert.deepEqual(await jobs.sweep(8, 10), [job.id]);
  }),
  toCase('tells with a beat which jobs are lost and which to cancel', async ({ jobs }) => {
    await jobs.add(toJobs(3));
    const [kept, marked, ended] = [await take(jobs), await take(jobs), await take(jobs)] as [
      JobRecord,
      JobRecord,
      JobRecord,
    ];
    assert.equal(await jobs.stop(marked.id, cancelled()), 'marked');
    await jobs.finish(ended, done());
    const answer = await jobs.beat([kept, marked, ended, { id: 'job_none', fence: 1 }]);
    assert.deepEqual(answer.cancelled, [marked.id]);
    assert.deepEqual(new Set(answer.lost), new Set([ended.id, 'job_none']));
    assert.equal((await get(jobs, marked.id)).cancelled, true);
    assert.deepEqual(await jobs.beat([]), { lost: [], cancelled: [] });
  }),
  toCase('shows every beat to others, without a clock', async (store, subject) => {
    const other = await subject.open();
    await store.jobs.add([toJob()]);
    const job = await take(store.jobs);
    let last = job.beat;
    for (let n = 0; n < 3; n++) {
      await store.jobs.beat([job]);
      const [seen] = await other.jobs.running();
      assert.ok(seen!.beat > last, 'the beat has not grown');
      last = seen!.beat;
    }
  }),
  toCase('sends a job back with its attempt counted, or refunded', async ({ jobs }) => {
    const now = Date.now();
    await jobs.add([toJob({ notes: { a: 1 } })]);
    const first = await take(jobs);
    assert.equal(await jobs.requeue(first, { runAt: now + HOUR, notes: { b: 2 } }), true);
    const waiting = await get(jobs, first.id);
    assert.equal(waiting.state, 'queued');
    assert.equal(waiting.attempts, 1);
    assert.equal(waiting.runAt, now + HOUR);
    assert.equal(waiting.worker, undefined);
    assert.deepEqual(waiting.notes, { a: 1, b: 2 });
    assert.equal(await jobs.claim('w1', now + HOUR - 1), undefined);
    const second = await take(jobs, now + HOUR);
    assert.equal(await jobs.requeue(second, { runAt: now, refund: true }), true);
    assert.equal((await get(jobs, first.id)).attempts, 1);
    const third = await take(jobs, now + HOUR);
    assert.equal(third.attempts, 2);
    assert.ok(third.fence > second.fence);
  }),
  toCase('lets a job that goes back to wait keep its turn', async ({ jobs }) => {
    await jobs.add(toJobs(20));
    const job = await take(jobs);
    await jobs.requeue(job, { runAt: Date.now() });
    assert.equal((await take(jobs)).id, job.id);
  }),
  toCase('stops a job that waits, and everything with it at once', async ({ jobs, documents }) => {
    const [soon, later] = [toJob(), toJob({ runAt: Date.now() + HOUR })];
    await jobs.add([soon, later]);
    for (const job of [soon, later]) {
      assert.equal(await jobs.stop(job.id, cancelled(), [toPut(job.id)]), 'stopped');
      const kept = await get(jobs, job.id);
      assert.equal(kept.state, 'cancelled');
      assert.ok(kept.finishedAt);
      assert.ok(await documents.get('thing', job.id));
      assert.equal(await jobs.stop(job.id, cancelled(), [toPut('again')]), 'ended');
    }
    assert.equal(await jobs.claim('w1', Date.now() + 2 * HOUR), undefined);
    assert.equal(await jobs.stop('job_none', cancelled(), [toPut('again')]), undefined);
    assert.equal(await documents.get('thing', 'again'), undefined);
  }),
  toCase('marks a running job and leaves its end to its holder', async ({ jobs, documents }) => {
    await jobs.add([toJob()]);
    const job = await take(jobs);
    assert.equal(await jobs.stop(job.id, cancelled(), [toPut('early')]), 'marked');
    assert.equal((await get(jobs, job.id)).state, 'running');
    assert.equal(await documents.get('thing', 'early'), undefined);
    assert.equal(await jobs.finish(job, cancelled()), true);
    assert.equal((await get(jobs, job.id)).state, 'cancelled');
  }),
  toCase('revives a failed or cancelled job, its attempts counted anew', async ({ jobs }) => {
    await jobs.add(toJobs(2));
    const [first, second] = [await take(jobs), await take(jobs)] as [JobRecord, JobRecord];
    await jobs.finish(first, failed());
    await jobs.stop(second.id, cancelled());
    await jobs.finish(second, cancelled());
    for (const job of [first, second]) {
      const at = Date.now();
      assert.equal(await jobs.revive(job.id, at), true);
      const waiting = await get(jobs, job.id);
      assert.equal(waiting.state, 'queued');
      assert.equal(waiting.attempts, 0);
      assert.equal(waiting.runAt, at);
      assert.equal(waiting.since, at);
      assert.equal(waiting.error, undefined);
      assert.equal(waiting.finishedAt, undefined);
      assert.ok(!waiting.cancelled, 'the mark of the first life is still there');
      const again = await take(jobs);
      assert.equal(again.id, job.id);
      assert.ok(again.fence > job.fence, 'a holder of the first life could end the second');
      assert.equal(await jobs.finish(job, failed()), false);
      assert.equal(await jobs.finish(again, done()), true);
    }
  }),
  toCase('revives no job in another state', async ({ jobs }) => {
    const queued = toJob();
    await jobs.add([queued]);
    assert.equal(await jobs.revive(queued.id, Date.now()), false);
    const running = await take(jobs);
    assert.equal(await jobs.revive(running.id, Date.now()), false);
    await jobs.finish(running, done());
    assert.equal(await jobs.revive(running.id, Date.now()), false);
    assert.equal(await jobs.revive('job_none', Date.now()), false);
    assert.deepEqual(await jobs.counts(), { queued: 0, running: 0, done: 1, failed: 0, cancelled: 0 });
  }),
  toCase('forgets a job that has ended, and none that has not', async ({ jobs }) => {
    const queued = toJob();
    await jobs.add([queued]);
    assert.equal(await jobs.remove(queued.id), false);
    const job = await take(jobs);
    assert.equal(await jobs.remove(job.id), false);
    await jobs.finish(job, done());
    assert.equal(await jobs.remove(job.id), true);
    assert.equal(await jobs.get(job.id), undefined);
    assert.equal(await jobs.remove(job.id), false);
    assert.deepEqual((await jobs.list({ owner: 'anna', limit: 5 })).jobs, []);
    assert.equal((await jobs.counts()).done, 0);
  }),
  toCase('sweeps ended jobs, the oldest first, and no others', sweepCase),
  toCase('finds jobs that have waited too long', async ({ jobs }) => {
    const at = Date.now();
    const limits = { queue: 1000, run: HOUR, total: 5000 };
    const [first, delayed, endless, total] = [
      toJob({ createdAt: at, limits }),
      toJob({ createdAt: at, runAt: at + 2000, limits }),
      toJob({ createdAt: at, limits: { queue: 24 * HOUR, run: HOUR, total: 48 * HOUR } }),
      toJob({ createdAt: at, limits: { queue: 24 * HOUR, run: HOUR, total: 4000 } }),
    ];
    await jobs.add([first, delayed, endless, total]);
    const late = async (now: number) => (await jobs.overdue(now, 10)).map(({ id }) => id);
    assert.deepEqual(await late(at + 900), []);
    assert.deepEqual(await late(at + 1001), [first.id]);
    assert.deepEqual(await late(at + 2900), [first.id]);
    assert.deepEqual(new Set(await late(at + 4001)), new Set([first.id, delayed.id, total.id]));
    assert.equal((await jobs.overdue(at + 4001, 2)).length, 2);
    assert.ok(!('input' in (await jobs.overdue(at + 4001, 1))[0]!));
    await jobs.stop(total.id, failed());
    const claimed = await take(jobs, at);
    assert.equal(claimed.id, first.id);
    assert.deepEqual(await late(at + 4001), [delayed.id], 'a job that runs does not wait');
    await jobs.requeue(claimed, { runAt: at });
    assert.deepEqual(await late(at + 4001), [delayed.id], 'the limit of the wait is for first starts');
    assert.deepEqual(new Set(await late(at + 5001)), new Set([delayed.id, first.id]));
    await jobs.stop(first.id, failed());
    await jobs.revive(first.id, at + 6000);
    assert.deepEqual(await late(at + 6500), [delayed.id], 'a revived job has its time anew');
  }),
  toCase('tells when to look again', async ({ jobs }) => {
    assert.equal(await jobs.nextAt(), undefined);
    const at = Date.now();
    const job = toJob({ createdAt: at, runAt: at + HOUR, limits: { queue: HOUR, run: HOUR, total: 9 * HOUR } });
    await jobs.add([job]);
    assert.equal(await jobs.nextAt(), at + HOUR);
    await jobs.add([
      toJob({ createdAt: at, runAt: at + 2 * HOUR, limits: { queue: HOUR, run: HOUR, total: HOUR / 2 } }),
    ]);
    assert.equal(await jobs.nextAt(), at + HOUR / 2, 'the end of the total time comes first');
    const [late] = await jobs.overdue(at + HOUR / 2 + 1, 10);
    await jobs.stop(late!.id, failed());
    const running = await take(jobs, at + HOUR);
    assert.equal(running.id, job.id);
    assert.equal(await jobs.nextAt(), undefined);
  }),
  toCase('lists what runs, of all workers, without what was asked', async (store, subject) => {
    const other = await subject.open();
    await store.jobs.add(toJobs(3));
    const first = await take(store.jobs, Date.now(), 'w1');
    const second = await take(other.jobs, Date.now(), 'w2');
    const running = await store.jobs.running();
    assert.deepEqual(
      new Set(running.map(({ id, worker }) => `${id} ${worker}`)),
      new Set([`${first.id} w1`, `${second.id} w2`]),
    );
    assert.ok(!('input' in running[0]!));
    await other.jobs.finish(second, done());
    await until(async () => (await store.jobs.running()).length === 1, 'one is running');
  }),
];

async function sweepCase({ jobs }: { jobs: JobStore }): Promise<void> {
  const at = Date.now();
  const old = toJobs(6);
  await jobs.add(old);
  for (const [n] of old.entries()) {
    const job = await take(jobs);
    await jobs.finish(job, { ...(n % 2 ? done() : failed()), at: at + n });
  }
  const [running, queued] = [toJob({ id: toId('job') }), toJob()];
  await jobs.add([running]);
  await take(jobs);
  await jobs.add([queued]);
  assert.deepEqual(await jobs.sweep(at, 10), []);
  assert.deepEqual(
    await jobs.sweep(at + 4, 3),
    old.slice(0, 3).map(({ id }) => id),
  );
  assert.deepEqual(await jobs.sweep(at + 4, 3), [old[3]!.id]);
  assert.equal(await jobs.get(old[0]!.id), undefined);
  assert.deepEqual(
    await jobs.sweep(at + 24 * HOUR, 10),
    old.slice(4).map(({ id }) => id),
  );
  assert.deepEqual(await jobs.counts(), { queued: 1, running: 1, done: 0, failed: 0, cancelled: 0 });
}
