// The file of the SQLite store: how it is opened, and everything that is refused instead of being made worse.
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openDatabase } from '../../adapters/stores/sqlite/database.ts';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { migrations } from '../../adapters/stores/sqlite/schema.ts';
import { ConfigError } from '../../src/config.ts';
import { toFolder, toSmallDisk } from '../support/store-cases-files.ts';
import { toJob, toJobs } from '../support/store-cases-helpers.ts';
import { asNobody } from '../support/nobody.ts';

/** A closed database with some jobs in it. */
async function toDatabase(folder = toFolder()): Promise<string> {
  const path = join(folder, 'store.db');
  const store = await openSqliteStore({ path });
  await store.jobs.add(toJobs(200, { input: { text: 'x'.repeat(500) } }));
  await store.close();
  return path;
}

/** It says no, naming the file, and leaves everything in the folder as it was. */
async function expectRefusal(path: string, because: RegExp, options: Partial<Parameters<typeof openDatabase>[0]> = {}) {
  const folder = join(path, '..');
  const look = () =>
    readdirSync(folder).map((name) => [
      name,
      statSync(join(folder, name)).isFile() ? readFileSync(join(folder, name)) : '',
    ]);
  const before = look();
  const error = await openSqliteStore({ path, ...options }).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as Error).message).toContain(path);
  expect((error as Error).message).toMatch(because);
  expect(look()).toEqual(before);
}

describe('a database', () => {
  it('is durable, patient, checked and never mapped into memory', async () => {
    const { db } = await openDatabase({ path: join(toFolder(), 'store.db') });
    const pragma = (name: string) => Object.values(db.prepare(`PRAGMA ${name}`).get()!)[0];
    expect(pragma('journal_mode')).toBe('wal');
    expect(pragma('synchronous')).toBe(2);
    expect(pragma('busy_timeout')).toBeGreaterThanOrEqual(5000);
    expect(pragma('foreign_keys')).toBe(1);
    expect(pragma('mmap_size')).toBe(0);
    expect(pragma('user_version')).toBe(migrations.length);
    db.close();
  });

  it('is for this user alone, whatever the umask', async () => {
    const umask = process.umask(0);
    onTestFinished(() => void process.umask(umask));
    const folder = toFolder();
    const store = await openSqliteStore({ path: join(folder, 'store.db') });
    await store.jobs.add([toJob()]);
    const modes = readdirSync(folder).map((name) => [name, (statSync(join(folder, name)).mode & 0o777).toString(8)]);
    expect(modes).toEqual([
      ['store.db', '600'],
      ['store.db-shm', '600'],
      ['store.db-wal', '600'],
    ]);
    await store.close();
  });

  it('is for this user alone after it was restored from a backup that was not', async () => {
    const path = await toDatabase();
    chmodSync(path, 0o644);
    const store = await openSqliteStore({ path });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await store.close();
  });

  it('is opened by two gateways that start at once on an empty folder', async () => {
    const path = join(toFolder(), 'store.db');
    const stores = await Promise.all(Array.from({ length: 4 }, () => openSqliteStore({ path })));
    await Promise.all(stores.map(({ jobs }) => jobs.add([toJob()])));
    expect((await stores[0]!.jobs.counts()).queued).toBe(4);
    for (const store of stores) await store.close();
    expect(readdirSync(join(path, '..'))).toEqual(['store.db']);
  });

  it('is found through a link', async () => {
    const path = await toDatabase();
    const link = join(toFolder(), 'linked.db');
    symlinkSync(path, link);
    const store = await openSqliteStore({ path: link });
    expect((await store.jobs.counts()).queued).toBe(200);
    await store.close();
  });

  it('is reported when its file is taken away while it is used', async () => {
    const path = await toDatabase();
    const store = await openSqliteStore({ path });
    renameSync(path, `${path}.away`);
    const health = await store.health();
    expect(health.ok).toBe(false);
    expect(health.problems.join()).toMatch(/moved or deleted/);
    renameSync(`${path}.away`, path);
    expect((await store.health()).ok).toBe(true);
    await store.close();
  });
});

