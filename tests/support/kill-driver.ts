// Kills a gateway again and again, at random moments and at failpoints, and starts the next one on what it left behind.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Failpoint } from '../../src/store.ts';
import type { Engine } from './gateway.ts';
import type { Ledger } from './kill-ledger.ts';
import { createClient, isGone, type Client, type Load } from './kill-load.ts';
import { startGatewayProcess, type GatewayProcess } from './kill-process.ts';

export const failpoints = [
  'claimed',
  'dispatched',
  'runtime done',
  'temp written',
  'renamed',
  'before commit',
  'after commit',
  'webhook sent',
] as const satisfies Parameters<Failpoint>[0][];

/** `starting`: while it opens what it finds; `random`: while it works; else at the failpoint. */
export type Kind = 'starting' | 'random' | (typeof failpoints)[number];

export interface Gateways {
  engine: Engine;
  /** For the processes, not for the gateways in them. */
  host: Record<string, string>;
  /** Unique among all that share a runtime. */
  name: string;
  env: Record<string, string>;
  /** Where the runtime is. */
  runtime: string;
  ledger: Ledger;
  load: Load;
  random: () => number;
}

export interface Report {
  kills: Record<string, number>;
  /** From the order to open the state to health, readiness and the first job that is taken. */
  ready: Took[];
  /** Failpoints that were not reached in time; these gateways were killed at random. */
  missed: number;
}

/** Milliseconds. */
export interface Took {
  wall: number;
  /** Without the time in which the machine ran others: what a gateway can be blamed for. */
  own: number;
}

export interface Opened {
  ask: Client;
  url: string;
  generation: string;
  process: GatewayProcess;
  /** Ends it as all others, and writes that down. */
  kill(): Promise<void>;
}

/** A failpoint that is not reached within this time is given up, in milliseconds. */
const FAILPOINT_MS = 2500;
/** In which share of kills the gateway dies while it starts, and at each of the failpoints. */
const STARTING_SHARE = 0.04;
const FAILPOINT_SHARE = 0.06;

/** As many as asked for, of every kind, in an order that nobody chose. */
export function planKills(count: number, random: () => number): Kind[] {
  const starting = Math.max(1, Math.round(count * STARTING_SHARE));
  const each = Math.max(1, Math.round(count * FAILPOINT_SHARE));
  const kinds: Kind[] = [
    ...Array.from({ length: starting }, () => 'starting' as const),
    ...failpoints.flatMap((name) => Array.from({ length: each }, () => name)),
  ];
  while (kinds.length < count) kinds.push('random');
  return kinds
    .map((kind) => ({ kind, place: random() }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ kind }) => kind);
}

export function createKiller(gateways: Gateways) {
  const { engine, host, name, env, runtime, ledger, load, random } = gateways;
  const report: Report = { kills: {}, ready: [], missed: 0 };
  let standby = startGatewayProcess(engine, host);
  let started = 0;

  /** The next process, with everything loaded; the one after it loads meanwhile. */
  async function next(extra: Record<string, string> = {}) {
    const process = standby;
    await process.loaded;
    const generation = `${name} ${++started}`;
    const begun = begin(process);
    const opening = process.open({ env: { ...env, ...extra }, runtime, generation });
    opening.catch(() => {});
    return { process, generation, begun, opening };
  }

  const count = (kind: Kind) => void (report.kills[kind] = (report.kills[kind] ?? 0) + 1);

  async function ended(process: GatewayProcess, generation: string): Promise<void> {
    const { signal, code } = await process.ended;
    ledger.endedAt.set(generation, process.endedAt()!);
    if (signal !== 'SIGKILL') ledger.blame(`${generation} ended by itself with ${signal ?? code}: ${process.said()}`);
  }

  /** Until the moment at which all works; undefined where it was killed before. */
  async function takeTime(ask: Client, process: GatewayProcess, begun: Begun): Promise<Took | undefined> {
    try {
      const [health, ready] = await Promise.all([ask('owner', '/health'), ask('owner', '/ready'), load.submit(ask)]);
      if (health.status !== 200) ledger.blame(`/health answered ${health.status}`);
      if (ready.status !== 200) ledger.blame(`/ready answered ${ready.status}: ${JSON.stringify(ready.json)}`);
      return toTook(process, begun);
    } catch (error) {
      if (!isGone(error as Error)) throw error;
      return undefined;
    }
  }

  async function killOnce(kind: Kind): Promise<void> {
    const isPoint = kind !== 'starting' && kind !== 'random';
    const times = 1 + Math.floor(random() * 3);
    const { process, generation, begun, opening } = await next(isPoint ? { HONO_AI_FAIL_AT: `${kind}:${times}` } : {});
    const gone = new AbortController();
    void process.ended.then(() => gone.abort());
    if (kind === 'starting') void sleep(random() * 40).then(() => process.send('SIGKILL'));
    const url = await opening.catch(() => undefined);
    let working = Promise.resolve();
    if (url !== undefined) {
      const ask = createClient(url, gone.signal);
      const took = await takeTime(ask, process, begun);
      if (took) report.ready.push(took);
      working = load.work(ask, generation, gone.signal);
    }
    standby = startGatewayProcess(engine, host);
    // Most live shortly; some live long enough for the queue to run dry.
    const life = isPoint ? FAILPOINT_MS : random() < 0.85 ? random() * 150 : 150 + random() * 500;
    await Promise.race([process.ended, sleep(life, undefined, { signal: gone.signal }).catch(() => {})]);
    const byItself = process.endedAt() !== undefined;
    if (isPoint && !byItself) report.missed++;
    const counted = isPoint && !byItself ? 'random' : kind;
    process.send('SIGKILL');
    await ended(process, generation);
    await working;
    count(counted);
  }

  return {
    report,
    async run(kinds: readonly Kind[]): Promise<void> {
      for (const kind of kinds) await killOnce(kind);
    },
    /** One that is left alone. */
    async open(): Promise<Opened> {
      const { process, generation, opening } = await next();
      const url = await opening;
      standby = startGatewayProcess(engine, host);
      return {
        ask: createClient(url),
        url,
        generation,
        process,
        async kill() {
          process.send('SIGKILL');
          await ended(process, generation);
          count('random');
        },
      };
    },
    /** From the start of a process that has nothing loaded to the first 2xx of /ready. */
    async startCold(): Promise<Took> {
      const process = startGatewayProcess(engine);
      const begun = begin(process);
      const generation = `${name} ${++started}`;
      const url = await process.open({ env, runtime, generation });
      const { status } = await createClient(url)('owner', '/ready');
      const took = toTook(process, begun);
      if (status !== 200) ledger.blame(`/ready answered ${status} after a cold start`);
      process.send('SIGKILL');
      await ended(process, generation);
      count('random');
      return took;
    },
    async close(): Promise<void> {
      standby.send('SIGKILL');
      await standby.ended;
    },
  };
}

export type Killer = ReturnType<typeof createKiller>;

interface Begun {
  at: number;
  waited: number;
}

function begin(process: GatewayProcess): Begun {
  return { at: performance.now(), waited: process.waited() };
}

function toTook(process: GatewayProcess, { at, waited }: Begun): Took {
  const wall = performance.now() - at;
  return { wall, own: wall - Math.max(0, process.waited() - waited) };
}
