// How far a job is, said to people at a bearable rate: never backwards, never beyond 100, at most ten times a second.
import type { ProgressEvent, StatusEvent } from '../event.ts';
import type { JobProgress } from './view.ts';

const PAUSE_MS = 100;

export interface ProgressMeter {
  /** Undefined where it is too soon to tell anybody, or nothing has changed. */
  progress(event: ProgressEvent): JobProgress | undefined;
  status(event: StatusEvent): JobProgress | undefined;
  /** A piece of the answer came; pieces are counted where the runtime says nothing better. */
  chunk(): JobProgress | undefined;
  readonly latest: JobProgress | undefined;
}

export function createProgressMeter(clock: () => number = () => performance.now()): ProgressMeter {
  let latest: JobProgress | undefined;
  let toldAt = -Infinity;
  let chunks = 0;
  let measured = false;

  function tell(next: JobProgress, urgent = false): JobProgress | undefined {
    latest = next;
    const now = clock();
    if (!urgent && now - toldAt < PAUSE_MS) return undefined;
    toldAt = now;
    return next;
  }

  return {
    progress({ done, total, unit }) {
      if (!Number.isFinite(done) || !Number.isFinite(total) || total <= 0) return undefined;
      measured = true;
      const percent = Math.min(100, Math.max(latest?.percent ?? 0, (done / total) * 100));
      return tell(
        { percent: Math.round(percent * 10) / 10, done, total, ...(unit === undefined ? {} : { unit }) },
        percent === 100 && latest?.percent !== 100,
      );
    },
    status({ state, message }) {
      return tell({ ...latest, percent: latest?.percent ?? 0, message: message ?? state }, true);
    },
    chunk() {
      chunks++;
      if (measured) return undefined;
      return tell({ percent: latest?.percent ?? 0, done: chunks, unit: 'pieces' });
    },
    get latest() {
      return latest;
    },
  };
}
