// Measures what each gateway costs per request and per token, in interleaved rounds on loopback, and prints tables.
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, stripVTControlCharacters } from 'node:util';
import { answers, ask, drive, openBench } from './bench.mjs';
import { cells } from './cells.mjs';
import { gatewaysFor } from './gateways.mjs';
import {
  countInstructions,
  cpuMicroseconds,
  perfMode,
  pinned,
  proportionalKb,
  stop,
  stopAll,
  tree,
} from './processes.mjs';
import { toTables } from './table.mjs';

const options = readOptions();
const samples = new Map(); // "cell gateway" → samples
const failures = new Map(); // "cell gateway", or a gateway that did not start → why
const bench = await openBench();
const gateways = await startGateways();
const chosenCells = cells.filter((cell) => !options.cells.length || options.cells.includes(cell.name));

// Round 0 warms up and is thrown away. The order of the gateways turns by one each round, so that none always runs first.
for (let round = 0; round <= options.rounds; round++) {
  for (const cell of chosenCells) {
    for (let i = 0; i < gateways.length; i++) await measure(gateways[(i + round) % gateways.length], cell, round === 0);
    if (process.stderr.isTTY) process.stderr.write(`round ${round} of ${options.rounds}: ${cell.name}\x1b[K\r`);
  }
}
if (process.stderr.isTTY) process.stderr.write('\x1b[K');

