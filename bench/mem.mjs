// Measures the memory that one open stream costs: each gateway fresh, warmed up, then holding many slow streams at once.
import { setTimeout as sleep } from 'node:timers/promises';
import { answers, drive, openBench } from './bench.mjs';
import { cells } from './cells.mjs';
import { gatewaysFor } from './gateways.mjs';
import { residentKb, stop, stopAll, tree } from './processes.mjs';
import { digits, table } from './table.mjs';

const streams = Number(process.argv[2] ?? 1000);
const only = (process.argv[3] ?? '').split(',').filter(Boolean);
if (!Number.isInteger(streams) || streams < 1 || streams > 5000) {
  console.error('usage: node bench/mem.mjs [STREAMS, at most 5000] [name,name]');
  process.exit(2);
}

const bench = await openBench();
const cell = (name) => cells.find((each) => each.name === name);
const { list, leftOut } = gatewaysFor(bench);
if (leftOut.length) console.error(`left out: ${leftOut.join(', ')}`);

const rows = [];
for (const gateway of list) {
  if (!gateway.launch || (only.length && !only.includes(gateway.name))) continue;
  const child = gateway.launch();
  const ready = await answers(bench, gateway, 30_000, 50, child);
  rows.push([gateway.name, ...(ready.ok ? await hold(gateway, child) : [`did not start: ${ready.why}`])]);
  await stop(child);
}
const head = [
  'gateway',
  'idle MB',
  'warm MB',
  `peak MB, ${streams} streams`,
  'KB per stream',
  '2 s later MB',
  'tokens lost',
];
console.log(table(head, rows));
await stopAll();
process.exit(0);

async function hold(gateway, child) {
  const residentMb = () => residentKb(tree(child.pid)) / 1024;
  await sleep(600);
  const idle = residentMb();
  await drive(bench, gateway, cell('json_c32'), { connections: 10, requests: 250 });
  await drive(bench, gateway, cell('sse_short'), { connections: 10, requests: 50 });
  await sleep(300);
  const warm = residentMb();
  let peak = warm;
  const watch = setInterval(() => (peak = Math.max(peak, residentMb())), 100);
  const slow = cell('sse_1000');
  const report = await drive(bench, gateway, slow, { connections: streams, requests: streams });
  clearInterval(watch);
  await sleep(2000);
  const perStream = ((peak - warm) * 1024) / streams;
  const lost = report ? streams * slow.tokens - report.tokens : 'failed';
  return [...[idle, warm, peak, perStream, residentMb()].map(digits), String(lost)];
}
