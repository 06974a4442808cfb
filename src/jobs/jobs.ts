// Jobs: runs with a record that outlives their request. Takes them, tells of them, stops them, and has them worked on.
import type { ArtifactView } from '../capabilities/file.ts';
import type { CapabilityId } from '../capabilities/index.ts';
import { GatewayError, toGatewayError } from '../error.ts';
import type { MadeFile } from '../event.ts';
import type { Gateway } from '../gateway.ts';
import type { Hub } from '../hub.ts';
import type {
  Document,
  Failpoint,
  JobHead,
  JobLimits,
  JobQuery,
  JobRecord,
  JobState,
  NewJob,
  Outcome,
  Put,
  Store,
} from '../store.ts';
import { createDrafter, toHead, type Submission } from './draft.ts';
import { createEstimates } from './estimate.ts';
import { createKeeper } from './keeper.ts';
import { createMemory, isDeterministic, type MemoryScope, type ShareFiles } from './memory.ts';
import type { JobNotes } from './options.ts';
import { isOwn } from './own.ts';
import { isEnded, toJobView, withResult, type JobView } from './view.ts';
import { cancelledError, toEnded, toFailure, type PerformerOptions, type Staged } from './perform.ts';
import { createTeller, MAX_LISTED_POSITION } from './tell.ts';
import { untilEnded } from './wait.ts';
import { createWorker } from './worker.ts';

/** Keeps what jobs make, and opens what they are made of. */
export interface JobFiles {
  open: PerformerOptions['open'];
  finish: PerformerOptions['finish'];
  /** The input alike for the same bytes, whatever they are called. */
  identify(owner: string, capability: CapabilityId, input: Record<string, unknown>): Promise<Record<string, unknown>>;
  stage(
    files: MadeFile[],
    about: { owner: string; job: string; made: Record<string, unknown>; signal?: AbortSignal },
  ): Promise<Staged>;
  views(owner: string, ids: string[]): Promise<ArtifactView[]>;
  share: ShareFiles;
}

/** Tells others that a job has ended. */
export interface JobHooks {
  announce(event: { type: string; owner: string; data: Record<string, unknown>; url?: string }): Promise<Put[]>;
  /** The address as it is kept. Throws invalid_request for one that may not be called. */
  check(url: string): string;
  wake(): void;
}

export interface JobsOptions {
  store: Store;
  gateway: Gateway;
  hub: Hub;
  files: JobFiles;
  hooks: JobHooks;
  /** Unique for every start of every gateway. */
  worker: string;
  isAlive(worker: string): boolean | undefined;
  concurrency: number;
  attempts: number;
  limits: JobLimits;
  leaseMs: number;
  keepMs: number;
  maxQueued: number;
  memory: MemoryScope;
  now: () => number;
  onSweep(now: number): Promise<void>;
  warn(message: string, fields: Record<string, unknown>): void;
  failpoint?: Failpoint;
}

export interface Jobs {
  /**
   * Takes a job: it is on disk when this resolves. `also` gives documents to be committed with it. Throws model_not_found,
   * not_supported, rate_limited, draining, storage errors; returns the conflict where a document of `also` refuses.
   */
  submit(submission: Submission, also?: (view: JobView) => Put[]): Promise<{ job: JobView; conflict?: Document }>;
  /** Many at once, all or none, with `documents`. The checks of `submit` are the caller's. */
  submitAll(submissions: Submission[], documents: Put[]): Promise<void>;
  /** Throws not_found. `result` is there when it is done. */
  get(owner: string, id: string): Promise<JobView>;
  record(owner: string, id: string): Promise<JobRecord>;
  list(query: JobQuery): Promise<{ jobs: JobView[]; next?: string }>;
  /** Throws not_found, or conflict where it has ended. */
  cancel(owner: string, id: string): Promise<JobView>;
  /** A failed or cancelled job once more. Throws not_found, conflict. */
  retry(owner: string, id: string): Promise<JobView>;
  /** Forgets an ended job. Throws not_found, conflict. */
  remove(owner: string, id: string): Promise<void>;
  /** Resolves with the job when it has ended or `ms` have passed. */
  wait(owner: string, id: string, ms: number, signal?: AbortSignal): Promise<JobView>;
  /**
   * How things stand, as the events that would have told it: of one job (undefined where the caller has none such), or of
   * all that have not ended, the newest hundred.
   */
  snapshot(owner: string, id?: string): Promise<JobSnapshot | undefined>;
  /** Called with every job that has ended, after that is on disk. */
  onEnded(listener: (job: JobHead) => void): void;
  running(): number;
  /** Begins to work on jobs. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

export interface JobSnapshot {
  events: { type: string; data: { job: JobView } }[];
  /** Nothing more will happen. */
  ended: boolean;
}

const MAX_LISTED = 100;
/** Results up to this size travel in webhooks, in characters of JSON. */
const MAX_HOOK_RESULT = 64_000;

