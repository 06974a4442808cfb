// The jobs of a batch that has ended → its output file and its error file, the same ones however often they are written.
import type { Artifacts } from '../../artifacts.ts';
import { toErrorBody } from '../../http/respond.ts';
import type { MadeFile } from '../../event.ts';
import { toError } from '../../http/job.ts';
import type { Batches, BatchRecord } from '../../jobs/batches.ts';
import { toJobView } from '../../jobs/view.ts';
import type { JobRecord, Put, Store } from '../../store.ts';
import type { BatchError, LineNote } from './batch-input.ts';
import { endpoints, type EndpointPath } from './endpoints.ts';
import { BATCH_OUTPUT, toFileId, withPurpose } from './files.ts';

/** What is kept of a batch in OpenAI's words. Times are seconds since 1970. */
export interface BatchNote {
  endpoint: EndpointPath;
  input_file_id: string;
  created_at: number;
  expires_at: number;
  /** What was wrong with its file. */
  errors?: BatchError[];
  ending?: BatchEnding;
}

export interface BatchEnding {
  finalizing_at: number;
  output_file_id: string | null;
  error_file_id: string | null;
  completed: number;
  failed: number;
  /** Lines that were not begun in time. */
  expired: number;
  usage: { input_tokens: number; output_tokens: number; total_tokens: number };
}

/** Jobs that are in memory at the same time; each may hold a long answer. */
const PAGE = 20;

/** To be called once, before any batch is looked after: the files of a batch are committed with its end. */
export function registerBatchEnd(options: {
  batches: Batches;
  store: Store;
  artifacts: Artifacts;
  now: () => number;
}): void {
  const { batches, store, artifacts, now } = options;
  batches.onEnd(async (owner, batch) => {
    const note = toBatchNote(batch);
    // Without lines there is nothing to write: its file was refused.
    if (!note || note.errors) return { puts: [] };
    const finalizing_at = Math.floor(now() / 1000);
    const counts = await store.jobs.batchCounts(batch.id);
    const tally = createTally();
    const parts: { field: 'output_file_id' | 'error_file_id'; file: MadeFile }[] = [];
    const add = (field: 'output_file_id' | 'error_file_id', name: string, wanted: (job: JobRecord) => boolean) =>
      parts.push({
        field,
        file: { name: `${batch.id}_${name}.jsonl`, bytes: write(wanted), media_type: 'application/jsonl' },
      });
    if (counts.done > 0) add('output_file_id', 'output', isDone);
    if (counts.failed + counts.cancelled > 0) add('error_file_id', 'error', (job) => !isDone(job));

    async function* write(wanted: (job: JobRecord) => boolean): AsyncGenerator<Uint8Array> {
      const encoder = new TextEncoder();
      for await (const job of jobsOf(store, batch.id)) {
        if (!wanted(job)) continue;
        tally.count(job);
        yield encoder.encode(`${JSON.stringify(toLine(job, note!.endpoint))}\n`);
      }
    }

    const staged = await artifacts.stage(
      parts.map(({ file }) => file),
      { owner, made: { batch: batch.id } },
    );
    const ids = Object.fromEntries(parts.map(({ field }, index) => [field, toFileId(staged.artifacts[index]!.id)]));
    const ending: BatchEnding = {
      finalizing_at,
      output_file_id: ids['output_file_id'] ?? null,
      error_file_id: ids['error_file_id'] ?? null,
      ...tally.read(),
    };
    const puts: Put[] = withPurpose(staged.puts, BATCH_OUTPUT);
    return { dialect: { openai: { ...note, ending } satisfies BatchNote }, puts };
  });
}

/** Undefined where the batch was not made in OpenAI's words. */
export function toBatchNote({ dialect }: BatchRecord): BatchNote | undefined {
  return dialect?.['openai'] as BatchNote | undefined;
}

async function* jobsOf(store: Store, batch: string): AsyncGenerator<JobRecord> {
  let next = 0;
  for (;;) {
    const page = await store.jobs.batchJobs(batch, next, PAGE);
    yield* page;
    if (page.length < PAGE) return;
    next = page.at(-1)!.index! + 1;
  }
}

function createTally() {
  const sum = { completed: 0, failed: 0, expired: 0, usage: { input_tokens: 0, output_tokens: 0, total_tokens: 0 } };
  return {
    count(job: JobRecord): void {
      if (isDone(job)) sum.completed++;
      else if (job.state === 'failed') sum.failed++;
      if (isExpired(job)) sum.expired++;
      const { usage } = (job.result ?? {}) as { usage?: Record<string, number | undefined> };
      sum.usage.input_tokens += usage?.['prompt_tokens'] ?? 0;
      sum.usage.output_tokens += usage?.['completion_tokens'] ?? 0;
      sum.usage.total_tokens += usage?.['total_tokens'] ?? 0;
    },
    read: () => sum,
  };
}

/** One line of a file: what the request would have been answered, or why it was not asked. */
function toLine(job: JobRecord, path: EndpointPath): object {
  const { custom_id, ...note } = (job.notes['dialect'] as { openai: LineNote }).openai;
  const hex = job.id.slice(job.id.indexOf('_') + 1);
  const line = { id: `batch_req_${hex}`, custom_id };
  const answer = (status_code: number, body: object) => ({
    ...line,
    response: { status_code, request_id: job.id, body },
    error: null,
  });
  if (isDone(job)) {
    const { prefix, toAnswer } = endpoints[path];
    const head = { id: prefix + hex, created: Math.floor(job.finishedAt! / 1000) };
    return answer(200, toAnswer(head, job.result, note));
  }
  if (job.state === 'cancelled') {
    return { ...line, response: null, error: { code: 'batch_cancelled', message: 'This request was cancelled.' } };
  }
  if (isExpired(job)) {
    const message = 'This request could not be executed before the completion window expired.';
    return { ...line, response: null, error: { code: 'batch_expired', message } };
  }
  const error = toError(toJobView(job));
  return answer(error.status, toErrorBody(error, job.id));
}

function isDone({ state }: JobRecord): boolean {
  return state === 'done';
}

function isExpired({ error, attempts }: JobRecord): boolean {
  return error?.code === 'timed_out' && attempts === 0;
}
