// Gateway processes for tests to kill: started ahead of time, opened by a line, and gone when the test is.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { engines, root, type Engine } from './gateway.ts';
import type { Order, Said } from './kill-gateway.ts';

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface GatewayProcess {
  pid: number;
  /** Everything is loaded; from here `open` needs only the state. */
  loaded: Promise<void>;
  /** Resolves with the address when it listens; rejects when it ends before. */
  open(order: Order): Promise<string>;
  /** It ends by itself. */
  leave(): void;
  send(signal: NodeJS.Signals): void;
  /** Milliseconds that it could have run and the machine ran others; 0 where nobody can say. */
  waited(): number;
  ended: Promise<Exit>;
  /** On the clock of `performance.now()`. */
  endedAt(): number | undefined;
  /** What it wrote to standard error, the newest part. */
  said(): string;
}

const KEPT_CHARACTERS = 20_000;
/** The variable that names another file with the same program: a bundle of it. */
export const SCRIPT = 'KILL_GATEWAY_SCRIPT';

export function startGatewayProcess(engine: Engine, env: Record<string, string> = {}): GatewayProcess {
  const { command, args } = engines[engine];
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env;
  const script = env[SCRIPT] ?? join(root, 'tests/support/kill-gateway.ts');
  const child = spawn(command, [...args, script], {
    cwd: root,
    env: { PATH, HOME, NODE_COMPILE_CACHE, ...env } as NodeJS.ProcessEnv,
    stdio: 'pipe',
  });
  let errors = '';
  let endedAt: number | undefined;
  child.stdin.on('error', () => {});
  child.stderr.on('data', (bytes: Buffer) => (errors = (errors + bytes.toString()).slice(-KEPT_CHARACTERS)));
  const loaded = Promise.withResolvers<void>();
  const listening = Promise.withResolvers<string>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    const said = JSON.parse(line) as Said;
    if ('loaded' in said) loaded.resolve();
    else listening.resolve(`http://127.0.0.1:${said.port}`);
  });
  const ended = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      endedAt = performance.now();
      resolve({ code, signal });
      const error = new Error(`the gateway ended with ${signal ?? code}: ${errors}`);
      loaded.reject(error);
      listening.reject(error);
    });
  });
  // Nobody need be waiting for one that is killed.
  loaded.promise.catch(() => {});
  listening.promise.catch(() => {});
  return {
    pid: child.pid!,
    loaded: loaded.promise,
    open(order) {
      child.stdin.write(`${JSON.stringify(order)}\n`);
      return listening.promise;
    },
    leave: () => child.stdin.end(),
    send: (signal) => void child.kill(signal),
    waited: () => toWaited(child.pid!),
    ended,
    endedAt: () => endedAt,
    said: () => errors,
  };
}

/** Linux keeps it for every thread; this is the one that runs JavaScript. */
function toWaited(pid: number): number {
  try {
    const [, nanoseconds] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ');
    return Number(nanoseconds) / 1e6;
  } catch {
    return 0;
  }
}
