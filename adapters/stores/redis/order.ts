// Who is next: a BullMQ queue of tickets. A ticket names a job and is good for one start; whether it still is, the job's record says.
import { createRedisBackend, Queue, Worker, type BackendFactory, type RedisQueueBackend } from 'bullmq';
import type { Link } from './link.ts';

/** Job, its number of arrival, which of its waits this is, and BullMQ's priority. */
export type Ticket = [id: string, seq: string, turn: string, priority: string];

export interface Order {
  /** BullMQ's keys that scripts look at. */
  keys: { order: string; wait: string; active: string; ticket: string };
  /** Hands tickets out. What does not get one now gets it later: it stays in the outbox. */
  issue(tickets: readonly Ticket[]): Promise<void>;
  /** Tickets for all that may start by now; how many wait with one. */
  promote(now: number): Promise<number>;
  next(): Promise<Taken | undefined>;
  /** A job that ended while it waited needs its ticket no more. */
  withdraw(seq: string, turn: string): void;
  close(): Promise<void>;
}

export interface Taken {
  id: string;
  turn: string;
  /** It has been used, or was void. */
  drop(): void;
}

const NAME = 'order';
/** A ticket that was taken and not used within this time goes back, in milliseconds. */
const LOCK_MS = 3000;
const CHUNK = 500;
const PROMOTED = 100;
/** One part of a long row of tickets may take longer than a single script. */
const CHUNK_MS = 2000;

export function createOrder(link: Link, onReturned: () => void): Order {
  const options = { connection: link.redis, prefix: link.prefix, skipVersionCheck: true };
  const queue = new Queue(NAME, { ...options, streams: { events: { maxLen: 100 } } }, backend);
  const worker = new Worker(
    NAME,
    null,
    {
      ...options,
      autorun: false,
      lockDuration: LOCK_MS,
      stalledInterval: LOCK_MS,
      // Tickets never fail: how often a job may be started is decided by its record.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    },
    backend,
  );
  // What goes wrong is told to whoever asked; without listeners an `error` event would end the process.
  queue.on('error', () => {});
  worker.on('error', () => {});
  worker.on('stalled', onReturned);
  void worker.startStalledCheckTimer();
  const keys = {
    order: queue.toKey('prioritized'),
    wait: queue.toKey('wait'),
    active: queue.toKey('active'),
    ticket: queue.toKey(''),
  };
  const open = new Set<Promise<unknown>>();

  function inBackground(work: Promise<unknown>): void {
    const done = link
      .guard(work)
      .catch(() => {})
      .finally(() => open.delete(done));
    open.add(done);
  }

  async function issue(tickets: readonly Ticket[]): Promise<void> {
    for (let at = 0; at < tickets.length; at += CHUNK) {
      const chunk = tickets.slice(at, at + CHUNK);
      const adding = queue.addBulk(
        chunk.map(([id, seq, turn, priority]) => ({
          name: id,
          data: 0,
          opts: { jobId: `${seq}.${turn}`, priority: Number(priority) },
        })),
      );
      await link.guard(adding, CHUNK_MS);
      await link.run('settle', { tickets: chunk.map(([id, , turn]) => [id, turn]) });
    }
  }

  return {
    keys,
    issue,
    async promote(now) {
      const [waiting, tickets] = await link.run<[number, Ticket[]]>('due', { now, limit: PROMOTED, ...keys });
      await issue(tickets);
      return waiting + tickets.length;
    },
    async next() {
      const token = crypto.randomUUID();
      const job = await link.guard(worker.getNextJob(token, { block: false }));
      if (!job) return undefined;
      const [, turn = ''] = job.id!.split('.');
      return { id: job.name, turn, drop: () => inBackground(job.moveToCompleted(0, token, false)) };
    },
    withdraw: (seq, turn) => inBackground(queue.remove(`${seq}.${turn}`)),
    async close() {
      await Promise.all(open);
      await worker.close(true);
      await queue.close();
    },
  };
}

/** Tickets are asked for, never waited for: a worker needs no connection of its own. */
const backend: BackendFactory<RedisQueueBackend> = (name, options, extra) =>
  createRedisBackend(name, options, { ...extra, withBlockingConnection: false });
