// How a job stands now: its place, how far it is, when it will be done, and what it made.
import type { ArtifactView } from '../capabilities/file.ts';
import type { JobHead, JobStore } from '../store.ts';
import { remaining, toEstimateKey, type Estimates } from './estimate.ts';
import type { JobNotes } from './options.ts';
import { isOwn } from './own.ts';
import { toEta } from './perform.ts';
import { toJobView, type JobView, type Live } from './view.ts';
import type { Worker } from './worker.ts';

export interface TellerOptions {
  store: { jobs: Pick<JobStore, 'position'> };
  files: { views(owner: string, ids: string[]): Promise<ArtifactView[]> };
  worker: Pick<Worker, 'live' | 'busy'>;
  estimates: Estimates;
  concurrency: number;
  now: () => number;
}

/** Positions are counted up to here; beyond, what is told is “more than this”. */
export const MAX_POSITION = 10_000;
export const MAX_LISTED_POSITION = 100;

export function createTeller({ store, files, worker, estimates, concurrency, now }: TellerOptions) {
  /** Seconds until a waiting job is done: those before it, and itself. */
  function waitFor(job: JobHead, position: number | undefined): number | undefined {
    const any = estimates.any();
    if (position === undefined || any === undefined || concurrency === 0 || isOwn(job)) return undefined;
    const own = estimates.of(toEstimateKey(job.capability, job.model)) ?? any;
    const before = ((position - 1 + worker.busy()) * any) / concurrency;
    return Math.ceil((Math.max(0, job.runAt - now()) + before + own) / 1000);
  }

  /** Its place is counted up to `most`. */
  return async (job: JobHead, most = MAX_POSITION): Promise<JobView> => {
    const { target, artifacts = [] } = job.notes as JobNotes;
    const live: Live = {};
    if (job.state === 'running') {
      const known = worker.live(job.id);
      const model = known?.target?.model ?? target?.model ?? job.model;
      const mean = estimates.of(toEstimateKey(job.capability, model)) ?? estimates.any();
      live.target = known?.target;
      live.progress = known?.progress;
      const guess = () => known && remaining(performance.now() - known.startedAt, known.progress?.percent, mean);
      live.eta = known && toEta(job, known.meter, guess);
    } else if (job.state === 'queued') {
      const position = await store.jobs.position(job.id, most);
      live.position = position !== undefined && most < MAX_POSITION && position > most ? undefined : position;
      live.eta = waitFor(job, live.position);
    } else if (artifacts.length > 0) live.artifacts = await files.views(job.owner, artifacts);
    return toJobView(job, live);
  };
}
