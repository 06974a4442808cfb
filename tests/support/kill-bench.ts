// One or several gateways on one state, for tests that stop them, set their clock or fill their disk rather than kill them blindly.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ArtifactView } from '../../src/capabilities/file.ts';
import type { JobView } from '../../src/jobs/view.ts';
import { models, openCountingRuntime, type CountingRuntime, type Execution, type Plan } from './counting-runtime.ts';
import type { Engine } from './gateway.ts';
import { isTerminal } from './kill-ledger.ts';
import { createClient, type Answer, type Client } from './kill-load.ts';
import { startGatewayProcess, type GatewayProcess } from './kill-process.ts';
import { openReceiver, type Receiver } from './kill-receiver.ts';
import { createState } from './kill-storm.ts';

export interface Seat {
  process: GatewayProcess;
  generation: string;
  ask: Client;
}

export interface Bench {
  runtime: CountingRuntime;
  receiver: Receiver;
  stateDir: string;
  /** Starts one more gateway on the same state; `host` is for the process, `env` for the gateway. */
  seat(engine: Engine, options?: { host?: Record<string, string>; env?: Record<string, string> }): Promise<Seat>;
  /** Its webhook is called at `/KEY`. */
  send(ask: Client, plan: Partial<Plan> & { key: string }, job?: Record<string, unknown>): Promise<Answer>;
  /** The same, and throws where it is not taken. */
  submit(ask: Client, plan: Partial<Plan> & { key: string }, job?: Record<string, unknown>): Promise<JobView>;
  read(ask: Client, id: string): Promise<JobView>;
  artifacts(ask: Client): Promise<ArtifactView[]>;
  /** Throws where it has not ended within `ms`. */
  ended(ask: Client, id: string, ms?: number): Promise<JobView>;
  /** The n-th execution of a job, counted from 1. Throws where there is none within `ms`. */
  execution(id: string, n: number, ms?: number): Promise<Execution>;
  /** Has it stand still, though not in the middle of a write: a process that is stopped there keeps SQLite's lock from all others. */
  stop(seat: Seat): Promise<void>;
  close(): Promise<void>;
}

export async function openBench(env: Record<string, string> = {}): Promise<Bench> {
  const state = createState(env);
  const runtime = await openCountingRuntime();
  const receiver = await openReceiver(() => 1);
  const seats: Seat[] = [];

  const read = async (ask: Client, id: string) => (await ask('owner', `/jobs/${id}`)).json as JobView;

  const bench: Bench = {
    runtime,
    receiver,
    stateDir: state.stateDir,
    async seat(engine, { host = {}, env: more = {} } = {}) {
      const process = startGatewayProcess(engine, host);
      const generation = `seat ${seats.length + 1}`;
      const url = await process.open({ env: { ...state.env, ...more }, runtime: runtime.url, generation });
      const seat = { process, generation, ask: createClient(url) };
      seats.push(seat);
      return seat;
    },
    send(ask, plan, job = {}) {
      const whole: Plan = { ms: 0, files: [], ...plan };
      return ask('owner', '/text/gen', {
        method: 'POST',
        headers: { prefer: 'respond-async' },
        body: JSON.stringify({
          prompt: JSON.stringify(whole),
          model: models[0],
          job: { max_attempts: 10, webhook: receiver.url(`/${plan.key}`), ...job },
        }),
      });
    },
    async submit(ask, plan, job) {
      const { status, json } = await bench.send(ask, plan, job);
      if (status !== 202) throw new Error(`a submission was answered ${status}: ${JSON.stringify(json)}`);
      return json as JobView;
    },
    read,
    async artifacts(ask) {
      return ((await ask('owner', '/artifacts?limit=100')).json as { data: ArtifactView[] }).data;
    },
    async ended(ask, id, ms = 40_000) {
      for (const end = performance.now() + ms; ; await sleep(25)) {
        const view = await read(ask, id);
        if (isTerminal(view)) return view;
        if (performance.now() > end) throw new Error(`not within ${ms} ms: the end of ${JSON.stringify(view)}`);
      }
    },
    async execution(id, n, ms = 40_000) {
      for (const end = performance.now() + ms; ; await sleep(5)) {
        const execution = runtime.of(id)[n - 1];
        if (execution) return execution;
        if (performance.now() > end) throw new Error(`not within ${ms} ms: execution ${n} of ${id}`);
      }
    },
    async stop({ process }) {
      for (;;) {
        process.send('SIGSTOP');
        await sleep(20);
        if (!isLocked(state.stateDir)) return;
        process.send('SIGCONT');
        await sleep(20);
      }
    },
    async close() {
      for (const { process } of seats) {
        process.send('SIGKILL');
        await process.ended;
      }
      await runtime.close();
      await receiver.close();
      state.remove();
    },
  };
  return bench;
}

/** Somebody is writing to a database of this folder. */
function isLocked(folder: string): boolean {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.db'))
    .some((name) => {
      const db = new DatabaseSync(join(folder, name), { timeout: 0 });
      try {
        db.exec('BEGIN IMMEDIATE; ROLLBACK');
        return false;
      } catch {
        return true;
      } finally {
        db.close();
      }
    });
}
