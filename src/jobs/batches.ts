// Batches: many inputs of one capability under one handle. Each is a job of its own; the batch ends when the last of them has.
import { z } from 'zod';
import type { CapabilityId } from '../capabilities/index.ts';
import { GatewayError } from '../error.ts';
import type { Document, JobHead, JobState, Put, Store } from '../store.ts';
import type { Submission } from './draft.ts';
import type { JobHooks, Jobs } from './jobs.ts';
import type { JobOptions } from './options.ts';
import { isEnded } from './view.ts';
import { unref } from '../timers.ts';

/** What is kept of a batch. Times are milliseconds since 1970. */
export interface BatchRecord {
  id: string;
  /** Undefined where the inputs are of several. */
  capability?: CapabilityId;
  total: number;
  createdAt: number;
  finishedAt?: number;
  cancelledAt?: number;
  webhook?: string;
  metadata?: Record<string, string>;
  /** What a dialect keeps beside. */
  dialect?: Record<string, unknown>;
}

export interface Batch extends BatchRecord {
  counts: Record<JobState, number>;
}

export const batchView = z.object({
  id: z.string(),
  object: z.literal('batch'),
  capability: z.string().nullable(),
  state: z.enum(['running', 'done', 'cancelled']),
  total: z.int(),
  counts: z.object({ queued: z.int(), running: z.int(), done: z.int(), failed: z.int(), cancelled: z.int() }),
  created_at: z.string(),
  finished_at: z.string().nullable(),
  metadata: z.record(z.string(), z.string()),
});
export type BatchView = z.output<typeof batchView>;

export interface BatchSubmission {
  owner: string;
  capability: CapabilityId;
  /** Checked by the capability's schema. */
  inputs: Record<string, unknown>[];
  options?: JobOptions;
}

export interface Batches {
  /** All of its jobs are on disk when this resolves, or none. */
  submit(submission: BatchSubmission, also?: (view: BatchView) => Put[]): Promise<BatchView>;
  /** The general form: any jobs, and what a dialect keeps. */
  accept(owner: string, batch: Omit<BatchRecord, 'createdAt'>, jobs: Submission[], also: Put[]): Promise<void>;
  /** Throws not_found. */
  get(owner: string, id: string): Promise<Batch>;
  list(owner: string, query: { cursor?: string; limit: number }): Promise<{ batches: Batch[]; next?: string }>;
  /** Throws not_found, or conflict where it has ended. */
  cancel(owner: string, id: string): Promise<Batch>;
  /** A dialect's part of an end: what it gives is committed with it. Called again where that failed. */
  onEnd(
    listener: (owner: string, batch: BatchRecord) => Promise<{ dialect?: Record<string, unknown>; puts: Put[] }>,
  ): void;
  /** Ends what an earlier process left unended. */
  start(): Promise<void>;
}

const KIND = 'batch';
/** The `ref` of batches that have not ended. */
const OPEN = 'open';
const PAGE = 100;
const RETRY_MS = 1000;

