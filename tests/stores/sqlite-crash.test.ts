// The SQLite store when its process is killed: what was acknowledged is there, and what was begun is whole or not at all.
import { readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { openDatabase } from '../../adapters/stores/sqlite/database.ts';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { migrations } from '../../adapters/stores/sqlite/schema.ts';
import type { JobHead } from '../../src/store.ts';
import { startChild, toFolder } from '../support/store-cases-files.ts';
import { createRandom, toJobs, until } from '../support/store-cases-helpers.ts';

const KILLS = 50;

it(`loses nothing that was acknowledged over ${KILLS} kills`, { timeout: 180_000 }, async () => {
  const path = join(toFolder(), 'store.db');
  const random = createRandom(Date.now());
  const [added, ended] = [new Set<string>(), new Set<string>()];
  for (let n = 0; n < KILLS; n++) {
    const child = startChild('writer', path);
    await until(
      () => child.said.some(([what]) => what === (n % 5 ? 'ended' : 'open')),
      child.stderr() || 'work',
      20_000,
    );
    await sleep(random.below(60));
    child.process.kill('SIGKILL');
    await child.ended;
    for (const [what, id] of child.said) {
      if (what === 'added') added.add(id);
      if (what === 'ended') ended.add(id);
    }
    if (n % 10 === 9) expect(toIntegrity(path)).toBe('ok');
  }
  expect(ended.size).toBeGreaterThan(KILLS);
  const { jobs, documents, close } = await openSqliteStore({ path });
  const kept = new Map<string, JobHead>();
  for (let cursor: string | undefined; ;) {
    const page = await jobs.list({ owner: 'anna', limit: 500, ...(cursor === undefined ? {} : { cursor }) });
    for (const job of page.jobs) kept.set(job.id, job);
    if ((cursor = page.next) === undefined) break;
  }
  expect([...added].filter((id) => !kept.has(id))).toEqual([]);
  expect([...ended].filter((id) => kept.get(id)?.state !== 'done')).toEqual([]);
  // An end and what belongs to it are there together.
  for (const [id, { state }] of kept) {
    expect((await documents.get('thing', id)) !== undefined, `${id} is ${state}`).toBe(state === 'done');
    if (state === 'done') expect((await jobs.get(id))!.result).toBe(id);
  }
  const counts = await jobs.counts();
  expect(counts.queued + counts.running + counts.done).toBe(kept.size);
  expect(await jobs.waiting('anna')).toBe(counts.queued);
  await close();
});

it('is made whole or not at all, however early its process is killed', { timeout: 60_000 }, async () => {
  const path = join(toFolder(), 'store.db');
  for (let n = 0; n < 15; n++) {
    const child = startChild('writer', path);
    // From before the first file is there to after the last.
    await sleep(60 + n * 10);
    child.process.kill('SIGKILL');
    await child.ended;
  }
  const store = await openSqliteStore({ path });
  await store.jobs.add(toJobs(1));
  await store.close();
  expect(toIntegrity(path)).toBe('ok');
});

it('is as before when its process was killed in the middle of a migration', { timeout: 60_000 }, async () => {
  const path = join(toFolder(), 'store.db');
  const store = await openSqliteStore({ path });
  await store.jobs.add(toJobs(50));
  await store.close();
  const child = startChild('migrate', path);
  await until(() => child.said.length > 0, child.stderr() || 'the migration', 20_000);
  // Long enough that half of it is in the journal on disk.
  await sleep(2000);
  expect(child.process.exitCode, child.stderr()).toBeNull();
  child.process.kill('SIGKILL');
  await child.ended;

  const again = await openSqliteStore({ path });
  expect((await again.jobs.counts()).queued).toBe(50);
  await again.close();
  expect(toIntegrity(path)).toBe('ok');
  expect(toTables(path)).not.toContain('half');
});

it('is migrated by the next start, and then refused by a program that is older', async () => {
  const path = join(toFolder(), 'store.db');
  const store = await openSqliteStore({ path });
  await store.jobs.add(toJobs(5));
  await store.close();
  const broken = [...migrations, 'CREATE TABLE more (a); INSERT INTO nowhere VALUES (1);'];
  await expect(openDatabase({ path, migrations: broken })).rejects.toThrow(path);
  expect(toTables(path)).not.toContain('more');
  const newer = [...migrations, 'CREATE TABLE more (a);', 'ALTER TABLE more ADD COLUMN b;'];
  const opened = await Promise.all([
    openDatabase({ path, migrations: newer }),
    openDatabase({ path, migrations: newer }),
  ]);
  for (const { db } of opened) {
    expect(db.prepare('PRAGMA user_version').get()).toEqual({ user_version: newer.length });
    expect(db.prepare('SELECT count(*) AS n FROM job').get()).toEqual({ n: 5 });
    db.close();
  }
  expect(toTables(path)).toContain('more');
  await expect(openSqliteStore({ path })).rejects.toThrow(/newer version/);
});

it('clears away what a start that was killed had left half made', async () => {
  const folder = toFolder();
  const path = join(folder, 'store.db');
  writeFileSync(`${path}.new-dead`, 'half');
  utimesSync(`${path}.new-dead`, 1, 1);
  writeFileSync(`${path}.new-alive`, 'half');
  const store = await openSqliteStore({ path });
  await store.close();
  expect(readdirSync(folder)).toEqual(['store.db', 'store.db.new-alive']);
});

function toIntegrity(path: string): unknown {
  const db = new DatabaseSync(path);
  try {
    return (db.prepare('PRAGMA integrity_check').get() as { integrity_check: string }).integrity_check;
  } finally {
    db.close();
  }
}

function toTables(path: string): unknown[] {
  const db = new DatabaseSync(path);
  try {
    return (db.prepare('SELECT name FROM sqlite_schema').all() as { name: string }[]).map(({ name }) => name);
  } finally {
    db.close();
  }
}
