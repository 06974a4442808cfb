// How far a job is, said to people at a bearable rate: never backwards, never beyond 100, at most ten times a second.
import type { ProgressEvent, StatusEvent } from '../event.ts';
import { SOME } from './estimate.ts';
import type { JobProgress } from './view.ts';

const PAUSE_MS = 100;

export interface ProgressMeter {
  /** Undefined where it is too soon to tell anybody, or nothing has changed. */
  progress(event: ProgressEvent): JobProgress | undefined;
  status(event: StatusEvent): JobProgress | undefined;
  /** A piece of the answer came; pieces are counted where the runtime says nothing better. */
  chunk(): JobProgress | undefined;
  readonly latest: JobProgress | undefined;
  /**
   * Seconds left, where the runtime says so, or the card: while it waits for that, and until the work says how far it is. null
   * where the runtime says how far it is, and not that.
   */
  readonly eta: number | null | undefined;
  /** Milliseconds since the work itself began; undefined while it waits for that. */
  readonly workedMs: number | undefined;
}

export function createProgressMeter(clock: () => number = () => performance.now()): ProgressMeter {
  let latest: JobProgress | undefined;
  let toldAt = -Infinity;
  let chunks = 0;
  let measured = false;
  let eta: { seconds: number; at: number; by: 'runtime' | 'card' } | null | undefined;
  let workingSince: number | undefined = clock();

  function work(): void {
    workingSince ??= clock();
  }

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
      work();
      if (left !== undefined) eta = { seconds: left, at: clock(), by: 'runtime' };
      else if (rate !== undefined || eta?.by === 'runtime') eta = null;
      const before = latest?.percent ?? 0;
      const percent = total === 0 ? before : Math.min(100, Math.max(before, (done / total) * 100));
      if (eta?.by === 'card' && percent >= SOME) eta = undefined;
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
    status({ state, message, eta: left }) {
      if (state === 'running') work();
      else workingSince = undefined;
      if (left !== undefined) eta = { seconds: left, at: clock(), by: 'card' };
      // Who waits has no speed; and nobody knows any more when it has its turn.
      else if (eta?.by === 'runtime') eta = null;
      else if (eta && state === 'queued') eta = undefined;
      const { rate: _, ...known } = latest ?? {};
      return tell({ ...known, percent: latest?.percent ?? 0, message: message ?? state }, true);
    },
    chunk() {
      chunks++;
      work();
      if (measured) return undefined;
      return tell({ percent: latest?.percent ?? 0, done: chunks, unit: 'pieces' });
    },
    get latest() {
      return latest;
    },
    get eta() {
      // What the card said was a guess: it is late, and not done.
      return eta && Math.max(eta.by === 'card' ? 1 : 0, Math.ceil(eta.seconds - (clock() - eta.at) / 1000));
    },
    get workedMs() {
      return workingSince === undefined ? undefined : clock() - workingSince;
    },
  };
}
