// Gateways for tests: in this process, or served by Node, Bun or Deno in a process of their own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openGateway } from '../../adapters/index.ts';
import type { Choice } from '../../src/models/views.ts';
import type { RuntimeEntry } from '../../src/settings.ts';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export const engines = {
  node: { command: join(root, 'node_modules/.bin/node'), args: [] },
  bun: { command: join(root, 'node_modules/.bin/bun'), args: [] },
  deno: { command: join(root, 'node_modules/.bin/deno'), args: ['run', '-A'] },
} as const;
export type Engine = keyof typeof engines;

export interface TestGateway {
  /** Paths are joined to the gateway's address. */
  request(path: string, init?: RequestInit): Promise<Response>;
  /** Where it listens; undefined in process. */
  url?: string;
  env: Record<string, string>;
  close(): Promise<void>;
  /** SIGKILL; absent in process. */
  kill?(): Promise<void>;
}

export interface GatewayOptions {
  env?: Record<string, string>;
  runtimes?: Partial<RuntimeEntry>[];
  aliases?: Record<string, Choice>;
}

/** Settings that find nothing on this machine by chance and fail fast. */
function prepare({ env, runtimes = [], aliases = {} }: GatewayOptions) {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-test-'));
  writeFileSync(join(folder, 'hono-ai.yaml'), JSON.stringify({ runtimes, aliases }));
  const full: Record<string, string> = {
    HONO_AI_CONFIG: join(folder, 'hono-ai.yaml'),
    HONO_AI_STATE_DIR: join(folder, 'state'),
    HONO_AI_DISCOVER: 'false',
    HONO_AI_LOG_LEVEL: 'silent',
    HONO_AI_FIRST_BYTE_MS: '1500',
    HONO_AI_IDLE_MS: '600',
    ...env,
  };
  return { env: full, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

export async function openInProcess(options: GatewayOptions = {}): Promise<TestGateway> {
  const { env, remove } = prepare(options);
  const opened = await openGateway({ env });
  return {
    env,
    request: async (path, init) => opened.app.fetch(new Request(`http://127.0.0.1${path}`, init)),
    async close() {
      await opened.gateway.drain(2000);
      await opened.close();
      remove();
    },
  };
}

export async function openServed(engine: Engine, options: GatewayOptions = {}): Promise<TestGateway> {
  const { env, remove } = prepare({
    ...options,
    env: { HOST: '127.0.0.1', PORT: '0', HONO_AI_DRAIN_MS: '3000', ...options.env },
  });
  const { command, args } = engines[engine];
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env;
  const child = spawn(command, [...args, 'cli/main.ts', 'serve'], {
    cwd: root,
    env: { PATH, HOME, NODE_COMPILE_CACHE, ...env } as NodeJS.ProcessEnv,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  const url = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${engine} did not start: ${said}`)), 30_000);
    child.stderr.on('data', (bytes: Buffer) => {
      said += bytes.toString();
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said);
      if (found) {
        clearTimeout(timer);
        resolve(found[0]);
      }
    });
    child.once('exit', (code) => reject(new Error(`${engine} ended with ${code}: ${said}`)));
  });
  return {
    env,
    url,
    request: (path, init) => fetch(url + path, init),
    async kill() {
      child.kill('SIGKILL');
      await once(child, 'exit');
      remove();
    },
    async close() {
      if (child.exitCode === null) {
        child.kill('SIGTERM');
        const timer = setTimeout(() => child.kill('SIGKILL'), 8000);
        await once(child, 'exit');
        clearTimeout(timer);
      }
      remove();
    },
  };
}

/** A JSON POST. */
export function post(body: unknown, init: RequestInit = {}): RequestInit {
  return {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
    headers: { 'content-type': 'application/json', ...init.headers },
  };
}

export { eventually } from './eventually.ts';
