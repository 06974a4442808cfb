// Opens the database file: made whole or not at all, checked, for this user alone, and brought to our schema.
import { chmodSync, closeSync, fsyncSync, linkSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigError } from '../../../src/config.ts';
import { isBroken, isBusy, isReadOnly } from './failure.ts';
import { inspect } from './inspect.ts';
import { APPLICATION_ID, migrations as ours } from './schema.ts';

/** Earlier ones can lose commits when a checkpoint and a reset of the journal meet. */
const MIN_VERSION = '3.51.3';
/** Longest wait where SQLite waits by itself, in milliseconds: for a start beside this one, a journal that is recovered. */
export const BUSY_MS = 10_000;
/** A larger one is checked by its use: reading all of it would hold the start up. */
const CHECKED_BYTES = 16 * 1024 * 1024;
/** Half-made files older than this, in milliseconds, were left by a process that died. */
const LEFTOVER_MS = 3_600_000;

export interface DatabaseOptions {
  path: string;
  /** The least version of the SQLite library. */
  minVersion?: string;
  migrations?: readonly string[];
  /** The magic number of the file system that a folder is on. */
  toFileSystem?: (folder: string) => number | undefined;
}

/** Throws a ConfigError, naming the file and the remedy, where the file or the library cannot be trusted. */
export async function openDatabase(options: DatabaseOptions): Promise<{ db: DatabaseSync; path: string }> {
  const { path: wanted, minVersion = MIN_VERSION, migrations = ours, toFileSystem } = options;
  refuseOldLibrary(minVersion);
  const { path, exists } = inspect(wanted, toFileSystem);
  if (!exists) {
    create(path, migrations);
    inspect(wanted, toFileSystem);
  }
  let db: DatabaseSync | undefined;
  try {
    db = connect(path);
    const version = toVersion(db);
    if (version > migrations.length)
      throw new ConfigError(`${wanted}: was written by a newer version of hono-ai (schema ${version}). Use that one.`);
    await useJournal(db);
    restrict(path);
    // A database that can only be read says so no earlier than this.
    db.exec('BEGIN IMMEDIATE; ROLLBACK');
    if (statSync(path).size <= CHECKED_BYTES) check(db, wanted);
    migrate(db, migrations, wanted);
    return { db, path };
  } catch (error) {
    db?.close();
    throw toConfigError(error, wanted);
  }
}

/** Brings the schema up, each step in one transaction: a process killed within leaves the version before or after. */
function migrate(db: DatabaseSync, migrations: readonly string[], name: string): void {
  while (toVersion(db) < migrations.length) {
    db.exec('BEGIN IMMEDIATE');
    try {
      // Another process may have done it while this one waited.
      const version = toVersion(db);
      if (version > migrations.length)
        throw new ConfigError(`${name}: was just migrated by a newer version. Use that one.`);
      if (version < migrations.length) {
        db.exec(migrations[version]!);
        db.exec(`PRAGMA user_version = ${version + 1}`);
      }
      db.exec('COMMIT');
    } catch (error) {
      try {
        db.exec('ROLLBACK');
      } catch {
        // SQLite has rolled back itself.
      }
      throw error;
    }
  }
}

/** Made under another name and linked into place, so that nobody ever sees, or keeps, a half one. */
function create(path: string, migrations: readonly string[]): void {
  const folder = dirname(path);
  const prefix = `${basename(path)}.new-`;
  clearLeftovers(folder, prefix);
  const draft = join(folder, `${prefix}${crypto.randomUUID()}`);
  try {
    closeSync(openSync(draft, 'wx', 0o600));
    const db = connect(draft);
    try {
      db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
      db.exec('PRAGMA journal_mode = WAL');
      migrate(db, migrations, path);
    } finally {
      db.close();
    }
    sync(draft);
    linkSync(draft, path);
    sync(folder);
  } catch (error) {
    // Two gateways that start at once: whose link came first has made it for both.
    if ((error as { code?: string }).code !== 'EEXIST') throw toConfigError(error, path);
  } finally {
    for (const end of ['', '-wal', '-shm', '-journal']) rmSync(draft + end, { force: true });
  }
}

function connect(path: string): DatabaseSync {
  const db = new DatabaseSync(path);
  try {
    db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
    // A commit is on the disk when it returns; the second line is what that takes on macOS.
    db.exec('PRAGMA synchronous = FULL');
    db.exec('PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON');
    db.exec('PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF');
    // A page that fails to be read must be an error, not a signal.
    // 64 MB hold the upper part of every index at a million jobs: a job then costs what it costs among a thousand.
    db.exec('PRAGMA mmap_size = 0; PRAGMA cache_size = -64000; PRAGMA temp_store = MEMORY');
    db.exec('PRAGMA journal_size_limit = 67108864');
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** SQLite does not wait for the other where two processes change the journal mode, or recover it, at once. */
async function useJournal(db: DatabaseSync): Promise<void> {
  for (let left = BUSY_MS; ; left -= 50) {
    try {
      const { journal_mode: mode } = db.prepare('PRAGMA journal_mode = WAL').get() as { journal_mode: string };
      if (mode !== 'wal')
        throw new ConfigError('The file system under the database has no shared memory. Use a local disk.');
      return;
    } catch (error) {
      if (!isBusy(error) || left <= 0) throw error;
      await sleep(50);
    }
  }
}

function check(db: DatabaseSync, name: string): void {
  const { quick_check: answer } = db.prepare('PRAGMA quick_check(1)').get() as { quick_check: string };
  if (answer !== 'ok') throw new ConfigError(`${name}: is damaged. ${RESTORE}`);
}

const RESTORE = 'Restore it from a backup, or move it away to start with an empty one.';

function toVersion(db: DatabaseSync): number {
  return (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version;
}

function refuseOldLibrary(least: string): void {
  const db = new DatabaseSync(':memory:');
  const { version } = db.prepare('SELECT sqlite_version() AS version').get() as { version: string };
  db.close();
  if (version.localeCompare(least, 'en', { numeric: true }) >= 0) return;
  throw new ConfigError(`SQLite ${version} can lose data; ${least} or later is needed. Use a newer Node, Bun or Deno.`);
}

/** For this user alone, whatever the umask and whoever restored it. */
function restrict(path: string): void {
  for (const file of [path, `${path}-wal`, `${path}-shm`]) {
    const found = statSync(file, { throwIfNoEntry: false });
    if (found === undefined || (found.mode & 0o077) === 0) continue;
    try {
      chmodSync(file, 0o600);
    } catch {
      // Somebody else's file that this user may write: their decision.
    }
  }
}

function clearLeftovers(folder: string, prefix: string): void {
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(prefix)) continue;
    const found = statSync(join(folder, name), { throwIfNoEntry: false });
    if (found && Date.now() - found.mtimeMs > LEFTOVER_MS) rmSync(join(folder, name), { force: true });
  }
}

function sync(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function toConfigError(error: unknown, name: string): unknown {
  if (error instanceof ConfigError) return error;
  const cause = { cause: error };
  if (isBroken(error)) return new ConfigError(`${name}: is damaged, or not a database. ${RESTORE}`, cause);
  if (isBusy(error)) return new ConfigError(`${name}: another program holds it. End that program.`, cause);
  if (isReadOnly(error))
    return new ConfigError(`${name}: cannot be written. Give this user write access to it.`, cause);
  const reason = error instanceof Error ? error.message : String(error);
  return new ConfigError(`${name}: cannot be opened (${reason}). Check the file and the room on its disk.`, cause);
}
