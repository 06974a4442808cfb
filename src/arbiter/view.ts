// What is on the card and who waits, as others see it.
import type { Place } from './books.ts';
import type { Use } from './leases.ts';
import type { Closed, Held, Running, Waiting } from './policy.ts';
import type { Waiter } from './queue.ts';

/** A swap as it was, for people. Times are in milliseconds; `at` on the arbiter's clock. */
export interface SwapRecord {
  at: number;
  runtime: string;
  model: string;
  caller: string;
  evicted: readonly Place[];
  because: string;
  /** Making room. */
  tookMs: number;
  /** Absent where it was done. */
  failure?: string;
}

export interface View {
  held: readonly Held[];
  running: readonly (Running & Use)[];
  waiting: (Waiting & { position: number; message?: string; eta?: number })[];
  budget: number | undefined;
  /** Bytes that nobody's model holds, as they were last seen. */
  others: number;
  closed: Closed | undefined;
  /** Oldest first. */
  swaps: readonly SwapRecord[];
}

export function toWaitingView(waiter: Waiter): View['waiting'][number] {
  const { runtime, model, footprint, extent, id, caller, class: of, since, dueAt, loadMs, runMs, status } = waiter;
  const { position = 0, message, eta } = status;
  return {
    runtime,
    model,
    footprint,
    id,
    caller,
    class: of,
    since,
    dueAt,
    loadMs,
    runMs,
    position,
    ...(extent === undefined ? {} : { extent }),
    ...(message === undefined ? {} : { message }),
    ...(eta === undefined ? {} : { eta }),
  };
}
