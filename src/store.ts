// What is kept, and how: jobs in their order, documents with an owner and a due time, and bytes by their hash.

export type JobState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled';

/** Classes are strict: a waiting interactive job always goes before a normal one. Within a class callers take turns. */
export const priorities = ['interactive', 'normal', 'background'] as const;
export type Priority = (typeof priorities)[number];

/** Why a job failed, in the gateway's own codes. */
export interface JobFailure {
  code: string;
  message: string;
  source: string;
  param?: string;
  hint?: string;
}

/** Milliseconds. */
export interface JobLimits {
  /** Longest wait for a first start, from the moment it may start. */
  queue: number;
  /** Longest single attempt. */
  run: number;
  /** From acceptance to the end, attempts and pauses included. */
  total: number;
}

/** Everything about a job but what was asked and what came out, which may be large. Times are milliseconds since 1970. */
export interface JobHead {
  id: string;
  /** The caller that submitted it; nobody else sees it. */
  owner: string;
  capability: string;
  /** The model that was asked for, if any. */
  model?: string;
  priority: Priority;
  state: JobState;
  /** The batch it belongs to, and its place there. */
  batch?: string;
  index?: number;
  createdAt: number;
  /** From when its time in all is counted: its acceptance, or its last revival. */
  since: number;
  /** Not to be started before. */
  runAt: number;
  /** The start of the latest attempt. */
  startedAt?: number;
  finishedAt?: number;
  /** Attempts begun, each counted before it was dispatched. */
  attempts: number;
  maxAttempts: number;
  limits: JobLimits;
  /** Grows with every claim: what an earlier holder still says is refused. */
  fence: number;
  /** Who holds it while it runs. */
  worker?: string;
  /** Grows with every sign of life of the holder. A count, not a time: clocks may jump. */
  beat: number;
  /** The owner asked for its end; the holder learns it with its next beat. */
  cancelled?: boolean;
  /** Whatever the engine wants to keep beside: target, timings, warnings, metadata, webhook. */
  notes: Record<string, unknown>;
  error?: JobFailure;
}

export interface JobRecord extends JobHead {
  /** The capability's input as it was checked. */
  input: unknown;
  /** The capability's output; only when `done`. */
  result?: unknown;
}

export type NewJob = Omit<
  JobRecord,
  | 'state'
  | 'since'
  | 'attempts'
  | 'fence'
  | 'worker'
  | 'beat'
  | 'startedAt'
  | 'finishedAt'
  | 'result'
  | 'error'
  | 'cancelled'
> & {
  /** It has ended already: its result was known. It is kept as such, and never claimed. */
  ended?: Outcome;
};

/** How a job ends, or why it goes back to wait. */
export interface Outcome {
  state: 'done' | 'failed' | 'cancelled';
  at: number;
  result?: unknown;
  error?: JobFailure;
  /** Merged into the notes. */
  notes?: Record<string, unknown>;
}

export interface JobQuery {
  owner: string;
  states?: JobState[];
  capability?: string;
  batch?: string;
  /** An opaque place in the list, from an earlier page. */
  cursor?: string;
  limit: number;
}

export interface Held {
  id: string;
  fence: number;
}

export interface JobStore {
  /**
   * Takes jobs, and documents with them: all or nothing, and on disk when it resolves. Where a document that had to be
   * absent is there, nothing is taken and that document is returned.
   */
  add(jobs: NewJob[], documents?: Put[]): Promise<Document | undefined>;
  /**
   * The next job that may start by `now`: by class, then callers in turn, then the oldest. It is `running` with one more
   * attempt and fence on disk when it resolves. Undefined where nothing waits.
   */
  claim(worker: string, now: number): Promise<JobRecord | undefined>;
  /** Signs of life, one write for all. Which are no longer held, and which of those held are to be cancelled. */
  beat(held: Held[]): Promise<{ lost: string[]; cancelled: string[] }>;
  /** Ends a running job together with `documents`, at once or not at all. False where somebody else holds it or it has ended. */
  finish(held: Held, outcome: Outcome, documents?: Put[]): Promise<boolean>;
  /** Sends a running job back to wait. `refund` takes the attempt back: it was not the job's fault. False as `finish`. */
  requeue(held: Held, options: { runAt: number; refund?: boolean; notes?: Record<string, unknown> }): Promise<boolean>;
  /**
   * Ends a job that waits (`outcome` and `documents` as in `finish`), or marks a running one for its holder. What came of
   * it; undefined for a job that is not there.
   */
  stop(id: string, outcome: Outcome, documents?: Put[]): Promise<'stopped' | 'marked' | 'ended' | undefined>;
  /** A failed or cancelled job waits again, its attempts counted anew. False where it is in another state. */
  revive(id: string, at: number): Promise<boolean>;
  get(id: string): Promise<JobRecord | undefined>;
  /** Newest first; never what was asked nor what came out. Cost does not grow with the number of jobs. */
  list(query: JobQuery): Promise<{ jobs: JobHead[]; next?: string }>;
  /** How many would start before it, counting from 1 (up to `most`); undefined where it does not wait. */
  position(id: string, most: number): Promise<number | undefined>;
  /** How many jobs of an owner wait; costs the same for any number. */
  waiting(owner: string): Promise<number>;
  /** Of all owners. */
  counts(): Promise<Record<JobState, number>>;
  /** Of a batch, by state. */
  batchCounts(batch: string): Promise<Record<JobState, number>>;
  /** Whether any job of a batch has not ended; costs the same for any size. */
  batchPending(batch: string): Promise<boolean>;
  /** Jobs of a batch in their order, with input and result, from `index` on. */
  batchJobs(batch: string, index: number, limit: number): Promise<JobRecord[]>;
  /** All that run now, of all workers. */
  running(): Promise<JobHead[]>;
  /** Waiting jobs whose wait (`limits.queue`, first starts only) or total time is over by `now`, and how to know the next. */
  overdue(now: number, limit: number): Promise<JobHead[]>;
  /** When the next waiting job may start or becomes overdue; undefined where there is none. */
  nextAt(): Promise<number | undefined>;
  /** Deletes ended jobs older than `before`, at most `limit`, oldest first; their ids. */
  sweep(before: number, limit: number): Promise<string[]>;
  /** Deletes an ended job. False where it has not ended or is not there. */
  remove(id: string): Promise<boolean>;
  /** Called whenever there may be something to claim or a mark to see, from this process or another. Returns how to stop that. */
  onChange(listener: () => void): () => void;
}

