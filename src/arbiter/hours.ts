// When the card is closed, and for how long it was: that time is held against nobody who waits.
import { at, type Clock } from './clock.ts';
import type { Closed } from './policy.ts';

export interface Hours {
  readonly closed: Closed | undefined;
  /** What is idle is to leave the card while it is closed. */
  readonly empties: boolean;
  /** Milliseconds that it was closed so far. */
  readonly closedMs: number;
  /** Until `open`, or the end that it names; closed again, it is closed as that says. */
  close(closed: Closed, options?: { empty?: boolean }): void;
  open(): void;
}

export function createHours(clock: Clock, onChange: () => void): Hours {
  let now: (Closed & { empty: boolean; since: number }) | undefined;
  let before = 0;
  let cancel = () => {};

  function open(): void {
    if (!now) return;
    cancel();
    before += clock.now() - now.since;
    now = undefined;
    onChange();
  }

  return {
    get closed() {
      return now && { until: now.until, because: now.because };
    },
    get empties() {
      return now?.empty ?? false;
    },
    get closedMs() {
      return before + (now ? clock.now() - now.since : 0);
    },
    close(how, { empty = false } = {}) {
      cancel();
      now = { ...how, empty, since: now?.since ?? clock.now() };
      if (how.until !== undefined) cancel = at(clock, how.until, open);
      onChange();
    },
    open,
  };
}
