// OpenAI batches ⇄ jobs: a file of requests in, a file of answers out, one job a line.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { GatewayError } from '../../error.ts';
import { readJson, toInput } from '../../http/body.ts';
import type { AppContext, AppEnv } from '../../http/context.ts';
import { idempotent } from '../../http/idempotency.ts';
import { describeRoute } from '../../http/openapi.ts';
import { respondJson } from '../../http/respond.ts';
import type { Batch } from '../../jobs/batches.ts';
import { batchError, readBatch, type BatchInput } from './batch-input.ts';
import { toBatchNote, type BatchNote } from './batch-output.ts';
import { endpointPaths, endpoints } from './endpoints.ts';
import { findFile } from './files.ts';
import { listOf, listQuery, toPage } from './list.ts';

const metadata = z
  .record(z.string().max(64), z.string().max(512))
  .refine((value) => Object.keys(value).length <= 16, 'at most 16 entries');

const createRequest = z.object({
  input_file_id: z.string().max(128).describe('A file with the purpose batch: one request a line.'),
  endpoint: z.enum(endpointPaths),
  completion_window: z.literal('24h'),
  metadata: metadata.nullish(),
});

const seconds = z.int().nullable().describe('Seconds since 1970.');

const batchObject = z.object({
  id: z.string(),
  object: z.literal('batch'),
  endpoint: z.enum(endpointPaths),
  errors: z.object({ object: z.literal('list'), data: z.array(batchError) }).nullable(),
  input_file_id: z.string(),
  completion_window: z.literal('24h'),
  status: z.enum([
    'validating',
    'failed',
    'in_progress',
    'finalizing',
    'completed',
    'expired',
    'cancelling',
    'cancelled',
  ]),
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  created_at: z.int(),
  in_progress_at: seconds,
  expires_at: z.int(),
  finalizing_at: seconds,
  completed_at: seconds,
  failed_at: seconds,
  expired_at: seconds,
  cancelling_at: seconds,
  cancelled_at: seconds,
  request_counts: z.object({ total: z.int(), completed: z.int(), failed: z.int() }),
  usage: z
    .object({
      input_tokens: z.int(),
      input_tokens_details: z.object({ cached_tokens: z.int() }),
      output_tokens: z.int(),
      output_tokens_details: z.object({ reasoning_tokens: z.int() }),
      total_tokens: z.int(),
    })
    .nullable(),
  metadata: metadata.nullable(),
});
type BatchObject = z.output<typeof batchObject>;

/** Bytes of an input file: its requests are taken all at once or not at all, so they pass through memory together. */
const MAX_INPUT = 200 * 1024 * 1024;
const READ_AT_ONCE = 100;

export function serveBatches(app: OpenAPIHono<AppEnv>): void {
  const tag = 'openai';
  describeRoute(app, {
    method: 'post',
    path: '/v1/batches',
    tag,
    summary: 'Run a file of requests',
    description:
      'Each line is checked before this answers: a file with a wrong line gives a failed batch that says which. A line has one answer: no stream, no n.',
    input: createRequest,
    output: batchObject,
  });
  app.post('/v1/batches', idempotent(create));
  describeRoute(app, {
    method: 'get',
    path: '/v1/batches',
    tag,
    summary: 'Your batches, newest first',
    query: listQuery,
    output: listOf(batchObject),
  });
  app.get('/v1/batches', async (c) => {
    const query = toInput(listQuery, c.req.query());
    return respondJson(c, await toPage(newest(c), query));
  });
  const path = '/v1/batches/{id}';
  describeRoute(app, { method: 'get', path, tag, summary: 'How far a batch is', output: batchObject });
  app.get('/v1/batches/:id', async (c) => {
    const { batch, note } = await find(c, c.req.param('id'));
    return respondJson(c, toBatchObject(batch, note));
  });
  describeRoute(app, {
    method: 'post',
    path: '/v1/batches/{id}/cancel',
    tag,
    summary: 'Cancel what of a batch has not ended; what was done is in its files',
    output: batchObject,
  });
  app.post('/v1/batches/:id/cancel', async (c) => {
    const { batch, note } = await find(c, c.req.param('id'));
    const { status } = toBatchObject(batch, note);
    if (batch.finishedAt !== undefined) {
      throw new GatewayError('conflict', `A batch that is ${status} cannot be cancelled.`);
    }
    return respondJson(c, toBatchObject(await c.var.app.batches.cancel(c.var.caller, batch.id), note));
  });
}

async function create(c: AppContext): Promise<Response> {
  const { batches, config, now } = c.var.app;
  const { caller: owner, keyed } = c.var;
  const request = await readJson(c, createRequest);
  const { endpoint, input_file_id } = request;
  const id = `batch_${crypto.randomUUID().replaceAll('-', '')}`;
  const { submissions, errors } = await readInput(c, request, id);
  await checkRoom(c, submissions.length);
  const createdAt = now();
  const note: BatchNote = {
    endpoint,
    input_file_id,
    created_at: toSeconds(createdAt),
    expires_at: toSeconds(createdAt + config.job_queue_ms),
    ...(errors.length > 0 ? { errors } : {}),
  };
  const record = {
    id,
    capability: endpoints[endpoint].capability,
    total: submissions.length,
    ...(request.metadata ? { metadata: request.metadata } : {}),
    dialect: { openai: note },
  };
  const counts = { queued: submissions.length, running: 0, done: 0, failed: 0, cancelled: 0 };
  const answer = toBatchObject({ ...record, createdAt, counts }, note);
  // Committed with the jobs: who asks again with the same key gets this answer, even if this process dies on its way out.
  const also = keyed ? [keyed.settle(200, JSON.stringify(answer), {})] : [];
  await batches.accept(owner, record, submissions, also);
  return respondJson(c, answer);
}

