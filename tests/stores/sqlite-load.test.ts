// The SQLite store under load: commits shared by those who write at once, many processes, a full disk, and costs that do not grow.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openDatabase } from '../../adapters/stores/sqlite/database.ts';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { createWriter } from '../../adapters/stores/sqlite/writer.ts';
import { GatewayError } from '../../src/error.ts';
import { startChild, toFolder, toSmallDisk } from '../support/store-cases-files.ts';
import { HOUR, take, toJob, toJobs, toPut } from '../support/store-cases-helpers.ts';

describe('writes of one moment', () => {
  it('share a commit', async () => {
    const { db, path } = await openDatabase({ path: join(toFolder(), 'store.db') });
    const other = new DatabaseSync(path);
    const version = () => (other.prepare('PRAGMA data_version').get() as { data_version: number }).data_version;
    const writer = createWriter(db, path);
    const before = version();
    const seen: number[] = [];
    const insert = db.prepare("INSERT INTO tally VALUES ('test', ?, 1)");
    const writes = Array.from({ length: 50 }, (_, n) =>
      writer.write(() => {
        seen.push(version());
        insert.run(`caller ${n}`);
        return n;
      }),
    );
    expect(await Promise.all(writes)).toEqual(Array.from({ length: 50 }, (_, n) => n));
    // Nobody saw a part of it, and afterwards everybody sees all.
    expect(new Set(seen)).toEqual(new Set([before]));
    expect(version()).toBe(before + 1);
    expect(other.prepare("SELECT count(*) AS n FROM tally WHERE scope = 'test'").get()).toEqual({ n: 50 });
    other.close();
    db.close();
  });

  it('do not spoil each other: one that fails changes nothing, the others are kept', async () => {
    const store = await toStore();
    const [first, twice] = [toJob(), toJob()];
    await store.jobs.add([twice]);
    const answers = await Promise.allSettled([
      store.jobs.add([first]),
      store.jobs.add([toJob({ owner: 'half' }), twice]),
      store.documents.put([toPut('a')]),
      store.jobs.add([toJob()]),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
    expect(await store.jobs.counts()).toMatchObject({ queued: 3 });
    expect(await store.jobs.waiting('half')).toBe(0);
    expect(await store.documents.get('thing', 'a')).toBeDefined();
  });
});

describe('many processes', () => {
  it('write, read and checkpoint at once, and nobody is turned away', { timeout: 180_000 }, async () => {
    const path = join(toFolder(), 'store.db');
    const store = await openSqliteStore({ path });
    onTestFinished(() => store.close());
    const children = [
      startChild('worker', path, '2000'),
      startChild('worker', path, '2000'),
      startChild('reader', path, '2000'),
      startChild('checkpointer', path, '200'),
    ];
    for (let n = 0; n < 2000; n += 3) {
      await store.jobs.add([toJob()]);
      const job = await store.jobs.claim('gateway', Date.now());
      if (job) await store.jobs.finish(job, { state: 'done', at: Date.now() }, [toPut(job.id)]);
    }
    for (const child of children) {
      expect(await child.ended, child.stderr()).toBe(0);
      expect(child.said.at(-1)?.[0]).toBe('finished');
    }
    const { queued, running, done } = await store.jobs.counts();
    expect(queued + running + done).toBe(3 * 667);
    expect(running).toBe(0);
    // Every end has exactly its own document.
    const db = new DatabaseSync(path);
    expect(db.prepare('SELECT count(*) AS n FROM document').get()).toEqual({ n: done });
    expect(db.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' });
    db.close();
  });

  it('answers that the store is busy where another holds it for too long', { timeout: 60_000 }, async () => {
    const { db, path } = await openDatabase({ path: join(toFolder(), 'store.db') });
    const writer = createWriter(db, path, 50);
    const other = new DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    await expect(writer.write(() => 1)).rejects.toMatchObject({
      code: 'storage_unavailable',
      status: 503,
      retryAfter: 1,
    });
    expect(writer.failure()).toBeDefined();
    other.exec('COMMIT');
    expect(await writer.write(() => 2)).toBe(2);
    expect(writer.failure()).toBeUndefined();
    other.close();
    db.close();
  });
});

describe('a full disk', () => {
  it('is told as such, loses nothing that was taken, and is over when there is room', async ({ skip }) => {
    const disk = toSmallDisk(8) ?? skip('this user may mount nothing');
    const path = join(disk.folder, 'store.db');
    const store = await openSqliteStore({ path });
    const ballast = join(disk.folder, 'ballast');
    writeFileSync(ballast, new Uint8Array(2_000_000));
    const taken: string[] = [];
    const fill = async () => {
      for (let n = 0; n < 100; n++) {
        const job = toJob({ input: { text: 'x'.repeat(200_000) } });
        await store.jobs.add([job]);
        taken.push(job.id);
      }
    };
    const full: unknown = await fill().catch((error: unknown) => error);
    expect(full).toBeInstanceOf(GatewayError);
    expect(full).toMatchObject({ code: 'storage_full', status: 507 });
    expect((full as Error).message).not.toContain(disk.folder);
    expect(taken.length).toBeGreaterThan(3);
    for (const id of taken) expect(await store.jobs.get(id)).toBeDefined();
    expect((await store.jobs.counts()).queued).toBe(taken.length);
    expect((await store.health()).problems.join()).toMatch(/almost full/);
    rmSync(ballast);
    await store.jobs.add([toJob()]);
    expect((await store.health()).ok).toBe(true);
    expect((await take(store.jobs)).id).toBe(taken[0]);
    await store.close();
  });

  it('is told as such where the file may not grow', async () => {
    const { db, path } = await openDatabase({ path: join(toFolder(), 'store.db') });
    db.exec('PRAGMA max_page_count = 60');
    const writer = createWriter(db, path);
    const insert = db.prepare(
      "INSERT INTO document (kind, id, owner, version, created_at, value) VALUES ('k', ?, 'a', 1, 1, ?)",
    );
    const [small, large, other] = await Promise.allSettled([
      writer.write(() => insert.run('a', 'x')),
      writer.write(() => insert.run('b', 'x'.repeat(1_000_000))),
      writer.write(() => insert.run('c', 'x')),
    ]);
    expect(large).toMatchObject({ status: 'rejected', reason: { code: 'storage_full' } });
    expect([small.status, other.status]).toEqual(['fulfilled', 'fulfilled']);
    expect(db.prepare('SELECT id FROM document ORDER BY id').all()).toEqual([{ id: 'a' }, { id: 'c' }]);
    db.close();
  });
});

describe('costs', () => {
  it('come from indexes: no query that runs often reads a table or sorts', async () => {
    const plans: [sql: string, plan: string][] = [];
    const store = await openWatched(plans);
    await store.jobs.add(toJobs(3, { batch: 'b', index: 1 }), [toPut('a')]);
    const job = (await store.jobs.claim('w', Date.now()))!;
    await store.jobs.finish(job, { state: 'done', at: 1 });
    await store.close();
    // What is scanned is one row, an index of few rows or its first row, or the bounded answer of a subquery.
    const scans = /\bSCAN (?!job USING INDEX job_(running|turn)\b|json_each|\(subquery)/;
    const wrong = plans.filter(([, plan]) => scans.test(plan) || /TEMP B-TREE/.test(plan));
    expect(plans.length).toBeGreaterThan(30);
    expect(wrong).toEqual([]);
  });

  it('are the same with very many jobs: it opens, claims and lists at once', { timeout: 120_000 }, async () => {
    const path = join(toFolder(), 'store.db');
    const filler = await openSqliteStore({ path });
    for (let n = 0; n < 20; n++) await filler.jobs.add(toJobs(5000, { owner: `caller ${n % 4}` }));
    await filler.close();
    const start = performance.now();
    const store = await openSqliteStore({ path });
    expect(performance.now() - start).toBeLessThan(10_000);
    const times: number[] = [];
    for (let n = 0; n < 200; n++) {
      const begun = performance.now();
      const job = await take(store.jobs, Date.now() + HOUR);
      await store.jobs.list({ owner: job.owner, limit: 50 });
      await store.jobs.counts();
      await store.jobs.position(job.id, 100);
      await store.jobs.overdue(0, 10);
      await store.jobs.nextAt();
      times.push(performance.now() - begun);
    }
    // A reading of the table would take longer than this every time.
    expect(times.toSorted((a, b) => a - b)[100]).toBeLessThan(50);
    await store.close();
  });
});

async function toStore() {
  const store = await openSqliteStore({ path: join(toFolder(), 'store.db') });
  onTestFinished(() => store.close());
  return store;
}

/** A store whose every prepared statement leaves its query plan. */
async function openWatched(plans: [string, string][]) {
  // eslint-disable-next-line typescript/unbound-method -- called with its own object below
  const { prepare } = DatabaseSync.prototype;
  DatabaseSync.prototype.prepare = function (this: DatabaseSync, sql: string) {
    const statement = prepare.call(this, sql);
    if (/^(SELECT|UPDATE|DELETE)/.test(sql) && !/sqlite_version/.test(sql)) {
      const rows = prepare.call(this, `EXPLAIN QUERY PLAN ${sql}`).all() as { detail: string }[];
      plans.push([sql, rows.map(({ detail }) => detail).join('; ')]);
    }
    return statement;
  };
  onTestFinished(() => void (DatabaseSync.prototype.prepare = prepare));
  return toStore();
}
