// Machines for tests: trees of /sys and /proc in a folder, and programs that pretend to be nvidia-smi.
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { FIELDS } from '../../adapters/hardware/nvidia-rows.ts';

/** Path → what is in the file; a path that ends in `/` is a folder. */
export type Files = Record<string, string>;

export interface Machine {
  root: string;
  /** Changes files, adds some; null removes a file or a folder. */
  change(files: Record<string, string | null>): void;
  remove(): void;
}

export function openMachine(files: Files = {}): Machine {
  const root = mkdtempSync(join(tmpdir(), 'hono-ai-machine-'));
  const machine: Machine = {
    root,
    change(changed) {
      for (const [path, content] of Object.entries(changed)) {
        const full = root + path;
        if (content === null) rmSync(full, { recursive: true, force: true });
        else if (path.endsWith('/')) mkdirSync(full, { recursive: true });
        else {
          mkdirSync(dirname(full), { recursive: true });
          writeFileSync(full, content);
        }
      }
    },
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
  machine.change(files);
  return machine;
}

/** A machine as it is written down in tests/recordings/hardware. */
export function loadMachine(name: string): Files {
  const files: Files = {};
  const text = readFileSync(join(import.meta.dirname, '../recordings/hardware', `${name}.txt`), 'utf8');
  for (const line of text.split('\n').filter(Boolean)) {
    const [, path = '', content] = /^([^:]+?)(?::(.*))?$/.exec(line)!;
    files[path] = content === undefined ? '' : `${files[path] ?? ''}${content}\n`;
  }
  return files;
}

export interface AmdCard {
  /** N of cardN. */
  n: number;
  slot: string;
  device: string;
  revision?: string;
  /** Bytes. */
  vram: number;
  used?: number;
  gtt?: number;
  gttUsed?: number;
  hwmon?: Record<string, string>;
}

/** The files of one card. */
export function amdCard({ n, slot, device, revision = '0x00', vram, used = 0, gtt, gttUsed = 0, hwmon }: AmdCard) {
  const folder = `/sys/class/drm/card${n}/device`;
  const files: Files = {
    [`${folder}/vendor`]: '0x1002\n',
    [`${folder}/device`]: `${device}\n`,
    [`${folder}/revision`]: `${revision}\n`,
    [`${folder}/uevent`]: `DRIVER=amdgpu\nPCI_SLOT_NAME=${slot}\n`,
    [`${folder}/mem_info_vram_total`]: `${vram}\n`,
    [`${folder}/mem_info_vram_used`]: `${used}\n`,
  };
  if (gtt !== undefined) {
    files[`${folder}/mem_info_gtt_total`] = `${gtt}\n`;
    files[`${folder}/mem_info_gtt_used`] = `${gttUsed}\n`;
  }
  for (const [name, value] of Object.entries({ name: 'amdgpu', ...hwmon })) {
    files[`${folder}/hwmon/hwmon${n}/${name}`] = `${value}\n`;
  }
  return files;
}

export interface FakeSmi {
  /** Puts it first in PATH. */
  env: Record<string, string>;
  /** Its arguments, a line for each start. */
  starts(): string[];
  /** Processes of it that live. */
  alive(): number[];
  remove(): void;
}

/** A shell script in place of nvidia-smi; `script` runs with the folder of its files as `$HERE`. */
export function openFakeSmi(script: string, files: Files = {}): FakeSmi {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-smi-'));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  const program = join(folder, 'nvidia-smi');
  writeFileSync(program, `#!/bin/sh\nHERE='${folder}'\necho "$$ $*" >> "$HERE/starts"\n${script}\n`);
  chmodSync(program, 0o755);
  const read = () => {
    try {
      return readFileSync(join(folder, 'starts'), 'utf8').trim().split('\n');
    } catch {
      return [];
    }
  };
  return {
    env: { PATH: `${folder}:${process.env['PATH']}` },
    starts: () => read().map((line) => line.replace(/^\d+ /, '')),
    alive: () =>
      read()
        .map((line) => Number.parseInt(line, 10))
        .filter(lives),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Rows again and again, as the real one with -lms. */
export const FOREVER = 'while :; do cat "$HERE/rows"; sleep 0.1; done';

/** One line of values, in the order in which they are asked for. */
export function smiRow(values: Partial<Record<(typeof FIELDS)[number], string>> = {}): string {
  const all: Record<(typeof FIELDS)[number], string> = {
    index: '0',
    uuid: 'GPU-11111111-2222-3333-4444-555555555555',
    'pci.bus_id': '00000000:01:00.0',
    driver_version: '570.86.16',
    'memory.total': '24576',
    'memory.used': '1024',
    'utilization.gpu': '35',
    'temperature.gpu': '51',
    'power.draw': '87.42',
    'power.limit': '350.00',
    compute_cap: '8.6',
    name: 'NVIDIA GeForce RTX 3090',
    ...values,
  };
  return `${FIELDS.map((field) => all[field]).join(', ')}\n`;
}

/** What has ended and waits for a parent that takes no notice does not live. */
function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
