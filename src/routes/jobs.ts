// Jobs: list, look, watch, cancel, try again, forget; and many at once.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { capabilities, capabilityIds, type CapabilityId } from '../capabilities/index.ts';
import { GatewayError } from '../error.ts';
import { readJson, toInput } from '../http/body.ts';
import type { AppContext, AppEnv } from '../http/context.ts';
import { idempotent } from '../http/idempotency.ts';
import { settleInput, takeBrought, toChecked } from '../http/inputs.ts';
import { withBytes } from '../http/job.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';
import { expectMayAsk } from '../http/serve.ts';
import { respondWatch } from '../http/watch.ts';
import { batchView, toBatchView } from '../jobs/batches.ts';
import { jobOptions } from '../jobs/options.ts';
import { jobList, jobView } from '../jobs/view.ts';

const states = ['queued', 'running', 'done', 'failed', 'cancelled'] as const;

const listQuery = z.object({
  state: z
    .string()
    .optional()
    .describe(`One or several of ${states.join(', ')}, separated by commas.`),
  capability: z.string().optional(),
  batch: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  cursor: z.string().optional().describe('next_cursor of the page before.'),
});
const formatQuery = z.object({ response_format: jobOptions.shape.response_format });
const stateList = z.object({ state: z.array(z.enum(states)) });

const batchRequest = z.object({
  capability: z.enum(capabilityIds as [CapabilityId, ...CapabilityId[]]),
  inputs: z.array(z.record(z.string(), z.unknown())).min(1).max(50_000),
  defaults: z.record(z.string(), z.unknown()).optional().describe('Fields for every input that does not name them.'),
  job: jobOptions.optional().describe('For every job; its webhook is called once, when all have ended.'),
});

export function serveJobs(app: OpenAPIHono<AppEnv>): void {
  const tag = 'jobs';
  describeRoute(app, {
    method: 'get',
    path: '/jobs',
    tag,
    summary: 'Your jobs, newest first, without what was asked and what came out',
    query: listQuery,
    output: jobList,
  });
  app.get('/jobs', async (c) => {
    const { state, capability, batch, limit, cursor } = toInput(listQuery, c.req.query());
    const wanted = state === undefined ? undefined : toInput(stateList, { state: state.split(',') }).state;
    const { jobs, next } = await c.var.app.jobs.list({
      owner: c.var.caller,
      limit,
      ...(wanted ? { states: wanted } : {}),
      ...(capability === undefined ? {} : { capability }),
      ...(batch === undefined ? {} : { batch }),
      ...(cursor === undefined ? {} : { cursor }),
    });
    const page = { object: 'list' as const, data: jobs, has_more: next !== undefined, next_cursor: next ?? null };
    return respondJson(c, page satisfies z.output<typeof jobList>);
  });
  serveBatches(app);
  const path = '/jobs/{id}';
  describeRoute(app, {
    method: 'get',
    path,
    tag,
    summary: 'One job, with its result when it is done',
    output: jobView,
  });
  app.get('/jobs/:id', async (c) => {
    const { response_format } = toInput(formatQuery, c.req.query());
    const job = await c.var.app.jobs.get(c.var.caller, c.req.param('id'));
    return respondJson(c, response_format === 'b64_json' ? await withBytes(c, job) : job);
  });
  describeRoute(app, {
    method: 'delete',
    path,
    tag,
    summary: 'Cancel a job; with purge=true, forget one that has ended',
    query: z.object({ purge: z.enum(['true', 'false']).optional() }),
    output: jobView,
  });
  app.delete('/jobs/:id', async (c) => {
    const { jobs } = c.var.app;
    const id = c.req.param('id');
    if (c.req.query('purge') !== 'true') return respondJson(c, await jobs.cancel(c.var.caller, id));
    await jobs.remove(c.var.caller, id);
    return respondJson(c, { id, object: 'job', deleted: true });
  });
  describeRoute(app, {
    method: 'post',
    path: '/jobs/{id}/retry',
    tag,
    summary: 'Try a failed or cancelled job again',
    status: 202,
    output: jobView,
  });
  app.post('/jobs/:id/retry', async (c) =>
    respondJson(c, await c.var.app.jobs.retry(c.var.caller, c.req.param('id')), { status: 202 }),
  );
  describeRoute(app, {
    method: 'get',
    path: '/jobs/{id}/events',
    tag,
    summary: 'What happens with a job, as server-sent events; Last-Event-ID resumes',
    output: jobView,
    streams: true,
  });
  app.get('/jobs/:id/events', (c) => watchJob(c, c.req.param('id')));
}

async function watchJob(c: AppContext, job: string): Promise<Response> {
  const { jobs, hub } = c.var.app;
  return respondWatch(c, { hub, job, snapshot: () => jobs.snapshot(c.var.caller, job) });
}

/** The failure of one input of a batch. */
function within(index: number, error: unknown): unknown {
  if (!(error instanceof GatewayError)) return error;
  const { code, message, hint } = error;
  const param = `inputs.${index}${error.param ? `.${error.param}` : ''}`;
  return new GatewayError(code, `${param}: ${message}`, { param, ...(hint === undefined ? {} : { hint }) });
}

function serveBatches(app: OpenAPIHono<AppEnv>): void {
  const tag = 'jobs';
  describeRoute(app, {
    method: 'post',
    path: '/jobs/batch',
    tag,
    summary: 'Many inputs of one capability, one handle',
    status: 202,
    input: batchRequest,
    output: batchView,
  });
  app.post(
    '/jobs/batch',
    idempotent(async (c) => {
      const { capability, inputs, defaults, job } = await readJson(c, batchRequest);
      expectMayAsk(c, capability);
      const schema: z.ZodObject = capabilities[capability].input;
      const checked = inputs.map((input, index) => {
        try {
          return toChecked(schema, { ...defaults, ...input });
        } catch (error) {
          throw within(index, error);
        }
      });
      // All are known to be right before the first file is kept.
      const settled = [];
      for (const [index, input] of checked.entries()) {
        settled.push(
          await settleInput(c, schema, input).catch((error: unknown) => {
            throw within(index, error);
          }),
        );
      }
      const { batches } = c.var.app;
      const { keyed, caller } = c.var;
      const batch = await batches.submit(
        { owner: caller, capability, inputs: settled, ...(job ? { options: job } : {}) },
        (view) => (keyed ? [keyed.settle(202, JSON.stringify(view), { location: `/jobs/batches/${view.id}` })] : []),
      );
      takeBrought(c);
      return respondJson(c, batch, { status: 202, headers: { location: `/jobs/batches/${batch.id}` } });
    }),
  );
  const path = '/jobs/batches/{id}';
  describeRoute(app, { method: 'get', path, tag, summary: 'How far a batch is', output: batchView });
  app.get('/jobs/batches/:id', async (c) =>
    respondJson(c, toBatchView(await c.var.app.batches.get(c.var.caller, c.req.param('id')))),
  );
  describeRoute(app, {
    method: 'delete',
    path,
    tag,
    summary: 'Cancel what of a batch has not ended',
    output: batchView,
  });
  app.delete('/jobs/batches/:id', async (c) =>
    respondJson(c, toBatchView(await c.var.app.batches.cancel(c.var.caller, c.req.param('id')))),
  );
}
