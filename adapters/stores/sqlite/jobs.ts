// Jobs: taken, claimed, kept alive, ended and put away, each step one transaction.
import type { DatabaseSync } from 'node:sqlite';
import { GatewayError } from '../../../src/error.ts';
import type { Document, Held, JobRecord, JobStore, NewJob, Outcome, Put } from '../../../src/store.ts';
import type { Changes } from './changes.ts';
import type { Documents } from './documents.ts';
import { createLists } from './lists.ts';
import { createOrder, type Order } from './order.ts';
import {
  JOB,
  prepareJobs,
  QUEUED,
  RUNNING,
  toColumns,
  toDeadline,
  toHead,
  toJson,
  toState,
  type JobRow,
} from './rows.ts';
import type { Writer } from './writer.ts';

export interface JobsOptions {
  db: DatabaseSync;
  writer: Writer;
  read: <T>(query: () => T) => Promise<T>;
  documents: Documents;
  changes: Changes;
  now: () => number;
}

const COLUMNS = `seq, id, owner, capability, model, class, state, wait, tag, batch, place, created_at, run_at, max_attempts,
  queue_limit, run_limit, total_limit, since, deadline, notes`;

export function createJobs(options: JobsOptions): JobStore {
  const { writer, read, changes, db } = options;
  const order = createOrder(db);
  const records = createRecords(db);
  const lists = createLists(db);
  const steps = createSteps(options, order, records);

  /** A write that may give somebody something to do is followed by word of it, once it is on disk. */
  async function announce<T>(operation: () => T): Promise<T> {
    const answer = await writer.write(operation);
    changes.tell();
    return answer;
  }

  return {
    add: (jobs, documents) => announce(() => steps.add(jobs, documents)),
    claim: (worker, now) =>
      writer.write(() => {
        const row = steps.claim(worker, now);
        return row && records.toRecord(row);
      }),
    beat: (held) => writer.write(() => steps.beat(held)),
    finish: (held, outcome, documents) => writer.write(() => steps.finish(held, outcome, documents)),
    requeue: (held, how) => announce(() => steps.requeue(held, how)),
    stop: (id, outcome, documents) => announce(() => steps.stop(id, outcome, documents)),
    revive: (id, at) => announce(() => steps.revive(id, at)),
    sweep: (before, limit) => writer.write(() => steps.sweep(before, limit)),
    remove: (id) => writer.write(() => steps.remove(id)),
    get: (id) => read(() => records.get(id)),
    list: (query) => read(() => lists.page(query)),
    position: (id, most) =>
      read(() => {
        const row = records.find(id);
        return row?.state === QUEUED ? order.position(row, most) : undefined;
      }),
    waiting: (owner) => read(() => lists.waiting(owner)),
    counts: () => read(() => lists.counts()),
    batchCounts: (batch) => read(() => lists.counts(batch)),
    batchPending: (batch) =>
      read(() => {
        const { queued, running } = lists.counts(batch);
        return queued + running > 0;
      }),
    batchJobs: (batch, index, limit) => read(() => records.batch(batch, index, limit)),
    running: () => read(() => lists.running()),
    overdue: (now, limit) => read(() => lists.overdue(now, limit)),
    nextAt: () => read(() => lists.nextAt()),
    onChange: (listener) => changes.listen(listener),
  };
}

