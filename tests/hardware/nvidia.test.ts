// NVIDIA cards from what a program in place of nvidia-smi prints: one process however often somebody asks, and all the ways it can go wrong.
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openHardware, type HardwareOptions } from '../../adapters/hardware/index.ts';
import { createLines, FIELDS, toRow } from '../../adapters/hardware/nvidia-rows.ts';
import { chosenCard } from '../../src/hardware.ts';
import { eventually } from '../support/eventually.ts';
import { FOREVER, openFakeSmi, openMachine, smiRow, type Files } from '../support/machines.ts';

const GIB = 1024 ** 3;
const SECOND = { index: '1', uuid: 'GPU-99999999-2222-3333-4444-555555555555', 'pci.bus_id': '00000000:41:00.0' };
const PATIENT = { timeout: 20_000, interval: 20 };
const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach((each) => each.close()));

interface Given extends HardwareOptions {
  script?: string;
  rows?: string;
  files?: Files;
}

function start({ script = FOREVER, rows = smiRow(), files = {}, ...options }: Given = {}) {
  const smi = openFakeSmi(script, { rows });
  const machine = openMachine(files);
  const hardware = openHardware({ root: machine.root, env: smi.env, ...options });
  const close = () => {
    hardware.close();
    smi.remove();
    machine.remove();
  };
  open.push({ close });
  return { smi, machine, hardware };
}