describe('it refuses', () => {
  it('a SQLite library that can lose data', async () => {
    const path = join(toFolder(), 'store.db');
    await expect(openSqliteStore({ path, minVersion: '99.1.0' })).rejects.toThrow(/SQLite \d+\.\d+\.\d+ .*99\.1\.0/);
    await expect(openSqliteStore({ path, minVersion: '99.1.0' })).rejects.toBeInstanceOf(ConfigError);
    expect(readdirSync(join(path, '..'))).toEqual([]);
    // Numbers, not text: 3.9 came before 3.51.
    await (await openSqliteStore({ path, minVersion: '3.9.0' })).close();
  });

  it('an empty file', async () => {
    const path = await toDatabase();
    truncateSync(path, 0);
    await expectRefusal(path, /empty.*backup/);
  });

  it('a file that is cut short, wherever', async () => {
    const path = await toDatabase();
    const { size } = statSync(path);
    const whole = readFileSync(path);
    for (const left of [1, 50, 99, 100, 4096, size / 2, size - 4096, size - 1]) {
      writeFileSync(path, whole.subarray(0, left));
      await expectRefusal(path, /damaged|cut short/);
    }
  });

  it('random bytes, alone and in the middle of a database', async () => {
    const path = await toDatabase();
    const whole = readFileSync(path);
    writeFileSync(path, crypto.getRandomValues(new Uint8Array(20_000)));
    await expectRefusal(path, /damaged|not a database/);
    const torn = Buffer.from(whole);
    crypto.getRandomValues(torn.subarray(4096, 3 * 4096));
    writeFileSync(path, torn);
    const store = openSqliteStore({ path });
    await expect(store).rejects.toBeInstanceOf(ConfigError);
    await expect(store).rejects.toThrow(/damaged/);
  });

  it('a journal whose database is gone', async () => {
    const path = await toDatabase();
    const store = await openSqliteStore({ path });
    await store.jobs.add([toJob()]);
    const journal = readFileSync(`${path}-wal`);
    await store.close();
    rmSync(path);
    writeFileSync(`${path}-wal`, journal);
    await expectRefusal(path, /gone/);
  });

  it('a database of another program', async () => {
    const path = join(toFolder(), 'store.db');
    const db = new DatabaseSync(path);
    db.exec('CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)');
    db.close();
    await expectRefusal(path, /another program/);
  });

  it('a schema that is newer than its own', async () => {
    const path = await toDatabase();
    const db = new DatabaseSync(path);
    db.exec(`PRAGMA user_version = ${migrations.length + 1}`);
    db.close();
    await expect(openSqliteStore({ path })).rejects.toBeInstanceOf(ConfigError);
    await expectRefusal(path, /newer version/);
  });

  it('a folder in place of a file, and a folder that is not there', async () => {
    const folder = toFolder();
    const path = join(folder, 'store.db');
    mkdirSync(path);
    await expectRefusal(path, /not a file/);
    await expect(openSqliteStore({ path: join(folder, 'no', 'store.db') })).rejects.toThrow(/folder is not there/);
    await expect(openSqliteStore({ path: join(folder, 'no', 'store.db') })).rejects.toBeInstanceOf(ConfigError);
  });

  it('a network file system', async () => {
    const path = await toDatabase();
    await expectRefusal(path, /NFS.*local disk/, { toFileSystem: () => 0x6969 });
  });

  it('a file that it may read but not write', async () => {
    const path = await toDatabase();
    chmodSync(join(path, '..'), 0o755);
    chmodSync(path, 0o444);
    await asNobody(() => expectRefusal(path, /cannot be written/));
  });

  it('a folder that it may read but not write', async () => {
    const path = await toDatabase();
    chmodSync(path, 0o666);
    chmodSync(join(path, '..'), 0o555);
    await asNobody(() => expectRefusal(path, /cannot be written/));
    await asNobody(() => expectRefusal(join(path, '..', 'new.db'), /cannot be (written|opened)/));
  });

  it('a disk that is read-only', async ({ skip }) => {
    const disk = toSmallDisk(8) ?? skip('this user may mount nothing');
    const path = await toDatabase(disk.folder);
    disk.remount('ro');
    await expectRefusal(path, /cannot be written/);
    await expectRefusal(join(disk.folder, 'new.db'), /cannot be written/);
  });
});

describe('a backup', () => {
  it('made while it is used is whole', async () => {
    const path = await toDatabase();
    const store = await openSqliteStore({ path });
    await store.jobs.add([toJob()]);
    const copy = join(toFolder(), 'copy.db');
    const db = new DatabaseSync(path);
    db.exec(`VACUUM INTO '${copy}'`);
    db.close();
    await store.close();
    const again = await openSqliteStore({ path: copy });
    expect((await again.jobs.counts()).queued).toBe(201);
    await again.close();
  });
});
