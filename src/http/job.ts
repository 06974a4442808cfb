// A capability asked as a job: taken and told of with 202, or watched to its end and answered like any other request.
import type { CapabilityId } from '../capabilities/index.ts';
import { GatewayError, type ErrorCode } from '../error.ts';
import { toBase64 } from '../base64.ts';
import { followJob, type Step } from '../jobs/follow.ts';
import type { JobOptions } from '../jobs/options.ts';
import { isEnded, type JobView } from '../jobs/view.ts';
import type { Put } from '../store.ts';
import { clientSignal, type AppContext } from './context.ts';
import { takeBrought } from './inputs.ts';
import type { Preference } from './prefer.ts';
import { respond, respondEvents, respondJson, toErrorBody, toEvent } from './respond.ts';
import { toGpuHeader, toHeader } from './headers.ts';

export interface JobRequest {
  capability: CapabilityId;
  input: Record<string, unknown>;
  options: JobOptions | undefined;
  preference: Preference | undefined;
  /** Tell how far it is as server-sent events while it is made. */
  stream?: boolean;
  /** What is kept with the job for the dialect that asked. */
  dialect?: Record<string, unknown>;
  /** In whose words it is answered; the native ones if absent. */
  words?: JobWords;
  /** Somebody waits for the answer: see Submission. */
  awaited?: boolean;
  /** It is not for an answer: nobody waits who does not say so, and whoever leaves lets it go on. */
  goesOn?: boolean;
}

/** How a dialect tells of a job that is waited for. */
export interface JobWords {
  /** The whole answer, of a job that is done. */
  answer(job: JobView): Promise<Response>;
  /** What a step is in a streamed answer: encoded events, comments, or nothing. */
  tell(step: Step): AsyncIterable<string> | Iterable<string>;
  /** The failure that ends a streamed answer, encoded. */
  fail(error: GatewayError): string;
}

/** Long enough for any job; the job's own limits end it before. */
const FOREVER_MS = 2_147_483_647;

export async function runAsJob(c: AppContext, request: JobRequest): Promise<Response> {
  const { preference, goesOn = false, words = nativeWords(c, request.options) } = request;
  // Who asked to wait at most so long, or not at all, finds the job later.
  const job = await submitJob(c, { ...request, awaited: preference === undefined && !goesOn });
  const { jobs } = c.var.app;
  if (request.stream && !preference) return streamJob(c, job, words, goesOn);
  if (isDetached(request)) {
    // What was committed as the answer to a key stays as it is; everybody else is told the place in the queue, too.
    return accepted(c, c.var.keyed ? job : await jobs.get(c.var.caller, job.id), preference);
  }
  const gone = clientSignal(c);
  const ended = await jobs.wait(c.var.caller, job.id, preference?.waitMs ?? FOREVER_MS, gone);
  if (isEnded(ended)) {
    if (ended.error) throw toError(ended);
    return words.answer(ended);
  }
  // Who asked for a job, or comes back with a key, finds it later; nobody else would know of it.
  if (gone.aborted && !preference) await abandonJob(c, job.id);
  return accepted(c, ended, preference);
}

/** Its answer is the job, at once. */
function isDetached({ preference, goesOn, stream }: JobRequest): boolean {
  return preference ? preference.waitMs === undefined : goesOn === true && !stream;
}

/** Nobody waits for it any more, and nobody else knows of it: its runtime is stopped. */
export async function abandonJob(c: AppContext, id: string): Promise<void> {
  if (!c.var.keyed) await c.var.app.jobs.cancel(c.var.caller, id).catch(() => {});
}

/** The job of a request: a new one, or that of an earlier request with the same key. */
export async function submitJob(c: AppContext, request: JobRequest): Promise<JobView> {
  const job = await submit(c, request);
  c.var.logged['job'] = job.id;
  // Also where it fails: its caller may want to look at it, or try it again.
  c.var.headers['x-job-id'] = job.id;
  return job;
}