describe('one long-lived nvidia-smi', () => {
  it('tells the card, and is started once for however many readings', async () => {
    const { smi, hardware } = start();
    for (let reading = 0; reading < 30; reading++) await Promise.all([hardware.read(0), hardware.read(0)]);
    expect((await hardware.read(0)).cards).toEqual([
      {
        id: '0000:01:00.0',
        index: 0,
        vendor: 'nvidia',
        name: 'NVIDIA GeForce RTX 3090',
        kind: 'discrete',
        chosen: true,
        architecture: '8.6',
        driver: '570.86.16',
        vram: { total: 24 * GIB, used: GIB },
        gtt: null,
        busy: 0.35,
        temperature_c: 51,
        power_w: 87.42,
        power_cap_w: 350,
        fan_rpm: null,
      },
    ]);
    expect(smi.starts()).toEqual([`--query-gpu=${FIELDS.join(',')} --format=csv,noheader,nounits -lms 1000`]);
  });

  it('tells several, whichever row comes first', async () => {
    const small = smiRow({ ...SECOND, 'memory.total': '8192', name: 'NVIDIA GeForce RTX 4060' });
    const { hardware } = start({ rows: small + smiRow() });
    const reading = await hardware.read();
    expect(reading.cards.map(({ index, name }) => [index, name])).toEqual([
      [0, 'NVIDIA GeForce RTX 3090'],
      [1, 'NVIDIA GeForce RTX 4060'],
    ]);
    expect(chosenCard(reading)?.name).toBe('NVIDIA GeForce RTX 3090');
  });

  it('ends with the gateway, and with all that it started', async () => {
    const { smi, hardware } = start({ script: `sleep 300 &\necho $! >> "$HERE/starts"\n${FOREVER}` });
    await hardware.read();
    await eventually('both live', () => smi.alive().length === 2);
    hardware.close();
    await eventually('both are gone', () => smi.alive().length === 0);
    await hardware.read(0);
    expect(smi.starts()).toHaveLength(2);
  });

  it('ends when nobody has asked for long, and starts when somebody does', async () => {
    const { smi, hardware } = start({ limits: { silent: 400, idle: 150 } });
    await hardware.read();
    await eventually('it ends', () => smi.alive().length === 0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(smi.starts()).toHaveLength(1);
    expect((await hardware.read(0)).cards).toHaveLength(1);
    await eventually('it starts', () => smi.starts().length === 2);
  });
});

describe('values that are none', () => {
  it('become null', async () => {
    const rows =
      smiRow({
        'utilization.gpu': '[N/A]',
        'temperature.gpu': '[Not Supported]',
        'power.draw': '[Unknown Error]',
        'power.limit': 'ERR!',
        compute_cap: '[N/A]',
        driver_version: '[N/A]',
      }) +
      smiRow({ ...SECOND, 'pci.bus_id': '[N/A]', 'temperature.gpu': '９９', name: 'NVIDIA Card, with a comma\u0007' });
    const { cards } = await start({ rows }).hardware.read();
    expect(cards[0]).toMatchObject({
      busy: null,
      temperature_c: null,
      power_w: null,
      power_cap_w: null,
      architecture: null,
      driver: null,
    });
    expect(cards[1]).toMatchObject({
      id: 'gpu-99999999-2222-3333-4444-555555555555',
      name: 'NVIDIA Card, with a comma',
      temperature_c: null,
    });
  });

  it('are the machine’s own, where a card has no memory but that', async () => {
    const files = { '/proc/meminfo': 'MemTotal: 125829120 kB\nMemAvailable: 104857600 kB\n' };
    const rows = smiRow({ 'memory.total': '[N/A]', 'memory.used': '[N/A]', name: 'NVIDIA GB10', compute_cap: '12.1' });
    const [card] = (await start({ rows, files }).hardware.read()).cards;
    expect(card).toMatchObject({ kind: 'unified', chosen: true, vram: { total: 120 * GIB, used: 20 * GIB } });
  });

  it('of memory make a card that is never chosen', async () => {
    const { hardware } = start({
      rows: smiRow({ 'memory.total': 'ERR!' }) + smiRow({ ...SECOND, 'memory.used': '99999999' }),
    });
    const { cards } = await hardware.read();
    expect(cards.map(({ chosen, vram }) => [chosen, vram.total, vram.used])).toEqual([
      [false, 0, 0],
      [true, 24 * GIB, 0],
    ]);
  });
});

describe('output', () => {
  const text = `${smiRow()}\n${'x'.repeat(5000)}\nkein Gerät, 12, ??\n${smiRow(SECOND)}`;
  const rowsOf = (cut: (take: (piece: string) => void) => void) => {
    const uuids: string[] = [];
    cut(
      createLines((line) => {
        const row = toRow(line, FIELDS, undefined);
        if (row) uuids.push(row.uuid);
      }),
    );
    return uuids;
  };

  it('is read alike however the pipe cuts it', () => {
    const both = ['GPU-11111111-2222-3333-4444-555555555555', SECOND.uuid];
    for (let at = 0; at < text.length; at += 7) {
      expect(rowsOf((take) => (take(text.slice(0, at)), take(text.slice(at))))).toEqual(both);
    }
    expect(rowsOf((take) => [...text].forEach(take))).toEqual(both);
  });

  it('that ends in the middle of a row is no row', () => {
    const line = smiRow();
    for (let at = 0; at < line.length; at++) expect(rowsOf((take) => take(line.slice(0, at)))).toEqual([]);
    expect(rowsOf((take) => take(`${line.slice(0, line.lastIndexOf(',', line.lastIndexOf(',') - 1))}\n`))).toEqual([]);
  });
});

describe('an nvidia-smi that fails', () => {
  const loaded = { '/proc/driver/nvidia/version': 'NVRM version: 570.86.16' };
  const says = (text: string, code: number) => `echo "${text}"; exit ${code}`;

  it.each([
    ['NVIDIA-SMI has failed because it couldn’t communicate with the NVIDIA driver.', /modprobe nvidia/],
    [
      'Failed to initialize NVML: Driver/library version mismatch',
      /“Failed to initialize NVML.*”.*restart the machine/,
    ],
    ['Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.', /has stopped/],
    ['Failed to initialize NVML: Insufficient Permissions', /\/dev\/nvidia/],
    ['', /without a word.*by hand/],
  ])('is a problem with its remedy: %s', async (text, problem) => {
    const { hardware } = start({ script: says(text, 9), files: loaded });
    const reading = await hardware.read();
    expect(reading.problems).toEqual([expect.stringMatching(problem)]);
    expect(reading.why).toBe(reading.problems[0]);
  });

  it('is none where there is neither card nor driver', async () => {
    const reading = await start({ script: says('No devices were found', 6) }).hardware.read();
    expect(reading.problems).toEqual([]);
    expect(reading.why).toContain('no graphics card');
  });

  it('and knows older words is asked in those', async () => {
    const refuse = `case "$1" in *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2;; esac`;
    const rows = FIELDS.filter((field) => field !== 'compute_cap');
    const line = smiRow()
      .trim()
      .split(', ')
      .filter((_, at) => FIELDS[at] !== 'compute_cap');
    const { smi, hardware } = start({
      script: `${refuse}\n${FOREVER}`,
      rows: `${line.join(', ')}\n`,
      limits: { firstPause: 50 },
    });
    await vi.waitFor(async () => {
      expect((await hardware.read(0)).cards).toEqual([
        expect.objectContaining({ vram: { total: 24 * GIB, used: GIB }, architecture: null }),
      ]);
    }, PATIENT);
    expect(smi.starts().at(-1)).toContain(rows.join(','));
  });

  it('is started again when it dies, later each time', async () => {
    const { smi, hardware } = start({ script: 'cat "$HERE/rows"; exit 1', limits: { firstPause: 100 } });
    expect((await hardware.read(0)).cards).toHaveLength(1);
    const before = performance.now();
    while (smi.starts().length < 4 && performance.now() - before < PATIENT.timeout) {
      // Its values are good for a while.
      expect((await hardware.read(0)).cards).toHaveLength(1);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(smi.starts()).toHaveLength(4);
    expect(performance.now() - before).toBeGreaterThan(100 + 200 + 400);
  });

  it('is stopped when it floods', async () => {
    const { smi, hardware } = start({ script: 'yes "one, two, three, four"', files: loaded });
    const reading = await hardware.read();
    expect(reading.cards).toEqual([]);
    await eventually('it is gone', () => smi.alive().length === 0);
    expect((await hardware.read(0)).problems).toEqual([expect.stringContaining('something else')]);
  });

  it('is waited for no longer than a second, and stopped when it hangs', async () => {
    const bus = '/sys/bus/pci/devices/0000:01:00.0';
    const files = { ...loaded, [`${bus}/class`]: '0x030000', [`${bus}/vendor`]: '0x10de' };
    const script = 'trap "" TERM; while :; do sleep 1; done';
    const { smi, hardware } = start({ script, files, limits: { silent: 1500 } });
    const before = performance.now();
    const first = await hardware.read();
    // A driver that wakes up takes seconds: that is not one that is missing.
    expect([first.cards, first.why]).toEqual([[], expect.stringContaining('nothing yet')]);
    expect(performance.now() - before).toBeLessThan(10_000);
    await eventually('it is gone', () => smi.alive().length === 0);
    expect((await hardware.read(0)).why).toContain('does not answer');
  });

  it('for one card still tells the other', async () => {
    const lost = 'echo "Unable to determine the device handle for GPU0000:41:00.0: GPU is lost."';
    const { hardware } = start({ script: `while :; do cat "$HERE/rows"; ${lost}; sleep 0.1; done` });
    const reading = await hardware.read();
    expect(reading.cards).toHaveLength(1);
    await vi.waitFor(async () => {
      expect((await hardware.read(0)).problems).toEqual([expect.stringContaining('the card has stopped')]);
    }, PATIENT);
  });
});
