// What this gateway has promised, on its own disk: should Redis lose its data, the jobs that have not ended are not lost with it.
import { DatabaseSync } from 'node:sqlite';
import { GatewayError } from '../../../src/error.ts';
import type { JobRecord, NewJob, Put } from '../../../src/store.ts';
import { toNewJob, type Known } from './record.ts';

export interface Entry {
  id: string;
  job: NewJob;
  known: Known;
}

export interface Journal {
  /** On disk when it returns. Throws `storage_full` or `storage_unavailable`. */
  insert(jobs: readonly NewJob[], puts: readonly Put[], since: number): void;
  /** A job that has been promised again. */
  revived(record: JobRecord, since: number): void;
  /** It was started: should it come back from here, that start still counts. */
  claimed(id: string, attempts: number, fence: number): void;
  ended(ids: readonly string[]): void;
  /** A part of all entries, after that id. */
  page(after: string, limit: number): Entry[];
  /** Documents that came with jobs which have not ended. */
  documents(): Put[];
  /** Which data, and which run of Redis, this gateway saw last. */
  seen(): { epoch: string; run: string } | undefined;
  see(epoch: string, run: string): void;
  /** What went wrong with the last write, until one succeeds. */
  failing(): boolean;
  close(): void;
}

/** Without a path nothing is written: Redis alone is trusted. */
export function openJournal(path: string | undefined): Journal {
  const db = new DatabaseSync(path ?? ':memory:');
  db.exec(`
    PRAGMA busy_timeout = 2000; PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON;
    CREATE TABLE IF NOT EXISTS taken (n INTEGER PRIMARY KEY, puts TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS job (
      id TEXT PRIMARY KEY, taken INTEGER NOT NULL REFERENCES taken, job TEXT NOT NULL, attempts INTEGER NOT NULL,
      fence INTEGER NOT NULL, since INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS job_taken ON job (taken);
    CREATE TABLE IF NOT EXISTS seen (only INTEGER PRIMARY KEY CHECK (only = 1), epoch TEXT NOT NULL, run TEXT NOT NULL);
    CREATE TRIGGER IF NOT EXISTS over AFTER DELETE ON job WHEN NOT EXISTS (SELECT 1 FROM job WHERE taken = old.taken)
      BEGIN DELETE FROM taken WHERE n = old.taken; END;
  `);
  const take = db.prepare('INSERT INTO taken (puts) VALUES (?)');
  const insert = db.prepare('INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?, ?)');
  const claim = db.prepare('UPDATE job SET attempts = ?, fence = ? WHERE id = ?');
  const end = db.prepare('DELETE FROM job WHERE id = ?');
  const page = db.prepare('SELECT * FROM job WHERE id > ? ORDER BY id LIMIT ?');
  const puts = db.prepare('SELECT puts FROM taken ORDER BY n');
  const seen = db.prepare('SELECT epoch, run FROM seen');
  const see = db.prepare('INSERT OR REPLACE INTO seen VALUES (1, ?, ?)');
  let broken = false;
  let open = true;

  /** `safe`: waits for the disk; otherwise only the end of this process is survived, not that of the machine. */
  function write(safe: boolean, work: () => void): void {
    if (path === undefined || !open) return;
    try {
      db.exec(`PRAGMA synchronous = ${safe ? 'FULL' : 'NORMAL'}; BEGIN IMMEDIATE`);
      work();
      db.exec('COMMIT');
      broken = false;
    } catch (error) {
      broken = true;
      if (db.isTransaction) db.exec('ROLLBACK');
      throw toJournalError(error);
    }
  }

  /** What is only a hint may fail; the state of the disk is told by health. */
  function tryWrite(work: () => void): void {
    try {
      write(false, work);
    } catch {
      // `broken` says it.
    }
  }

  const save = (jobs: readonly NewJob[], with_: readonly Put[], since: number) => {
    const { lastInsertRowid } = take.run(JSON.stringify(with_));
    for (const job of jobs) insert.run(job.id, lastInsertRowid, JSON.stringify(job), 0, 0, since);
  };

  return {
    insert(jobs, with_, since) {
      if (jobs.length > 0) write(true, () => save(jobs, with_, since));
    },
    revived: (record, since) =>
      write(true, () => {
        save([toNewJob(record)], [], since);
        claim.run(0, record.fence, record.id);
      }),
    claimed: (id, attempts, fence) => tryWrite(() => claim.run(attempts, fence, id)),
    ended(ids) {
      if (ids.length === 0) return;
      tryWrite(() => {
        for (const id of ids) end.run(id);
      });
    },
    page: (after, limit) => (page.all(after, limit) as unknown as Row[]).map(toEntry),
    documents: () => (puts.all() as { puts: string }[]).flatMap((row) => JSON.parse(row.puts) as Put[]),
    seen: () => seen.get() as { epoch: string; run: string } | undefined,
    see: (epoch, run) => tryWrite(() => see.run(epoch, run)),
    failing: () => broken,
    close() {
      open = false;
      db.close();
    },
  };
}

interface Row {
  id: string;
  job: string;
  attempts: number;
  fence: number;
  since: number;
}

function toEntry({ id, job, attempts, fence, since }: Row): Entry {
  return { id, job: JSON.parse(job) as NewJob, known: { attempts, fence, since } };
}

function toJournalError(error: unknown): GatewayError {
  const full = error instanceof Error && /full/i.test(error.message);
  return new GatewayError(
    full ? 'storage_full' : 'storage_unavailable',
    full ? 'There is no room left to keep this safely.' : 'The job cannot be written down safely.',
    { hint: 'Look at the disk of the state directory.', retryAfter: 10, cause: error },
  );
}
