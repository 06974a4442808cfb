// What the gateway has promised, as its callers wrote it down, and every promise that was seen to be broken.
import type { JobView } from '../../src/jobs/view.ts';
import type { Plan } from './counting-runtime.ts';

export const callers = { owner: 'key-of-the-owner-0000', beta: 'key-of-the-other-0000' } as const;
export type Caller = keyof typeof callers;

/** A request that somebody wants answered, however often it takes. */
export interface Wish {
  caller: Caller;
  plan: Plan;
  body: Record<string, unknown>;
  idempotencyKey?: string;
  maxAttempts: number;
  delayMs: number;
  /** Where its end is told. */
  target?: string;
  /** Somebody waits for the end with a key: an end by a cancel would free the key for another job. */
  waited?: boolean;
  /** Others may ask for the very same: the answer may be remembered. */
  shared: boolean;
  /** Every job that it was answered with. */
  ids: Set<string>;
}

export interface BatchWish {
  key: string;
  caller: Caller;
  plans: Plan[];
  target: string;
}

/** A job that was accepted, and what was last seen of it. */
export interface Known {
  id: string;
  caller: Caller;
  /** Unknown for jobs of batches, and for those whose answer was lost. */
  wish?: Wish;
  seen?: JobView;
  /** When that answer arrived. */
  seenAt?: number;
  /** When its end was first seen. Times are on the clock of `performance.now()`. */
  endSeenAt?: number;
  /** Its owner asked for its end and was told that it is coming. */
  cancelled?: { at: number; generation: string; state: JobView['state'] };
}

export interface Ledger {
  wishes: Wish[];
  known: Map<string, Known>;
  /** Those that nobody has seen the end of. */
  open: Set<Known>;
  batches: Map<string, BatchWish>;
  /** When each start of the gateway was over. */
  endedAt: Map<string, number>;
  violations: string[];
  blame(text: string): void;
  /** A 2xx: from now on it must be there. */
  accept(id: string, caller: Caller, wish?: Wish): Known;
  /**
   * A look at a job: what has ended stays as it ended. `askedAt` is when it was asked for: of answers that were on their way
   * together, the one that arrives last may be the older one.
   */
  observe(caller: Caller, view: JobView, askedAt: number): void;
}

const MOST_VIOLATIONS = 100;

export function createLedger(): Ledger {
  const known = new Map<string, Known>();
  const open = new Set<Known>();
  const violations: string[] = [];
  const blame = (text: string) => {
    if (violations.length < MOST_VIOLATIONS) violations.push(text);
  };

  function accept(id: string, caller: Caller, wish?: Wish): Known {
    let entry = known.get(id);
    if (!entry) {
      known.set(id, (entry = { id, caller }));
      open.add(entry);
    }
    if (wish) {
      entry.wish = wish;
      wish.ids.add(id);
      if (wish.ids.size > 1 && wish.idempotencyKey !== undefined) {
        blame(`the key ${wish.idempotencyKey} was answered with several jobs: ${[...wish.ids].join(', ')}`);
      }
    }
    return entry;
  }

  return {
    wishes: [],
    known,
    open,
    batches: new Map(),
    endedAt: new Map(),
    violations,
    blame,
    accept,
    observe(caller, view, askedAt) {
      const entry = accept(view.id, caller);
      const before = entry.seen;
      if (entry.caller !== caller) blame(`${view.id} of ${entry.caller} was shown to ${caller}`);
      if (before && askedAt < entry.seenAt! && isOlder(view, before)) return;
      if (before && isTerminal(before) && (!isTerminal(view) || toEnd(before) !== toEnd(view))) {
        blame(`${view.id} had ended and changed: ${toEnd(before)} → ${toEnd(view)}`);
      }
      if (before && view.attempts < before.attempts) {
        blame(`${view.id} went back from attempt ${before.attempts} to ${view.attempts}`);
      }
      entry.seen = view;
      entry.seenAt = performance.now();
      if (isTerminal(view)) {
        open.delete(entry);
        entry.endSeenAt ??= performance.now();
      }
    },
  };
}

/** An end is never older than anything, so that two different ends are told whenever they were asked for. */
function isOlder(view: JobView, than: JobView): boolean {
  return !isTerminal(view) && (isTerminal(than) || view.attempts < than.attempts);
}

export function isTerminal({ state }: Pick<JobView, 'state'>): boolean {
  return state === 'done' || state === 'failed' || state === 'cancelled';
}

/** All of an end that must never change. A list tells less than a single job does: results and files are left out. */
function toEnd({ state, finished_at, attempts, error }: JobView): string {
  return JSON.stringify({ state, finished_at, attempts, error });
}

/** Numbers that are the same for the same seed: a run that failed can be tried again. */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
