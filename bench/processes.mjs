// Child processes of a benchmark: started on their own CPU, stopped as whole groups, and read for CPU time, memory and instructions.
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';

const cpus = allowedCpus();
const running = new Set();

/** Gateways get the first CPU to themselves; the mock, the load driver and this process share the second. */
export const pinned = cpus.length >= 2 && spawnSync('taskset', ['-V']).status === 0;
/** What perf can count here: 'user+kernel', 'user' or undefined. Virtual machines often have no counters. */
export const perfMode = countable('instructions:k') ? 'user+kernel' : countable('instructions:u') ? 'user' : undefined;

export function pinSelf() {
  if (pinned) spawnSync('taskset', ['-pc', String(cpus[1]), String(process.pid)]);
}

/** Starts a command on the CPU of its role, `gateway` or `driver`, in its own process group; log names the file for its output. */
export function start(role, command, args, { env = {}, cwd, log, stdout } = {}) {
  const [program, ...rest] = onCpu(role, command, args);
  const { PATH, HOME } = process.env;
  const out = log ? fs.openSync(log, 'w') : 'ignore';
  const child = spawn(program, rest, {
    cwd,
    env: { PATH, HOME, ...env },
    stdio: ['ignore', stdout ? 'pipe' : out, out],
    detached: true,
  });
  if (log) fs.closeSync(out);
  running.add(child);
  child.ended = new Promise((resolve) => child.once('close', resolve));
  child.once('error', () => running.delete(child));
  child.once('exit', () => running.delete(child));
  return child;
}

/** Asks the process group to end, and ends it after two seconds. */
export async function stop(child) {
  if (!running.has(child)) return;
  signalGroup(child, 'SIGTERM');
  const late = setTimeout(() => signalGroup(child, 'SIGKILL'), 2000);
  await child.ended;
  clearTimeout(late);
}

export async function stopAll() {
  await Promise.all([...running].map(stop));
}

/** Leaves nothing behind: on any end of this process its children are killed and `cleanUp` is called. */
export function onExit(cleanUp) {
  process.once('exit', () => {
    for (const child of running) signalGroup(child, 'SIGKILL');
    cleanUp();
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(130));
}

/** Ports of 127.0.0.1 that were free a moment ago, all different. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.once('listening', resolve))));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** The process and all that descend from it. */
export function tree(root) {
  const children = new Map();
  for (const entry of fs.readdirSync('/proc')) {
    const parent = /^\d+$/.test(entry) ? statOf(entry)?.parent : undefined;
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
  }
  const pids = [root];
  for (const pid of pids) pids.push(...(children.get(pid) ?? []));
  return pids;
}

/**
 * CPU microseconds used so far. schedstat is exact but forgets threads that have ended; stat keeps them, in ticks of 10 ms
 * rounded down. Both only ever miss time, so the larger is nearer the truth.
 */
export function cpuMicroseconds(pids) {
  let total = 0;
  for (const pid of pids) {
    let threads = 0;
    for (const thread of list(`/proc/${pid}/task`))
      threads += Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(' ')[0]) / 1e3;
    total += Math.max(threads, (statOf(pid)?.ticks ?? 0) * 1e4);
  }
  return total;
}

/** Resident memory in KB: of each process alone, with shared pages counted once per process. */
export const residentKb = (pids) => sum(pids, (pid) => /VmRSS:\s+(\d+)/.exec(read(`/proc/${pid}/status`))?.[1]);

/** Resident memory in KB, with shared pages split between those who share them. */
export const proportionalKb = (pids) => sum(pids, (pid) => /Pss:\s+(\d+)/.exec(read(`/proc/${pid}/smaps_rollup`))?.[1]);

/** Counts instructions of the processes until the returned function is called; undefined where perf cannot. */
export function countInstructions(pids) {
  if (!perfMode) return undefined;
  const events = perfMode === 'user' ? 'instructions:u' : 'instructions:u,instructions:k';
  const perf = spawn('perf', ['stat', '-x,', '-e', events, '-p', pids.join(',')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let report = '';
  perf.stderr.on('data', (text) => (report += text));
  return async () => {
    const closed = new Promise((resolve) => perf.once('close', resolve));
    perf.kill('SIGINT');
    await closed;
    return sum(report.split('\n'), (line) => (line.includes('instructions') ? line.split(',')[0] : 0));
  };
}

function onCpu(role, command, args) {
  if (!pinned) return [command, ...args];
  return ['taskset', '-c', String(role === 'gateway' ? cpus[0] : cpus[1]), command, ...args];
}

function allowedCpus() {
  const ranges = /Cpus_allowed_list:\s*(\S+)/.exec(read('/proc/self/status'))?.[1] ?? '';
  return ranges.split(',').flatMap((range) => {
    const [from, to = from] = range.split('-').map(Number);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });
}

function countable(event) {
  const report = spawnSync('perf', ['stat', '-x,', '-e', event, 'true'], { encoding: 'utf8' });
  return report.status === 0 && Number(report.stderr.trim().split(',')[0]) > 0;
}

function signalGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It has ended already.
  }
}

function statOf(pid) {
  const text = read(`/proc/${pid}/stat`);
  if (!text) return undefined;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) };
}

// A process may end between being listed and being read: it then counts as nothing.
function read(file) {
  try {
    return fs.readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}

function list(folder) {
  try {
    return fs.readdirSync(folder);
  } catch {
    return [];
  }
}

const sum = (items, toNumber) => items.reduce((total, item) => total + (Number(toNumber(item)) || 0), 0);
