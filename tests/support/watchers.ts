// Servers of events on each engine, and clients that write down what they hear.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { io, type Socket, type SocketOptions, type ManagerOptions } from 'socket.io-client';
import { WebSocket as WsSocket, type ClientOptions } from 'ws';
import type { Said } from './watchers-server.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const commands = { node: ['node', '--expose-gc'], bun: ['bun'], deno: ['deno', 'run', '-A'] } as const;
export type WatcherEngine = keyof typeof commands;
export const watcherEngines = Object.keys(commands) as WatcherEngine[];

export interface Heard {
  id?: string | undefined;
  type: string;
  data: Record<string, any>;
}

export interface Watchers {
  url: string;
  child: ChildProcess;
  publish(...said: Said[]): Promise<void>;
  stats(): Promise<{ rss: number; heapUsed: number; cpuMs: number; watchers: number }>;
  /** What the gateway does when it ends. */
  shutDown(): Promise<void>;
  close(): Promise<void>;
}

/** `key` is what the server's own routes for tests are asked with. */
export async function openWatchers(
  engine: WatcherEngine,
  env: Record<string, string> = {},
  key?: string,
): Promise<Watchers> {
  const [command, ...args] = commands[engine];
  const child = spawn(join(root, 'node_modules/.bin', command), [...args, 'tests/support/watchers-server.ts'], {
    cwd: root,
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      HONO_AI_LOG_LEVEL: 'silent',
      ...env,
    } as NodeJS.ProcessEnv,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()));
  const line = await new Promise<Buffer>((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('exit', () => reject(new Error(`${engine} did not start: ${said}`)));
  });
  const url = `http://127.0.0.1:${line.toString().trim()}`;
  const headers: Record<string, string> = key === undefined ? {} : { authorization: `Bearer ${key}` };
  const post = async (path: string, body: unknown) => {
    await (await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) })).text();
  };
  return {
    url,
    child,
    publish: (...events) => post('/test/publish', events),
    stats: async () => (await fetch(`${url}/test/stats`, { headers })).json() as ReturnType<Watchers['stats']>,
    shutDown: () => post('/test/close', {}),
    async close() {
      if (child.exitCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

/** Cuts the text of an event stream into what it says; comments and `retry` are left out. */
export function parseEvents(text: string): Heard[] {
  const blocks = text.split('\n\n').slice(0, -1);
  return blocks
    .map((block) => Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s).slice(0, 2))))
    .filter((fields) => 'event' in fields)
    .map(({ id, event, data }) => ({ id, type: event, data: JSON.parse(data) }));
}

export interface Stream {
  heard: Heard[];
  status: number;
  /** Resolves when the server has ended it. */
  ended: Promise<void>;
  close(): void;
}

export async function openStream(url: string, headers: Record<string, string> = {}): Promise<Stream> {
  const request = httpRequest(url, { headers, agent: false }).end();
  request.on('error', () => {});
  const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
  const stream: Stream = {
    heard: [],
    status: response.statusCode!,
    ended: new Promise((resolve) => response.once('close', () => resolve())),
    close: () => request.destroy(),
  };
  let rest = '';
  response.setEncoding('utf8');
  response.on('error', () => {});
  response.on('data', (piece: string) => {
    rest += piece;
    if (!piece.includes('\n\n')) return;
    const whole = rest.lastIndexOf('\n\n') + 2;
    stream.heard.push(...parseEvents(rest.slice(0, whole)));
    rest = rest.slice(whole);
  });
  return stream;
}

export interface Client {
  heard: Heard[];
  say(message: unknown): void;
  /** Resolves with the close code. */
  closed: Promise<number>;
  close(): void;
}

/** A WebSocket of ws, or the one that the platform has. */
export async function openSocket(
  url: string,
  options: ClientOptions & { global?: boolean } = {},
): Promise<Client & { socket: WsSocket }> {
  const { global, ...rest } = options;
  const address = url.replace('http', 'ws');
  const socket = global ? (new WebSocket(address) as unknown as WsSocket) : new WsSocket(address, rest);
  const closed = Promise.withResolvers<number>();
  const client = {
    heard: [] as Heard[],
    socket,
    say: (message: unknown) => socket.send(typeof message === 'string' ? message : JSON.stringify(message)),
    closed: closed.promise,
    close: () => socket.close(),
  };
  socket.addEventListener('message', ({ data }) => client.heard.push(JSON.parse(String(data))));
  socket.addEventListener('close', ({ code }) => closed.resolve(code));
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener('open', () => resolve());
    socket.addEventListener('error', (event) => reject(new Error(event.message ?? 'refused')));
  });
  return client;
}

/** A client of the real library, on one transport only where that is named. */
export async function openIo(
  url: string,
  options: Partial<ManagerOptions & SocketOptions> = {},
): Promise<Client & { socket: Socket; ask(event: string, what: unknown): Promise<any> }> {
  const socket = io(url, { forceNew: true, reconnection: false, ...options });
  const closed = Promise.withResolvers<number>();
  const client = {
    heard: [] as Heard[],
    socket,
    say: (message: unknown) => void socket.emit('message', message),
    ask: (event: string, what: unknown) => socket.timeout(5000).emitWithAck(event, what),
    closed: closed.promise,
    close: () => void socket.disconnect(),
  };
  socket.onAny((type: string, data: Record<string, unknown>, id?: string) => client.heard.push({ id, type, data }));
  socket.on('disconnect', () => closed.resolve(0));
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', (error) => {
      socket.disconnect();
      reject(error);
    });
  });
  return client;
}

export const types = (heard: Heard[]): string[] => heard.map(({ type }) => type);

/** Waits until it is heard; fails with all that was. */
export async function until(client: { heard: Heard[] }, type: string, times = 1, ms = 20_000): Promise<void> {
  const end = performance.now() + ms;
  while (client.heard.filter((event) => event.type === type).length < times) {
    if (performance.now() > end)
      throw new Error(`no ${type} within ${ms} ms, but ${types(client.heard).slice(-30).join(', ')}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Long enough for what must not come to come. */
export const quiet = () => new Promise((resolve) => setTimeout(resolve, 250));