export function createJobs(options: JobsOptions): Jobs {
  const { store, gateway, hub, files, hooks, now, limits } = options;
  const memory = createMemory(store.documents, options.memory, files.share);
  const estimates = createEstimates(store.documents);
  const draftOf = createDrafter({ limits, attempts: options.attempts, now });
  const listeners: ((job: JobHead) => void)[] = [];
  let started: Promise<void> | undefined;

  const publish = (type: string, job: JobHead, data: Record<string, unknown>) =>
    hub.publish({ type, owner: job.owner, job: job.id, data });

  const worker = createWorker({
    store,
    gateway,
    name: options.worker,
    concurrency: options.concurrency,
    leaseMs: options.leaseMs,
    now,
    publish: hub.publish,
    open: files.open,
    finish: files.finish,
    stage: (made, job, target) => files.stage(made, { owner: job.owner, job: job.id, made: toMade(job, target) }),
    farewell,
    onEnded,
    warn: options.warn,
    failpoint: options.failpoint ?? (() => {}),
  });

  const keeper = createKeeper({
    store,
    leaseMs: options.leaseMs,
    keepMs: options.keepMs,
    now,
    isAlive: options.isAlive,
    holds: worker.holds,
    onQueued: (job) => {
      publish('job:queued', job, { job: toJobView(job) });
      worker.poke(job);
    },
    onEnded,
    farewell: (job, outcome) => farewell(job, outcome),
    onSweep: async (at) => {
      await estimates.save();
      await options.onSweep(at);
    },
    warn: options.warn,
  });

  async function farewell(job: JobHead, outcome: Outcome, made: ArtifactView[] = []): Promise<Put[]> {
    const ended = toEnded(job, outcome);
    const notes = ended.notes as JobNotes;
    const view = toJobView(ended, { artifacts: made });
    const whole = outcome.state === 'done' ? withResult(view, { ...ended, input: null, result: outcome.result }) : view;
    const data = JSON.stringify(whole).length > MAX_HOOK_RESULT ? view : whole;
    const puts = await hooks.announce({
      type: `job.${outcome.state}`,
      owner: job.owner,
      data: { job: data },
      ...(notes.webhook === undefined ? {} : { url: notes.webhook }),
    });
    if (outcome.state !== 'done' || notes.memory === undefined) return puts;
    const { target, warnings, artifacts } = notes;
    const known = { target, warnings, artifacts } as Pick<JobNotes, 'target' | 'warnings' | 'artifacts'>;
    const value = { result: outcome.result, notes: known, owner: job.owner };
    return [...puts, memory.toPut(notes.memory, value, outcome.at + options.keepMs)];
  }

  function onEnded(job: JobHead): void {
    const { target, timings } = job.notes as JobNotes;
    // How long the gateway's own work takes says nothing of how long others wait.
    if (job.state === 'done' && timings && !isOwn(job)) {
      const heldMs = (job.finishedAt ?? 0) - (job.startedAt ?? job.finishedAt ?? 0);
      const took = { workMs: timings.swap_ms + timings.run_ms, heldMs };
      estimates.learn({ capability: job.capability, model: target?.model }, took);
    }
    publish(`job:${job.state}`, job, { job: toJobView(job) });
    hooks.wake();
    for (const listener of listeners) listener(job);
  }

  function admit(): void {
    if (gateway.draining()) throw new GatewayError('draining', 'The gateway is shutting down.', { retryAfter: 5 });
  }

  /** The model that would answer, where that is known now. A runtime that is down may be up when the job's turn comes. */
  async function findModel({ capability, input }: Submission): Promise<string | undefined> {
    if (isOwn({ capability })) {
      await gateway.check(capability, input as never);
      return undefined;
    }
    try {
      const [route] = await gateway.catalog.resolve(capability, input['model'] as string | undefined, input);
      return route && `${route.runtime.name}/${route.model.id}/${route.model.created ?? ''}/${route.model.size ?? ''}`;
    } catch (thrown) {
      const error = toGatewayError(thrown);
      const { model } = input;
      if (error.code === 'model_not_found' && typeof model === 'string' && gateway.gets(model)) return undefined;
      if (error.code === 'model_not_found' || error.code === 'not_supported') throw error;
      return undefined;
    }
  }

  async function recall(submission: Submission, draft: NewJob, model: string | undefined): Promise<Put[]> {
    if (!submission.reuse || model === undefined) return [];
    const { owner, capability, input } = submission;
    if (!isDeterministic(input)) return [];
    const key = await memory.keyOf({ owner, capability, model, input: await files.identify(owner, capability, input) });
    if (key === undefined) return [];
    draft.notes['memory'] = key;
    const known = await memory.recall(key, owner, draft.id);
    if (!known) return [];
    draft.notes['cached'] = true;
    draft.ended = { state: 'done', at: now(), result: known.value.result, notes: { ...known.value.notes } };
    return known.puts;
  }

  async function record(owner: string, id: string): Promise<JobRecord> {
    const job = await store.jobs.get(id);
    if (!job || job.owner !== owner) throw new GatewayError('not_found', 'There is no such job.');
    return job;
  }

  const view = createTeller({ store, files, worker, estimates, concurrency: options.concurrency, now });

  const jobs: Jobs = {
    async submit(submission, also) {
      admit();
      const { owner, options: asked } = submission;
      const webhook = asked?.webhook === undefined ? undefined : hooks.check(asked.webhook);
      if ((await store.jobs.waiting(owner)) >= options.maxQueued) {
        throw new GatewayError('rate_limited', `You have ${options.maxQueued} jobs waiting, which is the limit.`, {
          retryAfter: 30,
          hint: 'Wait for some of them, or raise HONO_AI_JOB_MAX_QUEUED.',
        });
      }
      const draft = draftOf(webhook === undefined ? submission : { ...submission, options: { ...asked, webhook } });
      const shared = await recall(submission, draft, await findModel(submission));
      const head = toHead(draft);
      const first = toJobView(head);
      const puts = [...shared, ...(also?.(first) ?? [])];
      if (draft.ended) puts.push(...(await farewell(head, draft.ended)));
      const conflict = await store.jobs.add([draft], puts);
      if (conflict) return { job: first, conflict };
      if (draft.ended) onEnded(head);
      else {
        publish('job:queued', head, { job: first });
        worker.poke(head);
      }
      return { job: first };
    },
    async submitAll(submissions, documents) {
      admit();
      const drafts = submissions.map(draftOf);
      const conflict = await store.jobs.add(drafts, documents);
      if (conflict) throw new GatewayError('conflict', 'Another request was faster.');
      for (const head of drafts.map(toHead)) {
        publish('job:queued', head, { job: toJobView(head) });
        worker.poke(head);
      }
    },
    record,
    get: async (owner, id) => {
      const job = await record(owner, id);
      return withResult(await view(job), job);
    },
    async list(query) {
      const { jobs: page, next } = await store.jobs.list(query);
      const views = await Promise.all(page.map((job) => view(job, MAX_LISTED_POSITION)));
      return { jobs: views, ...(next === undefined ? {} : { next }) };
    },
    async cancel(owner, id) {
      const job = await record(owner, id);
      const outcome: Outcome = { state: 'cancelled', at: now(), error: toFailure(cancelledError()) };
      const came = isEnded(job) ? 'ended' : await store.jobs.stop(id, outcome, await farewell(job, outcome));
      if (came === 'stopped') onEnded(toEnded(job, outcome));
      else if (came === 'marked') worker.cancel(id);
      else throw new GatewayError('conflict', 'The job has already ended.');
      return jobs.get(owner, id);
    },
    async retry(owner, id) {
      const job = await record(owner, id);
      if (!(await store.jobs.revive(id, now()))) {
        throw new GatewayError(
          'conflict',
          `Only a failed or cancelled job can be tried again; this one is ${job.state}.`,
        );
      }
      const again = await record(owner, id);
      publish('job:queued', again, { job: toJobView(again) });
      worker.poke(again);
      return view(again);
    },
    async remove(owner, id) {
      await record(owner, id);
      if (!(await store.jobs.remove(id))) {
        throw new GatewayError('conflict', 'The job has not ended.', { hint: 'Cancel it first.' });
      }
    },
    async wait(owner, id, ms, signal) {
      void jobs.start();
      const isOver = async () => isEnded(await record(owner, id));
      await untilEnded({ hub, owner, job: id, isOver, ms, signal });
      return jobs.get(owner, id);
    },
    async snapshot(owner, id) {
      void jobs.start();
      const job = id === undefined ? undefined : await store.jobs.get(id);
      if (id !== undefined && job?.owner !== owner) return undefined;
      const states: JobState[] = ['queued', 'running'];
      const heads = job ? [job] : (await store.jobs.list({ owner, states, limit: MAX_LISTED })).jobs;
      // In the order in which they came, as their events did.
      const views = await Promise.all(heads.toReversed().map((head) => view(head, MAX_LISTED_POSITION)));
      const events = views.map((each) => ({ type: `job:${each.state}`, data: { job: each } }));
      return { events, ended: job !== undefined && isEnded(job) };
    },
    onEnded: (listener) => void listeners.push(listener),
    running: worker.running,
    start: () =>
      (started ??= (async () => {
        await estimates.load().catch(() => {});
        await keeper.start();
        worker.start();
      })()),
    async stop() {
      keeper.stop();
      await worker.stop();
      await estimates.save().catch(() => {});
    },
  };
  return jobs;
}

/** How an artifact was made, for whoever looks at it later. */
function toMade({ capability, input }: JobRecord, target: { model: string; runtime: string }): Record<string, unknown> {
  const { model: _, images: __, image: ___, mask: ____, ...told } = input as Record<string, unknown>;
  return { capability, ...target, ...told };
}
