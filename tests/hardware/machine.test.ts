// Processor and main memory: the machine's, or what a container may use of it.
import { availableParallelism } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import { openHardware } from '../../adapters/hardware/index.ts';
import { loadMachine, openMachine, type Files } from '../support/machines.ts';

const MIB = 1024 ** 2;
const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach((each) => each.close()));

function start(files: Files) {
  const machine = openMachine(files);
  const hardware = openHardware({ root: machine.root, env: {} });
  open.push({ close: () => (hardware.close(), machine.remove()) });
  return { machine, read: async () => (await hardware.read(0)).machine };
}

const MEMORY = { '/proc/meminfo': 'MemTotal:  16384000 kB\nMemFree:  1000000 kB\nMemAvailable:  8192000 kB\n' };

describe('the machine', () => {
  it('is told as the system tells it', async () => {
    const { read } = start(loadMachine('rx-6750-xt'));
    const { os, cpu, ram, container } = await read();
    expect(os).toMatch(/^Ubuntu 24\.04\.1 LTS, .*6\.11\.0-19-generic/);
    expect(cpu).toEqual({
      name: 'AMD Ryzen 5 5600X 6-Core Processor',
      cores: availableParallelism(),
      load: expect.closeTo(Math.min(1, 0.52 / availableParallelism()), 3),
    });
    expect(ram).toEqual({ total: 32776180 * 1024, used: (32776180 - 24582144) * 1024 });
    expect(container).toBe(false);
  });

  it('is as busy as it was since the last look', async () => {
    const { machine, read } = start({
      '/proc/stat': 'cpu  100 0 100 800 0 0 0 0 0 0\n',
      '/proc/loadavg': '0.00 0 0 1/1 1',
    });
    expect((await read()).cpu.load).toBe(0);
    machine.change({ '/proc/stat': 'cpu  160 0 115 820 5 0 0 0 0 0\n' });
    expect((await read()).cpu.load).toBe(0.75);
    // Counters that go back say nothing.
    machine.change({ '/proc/stat': 'cpu  1 0 1 1 0 0 0 0 0 0\n' });
    expect((await read()).cpu.load).toBe(0);
  });

  it('is read from this one, without a word of /proc', async () => {
    const { cpu, ram } = await start({}).read();
    expect(cpu.cores).toBe(availableParallelism());
    expect(ram.total).toBeGreaterThan(0);
    expect(ram.used).toBeLessThanOrEqual(ram.total);
  });
});

describe('a container', () => {
  it.each<[string, Files]>([
    ['Docker', { '/.dockerenv': '' }],
    ['Podman', { '/run/.containerenv': 'engine="podman"' }],
    ['Kubernetes', { '/proc/self/cgroup': '0::/kubepods.slice/kubepods-pod1.slice\n' }],
  ])('of %s is known', async (_, files) => {
    expect((await start(files).read()).container).toBe(true);
  });

  it('has the memory and the processors that it may use', async () => {
    const { read } = start({
      ...MEMORY,
      '/proc/self/cgroup': '0::/\n',
      '/sys/fs/cgroup/memory.max': `${512 * MIB}\n`,
      '/sys/fs/cgroup/memory.current': `${300 * MIB}\n`,
      '/sys/fs/cgroup/memory.stat': `anon ${180 * MIB}\ninactive_file ${100 * MIB}\n`,
      '/sys/fs/cgroup/cpu.max': '50000 100000\n',
    });
    const { cpu, ram } = await read();
    expect(ram).toEqual({ total: 512 * MIB, used: 200 * MIB });
    expect(cpu.cores).toBe(1);
  });

  it('is held by the tightest limit above it', async () => {
    const { read } = start({
      ...MEMORY,
      '/proc/self/cgroup': '0::/a.slice/b.scope\n',
      '/sys/fs/cgroup/a.slice/memory.max': `${1024 * MIB}\n`,
      '/sys/fs/cgroup/a.slice/memory.current': `${700 * MIB}\n`,
      '/sys/fs/cgroup/a.slice/b.scope/memory.max': 'max\n',
      '/sys/fs/cgroup/a.slice/b.scope/cpu.max': 'max 100000\n',
    });
    const { cpu, ram } = await read();
    expect(ram).toEqual({ total: 1024 * MIB, used: 700 * MIB });
    expect(cpu.cores).toBe(availableParallelism());
  });

  it('with limits that are none has all of it', async () => {
    const { ram } = await start({
      ...MEMORY,
      '/proc/self/cgroup': '0::/../../x\n',
      '/sys/fs/cgroup/memory.max': '9223372036854771712\n',
      '/sys/fs/cgroup/cpu.max': 'garbage\n',
    }).read();
    expect(ram).toEqual({ total: 16384000 * 1024, used: 8192000 * 1024 });
  });
});
