// Jobs in Redis: every step is one script on the record; tickets and the journal follow it.
import { GatewayError } from '../../../src/error.ts';
import type { Document, JobRecord, JobStore, NewJob, Put } from '../../../src/store.ts';
import type { Journal } from './journal.ts';
import type { Link } from './link.ts';
import type { Order, Ticket } from './order.ts';
import {
  createTexts,
  fromCursor,
  states,
  toCounts,
  toCursor,
  toDocument,
  toEnd,
  toHead,
  toNew,
  toPut,
  toRecord,
  type Known,
  type Reply,
} from './record.ts';
import type { Changes } from './streams.ts';

export interface JobsOptions {
  link: Link;
  order: Order;
  journal: Journal;
  changes: Changes;
  now: () => number;
}

/** So long a deleted job is remembered as deleted, in seconds: other gateways must not take it for lost. */
const GONE_S = 7 * 24 * 3600;

export function createJobs(options: JobsOptions): JobStore {
  return { ...createSteps(options), ...createLists(options) };
}

type Added = ['ok', Ticket[]] | ['conflict', string[] | 'missing'];

/** What was there before is left as it is; for jobs that Redis lost. */
export async function addAgain(
  link: Link,
  jobs: readonly { job: NewJob; known: Known }[],
  puts: readonly Put[],
  now: number,
) {
  const { texts, keep } = createTexts();
  const args = {
    jobs: jobs.map(({ job, known }) => toNew(job, now, keep, known)),
    puts: puts.filter((put) => !('delete' in put)).map((put) => toPut(put, keep)),
    now,
    lenient: true,
  };
  await link.force<Added>('add', args, texts);
}

function createSteps({ link, order, journal, changes, now }: JobsOptions) {
  /** A ticket that cannot be handed out now is handed out with a later claim, by whichever gateway. */
  const issue = (tickets: Ticket[]) => order.issue(tickets).catch(() => {});

  /** Everything that may start now, after something was sent back. */
  const promote = () => order.promote(now()).catch(() => 0);

  async function add(jobs: NewJob[], puts: Put[] = []): Promise<Document | undefined> {
    const at = now();
    const { texts, keep } = createTexts();
    const args = { jobs: jobs.map((job) => toNew(job, at, keep)), puts: puts.map((put) => toPut(put, keep)), now: at };
    const [came, rest] = await link.run<Added>('add', args, texts);
    if (came === 'conflict') {
      if (rest === 'missing') throw new GatewayError('conflict', 'What the job was to change is gone.');
      return toDocument(rest);
    }
    try {
      const open = jobs.filter(({ ended }) => !ended);
      if (open.length > 0) journal.insert(open, puts, at);
    } catch (error) {
      await withdraw(jobs, puts);
      throw error;
    }
    await issue(rest);
    changes.tell();
    return undefined;
  }

  /** Best effort: what cannot be taken back was never promised either. */
  async function withdraw(jobs: readonly NewJob[], puts: readonly Put[]): Promise<void> {
    const made = puts.filter((put) => put.if === 'absent').map(({ kind, id }) => ({ kind, id, delete: true }));
    await link.run('withdraw', { ids: jobs.map(({ id }) => id), puts: made, now: now() }).catch(() => {});
  }

  return {
    add,
    async claim(worker, at) {
      if ((await order.promote(at)) === 0) return undefined;
      for (;;) {
        const ticket = await order.next();
        if (!ticket) return undefined;
        const { id, turn } = ticket;
        const reply = await link.run<Reply | null>('claim', { id, turn, worker, now: at });
        ticket.drop();
        if (!reply) continue;
        const record = toRecord(reply);
        journal.claimed(id, record.attempts, record.fence);
        return record;
      }
    },
    async beat(held) {
      const [lost, cancelled] = await link.run<[string[], string[]]>('beat', { held });
      return { lost, cancelled };
    },
    async finish({ id, fence }, outcome, puts = []) {
      const { texts, keep } = createTexts();
      const args = { id, fence, outcome: toEnd(outcome, keep), puts: puts.map((put) => toPut(put, keep)), now: now() };
      const came = await link.run<number>('finish', args, texts);
      if (came < 0) throw conflict();
      if (came === 1) journal.ended([id]);
      return came === 1;
    },
    async requeue({ id, fence }, { runAt, refund, notes }) {
      const { texts, keep } = createTexts();
      const args = { id, fence, runAt: String(runAt), ready: runAt <= now(), refund, notes: keep(notes) };
      if ((await link.run<number>('requeue', args, texts)) === 0) return false;
      await promote();
      changes.tell();
      return true;
    },
    async stop(id, outcome, puts = []) {
      const { texts, keep } = createTexts();
      const args = { id, outcome: toEnd(outcome, keep), puts: puts.map((put) => toPut(put, keep)), now: now() };
      type Came = 'gone' | 'conflict' | 'ended' | 'marked' | 'stopped';
      const [came, seq = '', turn = ''] = await link.run<[Came, string?, string?]>('stop', args, texts);
      if (came === 'gone') return undefined;
      if (came === 'conflict') throw conflict();
      if (came === 'stopped') {
        order.withdraw(seq, turn);
        journal.ended([id]);
      }
      changes.tell();
      return came;
    },
    async revive(id, at) {
      const reply = await link.run<Reply | null>('revive', { id, at, ready: at <= now() });
      if (!reply) return false;
      // It is in Redis; a disk that is full is told by health, and must not undo it.
      attempt(() => journal.revived(toRecord(reply), at));
      await promote();
      changes.tell();
      return true;
    },
    async sweep(before, limit) {
      const ids = await link.run<string[]>('sweep', { before, limit });
      journal.ended(ids);
      return ids;
    },
    async remove(id) {
      if ((await link.run<number>('remove', { id, seconds: GONE_S })) === 0) return false;
      journal.ended([id]);
      return true;
    },
    onChange: (listener) => changes.listen(listener),
  } satisfies Partial<JobStore>;
}

