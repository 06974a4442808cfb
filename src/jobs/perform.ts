// Works on one job that is held: runs it through the gateway, tells how far it is, and writes down how it ended.
import { toBase64 } from '../base64.ts';
import type { ArtifactView } from '../capabilities/file.ts';
import type { CapabilityId } from '../capabilities/index.ts';
import { GatewayError, toGatewayError } from '../error.ts';
import type { MadeFile, RunEvent } from '../event.ts';
import type { Gateway, RunOptions } from '../gateway.ts';
import type { Run, Target } from '../run.ts';
import type { Failpoint, Happening, JobFailure, JobHead, JobRecord, Outcome, Put, Store } from '../store.ts';
import { remaining } from './estimate.ts';
import type { JobNotes } from './options.ts';
import { isOwn } from './own.ts';
import type { ProgressMeter } from './progress.ts';
import { delayOf, isRetryable, wasNotStarted } from './retry.ts';
import { createStopwatch, type Stopwatch } from './timings.ts';
import { toJobView } from './view.ts';

export interface PerformerOptions {
  store: Store;
  gateway: Gateway;
  now: () => number;
  publish(event: Omit<Happening, 'at'>): void;
  /** Opens the files of a caller for a runtime. */
  open(owner: string): NonNullable<RunOptions['file']>;
  /** Gives files the format that was asked for. */
  finish(files: MadeFile[], job: JobRecord, signal: AbortSignal): Promise<{ files: MadeFile[]; warnings: string[] }>;
  /** Keeps what was made; visible once the documents are committed. */
  stage(files: MadeFile[], job: JobRecord, run: { model: string; runtime: string }): Promise<Staged>;
  /** Documents that belong to the end of a job: what is remembered, who is told. */
  farewell(job: JobRecord, outcome: Outcome, made?: ArtifactView[]): Promise<Put[]>;
  /** Called when an end is on disk. */
  onEnded(job: JobHead): void;
  /** Called when it waits again. */
  onRequeued(job: Pick<JobHead, 'id' | 'capability' | 'runAt'>): void;
  warn(message: string, fields: Record<string, unknown>): void;
  failpoint: Failpoint;
  /** The process is about to end: nothing is tried again. */
  stopping(): boolean;
}

/** Files that are kept, and the documents that make them visible. */
export interface Staged {
  artifacts: ArtifactView[];
  puts: Put[];
}

/** A job that is held. */
export interface Work {
  job: JobRecord;
  abort: AbortController;
  meter: ProgressMeter;
  target?: Target;
  /** The runtime is done with it: another attempt would repeat what cost time. */
  worked?: boolean;
  done: Promise<void>;
}

/** Milliseconds until what a store refused because it is away is tried again. */
const RETRY_WRITE_MS = 1000;

