// The jobs of an sd-server: handed in, watched, and cancelled when their caller leaves, also one that leaves before the job has a name.
import { GatewayError } from '../../../src/error.ts';
import type { StatusEvent } from '../../../src/event.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { cancelled, notOpenAI, toLateFailure, toObject, toRefusal } from './failure.ts';
import { lookOnce, pause, toFilm, unlessAborted } from './films.ts';
import type { Body } from './quirks.ts';
import type { WireSdcppJob } from './wire.ts';

export interface SdcppJobs {
  /**
   * Runs a job to its end: `route` is img_gen or vid_gen. Throws NoJobs where the server has no such route, overloaded where its queue is
   * full, upstream_terminated where it lost the job or fell silent, insufficient_vram, client_closed.
   */
  run(route: string, body: Body, signal: AbortSignal): AsyncGenerator<StatusEvent, Result>;
}

export type Result = NonNullable<WireSdcppJob['result']>;

/** The server is one without jobs. */
export class NoJobs extends GatewayError {}

/** Milliseconds between two looks: a job that is soon done is not waited for long. */
const FIRST_LOOK_MS = 100;
const LAST_LOOK_MS = 1000;
const LONGER = 1.5;
const QUEUE_FULL_SECONDS = 5;
const CANCEL_MS = 5000;
const CANCEL_TRIES = 6;
const FIRST_RETRY_MS = 200;
/** Milliseconds that a caller who leaves waits for the cancellation; it goes on without them. */
const PARTING_MS = 500;

/** `upstream` is the API's own; `silenceMs` is how long it may give no answer about a job. */
export function createSdcppJobs(upstream: Upstream, silenceMs: number): SdcppJobs {
  const { name: source } = upstream;

  async function* run(route: string, body: Body, signal: AbortSignal): AsyncGenerator<StatusEvent, Result> {
    const id = await submit(route, body, signal);
    let ended = false;
    try {
      const job = yield* follow(id, signal);
      ended = true;
      return toResult(job, upstream);
    } finally {
      if (!ended) await Promise.race([cancel(id), sleep(PARTING_MS)]);
    }
  }

  /** A caller who leaves does not take the answer along: without it nobody could cancel the job. */
  async function submit(route: string, body: Body, signal: AbortSignal): Promise<string> {
    if (signal.aborted) throw cancelled();
    const taken = send(route, body);
    try {
      return await unlessAborted(taken, signal);
    } catch (thrown) {
      if (signal.aborted) taken.then(cancel).catch(() => {});
      throw thrown;
    }
  }

  async function send(route: string, body: Body): Promise<string> {
    const reply = await upstream.send(`/${route}`, { json: body, signal: new AbortController().signal });
    if (reply.status === 404 || reply.status === 405 || reply.status === 501) {
      await reply.text();
      throw new NoJobs('not_supported', `${source} has no jobs.`, { source, hint: 'Use a newer sd-server.' });
    }
    if (reply.status < 200 || reply.status > 299) {
      const refusal = await toRefusal(upstream, reply);
      throw reply.status === 429 ? queueFull(refusal) : refusal;
    }
    const { id } = toObject<WireSdcppJob>(await reply.text(), upstream);
    if (typeof id !== 'string' || id === '') throw notOpenAI(source);
    return id;
  }

  async function* follow(id: string, signal: AbortSignal): AsyncGenerator<StatusEvent, WireSdcppJob> {
    let answeredAt = Date.now();
    let told = '';
    for (let wait = FIRST_LOOK_MS; ; wait = Math.min(LAST_LOOK_MS, wait * LONGER)) {
      await pause(wait, signal);
      const job = await lookOnce((soon) => look(id, soon), signal);
      if (!job) {
        if (Date.now() - answeredAt > silenceMs) throw gone(source, 'no longer answers');
        continue;
      }
      answeredAt = Date.now();
      const { status, queue_position: position } = job;
      if (status !== 'queued' && status !== 'generating') return job;
      const now = status === 'queued' ? `${status} ${position}` : status;
      if (now === told) continue;
      told = now;
      if (status === 'generating') yield { type: 'status', state: 'running' };
      else yield { type: 'status', state: 'queued', ...(position && position > 0 ? { position } : {}) };
    }
  }

  async function look(id: string, signal: AbortSignal): Promise<WireSdcppJob> {
    const reply = await upstream.send(toPath(id), { method: 'GET', signal });
    if (reply.status === 404 || reply.status === 410) {
      await reply.text();
      return { status: 'lost' };
    }
    if (reply.status !== 200) throw await toRefusal(upstream, reply);
    return toFilm<WireSdcppJob>(await reply.text(), upstream);
  }

  /** Asked again until there is an answer, whichever: a server that cannot stop what it generates says so, and would say it again. */
  async function cancel(id: string): Promise<void> {
    for (let tries = 0; tries < CANCEL_TRIES; tries++) {
      if (tries > 0) await sleep(FIRST_RETRY_MS * 2 ** (tries - 1));
      try {
        const signal = AbortSignal.timeout(CANCEL_MS);
        const reply = await upstream.send(`${toPath(id)}/cancel`, { json: {}, signal });
        await reply.text();
        if (reply.status < 500 && reply.status !== 429) return;
      } catch {
        // It may be restarting; nobody is left to be told.
      }
    }
  }

  function queueFull({ retryAfter = QUEUE_FULL_SECONDS }: GatewayError): GatewayError {
    return new GatewayError('overloaded', `${source} has as many jobs waiting as it takes.`, { source, retryAfter });
  }

  return { run };
}

/** Throws for every end but a picture or a film. */
function toResult({ status, result, error }: WireSdcppJob, upstream: Upstream): Result {
  const { name } = upstream;
  if (status === 'completed' && result) return result;
  if (status === 'lost') throw gone(name, 'no longer knows the job');
  if (status === 'cancelled') throw gone(name, 'was told by somebody else to cancel the job');
  // Its message may hold paths, and may say that memory ran out.
  if (status === 'failed') throw toLateFailure(JSON.stringify({ error: error?.message ?? error }), upstream);
  throw notOpenAI(name);
}

function gone(source: string, what: string): GatewayError {
  return new GatewayError('upstream_terminated', `${source} ${what}.`, {
    source,
    retry: false,
    hint: `Ask again; if it happens again, look at the log of ${source}: it may run out of memory.`,
  });
}

function toPath(id: string): string {
  return `/jobs/${encodeURIComponent(id)}`;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
