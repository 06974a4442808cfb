// How a job stands now: its place, how far it is, when it will be done, and what it made.
import type { ArtifactView } from '../capabilities/file.ts';
import type { JobHead, JobStore } from '../store.ts';
import { remaining, type Estimates } from './estimate.ts';
import type { JobNotes } from './options.ts';
import { isOwn } from './own.ts';
import { toEta, type Work } from './perform.ts';
import { toJobView, type JobView, type Live } from './view.ts';
import type { Worker } from './worker.ts';

export interface TellerOptions {
  store: { jobs: Pick<JobStore, 'position'> };
  files: { views(owner: string, ids: string[]): Promise<ArtifactView[]> };
  worker: Pick<Worker, 'live' | 'working'>;
  estimates: Pick<Estimates, 'workOf' | 'any'>;
  concurrency: number;
  now: () => number;
}

/** Positions are counted up to here; beyond, what is told is “more than this”. */
export const MAX_POSITION = 10_000;
export const MAX_LISTED_POSITION = 100;

export function createTeller({ store, files, worker, estimates, concurrency, now }: TellerOptions) {
  /** Seconds left of one that runs: what the runtime or the card says, else by how such jobs go. */
  function leftOf(job: JobHead, { meter, target }: Pick<Work, 'meter' | 'target'>): number | undefined {
    const { capability } = job;
    const model = target?.model ?? (job.notes as JobNotes).target?.model ?? job.model;
    const guess = () => remaining(meter.workedMs, meter.latest?.percent, estimates.workOf({ capability, model }));
    return toEta(job, meter, guess);
  }

  /** Seconds until a waiting job is done: until one of those that run makes room for it, and itself. */
  function waitFor(job: JobHead, position: number | undefined): number | undefined {
    const any = estimates.any();
    const own = estimates.workOf(job);
    if (position === undefined || !any || own === undefined || concurrency === 0 || isOwn(job)) return undefined;
    const busy = worker.working().map((work) => (leftOf(work.job, work) ?? any.heldMs / 1000) * 1000);
    while (busy.length < concurrency) busy.push(0);
    busy.sort((a, b) => a - b);
    const before = position - 1;
    // Those before it take the places one after the other as they come free, and hold each as long as any does.
    const startMs = busy[before % concurrency]! + Math.floor(before / concurrency) * any.heldMs;
    // Where others work at the same time, it waits for what they wait for as well.
    const idleMs = startMs > 0 ? any.idleMs : 0;
    return Math.ceil((Math.max(job.runAt - now(), startMs) + idleMs + own) / 1000);
  }

  /** Its place is counted up to `most`. */
  return async (job: JobHead, most = MAX_POSITION): Promise<JobView> => {
    const { artifacts = [] } = job.notes as JobNotes;
    const live: Live = {};
    if (job.state === 'running') {
      const known = worker.live(job.id);
      live.target = known?.target;
      live.progress = known?.meter.latest;
      live.eta = known && leftOf(job, known);
    } else if (job.state === 'queued') {
      const position = await store.jobs.position(job.id, most);
      live.position = position !== undefined && most < MAX_POSITION && position > most ? undefined : position;
      live.eta = waitFor(job, live.position);
    } else if (artifacts.length > 0) live.artifacts = await files.views(job.owner, artifacts);
    return toJobView(job, live);
  };
}
