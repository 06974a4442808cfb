// What a store tells of itself: that there is something to do, what happens, how it is, and that it is closed.
import assert from 'node:assert/strict';
import type { Happening } from '../../src/store.ts';
import { cancelled, done, rejects, take, toCase, toJob, toPut, until, type StoreCase } from './store-cases-helpers.ts';

export const changeCases: readonly StoreCase[] = [
  toCase('tells its own gateway of new work, marks and work that comes back', async ({ jobs }) => {
    let told = 0;
    const stop = jobs.onChange(() => told++);
    const expectWord = async (what: string, act: () => Promise<unknown>) => {
      const before = told;
      await act();
      await until(() => told > before, `word of ${what}`);
    };
    const job = toJob();
    await expectWord('a new job', () => jobs.add([job]));
    let held = await take(jobs);
    await expectWord('a job that comes back', () => jobs.requeue(held, { runAt: Date.now() }));
    held = await take(jobs);
    await expectWord('a mark', () => jobs.stop(job.id, cancelled()));
    await jobs.finish(held, cancelled());
    await expectWord('a job that is revived', () => jobs.revive(job.id, Date.now()));
    stop();
    const before = told;
    await jobs.add([toJob()]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(told, before, 'told after the end');
  }),
  toCase('tells another gateway of new work and of marks', async (store, subject) => {
    const other = await subject.open();
    let told = 0;
    const stop = other.jobs.onChange(() => told++);
    const job = toJob();
    await store.jobs.add([job]);
    await until(() => told > 0, 'word of a new job');
    await take(other.jobs);
    const before = told;
    await store.jobs.stop(job.id, cancelled());
    await until(() => told > before, 'word of a mark');
    stop();
  }),
  toCase('carries events in order, each with an id of its own, to all who listen', async ({ spine }) => {
    const seen: { id: string; event: Happening }[] = [];
    const also: string[] = [];
    const stop = spine.subscribe((id, event) => seen.push({ id, event }));
    const stopAlso = spine.subscribe((id) => also.push(id));
    const events = Array.from({ length: 20 }, (_, n): Happening => {
      return { type: 'job:progress', owner: 'anna', job: 'job_1', at: Date.now(), data: { n, text: 'ü' } };
    });
    for (const event of events) spine.publish(event);
    await until(() => seen.length === 20 && also.length === 20, 'all events');
    assert.deepEqual(
      seen.map(({ event }) => event),
      events,
    );
    assert.equal(new Set(seen.map(({ id }) => id)).size, 20);
    assert.deepEqual(
      also,
      seen.map(({ id }) => id),
    );
    stopAlso();
    spine.publish(events[0]!);
    await until(() => seen.length === 21, 'the last event');
    assert.equal(also.length, 20);
    stop();
    assert.ok(Array.isArray(await spine.history(10)));
  }),
  toCase('is well when it is', async (store) => {
    assert.equal((await store.health()).ok, true);
    assert.equal(typeof store.name, 'string');
  }),
  toCase('finishes what was asked before it closes, and refuses what comes after', async (store, subject) => {
    const job = toJob();
    const adding = store.jobs.add([job], [toPut('a')]);
    await Promise.all([adding, store.close()]);
    await rejects(store.jobs.add([toJob()]), 'storage_unavailable');
    await rejects(store.jobs.get(job.id), 'storage_unavailable');
    await rejects(store.jobs.claim('w1', Date.now()), 'storage_unavailable');
    await rejects(store.documents.get('thing', 'a'), 'storage_unavailable');
    await rejects(store.documents.put([toPut('b')]), 'storage_unavailable');
    await store.close();
    const again = await subject.open();
    assert.equal((await take(again.jobs)).id, job.id);
    assert.ok(await again.documents.get('thing', 'a'));
    await again.jobs.finish({ id: job.id, fence: 1 }, done());
  }),
];
