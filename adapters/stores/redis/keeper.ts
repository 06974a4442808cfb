// Watches over what Redis keeps: notices that it lost data or restarted, brings back what was promised, and mends the order.
import type { Log } from '../../../src/http/context.ts';
import { addAgain } from './jobs.ts';
import type { Entry, Journal } from './journal.ts';
import { isLost, type Link } from './link.ts';
import type { Order } from './order.ts';
import type { Changes } from './streams.ts';

export interface Keeper {
  /** Looks whose data this is, and what is missing. To be called once, before anything is asked. */
  begin(): Promise<void>;
  /** A script met data that is not ours. */
  lost(): void;
  /** What is wrong now, and what was lost once. */
  health(): Promise<{ ok: boolean; problems: string[] }>;
  close(): Promise<void>;
}

export interface KeeperOptions {
  link: Link;
  order: Order;
  journal: Journal;
  changes: Changes;
  now: () => number;
  log: Log;
}

/** How often Redis is asked for a sign of life, in milliseconds; every so many times everything is looked at. */
const TICK_MS = 2000;
const THOROUGH = 15;
const PAGE = 200;
const INFO_MS = 1000;

interface Info {
  /** Changes with every start of Redis. */
  run: string;
  problems: string[];
  /** Nothing can be written. */
  broken: boolean;
}

