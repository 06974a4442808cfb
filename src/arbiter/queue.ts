// Those who wait for the card: who they are, where they stand, what they are told, and when they have waited too long.
import type { StatusEvent } from '../event.ts';
import type { Lease } from './leases.ts';
import type { Place } from './books.ts';
import type { Clock } from './clock.ts';
import type { Expected } from './forecast.ts';
import { toKey, type Decision, type Waiting } from './policy.ts';
import type { Hours } from './hours.ts';

export interface Waiter extends Waiting {
  work: string | undefined;
  status: StatusEvent;
  /** Milliseconds that the card was closed before the wait began. */
  closedBefore: number;
  /** What has left the card for it so far, and how long that took, in milliseconds. */
  evicted: Place[];
  swapMs: number;
  /** Milliseconds that the wait may be at most, as it was promised when it began. */
  promisedMs: number;
  /** Milliseconds that the wait was expected to be when it began. */
  expectedMs?: number | undefined;
  lease?: Lease;
  error?: Error;
  /** Called whenever `status`, `lease` or `error` changed. */
  wake: () => void;
}

export interface Queue {
  /** In the order of arrival. */
  readonly waiters: ReadonlyMap<number, Waiter>;
  add(waiting: Omit<Waiting, 'id'>, work: string | undefined): Waiter;
  /** It waits no more: it has what `how` gives it. Nothing happens where it has left. */
  settle(id: number, how: (waiter: Waiter) => void): void;
  remove(id: number): void;
  report(waiter: Waiter, status: StatusEvent): void;
  /** Tells everybody his place, why he waits, and when it will be done. Milliseconds after which that is to be told again. */
  tell(decision: Decision, foresee: (() => Map<number, Expected>) | undefined): number;
  /** Calls back when it has waited for `ms`; while the card is closed, its time stands still. What it returns ends that. */
  limit(waiter: Waiter, ms: number, leave: () => void): () => void;
}

/** How often it is foreseen when turns come, at most, in milliseconds. */
const FORECAST_MS = 500;
/** How often those who wait are told anew though nothing happens, in milliseconds. */
const RETELL_MS = 5000;
/** How often one whose time stands still is looked at, in milliseconds. */
const STILL_MS = 1000;

export function createQueue(clock: Clock, hours: Pick<Hours, 'closed' | 'closedMs'>): Queue {
  const waiters = new Map<number, Waiter>();
  /** A number for every model that was ever waited for. */
  const lines = new Map<string, number>();
  let arrivals = 0;
  let ahead = new Map<number, Expected>();
  let foreseenAt = -Infinity;

  function report(waiter: Waiter, status: StatusEvent): void {
    const { position, message, state, eta } = waiter.status;
    const isOld = status.position === position && status.message === message && status.state === state;
    if (isOld && status.eta === eta) return;
    waiter.status = status;
    waiter.wake();
  }

  return {
    waiters,
    report,
    add(waiting, work) {
      const status: StatusEvent = { type: 'status', state: 'queued', position: waiters.size + 1 };
      const key = toKey(waiting);
      const line = lines.get(key) ?? lines.size;
      lines.set(key, line);
      const waiter: Waiter = {
        ...waiting,
        id: ++arrivals,
        line,
        work,
        status,
        evicted: [],
        closedBefore: hours.closedMs,
        swapMs: 0,
        promisedMs: Infinity,
        wake: () => {},
      };
      waiters.set(waiter.id, waiter);
      return waiter;
    },
    settle(id, how) {
      const waiter = waiters.get(id);
      if (!waiter) return;
      waiters.delete(id);
      how(waiter);
      waiter.wake();
    },
    remove: (id) => void waiters.delete(id),
    tell({ because }, foresee) {
      const now = clock.now();
      const isNew = foresee !== undefined && now - foreseenAt >= FORECAST_MS;
      if (isNew) {
        foreseenAt = now;
        ahead = foresee();
      }
      let place = 0;
      const places = new Map<number, number>();
      for (const id of ahead.keys()) if (waiters.has(id)) places.set(id, ++place);
      for (const waiter of waiters.values()) {
        const expected = ahead.get(waiter.id);
        const { state, message: told } = waiter.status;
        const message = state === 'swapping' ? told : because.get(toKey(waiter));
        const position = places.get(waiter.id) ?? ++place;
        if (expected) waiter.expectedMs ??= foreseenAt + expected.grantMs - waiter.since;
        const eta = expected && Math.max(1, Math.ceil((foreseenAt + expected.endMs - now) / 1000));
        const known = { ...(eta === undefined ? {} : { eta }), ...(message === undefined ? {} : { message }) };
        report(waiter, { type: 'status', state, position, ...known });
      }
      if (!foresee) return Infinity;
      return isNew ? RETELL_MS : Math.max(1, foreseenAt + FORECAST_MS - now);
    },
    limit(_waiter, ms, leave) {
      const began = clock.now();
      const before = hours.closedMs;
      let cancel = () => {};
      const arm = () => {
        const left = ms - (clock.now() - began - (hours.closedMs - before));
        if (left <= 0) leave();
        else cancel = clock.after(hours.closed ? Math.max(left, STILL_MS) : left, arm, true);
      };
      arm();
      return () => cancel();
    },
  };
}