export function createBatches(options: {
  store: Store;
  jobs: Jobs;
  hooks: JobHooks;
  now: () => number;
  keepMs: number;
  warn(message: string, fields: Record<string, unknown>): void;
}): Batches {
  const { store, jobs, hooks, now, keepMs } = options;
  /** Batches that are just being ended; true: somebody asked again meanwhile. */
  const ending = new Map<string, boolean>();
  let dialectEnd: Parameters<Batches['onEnd']>[0] = async () => ({ puts: [] });

  jobs.onEnded((job: JobHead) => {
    if (job.batch !== undefined) void end(job.batch);
  });

  /** One at a time for each batch: whoever comes meanwhile has it looked at once more. */
  async function end(id: string): Promise<void> {
    if (ending.has(id)) return void ending.set(id, true);
    let ended = false;
    try {
      do {
        ending.set(id, false);
        ended = await tryToEnd(id);
      } while (!ended && ending.get(id));
    } catch (error) {
      options.warn('a batch cannot be ended yet', { batch: id, cause: String(error) });
      unref(setTimeout(() => void end(id), RETRY_MS));
    } finally {
      ending.delete(id);
    }
  }

  /** False where jobs of it still wait or run, or somebody changed it meanwhile. */
  async function tryToEnd(id: string): Promise<boolean> {
    if (await store.jobs.batchPending(id)) return false;
    const known = await store.documents.get<BatchRecord>(KIND, id);
    if (!known || known.value.finishedAt !== undefined) return true;
    const { owner, version } = known;
    const part = await dialectEnd(owner, known.value);
    const value: BatchRecord = {
      ...known.value,
      finishedAt: now(),
      ...(part.dialect ? { dialect: { ...known.value.dialect, ...part.dialect } } : {}),
    };
    const view = toBatchView({ ...value, counts: await store.jobs.batchCounts(id) });
    const { webhook } = value;
    const told = await hooks.announce({
      type: 'batch.done',
      owner,
      data: { batch: view },
      ...(webhook === undefined ? {} : { url: webhook }),
    });
    const done: Put = { kind: KIND, id, owner, value, due: now() + keepMs, if: version };
    const refused = await store.documents.put([done, ...part.puts, ...told]);
    // A cancel that came in between: what it wrote must not be lost.
    if (refused) throw new GatewayError('conflict', 'The batch was changed meanwhile.');
    hooks.wake();
    return true;
  }

  async function withCounts({ value }: Document<BatchRecord>): Promise<Batch> {
    return { ...value, counts: await store.jobs.batchCounts(value.id) };
  }

  async function find(owner: string, id: string): Promise<Document<BatchRecord>> {
    const known = await store.documents.get<BatchRecord>(KIND, id);
    if (!known || known.owner !== owner) throw new GatewayError('not_found', 'There is no such batch.');
    return known;
  }

  const batches: Batches = {
    async submit({ owner, capability, inputs, options: asked = {} }, also) {
      const { webhook: url, metadata, ...each } = asked;
      const webhook = url === undefined ? undefined : hooks.check(url);
      const id = `batch_${crypto.randomUUID().replaceAll('-', '')}`;
      const record = {
        id,
        capability,
        total: inputs.length,
        ...(webhook === undefined ? {} : { webhook }),
        ...(metadata === undefined ? {} : { metadata }),
      };
      const counts = { queued: inputs.length, running: 0, done: 0, failed: 0, cancelled: 0 };
      const view = toBatchView({ ...record, createdAt: now(), counts });
      const submissions = inputs.map((input, index) => ({
        owner,
        capability,
        input,
        options: each,
        batch: { id, index },
      }));
      await batches.accept(owner, record, submissions, also?.(view) ?? []);
      return view;
    },
    async accept(owner, batch, submissions, also) {
      const record: Put = { kind: KIND, id: batch.id, owner, value: { ...batch, createdAt: now() }, ref: OPEN };
      await jobs.submitAll(submissions, [record, ...also]);
      if (submissions.length === 0) await end(batch.id);
    },
    get: async (owner, id) => withCounts(await find(owner, id)),
    async list(owner, query) {
      const { documents, next } = await store.documents.list<BatchRecord>(KIND, { owner, ...query });
      return { batches: await Promise.all(documents.map(withCounts)), ...(next === undefined ? {} : { next }) };
    },
    async cancel(owner, id) {
      const known = await find(owner, id);
      if (known.value.finishedAt !== undefined) throw new GatewayError('conflict', 'The batch has already ended.');
      const mark = {
        kind: KIND,
        id,
        owner,
        value: { ...known.value, cancelledAt: now() },
        ref: OPEN,
        if: known.version,
      };
      if (await store.documents.put([mark])) throw new GatewayError('conflict', 'The batch is just ending.');
      for (;;) {
        const { jobs: waiting } = await store.jobs.list({ owner, batch: id, states: ['queued'], limit: PAGE });
        for (const job of waiting) await cancelQuietly(owner, job);
        if (waiting.length < PAGE) break;
      }
      const { jobs: running } = await store.jobs.list({ owner, batch: id, states: ['running'], limit: PAGE });
      for (const job of running) await cancelQuietly(owner, job);
      return batches.get(owner, id);
    },
    onEnd: (listener) => void (dialectEnd = listener),
    async start() {
      let cursor: string | undefined;
      do {
        const page = await store.documents.list<BatchRecord>(KIND, {
          ref: OPEN,
          limit: PAGE,
          ...(cursor === undefined ? {} : { cursor }),
        });
        for (const { id } of page.documents) await end(id);
        cursor = page.next;
      } while (cursor !== undefined);
    },
  };

  async function cancelQuietly(owner: string, job: JobHead): Promise<void> {
    if (isEnded(job)) return;
    await jobs.cancel(owner, job.id).catch((error) => {
      if (!(error instanceof GatewayError && error.code === 'conflict')) throw error;
    });
  }

  return batches;
}

export function toBatchView({
  id,
  capability,
  total,
  counts,
  createdAt,
  finishedAt,
  cancelledAt,
  metadata,
}: Batch): BatchView {
  return {
    id,
    object: 'batch',
    capability: capability ?? null,
    state: finishedAt === undefined ? 'running' : cancelledAt !== undefined ? 'cancelled' : 'done',
    total,
    counts,
    created_at: new Date(createdAt).toISOString(),
    finished_at: finishedAt === undefined ? null : new Date(finishedAt).toISOString(),
    metadata: metadata ?? {},
  };
}