/** The job as events. */
function streamJob(c: AppContext, job: JobView, words: JobWords, goesOn: boolean): Promise<Response> {
  const gone = clientSignal(c);
  const left = new AbortController();
  const leave = () => left.abort();
  gone.addEventListener('abort', leave, { once: true });
  async function* body(): AsyncGenerator<string> {
    let ended = false;
    try {
      for await (const step of followJob(c.var.app, c.var.caller, job.id, left.signal)) {
        if (step.type === 'ended') {
          ended = true;
          if (step.job.error) throw toError(step.job);
        }
        yield* words.tell(step);
      }
    } finally {
      gone.removeEventListener('abort', leave);
      if (!ended && !goesOn) await abandonJob(c, job.id);
    }
  }
  const { max_backlog, max_reply } = c.var.app.config;
  return respondEvents(c, {
    body: body(),
    headers: () => toEtaHeader(job),
    // An event may hold a whole file, in base64.
    maxBacklog: max_backlog + Math.ceil(max_reply * 1.4),
    onError: words.fail,
    onGone: leave,
  });
}

function nativeWords(c: AppContext, options: JobOptions | undefined): JobWords {
  const toResult = async (job: JobView) => {
    const { result } = options?.response_format === 'b64_json' ? await withBytes(c, job) : job;
    return result;
  };
  return {
    answer: async (job) => respondJson(c, await toResult(job), { headers: toRunHeaders(job) }),
    async *tell(step) {
      if (step.type === 'ended') yield toEvent('result', await toResult(step.job));
      else if (step.type === 'status') {
        const { state, position, eta_s } = step.job;
        yield toEvent('status', { state, position, eta_s });
      } else if (step.type === 'progress') yield toEvent('progress', step.progress);
      else yield toEvent('preview', { media_type: step.media_type, data: step.data });
    },
    fail: (error) => toEvent('error', toErrorBody(error, c.var.requestId)),
  };
}

async function submit(c: AppContext, request: JobRequest): Promise<JobView> {
  const { capability, input, options, preference, dialect, awaited = false } = request;
  const { keyed, caller, app } = c.var;
  if (keyed?.job !== undefined) return app.jobs.get(caller, keyed.job);
  const detached = isDetached(request);
  // Committed with the job: a second request finds the answer, or at least the job, even if this process dies on its way out.
  const also = (view: JobView): Put[] => {
    if (!keyed) return [];
    return [detached ? keyed.settle(202, JSON.stringify(view), toHeaders(view, preference)) : keyed.bind(view.id)];
  };
  const reuse = !/\bno-(cache|store)\b/.test(c.req.header('cache-control') ?? '');
  const submission = {
    owner: caller,
    capability,
    input,
    reuse,
    awaited,
    ...(options ? { options } : {}),
    ...(dialect ? { dialect } : {}),
  };
  const { job, conflict } = await app.jobs.submit(submission, also);
  if (conflict) throw new GatewayError('idempotency_running', 'Another request with this key was faster.');
  // They are the job's now.
  takeBrought(c);
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
    ...toEtaHeader(job),
    ...(preference ? { 'preference-applied': preference.applied } : {}),
  };
}

/** What really ran, as headers of the answer. */
export function toRunHeaders(job: JobView): Record<string, string> {
  return {
    'x-cache': job.cached ? 'hit' : 'miss',
    ...(job.model === null ? {} : { 'x-model': toHeader(job.model) }),
    ...(job.runtime === null ? {} : { 'x-runtime': toHeader(job.runtime) }),
    ...toCostHeader(job),
    ...toWarningHeader(job.warnings),
  };
}

function toEtaHeader({ eta_s }: JobView): Record<string, string> {
  return eta_s === null ? {} : { 'x-eta': String(Math.ceil(eta_s)) };
}

function toCostHeader({ timings }: JobView): Record<string, string> {
  if (!timings?.evicted) return {};
  const { queue_ms: queueMs, swap_ms: swapMs, run_ms: runMs } = timings;
  const evicted = timings.evicted.map((model) => ({ runtime: '', model }));
  return { 'x-gpu': toGpuHeader({ queueMs, swapMs, runMs, evicted }, true) };
}

/** What was asked for and could not be honoured. */
export function toWarningHeader(warnings: string[]): Record<string, string> {
  return warnings.length > 0 ? { 'x-warning': toHeader(warnings.join('; ')).slice(0, 2000) } : {};
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
  // What was never started may well be sent again.
  return new GatewayError(code as ErrorCode, message, { ...details, retry: code === 'upstream_unavailable' });
}
