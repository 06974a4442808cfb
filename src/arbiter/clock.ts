// The arbiter's time: a clock that does not jump, and what is to happen later. The simulation puts its own here.
import { unref } from '../timers.ts';

export interface Clock {
  /** Milliseconds. */
  now(): number;
  /** Calls back after `ms`; what it returns takes that back. With `stay` the process does not end before. */
  after(ms: number, call: () => void, stay?: boolean): () => void;
}

/** Longer timers fire at once on every engine; whoever waits longer looks again. */
const MAX_MS = 2_147_483_647;

export function createClock(now: () => number = () => performance.now()): Clock {
  return {
    now,
    after(ms, call, stay = false) {
      const timer = setTimeout(call, Math.min(Math.max(0, Math.ceil(ms)), MAX_MS));
      if (!stay) unref(timer);
      return () => clearTimeout(timer);
    },
  };
}

/** Calls back once it is that late; what it returns takes that back. Timers are short and may fire early: it is looked at again until it is time. */
export function at(clock: Clock, until: number, call: () => void): () => void {
  let cancel = () => {};
  const arm = () => {
    cancel = clock.now() >= until ? clock.after(0, call) : clock.after(until - clock.now(), arm);
  };
  arm();
  return () => cancel();
}

export interface Deadline {
  /** Aborts when the time is over. */
  signal: AbortSignal;
  /** What the promise gives, or throws when the time is over first: who does not heed the signal is left behind. */
  hold<T>(work: Promise<T>): Promise<T>;
  /** To be called when it is not needed any more. */
  done(): void;
}

export function createDeadline(clock: Clock, ms: number): Deadline {
  const abort = new AbortController();
  const over = Promise.withResolvers<never>();
  over.promise.catch(() => {});
  const done = clock.after(
    ms,
    () => {
      const reason = new DOMException(`Not done in ${ms} ms.`, 'TimeoutError');
      abort.abort(reason);
      over.reject(reason);
    },
    true,
  );
  return { signal: abort.signal, hold: (work) => Promise.race([work, over.promise]), done };
}
