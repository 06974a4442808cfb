// Leases: who uses the card now, each with a number that never comes again, signs of life, and an end.
import { GatewayError } from '../error.ts';
import type { Books, Place } from './books.ts';
import { createDeadline, type Clock } from './clock.ts';
import type { Class, Held, Running, Want } from './policy.ts';
import type { Shares } from './shares.ts';
import type { Timings } from './timings.ts';

/** What a lease has cost so far, in milliseconds. */
export interface Cost {
  /** Waiting for others. */
  queueMs: number;
  /** Making room, and loading. */
  swapMs: number;
  runMs: number;
  evicted: readonly Place[];
}

export interface Lease {
  /** Grows with every lease, and so tells which of two is the later. */
  readonly id: number;
  /** What had to leave the card for it. */
  readonly evicted: readonly Place[];
  /** The model was not there. */
  readonly cold: boolean;
  /** Aborts when the lease is taken back, with why: the runtime gives no sign of life. */
  readonly signal: AbortSignal;
  /** The runtime has begun to work: what was not there is loaded. Further calls do nothing. */
  running(): void;
  /** A sign of life. */
  beat(): void;
  cost(): Cost;
  /** To be called once, when the runtime is done with the request; what was `cut` teaches nothing of how long runs take. Further calls do nothing. */
  release(how?: 'whole' | 'cut'): void;
}

export interface Leases {
  /** `want` is let in now. */
  grant(want: Want & Use & { runMs: number }, how: Granted): Lease;
  running(): (Running & Use)[];
  /** Ends what runs on it; each goes when its runtime is done with it. */
  preempt(entry: Held): void;
}

/** Who uses it. */
export interface Use {
  caller: string;
  class: Class;
}

export interface Granted {
  work: string | undefined;
  evicted: readonly Place[];
  /** Milliseconds that making room took, and that all of the wait took. */
  swapMs: number;
  waitedMs: number;
  /** Called when it has run, with the milliseconds of the card that it had: fewer than passed where others used it, too. */
  onRan: (ms: number) => void;
}

export interface LeasesOptions {
  clock: Clock;
  books: Books;
  timings: Timings;
  shares: Shares;
  /** Without a sign of life for this long, in milliseconds, a lease is taken back. */
  leaseMs: number;
  onWedged: (runtime: string, how: 'silent') => Promise<boolean>;
  /** `done`: somebody is done with the card. */
  onChange: (done: boolean) => void;
}

interface Open {
  abort: AbortController;
  entry: Held;
  use: Use;
  endsAt: number;
}

/** Longest time that dealing with a silent runtime may take, in milliseconds. */
const WEDGED_MS = 120_000;

export function createLeases(options: LeasesOptions): Leases {
  const { clock, books, timings, shares, leaseMs, onWedged, onChange } = options;
  const open = new Map<number, Open>();
  let count = 0;

  function grant(want: Parameters<Leases['grant']>[0], { work, evicted, swapMs, waitedMs, onRan }: Granted): Lease {
    const id = ++count;
    const cold = books.find(want) === undefined;
    const entry = books.enter(want);
    const abort = new AbortController();
    const grantedAt = clock.now();
    // One that is let in while another brings the model waits for that, too.
    let runningAt = entry.loading ? undefined : grantedAt;
    // Who only loads takes nothing from those who compute.
    let stop = entry.loading ? undefined : shares.begin(want.caller);
    let seenAt = grantedAt;
    let hasBegun = false;
    let endedAt: number | undefined;
    let cancelWatch = watch();

    function watch(): () => void {
      return clock.after(Math.max(1, seenAt + leaseMs - clock.now()), () => {
        if (clock.now() - seenAt < leaseMs) cancelWatch = watch();
        else void takeBack(seenAt);
      });
    }

    /** Without this nobody would ever have the card again; what the runtime still does there is seen by the next look. */
    async function takeBack(lastSeenAt: number): Promise<void> {
      const limit = createDeadline(clock, WEDGED_MS);
      const isWell = await limit.hold(onWedged(want.runtime, 'silent')).catch(() => false);
      limit.done();
      if (endedAt !== undefined) return;
      if (isWell || seenAt > lastSeenAt) {
        seenAt = Math.max(seenAt, isWell ? clock.now() : 0);
        cancelWatch = watch();
        return;
      }
      abort.abort(lost(want.runtime, leaseMs));
      end('cut');
    }

    function end(how: 'whole' | 'cut' = 'whole'): void {
      if (endedAt !== undefined) return;
      endedAt = clock.now();
      cancelWatch();
      open.delete(id);
      const usedMs = stop?.() ?? 0;
      const ranMs = endedAt - (runningAt ?? endedAt);
      // What was cut off, or failed before it began, tells nothing of how long runs take.
      if (hasBegun && how === 'whole' && !abort.signal.aborted) timings.learnRun(want, work, ranMs);
      onRan(usedMs);
      books.leave(entry);
      onChange(true);
    }

    open.set(id, {
      abort,
      entry,
      use: { caller: want.caller, class: want.class },
      endsAt: grantedAt + (entry.loading ? entry.loadMs : 0) + want.runMs,
    });
    return {
      id,
      evicted,
      cold,
      signal: abort.signal,
      running() {
        seenAt = clock.now();
        if (endedAt !== undefined) return;
        if (!hasBegun && !cold && runningAt !== undefined) timings.learnFirst(want, work, seenAt - grantedAt);
        hasBegun = true;
        if (runningAt !== undefined) return;
        stop ??= shares.begin(want.caller);
        // The first sign of work comes later than the load ends: by what it takes where nothing has to be loaded.
        runningAt = Math.max(grantedAt, seenAt - timings.firstMs(want, work));
        if (cold) timings.learnLoad(want, runningAt - grantedAt);
        const mine = open.get(id);
        if (mine) mine.endsAt = runningAt + want.runMs;
        if (!entry.loading) return;
        books.arrived(entry);
        // Others may load now.
        onChange(true);
      },
      beat: () => void (seenAt = clock.now()),
      cost() {
        const now = endedAt ?? clock.now();
        const begun = runningAt ?? now;
        return {
          queueMs: Math.max(0, waitedMs - swapMs),
          swapMs: swapMs + begun - grantedAt,
          runMs: now - begun,
          evicted,
        };
      },
      release: end,
    };
  }

  return {
    grant,
    preempt(entry) {
      for (const one of open.values()) {
        if (one.entry === entry && !one.abort.signal.aborted) one.abort.abort(gaveWay());
      }
    },
    running: () =>
      [...open.values()].map(({ entry: { runtime, model }, use, endsAt }) => ({ runtime, model, ...use, endsAt })),
  };
}

function gaveWay(): GatewayError {
  return new GatewayError('overloaded', 'It gave way to somebody who waits at the screen.', {
    retryAfter: 5,
    hint: 'As a job it is begun again by itself.',
  });
}

function lost(runtime: string, leaseMs: number): GatewayError {
  const minutes = Math.round(leaseMs / 60_000);
  return new GatewayError('upstream_idle', `${runtime} gave no sign of life for ${minutes} minutes.`, {
    source: runtime,
    retry: false,
    hint: 'Look at its log, or restart it. HONO_AI_LEASE_MS says how long it may be silent.',
  });
}