/** What changes jobs; all of it is to be called in a transaction. */
function createSteps({ db, documents, changes, now }: JobsOptions, order: Order, { find }: Records) {
  const insert = db.prepare(`INSERT INTO job (${COLUMNS}) VALUES (${COLUMNS.replace(/\w+/g, ':$&')})`);
  const number = db.prepare("UPDATE tally SET n = n + 1 WHERE scope = 'job' AND key = 0 RETURNING n");
  const saveInput = db.prepare('INSERT INTO input VALUES (?, ?)');
  const saveResult = db.prepare('INSERT INTO result VALUES (?, ?)');
  const start = prepareJobs(
    db,
    `UPDATE job SET state = 1, wait = 0, attempts = attempts + 1, fence = fence + 1, beat = beat + 1, worker = ?,
       started_at = ? WHERE seq = ? RETURNING ${JOB}`,
  );
  const live = db.prepare(
    'UPDATE job SET beat = beat + 1 WHERE id = ? AND fence = ? AND state = 1 RETURNING cancelled',
  );
  const end = db.prepare(
    'UPDATE job SET state = ?, wait = 0, finished_at = ?, error = ?, notes = ?, worker = NULL, cancelled = 0 WHERE seq = ?',
  );
  const wait = db.prepare(
    `UPDATE job SET state = 0, wait = :wait, tag = :tag, run_at = :run_at, since = :since, attempts = :attempts,
       deadline = :deadline, notes = :notes, started_at = :started_at, cancelled = :cancelled, worker = NULL,
       finished_at = NULL, error = NULL WHERE seq = :seq`,
  );
  const mark = db.prepare('UPDATE job SET cancelled = 1 WHERE seq = ?');
  const ended = db.prepare(
    'SELECT seq, id FROM job WHERE state > 1 AND finished_at < ? ORDER BY finished_at, seq LIMIT ?',
  );
  const erase = db.prepare('DELETE FROM job WHERE seq = ?');

  const held = ({ id, fence }: Held): JobRow | undefined => {
    const row = find(id);
    return row?.state === RUNNING && row.fence === fence ? row : undefined;
  };

  function close(row: JobRow, { state, at, result, error, notes }: Outcome, puts: readonly Put[] = []): void {
    if (documents.apply(puts)) throw new GatewayError('conflict', 'What belongs to the job was changed meanwhile.');
    end.run(toState(state), at, toJson(error), merge(row, notes), row.seq);
    const json = state === 'done' ? toJson(result) : null;
    if (json !== null) saveResult.run(row.seq, json);
  }

  function back(row: JobRow, change: Partial<JobRow>): void {
    const { seq, since, run_at, attempts, notes, started_at, cancelled, ...rest } = { ...row, ...change };
    const { wait: place, tag } = order.place(rest, run_at <= now());
    const deadline = toDeadline({ ...rest, since, run_at, attempts });
    wait.run({ seq, since, run_at, attempts, notes, started_at, cancelled, wait: place, tag, deadline });
    changes.mark();
  }

  return {
    add(jobs: readonly NewJob[], puts: readonly Put[] = []): Document | undefined {
      const { conflict } = documents.apply(puts) ?? {};
      if (conflict === 'missing') throw new GatewayError('conflict', 'What the job was to change is gone.');
      if (conflict) return conflict;
      for (const job of jobs) {
        const columns = toColumns(job);
        // A job that asked for no delay waits for no clock.
        const ready = job.runAt <= Math.max(job.createdAt, now());
        const turn = { class: columns['class'] as number, owner: job.owner, tag: null };
        const place = job.ended ? { wait: 0, tag: null } : order.place(turn, ready);
        const { n } = number.get() as { n: number };
        insert.run({ ...columns, ...place, seq: n });
        saveInput.run(n, toJson(job.input));
        if (job.ended) close(find(job.id)!, job.ended);
      }
      if (jobs.length > 0) changes.mark();
      return undefined;
    },
    claim(worker: string, at: number): JobRow | undefined {
      const row = order.next(at);
      if (!row) return undefined;
      order.taken(row);
      return start.get(worker, at, row.seq);
    },
    beat(all: readonly Held[]) {
      const answer = { lost: [] as string[], cancelled: [] as string[] };
      for (const { id, fence } of all) {
        const row = live.get(id, fence) as { cancelled: number } | undefined;
        if (!row) answer.lost.push(id);
        else if (row.cancelled !== 0) answer.cancelled.push(id);
      }
      return answer;
    },
    finish(job: Held, outcome: Outcome, puts?: readonly Put[]): boolean {
      const row = held(job);
      if (row) close(row, outcome, puts);
      return row !== undefined;
    },
    requeue(job: Held, how: { runAt: number; refund?: boolean; notes?: Record<string, unknown> }): boolean {
      const row = held(job);
      if (!row) return false;
      const attempts = row.attempts - (how.refund ? 1 : 0);
      back(row, { run_at: how.runAt, attempts, notes: merge(row, how.notes) });
      return true;
    },
    stop(id: string, outcome: Outcome, puts?: readonly Put[]): 'stopped' | 'marked' | 'ended' | undefined {
      const row = find(id);
      if (!row) return undefined;
      if (row.state === QUEUED) close(row, outcome, puts);
      if (row.state === RUNNING) {
        mark.run(row.seq);
        changes.mark();
      }
      return row.state === QUEUED ? 'stopped' : row.state === RUNNING ? 'marked' : 'ended';
    },
    revive(id: string, at: number): boolean {
      const row = find(id);
      if (!row || (row.state !== toState('failed') && row.state !== toState('cancelled'))) return false;
      // Its time counts from now: in all it would often be over at once.
      back(row, { run_at: at, since: Math.max(row.since, at), attempts: 0, tag: null, started_at: null, cancelled: 0 });
      return true;
    },
    sweep(before: number, limit: number): string[] {
      const rows = ended.all(before, limit) as { seq: number; id: string }[];
      for (const { seq } of rows) erase.run(seq);
      return rows.map(({ id }) => id);
    },
    remove(id: string): boolean {
      const row = find(id);
      if (!row || row.state <= RUNNING) return false;
      erase.run(row.seq);
      return true;
    },
  };
}

type Records = ReturnType<typeof createRecords>;

/** Rows by id, and rows with what was asked and what came out. */
function createRecords(db: DatabaseSync) {
  const byId = prepareJobs(db, `SELECT ${JOB} FROM job WHERE id = ?`);
  const input = db.prepare('SELECT value FROM input WHERE seq = ?');
  const result = db.prepare('SELECT value FROM result WHERE seq = ?');
  const inBatch = prepareJobs(db, `SELECT ${JOB} FROM job WHERE batch = ? AND place >= ? ORDER BY place LIMIT ?`);

  const find = (id: string) => byId.get(id);

  function toRecord(row: JobRow): JobRecord {
    const asked = (input.get(row.seq) as { value: string | null } | undefined)?.value ?? null;
    const record: JobRecord = { ...toHead(row), input: asked === null ? undefined : JSON.parse(asked) };
    const came = row.state > RUNNING ? (result.get(row.seq) as { value: string } | undefined) : undefined;
    if (came) record.result = JSON.parse(came.value);
    return record;
  }

  return {
    find,
    toRecord,
    get(id: string): JobRecord | undefined {
      const row = find(id);
      return row && toRecord(row);
    },
    batch: (batch: string, index: number, limit: number): JobRecord[] => inBatch.all(batch, index, limit).map(toRecord),
  };
}

function merge(row: JobRow, notes: Record<string, unknown> | undefined): string {
  return notes ? JSON.stringify({ ...(JSON.parse(row.notes) as object), ...notes }) : row.notes;
}
