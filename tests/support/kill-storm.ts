// One gateway's life of being killed, from an empty state to the last look: what the tests on each engine and store share.
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { vram, type CountingRuntime } from './counting-runtime.ts';
import { engines, root, type Engine } from './gateway.ts';
import { check, readAll, type Findings } from './kill-check.ts';
import { createKiller, planKills, type Killer, type Opened, type Report, type Took } from './kill-driver.ts';
import { callers, createLedger, createRandom, type Caller, type Ledger } from './kill-ledger.ts';
import { createLoad, type Load } from './kill-load.ts';
import { SCRIPT, startGatewayProcess } from './kill-process.ts';
import type { Receiver } from './kill-receiver.ts';
import { deliver, drain, type Stage } from './kill-settle.ts';

export interface StormOptions {
  engine: Engine;
  kills: number;
  /** Unique among those that share a runtime and a receiver. */
  name: string;
  seed: number;
  runtime: CountingRuntime;
  receiver: Receiver;
  env?: Record<string, string>;
  /** For the processes, not for the gateways in them. */
  host?: Record<string, string>;
}

export interface Storm extends Report {
  engine: Engine;
  violations: string[];
  findings: Findings;
  /** One more start, with nothing loaded, until the first 2xx of /ready. It ends by a kill. */
  startCold(): Promise<Took>;
  close(): Promise<void>;
}

export function createState(env: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-kill-'));
  const stateDir = join(folder, 'state');
  const full: Record<string, string> = {
    HOME: folder,
    XDG_CONFIG_HOME: folder,
    HONO_AI_STATE_DIR: stateDir,
    HONO_AI_LOG_LEVEL: 'warn',
    HONO_AI_API_KEY: callers.owner,
    HONO_AI_CALLERS: `beta:${callers.beta}`,
    HONO_AI_WEBHOOK_ALLOW: '127.0.0.1',
    HONO_AI_WEBHOOK_TIMEOUT_MS: '10000',
    HONO_AI_VRAM: vram,
    // More at the same time would each be slower, and reach the places where they are to be killed later.
    HONO_AI_JOB_CONCURRENCY: '4',
    ...env,
  };
  return { stateDir, env: full, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Kills it as often as asked, then lets it finish its work and checks every promise. */
export async function storm(options: StormOptions): Promise<Storm> {
  const { engine, kills, name, seed, runtime, receiver, host = {} } = options;
  const random = createRandom(seed);
  const state = createState(options.env);
  const ledger = createLedger();
  const load = createLoad({ name, ledger, receiver, random });
  const killer = createKiller({ engine, host, name, env: state.env, runtime: runtime.url, ledger, load, random });
  const close = async () => {
    await killer.close();
    state.remove();
  };
  try {
    const first = await killer.open();
    await prepare(first, receiver, name);
    await first.kill();
    // Three are for before and after.
    await killer.run(planKills(kills - 3, random));
    const findings = await finish({ killer, load, ledger, runtime, receiver }, state.stateDir);
    const { violations } = ledger;
    return { engine, ...killer.report, violations, findings, startCold: killer.startCold, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function finish(
  {
    killer,
    load,
    ledger,
    runtime,
    receiver,
  }: Omit<Stage, 'ask' | 'url'> & { killer: Killer; load: Load; ledger: Ledger },
  stateDir: string,
): Promise<Findings> {
  const last = await killer.open();
  const stage: Stage = { ask: last.ask, url: last.url, ledger, runtime, receiver };
  await load.settle(last.ask);
  await drain(stage);
  const waiting = await deliver(stage);
  const findings = await check(stage, stateDir);
  await last.kill();
  // Once more, now that nothing is left to do: what has ended stays as it was, and nothing runs.
  const again = await killer.open();
  const before = new Map([...ledger.known].map(([id, { seen }]) => [id, toLasting(seen)]));
  for (const [id, view] of await readAll({ ask: again.ask, ledger })) {
    if (toLasting(view) !== before.get(id)) ledger.blame(`${id} changed with a start`);
  }
  const late = runtime.executions.filter(({ generation }) => generation === again.generation);
  for (const { job } of late) ledger.blame(`${job} ran when nothing was left to run`);
  await again.kill();
  return { ...findings, waiting };
}

/** The secrets that the receiver checks with, and an endpoint that hears of all failures. */
async function prepare({ ask }: Opened, receiver: Receiver, name: string): Promise<void> {
  for (const caller of Object.keys(callers) as Caller[]) {
    const made = await ask(caller, '/webhooks/secret', { method: 'POST' });
    if (made.status !== 201) throw new Error(`no secret: ${made.status} ${JSON.stringify(made.json)}`);
    receiver.trust(`/${name}/${caller}/`, (made.json as { secret: string }).secret);
  }
  const target = `/${name}/endpoint`;
  const url = receiver.url(target);
  const body = JSON.stringify({ url, events: ['job.failed', 'batch.done'] });
  const made = await ask('beta', '/webhooks', { method: 'POST', body });
  if (made.status !== 201) throw new Error(`no endpoint: ${made.status} ${JSON.stringify(made.json)}`);
  receiver.trust(target, (made.json as { secret: string }).secret);
}

function toLasting(view: unknown): string {
  // Links are signed anew with every look.
  return JSON.stringify(view, (key, value) => (key === 'url' || key === 'expires_at' ? undefined : value));
}

/** Node compiles every module anew with every start, unless it has a folder to keep that in: there, starts cost half. */
export async function warmNode() {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-compiled-'));
  const host = { NODE_COMPILE_CACHE: folder };
  const process = startGatewayProcess('node', host);
  await process.loaded;
  // It keeps what it compiled when it ends in peace.
  process.leave();
  await process.ended;
  return { host, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Bun reads and translates some hundred files with every start; in one bundle of the same code that costs half. */
export async function bundleForBun() {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-bundle-'));
  // Laid out as the repository is: the code finds its version one folder up, and packages that are loaded late.
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const source = join(root, 'tests/support/kill-gateway.ts');
  const late = ['onnxruntime-web', '@huggingface/transformers'].flatMap((name) => ['--external', name]);
  const to = join(folder, 'adapters');
  await promisify(execFile)(engines.bun.command, [
    'build',
    source,
    '--target=bun',
    '--splitting',
    '--outdir',
    to,
    ...late,
  ]);
  const remove = () => rmSync(folder, { recursive: true, force: true });
  return { host: { [SCRIPT]: join(to, 'kill-gateway.js') }, remove };
}

/** Of its own time, in milliseconds. */
export function toMedian(times: readonly Took[]): number {
  return times.map(({ own }) => own).toSorted((a, b) => a - b)[Math.floor(times.length / 2)]!;
}

/** One line for people. */
export function toSummary({ engine, kills: byKind, ready, missed, findings, violations }: Storm): string {
  const total = Object.values(byKind).reduce((sum, count) => sum + count, 0);
  return [
    `${engine}: ${total} kills ${JSON.stringify(byKind)}, ${missed} failpoints missed`,
    `ready ${toSpread(ready.map(({ wall }) => wall))}, of its own time ${toSpread(ready.map(({ own }) => own))}`,
    JSON.stringify(findings),
    `${violations.length} violations`,
  ].join('; ');
}

function toSpread(times: number[]): string {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!);
  return `p50 ${at(0.5)} p99 ${at(0.99)} max ${at(1)} ms`;
}
