// The time of day on a clock that does not jump: set at the start, then counted, so that nothing that waits is early or late.
import { uptime } from 'node:os';

/** Counting stands still while a machine sleeps, the machine's own uptime does not. Seconds of difference that mean sleep. */
const SLEPT_S = 5;
const LOOK_MS = 1000;

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  close(): void;
}

export function createClock(): Clock {
  let anchor = Date.now() - performance.now();
  let before = uptime() - performance.now() / 1000;
  const timer = setInterval(() => {
    const ahead = uptime() - performance.now() / 1000;
    if (ahead - before > SLEPT_S) anchor += (ahead - before) * 1000;
    before = ahead;
  }, LOOK_MS);
  timer.unref();
  return {
    now: () => Math.round(anchor + performance.now()),
    close: () => clearInterval(timer),
  };
}