/** A small JSON value with what it can be found by. */
export interface Document<T = unknown> {
  kind: string;
  id: string;
  owner: string;
  value: T;
  /** Milliseconds since 1970: when something is to be done about it (sent, deleted). */
  due?: number;
  /** What it points at; see `countRef`. */
  ref?: string;
  /** Grows with every change. */
  version: number;
  createdAt: number;
}

export type Put =
  | {
      kind: string;
      id: string;
      owner: string;
      value: unknown;
      due?: number;
      ref?: string;
      /** Only where there is none, or where it still has this version. */
      if?: 'absent' | number;
    }
  | { kind: string; id: string; delete: true; if?: number };

export interface DocumentStore {
  /** All or nothing, on disk when it resolves. Where an `if` does not hold, nothing is changed and the conflict is told. */
  put(puts: Put[]): Promise<{ conflict: Document | 'missing' } | undefined>;
  get<T>(kind: string, id: string): Promise<Document<T> | undefined>;
  /** Newest first. Cost does not grow with the number of documents. */
  list<T>(
    kind: string,
    query: { owner?: string; ref?: string; cursor?: string; limit: number },
  ): Promise<{ documents: Document<T>[]; next?: string }>;
  /** By due time, the earliest first, up to `now`. */
  due<T>(kind: string, now: number, limit: number): Promise<Document<T>[]>;
  nextDue(kind: string): Promise<number | undefined>;
  countRef(kind: string, ref: string): Promise<number>;
}

export interface StoreHealth {
  /** Work can be taken and is safe. */
  ok: boolean;
  /** What is wrong or risky, each with its remedy, for the operator. */
  problems: string[];
}

export interface Store {
  /** `sqlite`, `redis`: for people. */
  readonly name: string;
  readonly jobs: JobStore;
  readonly documents: DocumentStore;
  /** What happens, for every gateway on this store. */
  readonly spine: EventSpine;
  health(): Promise<StoreHealth>;
  close(): Promise<void>;
}

/** Carries events between gateways that share a store, and gives each the number by which a reader resumes. */
export interface EventSpine {
  /** Never throws and never waits: events that cannot be carried are lost, the job is not. */
  publish(event: Happening): void;
  /** Every event from now on, in order, from whichever gateway. Ids are never used twice, not even after a restart. */
  subscribe(listener: (id: string, event: Happening) => void): () => void;
  /** Events that happened before this process, oldest first, for readers that resume; empty where none are kept. */
  history(limit: number): Promise<{ id: string; event: Happening }[]>;
}

/** Something that a watcher may want to know. */
export interface Happening {
  /** `job:queued`, `job:progress`, `model:pull`, `gpu`, … */
  type: string;
  /** Who may see it; undefined: everybody. */
  owner?: string;
  /** The job it is about. */
  job?: string;
  /** Milliseconds since 1970. */
  at: number;
  data: Record<string, unknown>;
}

/** Bytes under the SHA-256 of what they are. */
export interface BlobStore {
  readonly name: string;
  /**
   * Keeps what `source` gives; safe on disk when it resolves, and never visible half. Throws `body_too_large` beyond
   * `limit` bytes and `storage_full` where there is no room; nothing is left behind then. `onHash` is awaited when all bytes
   * have come and nothing of them is visible yet.
   */
  write(
    source: AsyncIterable<Uint8Array>,
    options: { limit: number; signal?: AbortSignal; onHash?: (hash: string) => Promise<void> },
  ): Promise<{ hash: string; size: number; head: Uint8Array }>;
  /** `end` is exclusive. Undefined where it is not there. */
  read(hash: string, range?: { start: number; end: number }): Promise<AsyncIterable<Uint8Array> | undefined>;
  delete(hash: string): Promise<void>;
  /** Everything that is kept, in no order; half-written leftovers are cleared on the way. */
  list(): AsyncIterable<{ hash: string; size: number; modifiedAt: number }>;
  /** Bytes that are free beside; undefined where nobody can say. */
  free(): Promise<number | undefined>;
  close?(): Promise<void>;
}

/** A place in the code where tests end the process. */
export type Failpoint = (
  name:
    | 'claimed'
    | 'dispatched'
    | 'runtime done'
    | 'temp written'
    | 'renamed'
    | 'before commit'
    | 'after commit'
    | 'webhook sent',
) => void;