export function createPerformer(options: PerformerOptions): (work: Work) => Promise<void> {
  const { store, gateway, now, publish, failpoint, stopping } = options;

  async function perform(work: Work): Promise<void> {
    const { job } = work;
    if (job.cancelled) return end(work, { state: 'cancelled', error: toFailure(cancelledError()) });
    if (job.attempts > job.maxAttempts) return end(work, { state: 'failed', error: toFailure(poisoned(job)) });
    publish({ type: 'job:running', owner: job.owner, job: job.id, data: { job: toJobView(job) } });
    const watch = createStopwatch((job.startedAt ?? now()) - Math.max(job.createdAt, job.runAt));
    const limit = setTimeout(
      () => work.abort.abort(timedOut(job)),
      Math.min(job.limits.run, Math.max(1, job.since + job.limits.total - now()), 2_147_483_647),
    );
    try {
      await attempt(work, watch);
    } catch (thrown) {
      await afterFailure(work, toGatewayError(thrown), watch);
    } finally {
      clearTimeout(limit);
    }
  }

  async function attempt(work: Work, watch: Stopwatch): Promise<void> {
    const { job, abort } = work;
    const run = gateway.run(job.capability as CapabilityId, job.input as never, {
      signal: abort.signal,
      requestId: job.id,
      caller: job.owner,
      class: job.priority,
      file: options.open(job.owner),
    }) as Run<unknown, Record<string, unknown>>;
    watch.charge(() => run.cost);
    let dispatched = false;
    let files: MadeFile[] | undefined;
    let output: Record<string, unknown> | undefined;
    for await (const event of run.events()) {
      if (!dispatched && event.type !== 'status') {
        dispatched = true;
        failpoint('dispatched');
      }
      if (run.target) work.target = run.target;
      follow(work, watch, event);
      if (event.type === 'result') ({ result: output, files } = event);
    }
    failpoint('runtime done');
    const target = run.target!;
    work.worked = true;
    const finished = files ? await options.finish(files, job, abort.signal) : undefined;
    const staged: Staged = finished ? await keep(work, finished.files, target) : { artifacts: [], puts: [] };
    // A cancel that came while files were written still counts: nothing of it is visible yet.
    abort.signal.throwIfAborted();
    const notes: JobNotes = {
      target,
      timings: watch.read(),
      warnings: [...run.warnings, ...(finished?.warnings ?? [])],
      ...(staged.artifacts.length > 0 ? { artifacts: staged.artifacts.map(({ id }) => id) } : {}),
    };
    await end(work, { state: 'done', result: output, notes: { ...notes } }, staged);
  }

  /** A store that is away for a while must not cost the work again: what was made is held until it can be kept. */
  async function keep(work: Work, files: MadeFile[], target: Target): Promise<Staged> {
    for (;;) {
      try {
        return await options.stage(files, work.job, target);
      } catch (error) {
        const again = toGatewayError(error).code === 'storage_unavailable' && files.every(isInMemory);
        if (!again || stopping() || work.abort.signal.aborted) throw error;
        options.warn('the files of a job cannot be kept yet', { job: work.job.id, cause: String(error) });
        await new Promise((resolve) => setTimeout(resolve, RETRY_WRITE_MS));
      }
    }
  }

  function follow({ job, meter }: Work, watch: Stopwatch, event: RunEvent<unknown, unknown>): void {
    const { owner, id } = job;
    if (event.type === 'preview') {
      const data = { id, media_type: event.media_type, data: toBase64(event.bytes) };
      publish({ type: 'job:preview', owner, job: id, data });
      return;
    }
    let told;
    if (event.type === 'status') {
      watch.status(event.state);
      told = meter.status(event);
    } else if (event.type === 'progress' || event.type === 'chunk') {
      watch.working();
      told = event.type === 'progress' ? meter.progress(event) : meter.chunk();
    }
    if (!told) return;
    const eta_s = toEta(job, meter, () => remaining(meter.workedMs, told.percent));
    publish({ type: 'job:progress', owner, job: id, data: { id, ...told, ...(eta_s === undefined ? {} : { eta_s }) } });
  }

  async function afterFailure(work: Work, error: GatewayError, watch: Stopwatch): Promise<void> {
    const { job, abort } = work;
    const reason = abort.signal.aborted ? toGatewayError(abort.signal.reason) : undefined;
    if (reason?.code === 'conflict') return; // The lease is another's: whatever is written now would be refused.
    if (reason?.code === 'draining') return requeue(work, { runAt: now(), refund: true });
    const failure = reason ?? error;
    const notes: JobNotes = { timings: watch.read() };
    if (failure.code === 'cancelled') {
      return end(work, { state: 'cancelled', error: toFailure(failure), notes: { ...notes } });
    }
    if (isOwn(job)) {
      // Whoever does it has tried again where that could help.
      if (failure.code === 'draining') return requeue(work, { runAt: now(), refund: true });
      return end(work, { state: 'failed', error: toFailure(failure), notes: { ...notes } });
    }
    const { misses: before = 0 } = job.notes as JobNotes;
    const awaited = isAwaited(job);
    if (!reason && !work.worked && !awaited && wasNotStarted(failure)) {
      const misses = before + 1;
      const runAt = now() + delayOf(misses, failure.retryAfter);
      return requeue(work, { runAt, refund: true, notes: { misses } });
    }
    const mayHeal =
      (isRetryable(failure) && !(awaited && wasNotStarted(failure))) ||
      (work.worked && failure.code === 'storage_unavailable');
    if (!reason && mayHeal && job.attempts < job.maxAttempts) {
      return requeue(work, { runAt: now() + delayOf(job.attempts, failure.retryAfter) });
    }
    await end(work, { state: 'failed', error: toFailure(failure), notes: { ...notes } });
  }

  async function requeue(work: Work, how: Parameters<Store['jobs']['requeue']>[1]): Promise<void> {
    const { job } = work;
    const kept = await persist(work, () => store.jobs.requeue(job, how));
    if (!kept) return;
    const view = toJobView({
      ...job,
      state: 'queued',
      runAt: how.runAt,
      attempts: job.attempts - (how.refund ? 1 : 0),
    });
    publish({ type: 'job:queued', owner: job.owner, job: job.id, data: { job: view } });
    options.onRequeued({ ...job, runAt: how.runAt });
  }

  async function end(work: Work, ending: Omit<Outcome, 'at'>, staged?: Staged): Promise<void> {
    const { job } = work;
    const outcome: Outcome = { ...ending, at: now() };
    const mine = await persist(work, async () => {
      const puts = [...(staged?.puts ?? []), ...(await options.farewell(job, outcome, staged?.artifacts))];
      failpoint('before commit');
      return store.jobs.finish(job, outcome, puts);
    });
    failpoint('after commit');
    if (!mine) return;
    options.onEnded(toEnded(job, outcome));
  }

  /** An end that cannot be written down is not thrown away: the work was done, and the store may come back. */
  async function persist(work: Work, write: () => Promise<boolean>): Promise<boolean> {
    for (;;) {
      try {
        return await write();
      } catch (error) {
        const { code } = toGatewayError(error);
        options.warn('the end of a job cannot be written', { job: work.job.id, code, cause: String(error) });
        // Something that belongs to the end was changed by others: the job goes on as if it had not been reached.
        if (stopping() || isLost(work) || code === 'conflict') return false;
        await new Promise((resolve) => setTimeout(resolve, RETRY_WRITE_MS));
      }
    }
  }

  const isLost = ({ abort }: Work) => abort.signal.aborted && toGatewayError(abort.signal.reason).code === 'conflict';

  return perform;
}