const results = summarise();
await stopAll();
if (options.json) fs.writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`);
console.log(toTables(results));
process.exit(failures.size ? 1 : 0);

function readOptions() {
  const text = { type: 'string' };
  const named = (list) => (list ?? '').split(',').filter(Boolean);
  try {
    const { values } = parseArgs({ options: { rounds: text, cells: text, only: text, json: text, seconds: text } });
    const rounds = Number(values.rounds ?? 3);
    const seconds = Number(values.seconds ?? 1);
    if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds must be a whole number from 1');
    if (!(seconds > 0 && seconds <= 60)) throw new Error('--seconds must be above 0 and at most 60');
    const unknown = named(values.cells).filter((name) => !cells.some((cell) => cell.name === name));
    if (unknown.length)
      throw new Error(`no such cell: ${unknown}; there are ${cells.map((cell) => cell.name).join(', ')}`);
    return { rounds, seconds, cells: named(values.cells), only: named(values.only), json: values.json };
  } catch (error) {
    console.error(`bench: ${error.message}`);
    console.error('usage: npm run bench -- [--rounds N] [--cells a,b] [--only a,b] [--seconds S] [--json FILE]');
    process.exit(2);
  }
}

async function startGateways() {
  const { list, leftOut } = gatewaysFor(bench);
  const wanted = list.filter((gateway) => !options.only.length || options.only.includes(gateway.name));
  const up = [];
  for (const gateway of wanted) {
    const child = gateway.launch?.();
    const ready = await answers(bench, gateway, 30_000, 50, child);
    gateway.pid = child?.pid ?? bench.mock.pid;
    if (ready.ok) up.push(gateway);
    else {
      failures.set(gateway.name, ready.why);
      leftOut.push(`${gateway.name} (did not start: ${ready.why}${lastWords(gateway)})`);
      await stop(child);
    }
  }
  const concern = (text) => !options.only.length || options.only.includes(text.split(' ')[0]);
  const absent = leftOut.filter(concern);
  if (absent.length) console.error(`left out: ${absent.join(', ')}`);
  if (!up.length) {
    console.error(`bench: nothing to measure; there are ${list.map((gateway) => gateway.name).join(', ')}`);
    process.exit(1);
  }
  await sleep(500);
  for (const gateway of up) gateway.idleMb = proportionalKb(tree(gateway.pid)) / 1024;
  return up;
}

function lastWords(gateway) {
  const lines = stripVTControlCharacters(fs.readFileSync(gateway.log, 'utf8')).split('\n').filter(Boolean);
  const line = lines.findLast((text) => /error/i.test(text)) ?? lines.at(-1);
  return line ? `; ${line.trim().slice(0, 300)}` : '';
}

async function measure(gateway, cell, isWarmUp) {
  const key = `${cell.name} ${gateway.name}`;
  if (!gateway.paths[cell.kind] || failures.has(key)) return;
  const { connections, requests, timed } = cell.load;
  const seconds = timed ? (isWarmUp ? Math.max(1.5, options.seconds) : options.seconds) : undefined;
  const pids = tree(gateway.pid);
  const stopCounting = isWarmUp || !gateway.launch ? undefined : countInstructions(pids);
  if (stopCounting) await sleep(60); // perf needs a moment to attach
  const before = cpuMicroseconds(pids);
  const report = await drive(bench, gateway, cell, { connections, requests, seconds });
  const cpuUs = cpuMicroseconds(tree(gateway.pid)) - before;
  const instructions = await stopCounting?.();
  let why = fault(cell, report);
  if (why) {
    const answer = await ask(gateway, cell, 5000);
    if (answer && answer.status !== 200) why += `, such as ${answer.text}`;
    failures.set(key, why);
    console.error(`failed: ${cell.name} ${gateway.name}: ${why}`);
  } else if (!isWarmUp) {
    samples.set(key, [...(samples.get(key) ?? []), toSample(cell, report, cpuUs, instructions)]);
  }
}

// A cell in which anything went wrong has no number: a gateway is easily fast when it does not do the work.
function fault(cell, report) {
  if (!report) return 'the load driver could not connect';
  if (!report.requests) return 'no request was answered';
  if (report.errors) return `${report.errors} connections broke or timed out`;
  if (report.not200) return `${report.not200} of ${report.requests} answers were not 200`;
  const tokens = cell.tokens * report.requests;
  // A whole answer may also have been put together from the upstream's tokens.
  const whole = !cell.stream && report.tokens === 0;
  if (!whole && report.tokens !== tokens) return `${report.tokens} of ${tokens} tokens arrived`;
  if (whole && report.bodyBytes < cell.size * report.requests) return 'answers were shorter than the upstream’s';
  return undefined;
}

function toSample(cell, report, cpuUs, instructions) {
  const units = cell.unit === 'token' ? report.tokens : report.requests;
  return {
    cpuUs: cpuUs / units,
    kiloInstructions: instructions ? instructions / units / 1e3 : null,
    perSecond: units / report.seconds,
    busy: cpuUs / report.seconds / 1e6,
    latencyP50: report.latencyP50,
    latencyP99: report.latencyP99,
    firstTokenP50: cell.stream ? report.firstTokenP50 : null,
    tokenDelayP50: cell.stream ? report.tokenDelayP50 : null,
    tokenDelayP99: cell.stream ? report.tokenDelayP99 : null,
  };
}

function summarise() {
  const out = {
    measured: new Date().toISOString(),
    rounds: options.rounds,
    pinned,
    instructions: perfMode ?? null,
    idleMb: Object.fromEntries(gateways.map((gateway) => [gateway.name, Number(gateway.idleMb.toFixed(1))])),
    cells: {},
  };
  for (const cell of chosenCells) {
    const rows = {};
    for (const { name } of gateways) {
      const key = `${cell.name} ${name}`;
      const taken = samples.get(key);
      if (failures.has(key)) rows[name] = { failed: failures.get(key) };
      else if (taken) rows[name] = { ...medians(taken), cpuUsMin: Math.min(...taken.map((sample) => sample.cpuUs)) };
    }
    out.cells[cell.name] = rows;
  }
  return out;
}

function medians(taken) {
  return Object.fromEntries(Object.keys(taken[0]).map((key) => [key, median(taken.map((sample) => sample[key]))]));
}

function median(values) {
  const sorted = values.filter((value) => value !== null).toSorted((a, b) => a - b);
  if (!sorted.length) return null;
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
