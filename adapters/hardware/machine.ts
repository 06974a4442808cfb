// The processor and main memory, as this process may use them: a container's limits count, not its host's size.
import * as os from 'node:os';
import type { Machine } from '../../src/hardware.ts';
import { toNumber, type Tree } from './tree.ts';

const CGROUPS = '/sys/fs/cgroup';
const CONTAINER = /docker|kubepods|containerd|libpod|\blxc\b/;
const KIB = 1024;
/** Folders from a group up to the root; no system nests deeper. */
const MAX_DEPTH = 16;

export function createMachine(tree: Tree): () => Promise<Machine> {
  let before: Times | undefined;
  let still: Promise<Pick<Machine, 'os' | 'container'> & { name: string; cores: number }> | undefined;

  async function readStill() {
    const [release, info, container] = await Promise.all([
      tree.text('/etc/os-release'),
      tree.text('/proc/cpuinfo'),
      isContainer(tree),
    ]);
    const kernel = (await tree.text('/proc/sys/kernel/osrelease')) ?? attempt(os.release) ?? '';
    const system = /^PRETTY_NAME="?([^"\n]{1,100})/m.exec(release ?? '')?.[1];
    const type = attempt(os.type) ?? '';
    return {
      os: [system, `${type} ${kernel}`.trim(), attempt(os.arch) ?? ''].filter(Boolean).join(', '),
      name:
        /^(?:model name|Model|Hardware)\s*:\s*(.{1,100})/m.exec(info ?? '')?.[1]?.trim() ??
        attempt(os.cpus)?.[0]?.model ??
        '',
      cores: attempt(os.availableParallelism) ?? 1,
      container,
    };
  }

  async function readLoad(cores: number): Promise<number> {
    const now = toTimes(await tree.text('/proc/stat'));
    const past = before;
    before = now;
    if (now && past && now.all > past.all) return clamp((now.busy - past.busy) / (now.all - past.all));
    const average = toNumber((await tree.text('/proc/loadavg'))?.split(' ')[0]) ?? attempt(os.loadavg)?.[0] ?? 0;
    return clamp(average / cores);
  }

  return async () => {
    const { name, cores, os, container } = await (still ??= readStill());
    const groups = await toGroups(tree);
    const [limited, load, ram] = await Promise.all([readCores(tree, groups), readLoad(cores), readRam(tree, groups)]);
    return { os, cpu: { name, cores: Math.max(1, Math.min(cores, limited)), load }, ram, container };
  };
}

async function readRam(tree: Tree, groups: string[]): Promise<Machine['ram']> {
  const info = (await tree.text('/proc/meminfo')) ?? '';
  const field = (name: string) => {
    const kib = toNumber(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(info)?.[1]);
    return kib === undefined ? undefined : kib * KIB;
  };
  const total = field('MemTotal') ?? attempt(os.totalmem) ?? 0;
  const available = field('MemAvailable') ?? attempt(os.freemem) ?? 0;
  let ram = { total, used: Math.max(0, total - available) };
  for (const group of groups) {
    const limit = await tree.number(`${group}/memory.max`);
    if (limit === undefined || limit >= ram.total) continue;
    const [current = 0, stat = ''] = await Promise.all([
      tree.number(`${group}/memory.current`),
      tree.text(`${group}/memory.stat`),
    ]);
    // Files that were read count as used, but make room as soon as it is needed.
    const files = toNumber(/^inactive_file (\d+)$/m.exec(stat)?.[1]) ?? 0;
    ram = { total: limit, used: Math.min(limit, Math.max(0, current - files)) };
  }
  return ram;
}

/** How many cores may be used, as a whole number; Infinity without a limit. */
async function readCores(tree: Tree, groups: string[]): Promise<number> {
  const texts = await Promise.all(groups.map((group) => tree.text(`${group}/cpu.max`)));
  const limits = texts.map((text) => {
    const [quota, period] = (text ?? '').split(' ').map((part) => toNumber(part));
    return quota && period ? Math.ceil(quota / period) : Infinity;
  });
  return Math.min(Infinity, ...limits);
}

/** The group of this process and all above it: the limits of each count. */
async function toGroups(tree: Tree): Promise<string[]> {
  const own = /^0::(\/.*)$/m.exec((await tree.text('/proc/self/cgroup')) ?? '')?.[1] ?? '/';
  const parts = own.split('/').filter((part) => part !== '' && part !== '..');
  const groups = [CGROUPS];
  for (const part of parts.slice(0, MAX_DEPTH)) groups.push(`${groups.at(-1)}/${part}`);
  return groups;
}

async function isContainer(tree: Tree): Promise<boolean> {
  const [docker, podman, group = ''] = await Promise.all([
    tree.has('/.dockerenv'),
    tree.has('/run/.containerenv'),
    tree.text('/proc/self/cgroup'),
  ]);
  return docker || podman || CONTAINER.test(group);
}

interface Times {
  busy: number;
  all: number;
}

/** The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; in ticks since the start. */
function toTimes(stat: string | undefined): Times | undefined {
  const ticks = /^cpu {1,2}([\d ]{7,400})$/m
    .exec(stat ?? '')?.[1]
    ?.trim()
    .split(' ')
    .slice(0, 8)
    .map(Number);
  if (!ticks || ticks.length < 4) return undefined;
  const all = ticks.reduce((sum, each) => sum + each, 0);
  return { all, busy: all - ticks[3]! - (ticks[4] ?? 0) };
}

function clamp(share: number): number {
  return Math.min(1, Math.max(0, Math.round(share * 1000) / 1000));
}

/** Undefined where the engine does not permit it, or does not have it. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
