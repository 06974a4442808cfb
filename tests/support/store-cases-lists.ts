// Lists and counts: what is shown, to whom, in which order, and that pages stay right while jobs come and go.
import assert from 'node:assert/strict';
import type { JobQuery, JobStore } from '../../src/store.ts';
import {
  cancelled,
  done,
  failed,
  get,
  rejects,
  take,
  toCase,
  toId,
  toJob,
  toJobs,
  type StoreCase,
} from './store-cases-helpers.ts';

export const listCases: readonly StoreCase[] = [
  toCase('lists the newest first, a page at a time', async ({ jobs }) => {
    const all = toJobs(25);
    for (const job of all) await jobs.add([job]);
    const pages = await toPages(jobs, { owner: 'anna', limit: 10 });
    assert.deepEqual(
      pages.map((page) => page.length),
      [10, 10, 5],
    );
    assert.deepEqual(pages.flat(), toIds(all).toReversed());
  }),
  toCase('ends a list whose length is a whole number of pages', async ({ jobs }) => {
    await jobs.add(toJobs(20));
    const pages = await toPages(jobs, { owner: 'anna', limit: 10 });
    assert.deepEqual(
      pages.map((page) => page.length),
      [10, 10],
    );
  }),
  toCase('neither skips nor repeats while jobs are added, deleted and change their state', async ({ jobs }) => {
    const all = toJobs(60);
    await jobs.add(all);
    const ended = new Set<string>();
    for (let n = 0; n < 30; n++) {
      const job = await take(jobs);
      await jobs.finish(job, done());
      ended.add(job.id);
    }
    const seen: string[] = [];
    const gone = new Set<string>();
    let cursor: string | undefined;
    let first = true;
    for (;;) {
      const page = await jobs.list({ owner: 'anna', limit: 7, ...(cursor === undefined ? {} : { cursor }) });
      seen.push(...toIds(page.jobs));
      cursor = page.next;
      if (cursor === undefined) break;
      await jobs.add(toJobs(3));
      // The job at the very cursor goes too.
      const victim = [...page.jobs.toReversed(), ...(await jobs.list({ owner: 'anna', limit: 70 })).jobs].find(
        ({ id }) => ended.has(id) && !gone.has(id),
      );
      if (victim) {
        await jobs.remove(victim.id);
        gone.add(victim.id);
      }
      if (first) await jobs.finish(await take(jobs), done());
      first = false;
    }
    assert.equal(new Set(seen).size, seen.length, 'a job was shown twice');
    const kept = toIds(all).filter((id) => !gone.has(id));
    assert.deepEqual(
      kept.filter((id) => !seen.includes(id)),
      [],
      'a job was skipped',
    );
    const known = new Set(toIds(all));
    assert.deepEqual(
      seen.filter((id) => !known.has(id)),
      [],
      'a job that came later was shown on a later page',
    );
  }),
  toCase('lists by state, capability and batch, alone and together', async ({ jobs }) => {
    const texts = toJobs(4);
    const chats = toJobs(4, { capability: 'text.chat' });
    const batch = toJobs(4, { batch: 'batch_1' }).map((job, index) => ({ ...job, index }));
    await jobs.add([...texts, ...chats, ...batch]);
    for (let n = 0; n < 12; n++) {
      const job = await take(jobs);
      if (n % 4 === 0) await jobs.finish(job, done());
      else if (n % 4 === 1) await jobs.finish(job, failed());
      else if (n % 4 === 2) await jobs.requeue(job, { runAt: Date.now() + 3_600_000 });
    }
    const find = async (query: Omit<JobQuery, 'owner' | 'limit'>) =>
      (await toPages(jobs, { owner: 'anna', limit: 2, ...query })).flat();
    const at = (list: typeof texts, ...places: number[]) => places.map((place) => list[place]!.id);
    assert.deepEqual(await find({ states: ['done'] }), [...at(batch, 0), ...at(chats, 0), ...at(texts, 0)]);
    assert.deepEqual(await find({ states: ['failed', 'running'], capability: 'text.chat' }), at(chats, 3, 1));
    assert.deepEqual(await find({ capability: 'text.chat' }), toIds(chats).toReversed());
    assert.deepEqual(await find({ batch: 'batch_1' }), toIds(batch).toReversed());
    assert.deepEqual(await find({ batch: 'batch_1', states: ['queued'] }), at(batch, 2));
    assert.deepEqual(await find({ batch: 'batch_1', capability: 'text.chat' }), []);
    assert.deepEqual(await find({ states: ['cancelled'] }), []);
    assert.equal((await find({ states: ['done', 'failed', 'queued', 'running', 'cancelled'] })).length, 12);
  }),
  toCase('shows nobody the jobs of another', async ({ jobs }) => {
    const [mine, theirs] = [toJob({ owner: 'anna', batch: 'batch_1' }), toJob({ owner: 'ben', batch: 'batch_1' })];
    await jobs.add([mine, theirs]);
    for (const query of [{}, { states: ['queued' as const] }, { capability: 'text.generate' }, { batch: 'batch_1' }]) {
      assert.deepEqual(toIds((await jobs.list({ owner: 'anna', limit: 9, ...query })).jobs), [mine.id]);
      assert.deepEqual(toIds((await jobs.list({ owner: 'ben', limit: 9, ...query })).jobs), [theirs.id]);
      assert.deepEqual((await jobs.list({ owner: 'cleo', limit: 9, ...query })).jobs, []);
    }
    const { next } = await jobs.list({ owner: 'ben', limit: 1 });
    assert.equal(next, undefined);
  }),
  toCase('lists neither what was asked nor what came out', async ({ jobs }) => {
    const secret = 'x'.repeat(1_000_000);
    await jobs.add([toJob({ input: { prompt: secret } })]);
    await jobs.finish(await take(jobs), done({ text: secret }));
    const page = await jobs.list({ owner: 'anna', limit: 5 });
    assert.equal(page.jobs[0]!.state, 'done');
    assert.ok(JSON.stringify(page).length < 2000, 'a list carries payloads');
  }),
  toCase('refuses a cursor that no list gave', async ({ jobs, documents }) => {
    await jobs.add(toJobs(3));
    for (const cursor of ['', 'x', '-1', '1e9', "'; DROP TABLE job; --", 'ü'.repeat(50), '\0', 's'.repeat(5000)]) {
      await rejects(jobs.list({ owner: 'anna', cursor, limit: 2 }), 'invalid_request');
      await rejects(documents.list('thing', { owner: 'anna', cursor, limit: 2 }), 'invalid_request');
    }
  }),
  toCase('counts jobs by state', async ({ jobs }) => {
    assert.deepEqual(await jobs.counts(), { queued: 0, running: 0, done: 0, failed: 0, cancelled: 0 });
    await jobs.add(toJobs(10));
    await jobs.finish(await take(jobs), done());
    await jobs.finish(await take(jobs), failed());
    await jobs.requeue(await take(jobs), { runAt: Date.now() + 3_600_000 });
    await take(jobs);
    const { jobs: all } = await jobs.list({ owner: 'anna', states: ['queued'], limit: 1 });
    await jobs.stop(all[0]!.id, cancelled());
    assert.deepEqual(await jobs.counts(), { queued: 6, running: 1, done: 1, failed: 1, cancelled: 1 });
  }),
  toCase('counts what each caller has waiting', async ({ jobs }) => {
    await jobs.add([...toJobs(5), ...toJobs(2, { owner: 'ben' }), toJob({ runAt: Date.now() + 3_600_000 })]);
    assert.deepEqual([await jobs.waiting('anna'), await jobs.waiting('ben'), await jobs.waiting('cleo')], [6, 2, 0]);
    const mine = (await jobs.list({ owner: 'anna', limit: 1 })).jobs[0]!;
    await jobs.stop(mine.id, cancelled());
    assert.equal(await jobs.waiting('anna'), 5);
    await jobs.revive(mine.id, Date.now());
    assert.equal(await jobs.waiting('anna'), 6);
    const taken = await take(jobs);
    assert.equal(await jobs.waiting(taken.owner), taken.owner === 'anna' ? 5 : 1);
    await jobs.requeue(taken, { runAt: Date.now() });
    assert.equal(await jobs.waiting('anna'), 6);
    assert.equal(await jobs.waiting('ben'), 2);
  }),
  toCase('counts a batch, and knows whether it is over', async ({ jobs }) => {
    const batch = toId('batch');
    await jobs.add([...toJobs(3, { batch }), ...toJobs(4, { batch: 'batch_other' }), toJob()]);
    assert.deepEqual(await jobs.batchCounts(batch), { queued: 3, running: 0, done: 0, failed: 0, cancelled: 0 });
    for (let n = 0; n < 2; n++) await jobs.finish(await take(jobs), n ? failed() : done());
    assert.equal(await jobs.batchPending(batch), true);
    const last = await take(jobs);
    assert.deepEqual(await jobs.batchCounts(batch), { queued: 0, running: 1, done: 1, failed: 1, cancelled: 0 });
    assert.equal(await jobs.batchPending(batch), true);
    await jobs.finish(last, cancelled());
    assert.equal(await jobs.batchPending(batch), false);
    assert.equal(await jobs.batchPending('batch_other'), true);
    await jobs.remove(last.id);
    assert.deepEqual(await jobs.batchCounts(batch), { queued: 0, running: 0, done: 1, failed: 1, cancelled: 0 });
    assert.deepEqual(await jobs.batchCounts('batch_none'), { queued: 0, running: 0, done: 0, failed: 0, cancelled: 0 });
    assert.equal(await jobs.batchPending('batch_none'), false);
  }),
  toCase('gives the jobs of a batch in their order, with what was asked and what came out', async ({ jobs }) => {
    const batch = toId('batch');
    const all = Array.from({ length: 12 }, (_, index) => toJob({ batch, index, input: { index } }));
    // They come in another order than theirs.
    await jobs.add(all.toReversed());
    const job = await take(jobs);
    await jobs.finish(job, done({ text: 'out' }));
    const page = await jobs.batchJobs(batch, 0, 5);
    assert.deepEqual(
      page.map(({ index }) => index),
      [0, 1, 2, 3, 4],
    );
    assert.deepEqual(page[3]!.input, { index: 3 });
    const rest = await jobs.batchJobs(batch, 5, 100);
    assert.deepEqual(toIds(rest), toIds(all.slice(5)));
    assert.deepEqual((await jobs.batchJobs(batch, job.index!, 1))[0]!.result, { text: 'out' });
    assert.deepEqual(await jobs.batchJobs(batch, 12, 5), []);
    assert.deepEqual(await jobs.batchJobs('batch_none', 0, 5), []);
  }),
  toCase('keeps every character, number and size as it was', async ({ jobs, documents }, subject) => {
    const input = {
      prompt: 'Grüße 👋🏽 \u0000 \u2028 "\\" ‮ אב 漢字 \ud800',
      numbers: [0, 0.1, 1e300, 9_007_199_254_740_991, -1],
      nested: { '': [null, true, [], {}], __proto: 1 },
      large: 'é'.repeat(1_000_000),
    };
    const job = toJob({ input, owner: "o'Brien “é”", notes: { input } });
    await jobs.add([job], [{ kind: 'thing', id: 'ключ', owner: job.owner, value: input }]);
    await jobs.finish(await take(jobs), done(input));
    const again = await subject.open();
    const kept = await get(again.jobs, job.id);
    assert.deepEqual(kept.input, input);
    assert.deepEqual(kept.result, input);
    assert.equal(kept.owner, job.owner);
    assert.deepEqual((await documents.get('thing', 'ключ'))!.value, input);
  }),
  toCase('keeps inputs and results of ten megabytes', async ({ jobs }) => {
    const large = 'z'.repeat(10_000_000);
    const job = toJob({ input: { large } });
    await jobs.add([job]);
    assert.equal(((await take(jobs)).input as { large: string }).large.length, large.length);
    await jobs.finish({ id: job.id, fence: (await get(jobs, job.id)).fence }, done({ large }));
    assert.deepEqual((await get(jobs, job.id)).result, { large });
  }),
];

const toIds = (jobs: readonly { id: string }[]): string[] => jobs.map(({ id }) => id);

/** The ids of every page. */
async function toPages(jobs: JobStore, query: JobQuery): Promise<string[][]> {
  const pages: string[][] = [];
  let cursor: string | undefined;
  do {
    const page = await jobs.list({ ...query, ...(cursor === undefined ? {} : { cursor }) });
    pages.push(toIds(page.jobs));
    cursor = page.next;
  } while (cursor !== undefined);
  return pages;
}
