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
  /** Seconds left, where the runtime says so; null where it says how far it is, and not that. */
  readonly eta: number | null | undefined;
}

export function createProgressMeter(clock: () => number = () => performance.now()): ProgressMeter {
  let latest: JobProgress | undefined;
  let toldAt = -Infinity;
  let chunks = 0;
  let measured = false;
  let eta: { seconds: number; at: number } | null | undefined;

  function tell(next: JobProgress, urgent = false): JobProgress | undefined {
    latest = next;
    const now = clock();
    if (!urgent && now - toldAt < PAUSE_MS) return undefined;
    toldAt = now;
    return next;
  }

  return {
    progress({ done, total, unit, rate, label, eta: left }) {
      // Of bytes it may be that nobody knows how many there are.
      if (!Number.isFinite(done) || !Number.isFinite(total) || total < 0) return undefined;
      if (total === 0 && unit !== 'bytes') return undefined;
      measured = true;
      if (left !== undefined) eta = { seconds: left, at: clock() };
      else if (rate !== undefined || eta) eta = null;
      const before = latest?.percent ?? 0;
      const percent = total === 0 ? before : Math.min(100, Math.max(before, (done / total) * 100));
      return tell(
        {
          percent: Math.round(percent * 10) / 10,
          done,
          ...(total === 0 ? {} : { total }),
          ...(unit === undefined ? {} : { unit }),
          ...(rate === undefined ? {} : { rate }),
          ...(label === undefined ? {} : { label }),
        },
        percent === 100 && before !== 100,
      );
    },
    status({ state, message }) {
      // Who waits has no speed.
      if (eta) eta = null;
      const { rate: _, ...known } = latest ?? {};
      return tell({ ...known, percent: latest?.percent ?? 0, message: message ?? state }, true);
    },
    chunk() {
      chunks++;
      if (measured) return undefined;
      return tell({ percent: latest?.percent ?? 0, done: chunks, unit: 'pieces' });
    },
    get latest() {
      return latest;
    },
    get eta() {
      return eta && Math.max(0, Math.ceil(eta.seconds - (clock() - eta.at) / 1000));
    },
  };
}
