// The embedded store: everything in one SQLite file, shared by any number of processes on this machine.
import { statSync } from 'node:fs';
import { createLocalSpine } from '../../../src/hub.ts';
import type { EventSpine, Store, StoreHealth } from '../../../src/store.ts';
import { createChanges } from './changes.ts';
import { openDatabase, type DatabaseOptions } from './database.ts';
import { createDocuments } from './documents.ts';
import { closed, toFree, toStoreError } from './failure.ts';
import { createJobs } from './jobs.ts';
import { createWriter } from './writer.ts';

/** Less room than this is told before it runs out, in bytes. */
const SCARCE = 256 * 1024 * 1024;

export interface SqliteStoreOptions extends DatabaseOptions {
  spine?: EventSpine;
  /** Milliseconds since 1970. */
  now?: () => number;
}

/** Throws a ConfigError, naming the file and the remedy, where the file or the SQLite library cannot be trusted. */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const { spine = createLocalSpine(), now = Date.now } = options;
  const { db, path } = await openDatabase(options);
  const file = statSync(path).ino;
  const writer = createWriter(db, path);
  const changes = createChanges(db);
  let open = true;

  async function read<T>(query: () => T): Promise<T> {
    if (!open) throw closed();
    try {
      return query();
    } catch (error) {
      throw toStoreError(error, path);
    }
  }

  const documents = createDocuments({ db, writer, read, now });
  const { apply: _, ...publicDocuments } = documents;
  return {
    name: 'sqlite',
    jobs: createJobs({ db, writer, read, documents, changes, now }),
    documents: publicDocuments,
    spine,
    async health() {
      if (!open) return { ok: false, problems: ['The store is closed.'] };
      const problems = await toProblems(path, file, writer.failure() !== undefined, () =>
        writer.write(() => undefined),
      );
      return problems;
    },
    async close() {
      if (!open) return;
      open = false;
      changes.close();
      await writer.close();
      db.close();
    },
  };
}

async function toProblems(
  path: string,
  file: number,
  failing: boolean,
  probe: () => Promise<unknown>,
): Promise<StoreHealth> {
  const problems: string[] = [];
  let ok = true;
  if (statSync(path, { throwIfNoEntry: false })?.ino !== file) {
    ok = false;
    problems.push('The database file was moved or deleted while in use: put it back and restart.');
  } else if (failing) {
    await probe().catch((error: unknown) => {
      ok = false;
      problems.push(`The last write failed: ${error instanceof Error ? error.message : String(error)}`);
    });
  }
  const free = toFree(path);
  if (free !== undefined && free < SCARCE) problems.push('The disk of the database is almost full: free some space.');
  return { ok, problems };
}
