// Where the time of a job went: waiting, making room on the card, working.
import type { Cost } from '../arbiter/leases.ts';
import type { StatusEvent } from '../event.ts';

/** Milliseconds. */
export interface RunTimings {
  queue_ms: number;
  swap_ms: number;
  run_ms: number;
  /** Models that left the card for it; absent where it did not use the card. */
  evicted?: string[];
}

export interface Stopwatch {
  /** The run says where it stands. */
  status(state: StatusEvent['state']): void;
  /** It has begun to give something. */
  working(): void;
  /** What its turns at the card have cost, where it had any: the card knows better than what was said. */
  charge(read: () => Cost | undefined): void;
  read(): RunTimings;
}

/** `waited` is what passed before the start. Measured on a clock that never jumps. */
export function createStopwatch(waited: number, clock: () => number = () => performance.now()): Stopwatch {
  const first = Math.max(0, Math.round(waited));
  const spent = { queue_ms: first, swap_ms: 0, run_ms: 0 };
  let cost: () => Cost | undefined = () => undefined;
  let phase: 'queue_ms' | 'swap_ms' | 'run_ms' = 'run_ms';
  let since = clock();
  const enter = (next: typeof phase) => {
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
    charge: (read) => void (cost = read),
    read() {
      enter(phase);
      const known = cost();
      if (!known) return toTimings(spent.queue_ms, spent.swap_ms, spent.run_ms);
      const evicted = known.evicted.map(({ model }) => model);
      return { ...toTimings(first + known.queueMs, known.swapMs, known.runMs), evicted };
    },
  };
}

function toTimings(queue: number, swap: number, run: number): RunTimings {
  return { queue_ms: Math.round(queue), swap_ms: Math.round(swap), run_ms: Math.round(run) };
}
