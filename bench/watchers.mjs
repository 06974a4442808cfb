// Measures what idle watchers of events cost: memory and CPU of a server with many open streams, and how long one event takes to all.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { cpuMicroseconds, onExit, residentKb, start, stop, stopAll, tree } from './processes.mjs';
import { digits, table } from './table.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const engines = { node: ['node'], bun: ['bun'], deno: ['deno', 'run', '-A'] };
/** Connections of one client process, so that no process runs out of file descriptors before the server does. */
const PER_CLIENT = 5000;
/** Milliseconds over which idle CPU is measured; several rounds of heartbeats at 8 s. */
const IDLE_MS = 20_000;

if (process.send) watch();
else await main();

async function main() {
  const watchers = Number(process.argv[2] ?? 10_000);
  const only = (process.argv[3] ?? 'node,bun,deno').split(',');
  if (!Number.isInteger(watchers) || watchers < 1 || !only.every((name) => name in engines)) {
    console.error('usage: node bench/watchers.mjs [WATCHERS] [node,bun,deno]');
    process.exit(2);
  }
  onExit(() => {});
  const rows = [];
  for (const name of only) rows.push(await measure(name, watchers));
  const heads = [
    'host',
    'watchers',
    'RSS before MB',
    'RSS open MB',
    'KB each',
    'idle CPU %',
    'event to all ms',
    'RSS after MB',
  ];
  console.log(table(heads, rows));
  await stopAll();
  process.exit(0);
}

async function measure(name, watchers) {
  const [command, ...args] = engines[name];
  const server = start(
    'gateway',
    `${root}node_modules/.bin/${command}`,
    [...args, 'tests/support/watchers-server.ts'],
    {
      cwd: root,
      env: { HONO_AI_LOG_LEVEL: 'silent', HONO_AI_MAX_WATCHERS: String(watchers + 10) },
      stdout: true,
    },
  );
  const [line] = await once(server.stdout, 'data');
  const port = Number(line.toString());
  const url = `http://127.0.0.1:${port}`;
  const megabytes = () => residentKb(tree(server.pid)) / 1024;
  // The first request loads what is loaded late.
  await (await fetch(`${url}/test/stats`)).text();
  await sleep(1000);
  const before = megabytes();
  const clients = [];
  for (let left = watchers; left > 0; left -= PER_CLIENT) {
    const client = fork(fileURLToPath(import.meta.url), [String(port), String(Math.min(left, PER_CLIENT))]);
    clients.push(client);
    await said(client, 'open');
  }
  await sleep(2000);
  const cpu = cpuMicroseconds(tree(server.pid));
  await sleep(IDLE_MS);
  const idle = (cpuMicroseconds(tree(server.pid)) - cpu) / (IDLE_MS * 10);
  const open = megabytes();
  const heard = Promise.all(clients.map((client) => said(client, 'heard')));
  const begun = performance.now();
  const body = JSON.stringify([{ type: 'gpu', data: { used: 1 } }]);
  await Promise.all([fetch(`${url}/test/publish`, { method: 'POST', body }).then((reply) => reply.text()), heard]);
  const toAll = performance.now() - begun;
  const after = megabytes();
  for (const client of clients) client.kill();
  await stop(server);
  const each = ((open - before) * 1024) / watchers;
  return [name, String(watchers), ...[before, open, each, idle, toAll, after].map(digits)];
}

async function said(client, word) {
  for (;;) {
    const [message] = await Promise.race([
      once(client, 'message'),
      once(client, 'exit').then(() => Promise.reject(new Error('a client ended'))),
    ]);
    if (message === word) return;
  }
}

/** The client process: opens streams a hundred at a time, and tells when all have heard an event. */
async function watch() {
  const [port, count] = process.argv.slice(2).map(Number);
  let heard = 0;
  for (let opened = 0; opened < count; opened += 100) {
    await Promise.all(Array.from({ length: Math.min(100, count - opened) }, open));
  }
  process.send('open');

  function open() {
    return new Promise((resolve, reject) => {
      const socket = net.connect(port, '127.0.0.1', () => {
        socket.write('GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n');
      });
      let begun = '';
      socket.on('error', reject);
      socket.on('close', () => process.exit(1));
      socket.on('data', (bytes) => {
        const text = bytes.toString();
        if (begun !== undefined) {
          begun += text;
          if (!begun.includes('retry: ')) return;
          begun = undefined;
          resolve();
        }
        if (text.includes('event: gpu') && ++heard === count) process.send('heard');
      });
    });
  }
}
