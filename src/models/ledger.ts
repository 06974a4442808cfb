// What the card teaches: runtimes are looked at once they rest, and a reading of the card waits for memory that is just being given back.
import type { Held } from '../arbiter/policy.ts';
import type { Resident } from '../runtime.ts';
import { unref } from '../timers.ts';
import type { Footprints } from './footprints.ts';

export interface Ledger {
  /** What a runtime was just seen to hold. */
  onResidents(runtime: string, residents: readonly Resident[]): void;
  /** Who holds the card, or uses what is there, has changed. */
  changed(): void;
  /**
   * Bytes of the card in use by anybody; undefined where nobody tells. Drivers give memory back a moment after a runtime says
   * that it is free: where something has just left, waits for that, for so long that it would be somebody else's otherwise.
   */
  used(signal: AbortSignal): Promise<number | undefined>;
  close(): void;
}

export interface LedgerOptions {
  footprints: Pick<Footprints, 'learn'>;
  /** What is on the card as far as the gateway knows. */
  held: () => readonly Held[];
  /** What a runtime holds now. */
  look: (runtime: string, signal: AbortSignal) => Promise<unknown>;
  /** Bytes of the card in use, read at most so many milliseconds ago. */
  read: (maxAgeMs: number) => Promise<number | undefined>;
  limits?: Partial<LedgerLimits>;
}

/** Milliseconds. */
export interface LedgerLimits {
  /** From a change to what is made of it: a runtime whose last run has ended is looked at then. */
  rest: number;
  /** Between two such looks at the same runtime. */
  apart: number;
  /** For a runtime to tell what it holds. */
  look: number;
  /** For memory to be given back. */
  settle: number;
  /** Between two readings of the card meanwhile. */
  poll: number;
}

const LIMITS: LedgerLimits = { rest: 400, apart: 5000, look: 4000, settle: 2000, poll: 150 };
/** Readings for looks that come at the same time are shared; older ones know nothing of what has just left. */
const FRESH_MS = 100;
/** What is less is lost among what others take and give back, in bytes. */
const MUCH = 256 * 1024 ** 2;

export function createLedger({ footprints, held, look, read, limits }: LedgerOptions): Ledger {
  const { rest, apart, look: lookMs, settle, poll } = { ...LIMITS, ...limits };
  /** When the last run ended after which a runtime was looked at, on the clock of `held`. */
  const usedAt = new Map<string, number>();
  const due = new Map<string, ReturnType<typeof setTimeout>>();
  const lookedAt = new Map<string, number>();
  let there = new Map<string, number>();
  let closed = false;
  let following: ReturnType<typeof setTimeout> | undefined;
  /** The last reading, and what has come and left since, in bytes; when the last of it left. */
  let last: { used: number; came: number; left: number; leftAt: number } | undefined;

  function lookSoon(runtime: string): void {
    const next = (lookedAt.get(runtime) ?? -Infinity) + apart - performance.now();
    clearTimeout(due.get(runtime));
    const timer = setTimeout(
      () => {
        due.delete(runtime);
        // What it says is learned on the way; what it does not say is learned another time.
        look(runtime, AbortSignal.timeout(lookMs)).catch(() => {});
      },
      Math.max(0, next),
    );
    unref(timer);
    due.set(runtime, timer);
  }

  function follow(): void {
    const entries = held();
    followWork(entries);
    followMemory(new Map(entries.map(({ runtime, model, footprint }) => [`${runtime} ${model}`, footprint])));
  }

  function followWork(entries: readonly Held[]): void {
    for (const [runtime, mine] of Map.groupBy(entries, (entry) => entry.runtime)) {
      const at = Math.max(...mine.map(({ usedAt }) => usedAt));
      if (mine.some(({ leases }) => leases > 0)) {
        clearTimeout(due.get(runtime));
        due.delete(runtime);
      } else if (at > (usedAt.get(runtime) ?? 0)) {
        usedAt.set(runtime, at);
        lookSoon(runtime);
      }
    }
  }

  function followMemory(now: Map<string, number>): void {
    if (last) {
      for (const [key, bytes] of now) if (!there.has(key)) last.came += bytes;
      for (const [key, bytes] of there) {
        if (now.has(key)) continue;
        last.left += bytes;
        last.leftAt = performance.now();
      }
    }
    there = now;
  }

  return {
    onResidents(runtime, residents) {
      lookedAt.set(runtime, performance.now());
      for (const resident of residents) footprints.learn(runtime, resident);
    },
    changed() {
      if (closed || following !== undefined) return;
      following = setTimeout(() => {
        following = undefined;
        follow();
      }, rest);
      unref(following);
    },
    async used(signal) {
      follow();
      let used = await read(FRESH_MS);
      if (used === undefined) return undefined;
      const { left = 0, came = 0, leftAt = 0 } = last ?? {};
      // Half of it: what was let in was an estimate, and others may have come meanwhile.
      const expected = (last?.used ?? 0) + came - left / 2;
      const until = left < MUCH ? 0 : leftAt + settle;
      while (used > expected && performance.now() < until && !signal.aborted) {
        await new Promise((resolve) => setTimeout(resolve, poll));
        used = (await read(0)) ?? used;
      }
      last = { used, came: 0, left: 0, leftAt: 0 };
      return used;
    },
    close() {
      closed = true;
      clearTimeout(following);
      for (const timer of due.values()) clearTimeout(timer);
      due.clear();
    },
  };
}
