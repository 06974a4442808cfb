// A real redis-server for tests: on a free port, with a folder of its own, and with everything that can happen to it.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openRedisStore, type RedisStoreOptions } from '../../adapters/stores/redis/index.ts';
import type { Store } from '../../src/store.ts';
import type { StoreUnderTest } from './store-cases-helpers.ts';

/** Why there is no Redis to test with; undefined where there is one. */
export const withoutRedis: string | undefined =
  spawnSync('redis-server', ['--version']).status === 0 ? undefined : 'redis-server is not installed';

export interface RedisServer {
  url: string;
  port: number;
  /** Sends one command; answers what came back, as Redis wrote it. */
  send(command: string): Promise<string>;
  /** Ends it as a loss of power would; its files stay. */
  kill(): Promise<void>;
  /** Starts it again on the same files and port. */
  start(): Promise<void>;
  /** It takes connections and answers nobody. */
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
}

const SAFE = ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction'];

export async function startRedis(settings: readonly string[] = SAFE): Promise<RedisServer> {
  const dir = mkdtempSync(join(tmpdir(), 'redis-'));
  const port = await toFreePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', ...settings];
  let child: ChildProcess;
  // Hosts differ in what they say of a child that was sent any signal: whether it has ended is kept here.
  let ended: Promise<void> = Promise.resolve();
  let running = false;

  const send = (command: string) => ask(port, command);

  async function start(): Promise<void> {
    child = spawn('redis-server', args, { stdio: 'ignore' });
    running = true;
    ended = new Promise((resolve) =>
      child.once('exit', () => {
        running = false;
        resolve();
      }),
    );
    const end = Date.now() + 10_000;
    while (!(await send('PING').catch(() => '')).startsWith('+PONG')) {
      if (Date.now() > end) throw new Error('redis-server does not start');
      await sleep(20);
    }
  }

  async function kill(): Promise<void> {
    // A frozen one ends too: this signal asks nobody.
    if (running) child.kill('SIGKILL');
    await ended;
  }

  await start();
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    send,
    kill,
    start,
    freeze: () => child.kill('SIGSTOP'),
    thaw: () => child.kill('SIGCONT'),
    async close() {
      await kill();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

export interface RedisUnderTest extends StoreUnderTest {
  server: RedisServer;
  open(options?: Partial<RedisStoreOptions>): Promise<Store>;
  /** Where the first gateway keeps its journal; every further one has another. */
  journal(n: number): string;
}

export async function openRedisStoreForTests(settings?: readonly string[]): Promise<RedisUnderTest> {
  const server = await startRedis(settings);
  const dir = mkdtempSync(join(tmpdir(), 'journal-'));
  const opened: Store[] = [];
  const journal = (n: number) => join(dir, `journal-${n}.db`);
  return {
    server,
    journal,
    async open(options = {}) {
      const store = await openRedisStore({ url: server.url, journalPath: journal(opened.length), ...options });
      opened.push(store);
      return store;
    },
    async close() {
      for (const store of opened) await store.close();
      await server.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** One command in Redis's plain form, over a connection of its own. */
function ask(port: number, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    let answer = '';
    socket.setTimeout(5000, () => socket.destroy(new Error('no answer')));
    socket.on('error', reject);
    socket.on('connect', () => socket.write(`${command}\r\nQUIT\r\n`));
    socket.on('data', (bytes) => (answer += bytes.toString()));
    socket.on('close', () => resolve(answer));
  });
}

function toFreePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