function createLists({ link, order }: JobsOptions) {
  const heads = (replies: Reply[]) => replies.map(toHead);
  return {
    async get(id): Promise<JobRecord | undefined> {
      const reply = await link.run<Reply | null>('get', { id });
      return reply ? toRecord(reply) : undefined;
    },
    async list({ owner, states: wanted = [...states], capability, batch, cursor, limit }) {
      const indices = [...new Set(wanted)].map((state) =>
        batch === undefined ? `${link.prefix}:os:${state}:${owner}` : `${link.prefix}:bs:${state}:${batch}`,
      );
      const args = { indices, owner, capability, before: fromCursor(cursor), limit };
      const [next, found] = await link.run<[string, Reply[]]>('list', args);
      const jobs = heads(found);
      return next === '' ? { jobs } : { jobs, next: toCursor(next) };
    },
    async position(id, most) {
      const place = await link.run<number | null>('position', { id, ...order.keys });
      return place === null ? undefined : Math.min(place, most);
    },
    waiting: (owner) => link.run<number>('waiting', { owner }),
    counts: async () => toCounts(await link.run<string[]>('counts', { key: 'counts' })),
    batchCounts: async (batch) => toCounts(await link.run<string[]>('counts', { key: `bc:${batch}` })),
    async batchPending(batch) {
      const { queued, running } = toCounts(await link.run<string[]>('counts', { key: `bc:${batch}` }));
      return queued + running > 0;
    },
    batchJobs: async (batch, index, limit) =>
      (await link.run<Reply[]>('batchJobs', { batch, index, limit })).map(toRecord),
    running: async () => heads(await link.run<Reply[]>('running', {})),
    overdue: async (now, limit) => heads(await link.run<Reply[]>('overdue', { now, limit })),
    async nextAt() {
      const times = (await link.run<string[]>('nextAt', order.keys)).map(Number);
      return times.length === 0 ? undefined : Math.min(...times);
    },
  } satisfies Partial<JobStore>;
}

function conflict(): GatewayError {
  return new GatewayError('conflict', 'What belongs to the job was changed meanwhile.');
}

function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // The journal remembers that it fails.
  }
}
