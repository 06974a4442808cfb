// A capability asked as a job: taken and told of with 202, or watched to its end and answered like any other request.
import type { CapabilityId } from '../capabilities/index.ts';
import { GatewayError, type ErrorCode } from '../error.ts';
import { toBase64 } from '../base64.ts';
import type { JobOptions } from '../jobs/options.ts';
import { isEnded, type JobView } from '../jobs/view.ts';
import type { Put } from '../store.ts';
import { clientSignal, type AppContext } from './context.ts';
import type { Preference } from './prefer.ts';
import { respond, respondJson } from './respond.ts';
import { toHeader } from './headers.ts';

export interface JobRequest {
  capability: CapabilityId;
  input: Record<string, unknown>;
  options: JobOptions | undefined;
  preference: Preference | undefined;
}

/** Long enough for any job; the job's own limits end it before. */
const FOREVER_MS = 2_147_483_647;

export async function runAsJob(c: AppContext, request: JobRequest): Promise<Response> {
  const { preference } = request;
  const job = await submit(c, request);
  c.var.logged['job'] = job.id;
  // Also where it fails: its caller may want to look at it, or try it again.
  c.var.headers['x-job-id'] = job.id;
  const { jobs } = c.var.app;
  if (preference && preference.waitMs === undefined) {
    // What was committed as the answer to a key stays as it is; everybody else is told the place in the queue, too.
    return accepted(c, c.var.keyed ? job : await jobs.get(c.var.caller, job.id), preference);
  }
  const gone = clientSignal(c);
  const ended = await jobs.wait(c.var.caller, job.id, preference?.waitMs ?? FOREVER_MS, gone);
  if (isEnded(ended)) return finished(c, ended, request.options);
  // Who asked for a job, or comes back with a key, finds it later; nobody else would know of it.
  if (gone.aborted && !preference && !c.var.keyed) await jobs.cancel(c.var.caller, job.id).catch(() => {});
  return accepted(c, ended, preference);
}

async function submit(c: AppContext, { capability, input, options, preference }: JobRequest): Promise<JobView> {
  const { keyed, caller, app } = c.var;
  if (keyed?.job !== undefined) return app.jobs.get(caller, keyed.job);
  const detached = preference !== undefined && preference.waitMs === undefined;
  // Committed with the job: a second request finds the answer, or at least the job, even if this process dies on its way out.
  const also = (view: JobView): Put[] => {
    if (!keyed) return [];
    return [detached ? keyed.settle(202, JSON.stringify(view), toHeaders(view, preference)) : keyed.bind(view.id)];
  };
  const reuse = !/\bno-(cache|store)\b/.test(c.req.header('cache-control') ?? '');
  const submission = { owner: caller, capability, input, reuse, ...(options ? { options } : {}) };
  const { job, conflict } = await app.jobs.submit(submission, also);
  if (conflict) throw new GatewayError('idempotency_running', 'Another request with this key was faster.');
  return job;
}

function accepted(c: AppContext, job: JobView, preference: Preference | undefined): Response {
  return respond(c, JSON.stringify(job), {
    status: 202,
    contentType: 'application/json',
    headers: toHeaders(job, preference),
  });
}

function toHeaders(job: JobView, preference: Preference | undefined): Record<string, string> {
  return {
    location: `/jobs/${job.id}`,
    'x-job-id': job.id,
    ...(preference ? { 'preference-applied': preference.applied } : {}),
  };
}

async function finished(c: AppContext, job: JobView, options: JobOptions | undefined): Promise<Response> {
  if (job.error) throw toError(job);
  const { result } = options?.response_format === 'b64_json' ? await withBytes(c, job) : job;
  return respondJson(c, result, {
    headers: {
      'x-cache': job.cached ? 'hit' : 'miss',
      ...(job.model === null ? {} : { 'x-model': toHeader(job.model) }),
      ...(job.runtime === null ? {} : { 'x-runtime': toHeader(job.runtime) }),
      ...(job.warnings.length > 0 ? { 'x-warning': toHeader(job.warnings.join('; ')).slice(0, 2000) } : {}),
    },
  });
}

/** The job with the bytes of its files beside their links, where they are asked for in the answer itself. */
export async function withBytes(c: AppContext, job: JobView): Promise<JobView> {
  const { artifacts, config } = c.var.app;
  let room = config.max_reply;
  const whole = [];
  for (const view of job.artifacts) {
    room -= view.size;
    if (room < 0) {
      throw new GatewayError('body_too_large', 'The files are too large to be in one answer.', {
        hint: 'Fetch them by their links, or raise HONO_AI_MAX_REPLY.',
      });
    }
    const bytes = await artifacts.open(await artifacts.get(c.var.caller, view.id));
    if (!bytes) throw new GatewayError('expired', 'A file of this job is gone.');
    whole.push({ ...view, b64_json: toBase64(await readBytesOf(bytes, view.size)) });
  }
  const { result } = job;
  return { ...job, artifacts: whole, ...(result ? { result: { ...result, artifacts: whole } } : {}) };
}

async function readBytesOf(source: AsyncIterable<Uint8Array>, size: number): Promise<Uint8Array> {
  const whole = new Uint8Array(size);
  let at = 0;
  for await (const piece of source) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}

/** The failure that ended a job, as it would have answered the request itself. */
export function toError({ error }: JobView): GatewayError {
  const { code, message, ...details } = error!;
  return new GatewayError(code as ErrorCode, message, { ...details, retry: false });
}