export function toEnded(job: JobHead, { state, at, error, notes }: Outcome): JobHead {
  return { ...job, state, finishedAt: at, notes: { ...job.notes, ...notes }, ...(error ? { error } : {}) };
}

/** Seconds left: as the runtime or the card tells them, else as `guess` has it. What the gateway does itself is not guessed: it may pause. */
export function toEta(
  job: Pick<JobHead, 'capability'>,
  { eta }: Pick<ProgressMeter, 'eta'>,
  guess: () => number | undefined,
): number | undefined {
  if (eta !== undefined) return eta ?? undefined;
  return isOwn(job) ? undefined : guess();
}

/** Somebody waits for the answer; who waited when an earlier attempt began, or before it was tried anew, has gone. */
function isAwaited({ notes, attempts, since, createdAt }: JobRecord): boolean {
  return (notes as JobNotes).awaited === true && attempts === 1 && since === createdAt;
}

function isInMemory({ bytes }: MadeFile): boolean {
  return bytes instanceof Uint8Array;
}

export function toFailure({ code, message, source, param, hint }: GatewayError): JobFailure {
  return { code, message, source, ...(param === undefined ? {} : { param }), ...(hint === undefined ? {} : { hint }) };
}

export function cancelledError(): GatewayError {
  return new GatewayError('cancelled', 'The job was cancelled.');
}

function poisoned({ maxAttempts }: JobRecord): GatewayError {
  return new GatewayError(
    'poisoned',
    `The job was started ${maxAttempts} times, and each time the process that ran it ended before it did.`,
    { hint: 'Look for memory that ran out. POST /jobs/{id}/retry starts it anew.' },
  );
}

function timedOut({ limits, since }: JobRecord): GatewayError {
  const total = since + limits.total;
  return new GatewayError('timed_out', `The job took longer than its limit of ${Math.round(limits.run / 1000)} s.`, {
    hint: `Give it more with job.timeout_s, or raise HONO_AI_JOB_RUN_MS. It had until ${new Date(total).toISOString()}.`,
  });
}
