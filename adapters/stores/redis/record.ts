// Records ⇄ what Redis keeps of them: fields that scripts read and change, and JSON that they only carry.
import { GatewayError } from '../../../src/error.ts';
import type { Document, JobHead, JobRecord, JobState, NewJob, Outcome, Put } from '../../../src/store.ts';

/** id, fields, texts: as the scripts `head` and `record` answer. */
export type Reply = [id: string, fields: string[], texts: (string | null)[]];

export const states = ['queued', 'running', 'done', 'failed', 'cancelled'] as const satisfies readonly JobState[];

/** What a job had before Redis lost it. */
export interface Known {
  attempts: number;
  fence: number;
  /** From when its total time counts. */
  since: number;
}

/** Texts that travel beside a script's arguments, which name them by their number. */
export function createTexts() {
  const texts: string[] = [];
  return {
    texts,
    keep: (value: unknown): number | undefined => (value === undefined ? undefined : texts.push(JSON.stringify(value))),
  };
}

type Keep = ReturnType<typeof createTexts>['keep'];

export function toNew(job: NewJob, now: number, keep: Keep, known?: Known): object {
  const { id, input, notes, runAt, limits } = job;
  const fields = {
    owner: job.owner,
    capability: job.capability,
    model: job.model,
    priority: job.priority,
    batch: job.batch,
    index: job.index,
    createdAt: job.createdAt,
    maxAttempts: job.maxAttempts,
    queueMs: limits.queue,
    runMs: limits.run,
    totalMs: limits.total,
    since: known?.since ?? job.createdAt,
    attempts: known?.attempts ?? 0,
    fence: known?.fence ?? 0,
  };
  return {
    id,
    runAt: String(runAt),
    // A job that asked for no delay waits for no clock.
    ready: runAt <= Math.max(job.createdAt, now),
    input: keep(input),
    notes: keep(notes),
    ended: job.ended && toEnd(job.ended, keep),
    fields: Object.entries(fields).flatMap(([name, value]) => (value === undefined ? [] : [name, String(value)])),
  };
}

export function toPut(put: Put, keep: Keep): object {
  return 'delete' in put ? put : { ...put, value: keep(put.value) };
}

export function toEnd({ state, at, result, error, notes }: Outcome, keep: Keep): object {
  return { state, at, result: state === 'done' ? keep(result) : undefined, error: keep(error), notes: keep(notes) };
}

export function toHead([id, flat, [notes, error]]: Reply): JobHead {
  const fields = toMap(flat);
  const number = (name: string) => Number(fields.get(name) ?? 0);
  const head: JobHead = {
    id,
    owner: fields.get('owner')!,
    capability: fields.get('capability')!,
    priority: fields.get('priority') as JobHead['priority'],
    state: fields.get('state') as JobState,
    createdAt: number('createdAt'),
    since: number('since'),
    runAt: number('runAt'),
    attempts: number('attempts'),
    maxAttempts: number('maxAttempts'),
    limits: { queue: number('queueMs'), run: number('runMs'), total: number('totalMs') },
    fence: number('fence'),
    beat: number('beat'),
    notes: toNotes(notes),
  };
  const [model, batch, worker] = [fields.get('model'), fields.get('batch'), fields.get('worker')];
  if (model !== undefined) head.model = model;
  if (batch !== undefined) head.batch = batch;
  if (fields.has('index')) head.index = number('index');
  if (fields.has('startedAt')) head.startedAt = number('startedAt');
  if (fields.has('finishedAt')) head.finishedAt = number('finishedAt');
  if (worker !== undefined) head.worker = worker;
  if (fields.has('cancelled')) head.cancelled = true;
  if (error) head.error = JSON.parse(error) as JobHead['error'];
  return head;
}

export function toRecord(reply: Reply): JobRecord {
  const [, , input, result] = reply[2];
  const record: JobRecord = { ...toHead(reply), input: input ? JSON.parse(input) : undefined };
  if (result) record.result = JSON.parse(result);
  return record;
}

/** A job as it was when it was new, to be taken once more. */
export function toNewJob(record: JobRecord): NewJob {
  const {
    state: _state,
    since: _since,
    attempts: _attempts,
    fence: _fence,
    beat: _beat,
    worker: _worker,
    cancelled: _cancelled,
    startedAt: _startedAt,
    finishedAt: _finishedAt,
    result: _result,
    error: _error,
    ...job
  } = record;
  return job;
}

export function toDocument<T>(flat: readonly string[]): Document<T> {
  const fields = toMap(flat);
  const value = fields.get('value');
  const document: Document<T> = {
    kind: fields.get('kind')!,
    id: fields.get('id')!,
    owner: fields.get('owner')!,
    value: (value === undefined ? undefined : JSON.parse(value)) as T,
    version: Number(fields.get('version')),
    createdAt: Number(fields.get('createdAt')),
  };
  const [due, ref] = [fields.get('due'), fields.get('ref')];
  if (due !== undefined) document.due = Number(due);
  if (ref !== undefined) document.ref = ref;
  return document;
}

export function toCounts(flat: readonly string[]): Record<JobState, number> {
  const fields = toMap(flat);
  const count = (state: JobState) => Math.max(0, Number(fields.get(state) ?? 0));
  return {
    queued: count('queued'),
    running: count('running'),
    done: count('done'),
    failed: count('failed'),
    cancelled: count('cancelled'),
  };
}

/** A place in a list: nothing that is listed ever changes its own. */
export const toCursor = (place: string): string => `r${Number(place).toString(36)}`;

/** The place a cursor names; without one the place before all. Throws `invalid_request` for what is no cursor. */
export function fromCursor(cursor: string | undefined): string {
  if (cursor === undefined) return '+inf';
  const place = /^r[0-9a-z]{1,10}$/.test(cursor) ? Number.parseInt(cursor.slice(1), 36) : Number.NaN;
  if (Number.isSafeInteger(place) && place > 0) return String(place);
  throw new GatewayError('invalid_request', 'The cursor is not one that a list gave.', {
    param: 'cursor',
    hint: 'Pass next_cursor of the page before, or none.',
  });
}

/** One JSON object a line, each laid over those before. */
function toNotes(lines: string | null | undefined): Record<string, unknown> {
  const parts = (lines ?? '{}').split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
  return Object.assign({}, ...parts) as Record<string, unknown>;
}

function toMap(flat: readonly string[]): Map<string, string> {
  const map = new Map<string, string>();
  for (let at = 0; at < flat.length; at += 2) map.set(flat[at]!, flat[at + 1]!);
  return map;
}
