// Rows ⇄ records: what a job and a document look like in the tables, and the places that a list is continued from.
import type { DatabaseSync } from 'node:sqlite';
import { GatewayError } from '../../../src/error.ts';
import { priorities, type Document, type JobHead, type JobState, type NewJob } from '../../../src/store.ts';
import { states } from './schema.ts';

export type Value = string | number | null;

export interface JobRow {
  seq: number;
  id: string;
  owner: string;
  capability: string;
  model: string | null;
  class: number;
  state: number;
  wait: number;
  tag: number | null;
  batch: string | null;
  place: number | null;
  created_at: number;
  run_at: number;
  started_at: number | null;
  finished_at: number | null;
  attempts: number;
  max_attempts: number;
  queue_limit: number;
  run_limit: number;
  total_limit: number;
  since: number;
  deadline: number | null;
  fence: number;
  worker: string | null;
  beat: number;
  cancelled: number;
  notes: string;
  error: string | null;
}

/** In the order in which \`toRow\` takes them. */
export const JOB = `seq, id, owner, capability, model, class, state, wait, tag, batch, place, created_at, run_at, started_at,
  finished_at, attempts, max_attempts, queue_limit, run_limit, total_limit, since, deadline, fence, worker, beat, cancelled, notes, error`;

export interface JobReader {
  get(...values: Value[]): JobRow | undefined;
  all(...values: Value[]): JobRow[];
}

/** A query for the columns of \`JOB\`. Rows come as arrays: objects that SQLite makes are slow to make and slow to read. */
export function prepareJobs(db: DatabaseSync, sql: string): JobReader {
  const statement = db.prepare(sql);
  statement.setReturnArrays(true);
  return {
    get(...values) {
      const row = statement.get(...values) as unknown as Value[] | undefined;
      return row && toRow(row);
    },
    all: (...values) => (statement.all(...values) as unknown as Value[][]).map(toRow),
  };
}

function toRow(values: Value[]): JobRow {
  return {
    seq: values[0] as JobRow['seq'],
    id: values[1] as JobRow['id'],
    owner: values[2] as JobRow['owner'],
    capability: values[3] as JobRow['capability'],
    model: values[4] as JobRow['model'],
    class: values[5] as JobRow['class'],
    state: values[6] as JobRow['state'],
    wait: values[7] as JobRow['wait'],
    tag: values[8] as JobRow['tag'],
    batch: values[9] as JobRow['batch'],
    place: values[10] as JobRow['place'],
    created_at: values[11] as JobRow['created_at'],
    run_at: values[12] as JobRow['run_at'],
    started_at: values[13] as JobRow['started_at'],
    finished_at: values[14] as JobRow['finished_at'],
    attempts: values[15] as JobRow['attempts'],
    max_attempts: values[16] as JobRow['max_attempts'],
    queue_limit: values[17] as JobRow['queue_limit'],
    run_limit: values[18] as JobRow['run_limit'],
    total_limit: values[19] as JobRow['total_limit'],
    since: values[20] as JobRow['since'],
    deadline: values[21] as JobRow['deadline'],
    fence: values[22] as JobRow['fence'],
    worker: values[23] as JobRow['worker'],
    beat: values[24] as JobRow['beat'],
    cancelled: values[25] as JobRow['cancelled'],
    notes: values[26] as JobRow['notes'],
    error: values[27] as JobRow['error'],
  };
}

export interface DocumentRow {
  seq: number;
  kind: string;
  id: string;
  owner: string;
  due: number | null;
  ref: string | null;
  version: number;
  created_at: number;
  value: string | null;
}

export const QUEUED = 0;
export const RUNNING = 1;
/** What `wait` says of a job that may start, and of one that may not start yet. */
export const READY = 1;
export const LATER = 2;

export function toHead(row: JobRow): JobHead {
  const head: JobHead = {
    id: row.id,
    owner: row.owner,
    capability: row.capability,
    priority: priorities[row.class]!,
    state: states[row.state]!,
    createdAt: row.created_at,
    since: row.since,
    runAt: row.run_at,
    attempts: row.attempts,
    maxAttempts: row.max_attempts,
    limits: { queue: row.queue_limit, run: row.run_limit, total: row.total_limit },
    fence: row.fence,
    beat: row.beat,
    notes: JSON.parse(row.notes) as Record<string, unknown>,
  };
  if (row.model !== null) head.model = row.model;
  if (row.batch !== null) head.batch = row.batch;
  if (row.place !== null) head.index = row.place;
  if (row.started_at !== null) head.startedAt = row.started_at;
  if (row.finished_at !== null) head.finishedAt = row.finished_at;
  if (row.worker !== null) head.worker = row.worker;
  if (row.cancelled !== 0) head.cancelled = true;
  if (row.error !== null) head.error = JSON.parse(row.error) as JobHead['error'];
  return head;
}

/** Named as the columns are, without its number and its place in the order. */
export function toColumns(job: NewJob): Record<string, Value> {
  return {
    id: job.id,
    owner: job.owner,
    capability: job.capability,
    model: job.model ?? null,
    class: toClass(job.priority),
    state: QUEUED,
    batch: job.batch ?? null,
    place: job.index ?? null,
    created_at: job.createdAt,
    run_at: job.runAt,
    max_attempts: job.maxAttempts,
    queue_limit: job.limits.queue,
    run_limit: job.limits.run,
    total_limit: job.limits.total,
    since: job.createdAt,
    deadline: toDeadline({
      attempts: 0,
      run_at: job.runAt,
      since: job.createdAt,
      queue_limit: job.limits.queue,
      total_limit: job.limits.total,
    }),
    notes: JSON.stringify(job.notes),
  };
}

/** Until when a waiting job may wait: for its first start, and in all. Null: without end. */
export function toDeadline(
  row: Pick<JobRow, 'attempts' | 'run_at' | 'since' | 'queue_limit' | 'total_limit'>,
): number | null {
  const total = row.since + row.total_limit;
  const deadline = row.attempts === 0 ? Math.min(row.run_at + row.queue_limit, total) : total;
  return Number.isFinite(deadline) ? deadline : null;
}

export const toClass = (priority: JobHead['priority']): number => priorities.indexOf(priority);
export const toState = (state: JobState): number => states.indexOf(state);

/** JSON as it is kept; null for what JSON does not have. */
export function toJson(value: unknown): string | null {
  return value === undefined ? null : JSON.stringify(value);
}

export function toDocument<T>(row: DocumentRow): Document<T> {
  const document: Document<T> = {
    kind: row.kind,
    id: row.id,
    owner: row.owner,
    value: (row.value === null ? undefined : JSON.parse(row.value)) as T,
    version: row.version,
    createdAt: row.created_at,
  };
  if (row.due !== null) document.due = row.due;
  if (row.ref !== null) document.ref = row.ref;
  return document;
}

/** A place in a list: rows never change theirs and never take one that was taken before. */
export function toCursor(seq: number): string {
  return `s${seq.toString(36)}`;
}

/** The place a cursor names; without one the place before all. Throws `invalid_request` for what is no cursor. */
export function fromCursor(cursor: string | undefined): number {
  if (cursor === undefined) return Number.MAX_SAFE_INTEGER;
  const seq = /^s[0-9a-z]{1,10}$/.test(cursor) ? Number.parseInt(cursor.slice(1), 36) : Number.NaN;
  if (Number.isSafeInteger(seq) && seq > 0) return seq;
  throw new GatewayError('invalid_request', 'The cursor is not one that a list gave.', {
    param: 'cursor',
    hint: 'Pass next_cursor of the page before, or none.',
  });
}