export function createKeeper({ link, order, journal, changes, now, log }: KeeperOptions): Keeper {
  const losses: string[] = [];
  const told = new Set<string>();
  let info: Info = { run: '', problems: [], broken: false };
  let ticks = 0;
  let place = '';
  let cursor = '0';
  let repairing: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let ticking: Promise<void> | undefined;
  let closed = false;

  /** What the data in Redis is called; it gets a name where it has none. */
  async function readEpoch(): Promise<string> {
    const key = `${link.prefix}:epoch`;
    await link.guard(link.redis.set(key, crypto.randomUUID(), 'NX'));
    return (await link.guard(link.redis.get(key))) ?? '';
  }

  async function inspect(): Promise<void> {
    info = toInfo(await link.guard(link.redis.info(), INFO_MS));
    for (const problem of info.problems) {
      if (!told.has(problem)) log({ level: 'warn', message: 'the store is at risk', problem });
      told.add(problem);
    }
  }

  /**
   * Of a part of the journal: what has ended is forgotten, what Redis does not know is taken again (`suspect`: it may have
   * lost it) or was deleted long ago. How many were taken again, and where the next part begins.
   */
  async function compare(after: string, suspect: boolean): Promise<{ back: number; next: string }> {
    const entries = journal.page(after, PAGE);
    if (entries.length === 0) return { back: 0, next: '' };
    const known = await link.force<string[]>('states', { ids: entries.map(({ id }) => id) });
    const over: string[] = [];
    const missing: Entry[] = [];
    entries.forEach((entry, at) => {
      const state = known[at]!;
      if (state === '' && suspect) missing.push(entry);
      else if (state !== 'queued' && state !== 'running') over.push(entry.id);
    });
    journal.ended(over);
    // A holder of before the loss still has its old number: what is claimed from now on must be another.
    const again = missing.map(({ job, known: { attempts, fence, since } }) => ({
      job,
      known: { attempts, fence: fence + 1000, since },
    }));
    if (again.length > 0) await addAgain(link, again, [], now());
    return { back: missing.length, next: entries.length < PAGE ? '' : entries.at(-1)!.id };
  }

  async function compareAll(gone: boolean): Promise<number> {
    let total = 0;
    let after = '';
    do {
      const { back, next } = await compare(after, true);
      total += back;
      after = next;
    } while (after !== '');
    if (gone || total > 0) await addAgain(link, [], journal.documents(), now());
    return total;
  }

  /** Brings back what this gateway promised, where the data or the run of Redis is another than the one it saw last. */
  async function repair(): Promise<void> {
    const before = journal.seen();
    const epoch = await readEpoch();
    const gone = (link.epoch !== '' && link.epoch !== epoch) || (before !== undefined && before.epoch !== epoch);
    const restarted = before !== undefined && before.run !== info.run;
    // Nobody is told that a job is not there while it may be on its way back; where this fails, the next tick tries again.
    link.closed ||= gone || restarted;
    link.epoch = epoch;
    if (link.closed) {
      const back = await compareAll(gone);
      if (gone || back > 0) tellLoss(gone, back);
    }
    journal.see(epoch, info.run);
    link.closed = false;
    changes.tell();
  }

  function tellLoss(gone: boolean, back: number): void {
    const at = new Date(now()).toISOString();
    const what = gone ? 'Redis lost its data' : 'Redis restarted without its latest data';
    const problem = `${what} at ${at}; ${back} ${back === 1 ? 'job was' : 'jobs were'} added again. Find out why: ended jobs, results and hooks of before may be gone. This line stays until a restart.`;
    losses.push(problem);
    log({ level: 'error', message: 'the store lost data', problem });
  }

  /** One at a time; where Redis is gone meanwhile, the next tick tries again. */
  function mend(): Promise<void> {
    repairing ??= (async () => {
      await inspect();
      await repair();
    })().finally(() => (repairing = undefined));
    return repairing;
  }

  async function tick(): Promise<void> {
    if (link.redis.status !== 'ready') return;
    if (link.closed) return mend();
    ticks++;
    if (await link.run<number>('probe', { now: now(), ...order.keys })) changes.tell();
    const [next, astray] = await link.run<[string, [string, string][]]>('mend', { cursor, limit: PAGE, ...order.keys });
    cursor = next;
    for (const [seq, turn] of astray) order.withdraw(seq, turn);
    if (astray.length > 0) changes.tell();
    if (ticks % THOROUGH !== 0) return;
    await inspect();
    place = (await compare(place, false)).next;
  }

  const onReady = () => void mend().catch(() => {});

  return {
    async begin() {
      await mend();
      link.redis.on('ready', onReady);
      timer = setInterval(() => {
        ticking ??= tick()
          .catch((error: unknown) => (isLost(error) ? mend().catch(() => {}) : undefined))
          .finally(() => (ticking = undefined));
      }, TICK_MS);
      timer.unref();
    },
    lost: onReady,
    async health() {
      const problems = [...losses];
      let ok = true;
      try {
        await inspect();
        await link.run('probe', { now: now(), ...order.keys });
      } catch (error) {
        ok = false;
        if (link.closed || isLost(error))
          problems.unshift('Redis lost its data: what was promised is being brought back.');
        else problems.unshift('Redis does not answer: start it, or correct HONO_AI_REDIS_URL.');
      }
      if (journal.failing())
        problems.unshift('The journal cannot be written: look at the disk of the state directory.');
      return { ok: ok && !info.broken && !journal.failing(), problems: [...problems, ...info.problems] };
    },
    async close() {
      if (closed) return;
      closed = true;
      clearInterval(timer);
      link.redis.off('ready', onReady);
      await ticking;
      await repairing?.catch(() => {});
    },
  };
}

/** What INFO says of a server that is to keep jobs safe. */
function toInfo(text: string): Info {
  const value = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(text)?.[1];
  const problems: string[] = [];
  const version = value('redis_version') ?? '';
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (version !== '' && (major < 6 || (major === 6 && minor < 2))) {
    problems.push(`Redis ${version} is too old: use 7 or later, or Valkey.`);
  }
  if (value('aof_enabled') === '0') {
    problems.push(
      'Redis would lose jobs when it stops, for AOF is off: redis-cli CONFIG SET appendonly yes, and the same in redis.conf.',
    );
  }
  const policy = value('maxmemory_policy');
  if (policy !== undefined && policy !== 'noeviction') {
    problems.push(
      `Redis may drop jobs when its memory is full, for maxmemory-policy is ${policy}: redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf.`,
    );
  }
  const broken = value('aof_last_write_status') === 'err' || value('role') === 'slave';
  if (value('aof_last_write_status') === 'err') problems.push('Redis cannot write its AOF: look at its disk.');
  if (value('role') === 'slave') problems.push('This Redis is a replica: point HONO_AI_REDIS_URL at the primary.');
  return { run: value('run_id') ?? '', problems, broken };
}
