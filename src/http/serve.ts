// A capability → its native route: input checked, run, and the run rendered as JSON or as events.
import type { OpenAPIHono } from '@hono/zod-openapi';
import type { Capability } from '../capabilities/define.ts';
import { z } from 'zod';
import { capabilities, type CapabilityId, type Input } from '../capabilities/index.ts';
import type { RunEvent } from '../event.ts';
import type { Run } from '../run.ts';
import { jobOptions, type JobOptions } from '../jobs/options.ts';
import { clientSignal, type AppContext, type AppEnv } from './context.ts';
import { expectOwner } from './guard.ts';
import { toGpuHeader, toHeader } from './headers.ts';
import { idempotent } from './idempotency.ts';
import { readPrint, readRequest, takeBrought } from './inputs.ts';
import { runAsJob } from './job.ts';
import { describeRoute } from './openapi.ts';
import { orPlan, planQuery } from './plan.ts';
import { toPreference } from './prefer.ts';
import { respondEvents, respondJson, toErrorBody, toEvent } from './respond.ts';

type AnyCapability = Capability<CapabilityId, z.ZodObject, z.ZodObject, z.ZodType>;
type AnyRun = Run<unknown, Record<string, unknown>>;
/** What of a run is told in headers; what is passed on to a runtime has no more than the first two. */
type Told = Pick<AnyRun, 'target' | 'warnings'> & Partial<Pick<AnyRun, 'cost' | 'eta' | 'ended'>>;

export function serveCapability(app: OpenAPIHono<AppEnv>, capability: AnyCapability): void {
  const { id, path, output, chunk, summary, description, makes, own } = capability;
  const isJob = makes !== undefined || own !== undefined;
  const streams = isJob || !(chunk instanceof z.ZodNever);
  const input = capability.input.extend({
    job: jobOptions.optional().describe('How to treat it as a job; see also the Prefer header.'),
  });
  describeRoute(app, {
    method: 'post',
    path,
    tag: path.split('/')[1]!,
    summary,
    description,
    query: planQuery,
    input,
    output,
    streams,
    jobs: true,
  });
  async function handle(c: AppContext): Promise<Response> {
    expectMayAsk(c, id);
    const { job: options, ...body } = (await readRequest(c, input)) as Record<string, unknown> & {
      job?: JobOptions;
      stream?: boolean;
    };
    const preference = toPreference(c.req.header('prefer'));
    const stream = streams && (body.stream || (c.req.header('accept')?.includes('text/event-stream') ?? false));
    if (preference || options || isJob) {
      const goesOn = own !== undefined;
      return runAsJob(c, { capability: id, input: body, options, preference, stream: stream && isJob, goesOn });
    }
    const run = c.var.app.gateway.run(id, body as Input<CapabilityId>, {
      signal: clientSignal(c),
      requestId: c.var.requestId,
      caller: c.var.caller,
      file: c.var.app.inputs.open(c.var.caller),
    }) as AnyRun;
    const brought = takeBrought(c);
    if (brought.length > 0) {
      const forget = () => void c.var.app.inputs.forget(c.var.caller, brought);
      run.result.then(forget, forget);
    }
    return stream ? runEvents(c, run) : runJson(c, run);
  }
  app.post(
    path,
    orPlan(id, input),
    idempotent(handle, (c) => readPrint(c, input)),
  );
}

/** Throws forbidden for what only the owner may ask the gateway to do. */
export function expectMayAsk(c: AppContext, id: CapabilityId): void {
  if (capabilities[id].own) expectOwner(c, capabilities[id].summary.toLowerCase());
}

/** Waits for the whole answer; `toBody` puts it into a dialect's words. */
export async function runJson<Output>(
  c: AppContext,
  run: Run<unknown, Output>,
  toBody: (output: Output) => unknown = (output) => output,
): Promise<Response> {
  try {
    const body = toBody(await run.result);
    return respondJson(c, body, { headers: runHeaders(c, run) });
  } catch (error) {
    logRun(c, run);
    // What failed has cost something, too.
    Object.assign(c.var.headers, toCostHeader(run));
    throw error;
  }
}

function runEvents(c: AppContext, run: AnyRun): Promise<Response> {
  return respondEvents(c, {
    ready: run.started,
    body: encode(run),
    headers: () => runHeaders(c, run),
    onError: (error) => toEvent('error', toErrorBody(error, c.var.requestId)),
    onGone: () => run.cancel(),
  });
}

async function* encode(run: AnyRun): AsyncGenerator<string> {
  try {
    for await (const event of run.events()) yield toEvent(event.type, toPayload(event));
  } finally {
    // The reader left before the end: nobody else is watching this run.
    run.cancel();
  }
}

function toPayload(event: RunEvent<unknown, unknown>): unknown {
  if (event.type === 'chunk') return event.chunk;
  if (event.type === 'result') return event.result;
  const { type: _, ...fields } = event;
  return fields;
}

/** What really runs, and what could not be honoured; for dialects too. */
export function runHeaders(c: AppContext, run: Told): Record<string, string> {
  logRun(c, run);
  const { target, warnings, eta } = run;
  return {
    ...toCostHeader(run),
    ...(eta === undefined ? {} : { 'x-eta': String(eta) }),
    ...(target ? { 'x-model': toHeader(target.model), 'x-runtime': toHeader(target.runtime) } : {}),
    ...(target?.reason ? { 'x-model-reason': toHeader(target.reason).slice(0, 1000) } : {}),
    ...(warnings.length > 0 ? { 'x-warning': toHeader(warnings.join('; ')).slice(0, 2000) } : {}),
  };
}

function toCostHeader({ cost, ended = false }: Pick<Told, 'cost' | 'ended'>): { 'x-gpu'?: string } {
  return cost ? { 'x-gpu': toGpuHeader(cost, ended) } : {};
}

function logRun(c: AppContext, run: Told): void {
  const { 'x-gpu': gpu } = toCostHeader(run);
  Object.assign(c.var.logged, run.target, gpu === undefined ? {} : { gpu });
}