/** Throws not_found, invalid_request for a file that is no input of a batch; what its lines hold is told in `errors`. */
async function readInput(c: AppContext, request: z.output<typeof createRequest>, batch: string): Promise<BatchInput> {
  const { artifacts, config, gateway } = c.var.app;
  const { endpoint, input_file_id } = request;
  const param = 'input_file_id';
  const file = await findFile(c, input_file_id);
  if (file.value.purpose !== 'batch') {
    throw new GatewayError('invalid_request', `${param}: the purpose of this file is not batch.`, { param });
  }
  if (file.value.size > MAX_INPUT) {
    throw new GatewayError('invalid_request', `${param}: the file is larger than ${MAX_INPUT} bytes.`, { param });
  }
  const source = await artifacts.open(file);
  if (!source) throw new GatewayError('not_found', 'The bytes of this file are lost.', { param });
  return readBatch(source, {
    owner: c.var.caller,
    batch,
    endpoint,
    maxLine: config.max_body,
    checkModel: async (model) => gateway.catalog.resolve(endpoints[endpoint].capability, model),
  });
}

/** Throws rate_limited. */
async function checkRoom(c: AppContext, lines: number): Promise<void> {
  const { config, store } = c.var.app;
  const most = config.job_max_queued;
  if (lines === 0 || (await store.jobs.waiting(c.var.caller)) + lines <= most) return;
  throw new GatewayError('rate_limited', `With these lines more than ${most} of your jobs would wait.`, {
    retryAfter: 30,
    hint: 'Wait for some of them, or raise HONO_AI_JOB_MAX_QUEUED.',
  });
}

/** Throws not_found, also for a batch of the native routes. */
async function find(c: AppContext, id: string): Promise<{ batch: Batch; note: BatchNote }> {
  const batch = await c.var.app.batches.get(c.var.caller, id);
  const note = toBatchNote(batch);
  if (!note) throw new GatewayError('not_found', 'There is no such batch.');
  return { batch, note };
}

async function* newest(c: AppContext): AsyncGenerator<BatchObject> {
  let cursor: string | undefined;
  do {
    const page = { limit: READ_AT_ONCE, ...(cursor === undefined ? {} : { cursor }) };
    const { batches, next } = await c.var.app.batches.list(c.var.caller, page);
    for (const batch of batches) {
      const note = toBatchNote(batch);
      if (note) yield toBatchObject(batch, note);
    }
    cursor = next;
  } while (cursor !== undefined);
}

function toBatchObject(batch: Batch, note: BatchNote): BatchObject {
  const { errors, ending } = note;
  const status = toStatus(batch, note);
  const finished = batch.finishedAt === undefined ? null : toSeconds(batch.finishedAt);
  const at = (which: BatchObject['status']) => (status === which ? finished : null);
  return {
    id: batch.id,
    object: 'batch',
    endpoint: note.endpoint,
    errors: errors ? { object: 'list', data: errors } : null,
    input_file_id: note.input_file_id,
    completion_window: '24h',
    status,
    output_file_id: ending?.output_file_id ?? null,
    error_file_id: ending?.error_file_id ?? null,
    created_at: note.created_at,
    in_progress_at: errors ? null : note.created_at,
    expires_at: note.expires_at,
    finalizing_at: ending?.finalizing_at ?? null,
    completed_at: at('completed'),
    failed_at: errors ? note.created_at : null,
    expired_at: at('expired'),
    cancelling_at: toCancelling(batch),
    cancelled_at: at('cancelled'),
    // Jobs are forgotten after a while; what came of them is kept with the batch.
    request_counts: {
      total: batch.total,
      completed: ending?.completed ?? batch.counts.done,
      failed: ending?.failed ?? batch.counts.failed,
    },
    usage: ending
      ? {
          ...ending.usage,
          input_tokens_details: { cached_tokens: 0 },
          output_tokens_details: { reasoning_tokens: 0 },
        }
      : null,
    metadata: batch.metadata ?? null,
  };
}

function toStatus({ finishedAt, cancelledAt, counts }: Batch, { errors, ending }: BatchNote): BatchObject['status'] {
  if (errors) return 'failed';
  if (finishedAt !== undefined)
    return cancelledAt !== undefined ? 'cancelled' : ending && ending.expired > 0 ? 'expired' : 'completed';
  if (cancelledAt !== undefined) return 'cancelling';
  return counts.queued + counts.running > 0 ? 'in_progress' : 'finalizing';
}

function toCancelling(batch: Batch): number | null {
  const { cancelledAt } = batch;
  return cancelledAt === undefined ? null : toSeconds(cancelledAt);
}

function toSeconds(ms: number): number {
  return Math.floor(ms / 1000);
}
