// Holds jobs: claims them, keeps their leases alive while they are worked on, and lets go of them in good order.
import { GatewayError, toGatewayError } from '../error.ts';
import type { Held, JobRecord } from '../store.ts';
import { unref } from '../timers.ts';
import { createOwnQueue, isOwn } from './own.ts';
import { cancelledError, createPerformer, type PerformerOptions, type Work } from './perform.ts';
import { createProgressMeter } from './progress.ts';

export interface WorkerOptions extends Omit<PerformerOptions, 'stopping' | 'onRequeued'> {
  /** Unique among all that ever worked on the store. */
  name: string;
  /** Jobs at the same time; what the gateway does itself comes on top. */
  concurrency: number;
  leaseMs: number;
}

export interface Worker {
  start(): void;
  /** Something may be waiting: this job, if one is named. */
  poke(job?: Pick<JobRecord, 'id' | 'capability' | 'runAt'>): void;
  /** Stops a job that runs here. False where it does not. */
  cancel(id: string): boolean;
  /** What is known of a job that runs here. */
  live(id: string): Work | undefined;
  holds(id: string): boolean;
  running(): number;
  /** What takes a slot. */
  working(): readonly Work[];
  /** No more claims; what runs goes back to wait, its attempt not counted. Resolves when all is written down. */
  stop(): Promise<void>;
}

/** Milliseconds that runtimes get to stop; what one of them still holds then is rescued by the next start. */
const STOP_MS = 5000;
/** Milliseconds until a store that is away is asked for work again. */
const RETRY_MS = 1000;

export function createWorker(options: WorkerOptions): Worker {
  const { store, gateway, name, concurrency, leaseMs, now, failpoint } = options;
  const held = new Map<string, Work>();
  const own = createOwnQueue(store.jobs);
  let started = false;
  let stopping = false;
  let claiming = false;
  let again = false;
  let beatTimer: ReturnType<typeof setInterval> | undefined;
  let wakeTimer: ReturnType<typeof setTimeout> | undefined;
  let unlisten = () => {};

  const perform = createPerformer({ ...options, stopping: () => stopping, onRequeued: own.add });
  const mayClaim = () => started && !stopping && !gateway.draining();
  const working = () => [...held.values()].filter(({ job }) => !isOwn(job));
  const isFull = () => working().length >= concurrency;

  /** One at a time: two claims at once would only race each other. */
  async function pump(): Promise<void> {
    if (claiming) {
      again = true;
      return;
    }
    claiming = true;
    try {
      do {
        again = false;
        while (mayClaim() && (!isFull() || (await own.isNext(now())))) {
          const job = await store.jobs.claim(name, now());
          if (!job) break;
          failpoint('claimed');
          if (isFull() && !isOwn(job)) {
            // It went before in that moment.
            await store.jobs.requeue(job, { runAt: now(), refund: true });
            break;
          }
          begin(job);
        }
      } while (again);
      await sleepUntilNext();
    } catch (error) {
      options.warn('jobs cannot be claimed', { code: toGatewayError(error).code, cause: String(error) });
      wakeIn(RETRY_MS);
    } finally {
      claiming = false;
      // Called for while it was found out when to look again.
      if (again) poke();
    }
  }

  async function sleepUntilNext(): Promise<void> {
    if (!mayClaim()) return;
    const next = isFull() ? own.nextAt(now()) : await store.jobs.nextAt();
    if (next !== undefined) wakeIn(Math.max(10, next - now()));
  }

  function wakeIn(ms: number): void {
    clearTimeout(wakeTimer);
    // A minute at most: the clock by which it was computed may have been set.
    wakeTimer = setTimeout(() => poke(), Math.min(ms, 60_000));
    unref(wakeTimer);
  }

  const poke: Worker['poke'] = (job) => {
    if (job) own.add(job);
    if (started && !stopping) void pump();
  };

  function begin(job: JobRecord): void {
    const work: Work = {
      job,
      abort: new AbortController(),
      meter: createProgressMeter(),
      done: Promise.resolve(),
    };
    held.set(job.id, work);
    work.done = perform(work)
      .catch((error) => options.warn('a job was left', { job: job.id, cause: String(error) }))
      .finally(() => {
        held.delete(job.id);
        poke();
      });
  }

  async function beat(): Promise<void> {
    if (held.size === 0) return;
    const jobs: Held[] = [...held.values()].map(({ job: { id, fence } }) => ({ id, fence }));
    try {
      const { lost, cancelled } = await store.jobs.beat(jobs);
      for (const id of lost) held.get(id)?.abort.abort(new GatewayError('conflict', 'The lease was lost.'));
      for (const id of cancelled) held.get(id)?.abort.abort(cancelledError());
    } catch (error) {
      options.warn('no sign of life could be written', { cause: String(error) });
    }
  }

  return {
    poke,
    start() {
      if (started || concurrency === 0) return;
      started = true;
      unlisten = store.jobs.onChange(() => {
        poke();
        void beat();
      });
      beatTimer = setInterval(() => void beat(), Math.max(50, leaseMs / 3));
      unref(beatTimer);
      poke();
    },
    cancel(id) {
      const work = held.get(id);
      work?.abort.abort(cancelledError());
      return work !== undefined;
    },
    live: (id) => held.get(id),
    holds: (id) => held.has(id),
    running: () => held.size,
    working,
    async stop() {
      stopping = true;
      unlisten();
      clearInterval(beatTimer);
      clearTimeout(wakeTimer);
      for (const { abort } of held.values()) abort.abort(new GatewayError('draining', 'The gateway is shutting down.'));
      const late = new Promise((resolve) => unref(setTimeout(resolve, STOP_MS)));
      await Promise.race([Promise.allSettled([...held.values()].map(({ done }) => done)), late]);
    },
  };
}
