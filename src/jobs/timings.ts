// Where the time of a job went: waiting, making room on the card, working.
import type { StatusEvent } from '../event.ts';

/** Milliseconds. */
export interface RunTimings {
  queue_ms: number;
  swap_ms: number;
  run_ms: number;
}

export interface Stopwatch {
  /** The run says where it stands. */
  status(state: StatusEvent['state']): void;
  /** It has begun to give something. */
  working(): void;
  read(): RunTimings;
}

/** `waited` is what passed before the start. Measured on a clock that never jumps. */
export function createStopwatch(waited: number, clock: () => number = () => performance.now()): Stopwatch {
  const spent: RunTimings = { queue_ms: Math.max(0, Math.round(waited)), swap_ms: 0, run_ms: 0 };
  let phase: keyof RunTimings = 'run_ms';
  let since = clock();
  const enter = (next: keyof RunTimings) => {
    const now = clock();
    spent[phase] += now - since;
    since = now;
    phase = next;
  };
  const phases = { queued: 'queue_ms', swapping: 'swap_ms', loading: 'swap_ms', running: 'run_ms' } as const;
  return {
    status: (state) => enter(phases[state]),
    working() {
      if (phase !== 'run_ms') enter('run_ms');
    },
    read() {
      enter(phase);
      return {
        queue_ms: Math.round(spent.queue_ms),
        swap_ms: Math.round(spent.swap_ms),
        run_ms: Math.round(spent.run_ms),
      };
    },
  };
}
