// Measures a start: milliseconds and CPU from spawn to the first answer through the gateway, and memory when idle after it.
import { setTimeout as sleep } from 'node:timers/promises';
import { answers, openBench } from './bench.mjs';
import { bareServersFor, gatewaysFor } from './gateways.mjs';
import { cpuMicroseconds, residentKb, stop, stopAll, tree } from './processes.mjs';
import { digits, table } from './table.mjs';

const rounds = Number(process.argv[2] ?? 5);
const only = (process.argv[3] ?? '').split(',').filter(Boolean);
if (!Number.isInteger(rounds) || rounds < 1) {
  console.error('usage: node bench/coldstart.mjs [ROUNDS] [name,name]');
  process.exit(2);
}

const bench = await openBench();
const { list, leftOut } = gatewaysFor(bench);
if (leftOut.length) console.error(`left out: ${leftOut.join(', ')}`);
const servers = [...bareServersFor(bench), ...list.filter((gateway) => gateway.launch)].filter(
  ({ name }) => !only.length || only.includes(name),
);
const starts = new Map(servers.map((server) => [server, []]));

// Round 0 fills the disk caches and makes the state folder, and is thrown away.
for (let round = 0; round <= rounds; round++) {
  for (const server of servers) {
    const taken = starts.get(server);
    if (!taken) continue;
    const started = await startOnce(server);
    if (!started) starts.delete(server);
    else if (round > 0) taken.push(started);
  }
}

const bare = starts.get(servers.find((server) => server.name === 'bare-node'));
const rows = [...starts].map(([{ name }, taken]) => [
  name,
  digits(median(taken, 'wallMs')),
  digits(Math.min(...taken.map((started) => started.wallMs))),
  digits(median(taken, 'cpuMs')),
  bare ? digits(median(taken, 'cpuMs') / median(bare, 'cpuMs')) : '-',
  digits(median(taken, 'idleMb')),
]);
console.log(table(['server', 'first answer ms', 'min', 'CPU ms', 'CPU x bare-node', 'idle RSS MB'], rows));
await stopAll();
process.exit(0);

async function startOnce(server) {
  const begin = performance.now();
  const child = server.launch();
  const ready = await answers(bench, server, 20_000, 1, child);
  const wallMs = performance.now() - begin;
  const cpuMs = cpuMicroseconds(tree(child.pid)) / 1e3;
  await sleep(700);
  const idleMb = residentKb(tree(child.pid)) / 1024;
  await stop(child);
  if (ready.ok) return { wallMs, cpuMs, idleMb };
  console.error(`no answer: ${server.name}: ${ready.why}`);
  return undefined;
}

function median(taken, key) {
  const sorted = taken.map((started) => started[key]).toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
