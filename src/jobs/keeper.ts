// Looks after jobs that nobody works on: rescues those whose worker is gone, ends those whose time is over, forgets old ones.
import { GatewayError } from '../error.ts';
import type { JobHead, Outcome, Put, Store } from '../store.ts';
import { toEnded, toFailure } from './perform.ts';
import { unref } from '../timers.ts';

export interface KeeperOptions {
  store: Store;
  leaseMs: number;
  keepMs: number;
  now: () => number;
  /** Whether a worker lives, where that can be known: another machine's cannot. */
  isAlive(worker: string): boolean | undefined;
  /** Whether this gateway's own worker holds the job. */
  holds(id: string): boolean;
  onQueued(job: JobHead): void;
  onEnded(job: JobHead): void;
  farewell(job: JobHead, outcome: Outcome): Promise<Put[]>;
  /** Called with every round of forgetting. */
  onSweep(now: number): Promise<void>;
  warn(message: string, fields: Record<string, unknown>): void;
}

export interface Keeper {
  /** The first look is taken before this resolves: what a dead process held is free again. */
  start(): Promise<void>;
  stop(): void;
}

const SWEEP_MS = 60_000;
const BATCH = 500;
/** Kinds of documents that simply end when they are due. */
export const EXPIRING = ['idempotency', 'remembered', 'delivered', 'dead', 'expired', 'batch', 'timing'] as const;

interface Seen {
  fence: number;
  beat: number;
  /** On a clock that never jumps: the beat is a count, so a clock that is set frees nobody's job. */
  since: number;
}

export function createKeeper(options: KeeperOptions): Keeper {
  const { store, leaseMs, now, isAlive, holds } = options;
  const seen = new Map<string, Seen>();
  const timers: ReturnType<typeof setInterval>[] = [];
  let stopped = false;

  async function rescue(): Promise<void> {
    const running = await store.jobs.running();
    const ids = new Set(running.map(({ id }) => id));
    for (const id of seen.keys()) if (!ids.has(id)) seen.delete(id);
    for (const job of running) {
      if (holds(job.id) || !isStalled(job)) continue;
      seen.delete(job.id);
      const runAt = now();
      if (!(await store.jobs.requeue(job, { runAt }))) continue;
      options.warn('a job was taken from a worker that is gone', { job: job.id, attempts: job.attempts });
      options.onQueued({ ...job, state: 'queued', runAt });
    }
  }

  function isStalled({ id, fence, beat, worker }: JobHead): boolean {
    if (worker === undefined || isAlive(worker) === false) return true;
    const at = performance.now();
    const before = seen.get(id);
    if (!before || before.fence !== fence || before.beat !== beat) {
      seen.set(id, { fence, beat, since: at });
      return false;
    }
    return at - before.since >= leaseMs;
  }

  async function endOverdue(): Promise<void> {
    for (;;) {
      const late = await store.jobs.overdue(now(), BATCH);
      for (const job of late) {
        const outcome: Outcome = { state: 'failed', at: now(), error: toFailure(waitedTooLong(job)) };
        const ended = toEnded(job, outcome);
        if ((await store.jobs.stop(job.id, outcome, await options.farewell(job, outcome))) === 'stopped') {
          options.onEnded(ended);
        }
      }
      if (late.length < BATCH) return;
    }
  }

  async function sweep(): Promise<void> {
    const before = now() - options.keepMs;
    while ((await store.jobs.sweep(before, BATCH)).length === BATCH);
    for (const kind of EXPIRING) {
      for (;;) {
        const due = await store.documents.due(kind, now(), BATCH);
        if (due.length === 0) break;
        await store.documents.put(due.map(({ id }) => ({ kind, id, delete: true })));
        if (due.length < BATCH) break;
      }
    }
    await options.onSweep(now());
  }

  const guarded = (what: string, work: () => Promise<void>) => async () => {
    if (stopped) return;
    try {
      await work();
    } catch (error) {
      if (!stopped) options.warn(what, { cause: String(error) });
    }
  };

  return {
    async start() {
      const rounds: [string, () => Promise<void>, number][] = [
        ['lost jobs cannot be looked for', rescue, Math.max(50, leaseMs / 3)],
        ['late jobs cannot be ended', endOverdue, 1000],
        ['old jobs cannot be forgotten', sweep, SWEEP_MS],
      ];
      for (const [what, work, ms] of rounds) {
        const round = guarded(what, work);
        const timer = setInterval(() => void round(), ms);
        unref(timer);
        timers.push(timer);
      }
      await guarded('lost jobs cannot be looked for', rescue)();
    },
    stop() {
      stopped = true;
      for (const timer of timers) clearInterval(timer);
    },
  };
}

function waitedTooLong({ limits }: JobHead): GatewayError {
  return new GatewayError(
    'timed_out',
    `The job was not started within its limit of ${Math.round(Math.min(limits.queue, limits.total) / 1000)} s.`,
    { hint: 'GET /system/status shows what holds the queue; POST /jobs/{id}/retry starts it anew.' },
  );
}
