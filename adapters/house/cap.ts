// The limit of a card's power, as its driver lets it be read and set: amdgpu's file in /sys, nvidia-smi for NVIDIA.
import { access, constants, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { toNumber, createTree, type Tree } from '../hardware/tree.ts';
import type { Card } from '../../src/hardware.ts';
import { findCommand, runCommand, type Env } from './command.ts';

/** Watts. */
export interface Limits {
  now: number;
  /** As the maker has it; undefined where the driver does not tell. */
  usual: number | undefined;
  min: number;
  max: number;
}

export interface Cap {
  /** Undefined where the driver does not tell. */
  read(): Promise<Limits | undefined>;
  /** Throws where it cannot be set. */
  set(watts: number): Promise<void>;
  /** Whether this user may set it. */
  isAllowed(): Promise<boolean>;
  /** What gives him the right, in one line. */
  remedy: string;
}

export interface CapOptions {
  /** In place of / for /sys; for tests. */
  root?: string;
  /** Where nvidia-smi and sudo are looked for. */
  env?: Env;
}

const DRM = '/sys/class/drm';
/** Longest time that nvidia-smi may take, in milliseconds: a driver that wakes up takes seconds. */
const SMI_MS = 10_000;
const WATTS = { min: 1, max: 3000 };
/** The group that may compute on the card may set its power, too. */
const UDEV_RULE =
  'SUBSYSTEM=="hwmon", ATTR{name}=="amdgpu", RUN+="/bin/chgrp render /sys%p/power1_cap", RUN+="/bin/chmod g+w /sys%p/power1_cap"';

/** Undefined for a card whose power nobody here can set. */
export async function findCap(
  card: Pick<Card, 'id' | 'index' | 'vendor'>,
  options: CapOptions = {},
): Promise<Cap | undefined> {
  const { root = '', env = process.env } = options;
  if (card.vendor === 'amd') return findAmd(card, root);
  if (card.vendor !== 'nvidia') return undefined;
  const program = await findCommand(process.platform === 'win32' ? 'nvidia-smi.exe' : 'nvidia-smi', env);
  return program === undefined ? undefined : createNvidiaCap(card, program, env);
}

async function findAmd({ id }: Pick<Card, 'id'>, root: string): Promise<Cap | undefined> {
  const tree = createTree(root);
  for (const name of await tree.list(DRM)) {
    if (!/^card\d+$/.test(name)) continue;
    const folder = `${DRM}/${name}/device`;
    const slot = /^PCI_SLOT_NAME=(\S+)$/im.exec((await tree.text(`${folder}/uevent`)) ?? '')?.[1];
    if (slot?.toLowerCase() !== id) continue;
    for (const hwmon of await tree.list(`${folder}/hwmon`)) {
      const file = `${folder}/hwmon/${hwmon}/power1_cap`;
      if (await tree.has(file)) return createAmdCap(tree, root, file);
    }
  }
  return undefined;
}

function createAmdCap(tree: Tree, root: string, file: string): Cap {
  /** Of microwatts; 0 is written by drivers that know none. */
  const watts = async (path: string) => {
    const value = await tree.number(path, { min: WATTS.min * 1e6, max: WATTS.max * 1e6 });
    return value === undefined ? undefined : value / 1e6;
  };
  return {
    async read() {
      const paths = ['', '_default', '_min', '_max'].map((suffix) => watts(file + suffix));
      const [now, usual, min = WATTS.min, max = usual ?? now ?? WATTS.max] = await Promise.all(paths);
      return now === undefined ? undefined : { now, usual, min, max };
    },
    set: (value) => writeFile(root + file, String(Math.round(value * 1e6))),
    isAllowed: () =>
      access(root + file, constants.W_OK).then(
        () => true,
        () => false,
      ),
    remedy: `echo '${UDEV_RULE}' | sudo tee /etc/udev/rules.d/90-gpu-power.rules && sudo udevadm control --reload && sudo udevadm trigger -s hwmon -c add`,
  };
}

function createNvidiaCap({ index }: Pick<Card, 'index'>, program: string, env: Env): Cap {
  const run = (words: string[]) => runCommand(words, { env: { ...env, LC_ALL: 'C' }, ms: SMI_MS });
  const toSet = (watts: number) => [program, '-i', String(index), '-pl', String(Math.round(watts))];

  /** The rights that sudo gives without a password, where there are any. */
  async function withSudo(args: string[]): Promise<boolean> {
    const sudo = await findCommand('sudo', env);
    return sudo !== undefined && (await run([sudo, '-n', ...args])).code === 0;
  }

  return {
    async read() {
      const fields = ['power.limit', 'power.default_limit', 'power.min_limit', 'power.max_limit'];
      const asked = [program, '-i', String(index), `--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits'];
      const { code, output } = await run(asked);
      if (code !== 0) return undefined;
      const values = output.split('\n').at(-1)!.split(',');
      const [now, usual, min = WATTS.min, max = usual ?? now ?? WATTS.max] = values.map((text) =>
        toNumber(text.trim(), WATTS),
      );
      return now === undefined ? undefined : { now, usual, min, max };
    },
    async set(watts) {
      const { code, output } = await run(toSet(watts));
      if (code === 0) return;
      if (!(await withSudo(toSet(watts)))) throw new Error(output.split('\n')[0] || 'nvidia-smi refuses.');
    },
    isAllowed: async () => process.geteuid?.() === 0 || withSudo(['-l', ...toSet(100)]),
    remedy: `echo '${toUser()} ALL=(root) NOPASSWD: ${toRights([program, '-i', String(index), '-pl'])}' | sudo tee /etc/sudoers.d/gpu-power`,
  };
}

/** Of two to four digits and nothing else: to sudo a `*` is any number of further words, and nvidia-smi can write files. */
function toRights(words: string[]): string {
  return [2, 3, 4].map((digits) => [...words, '[0-9]'.repeat(digits)].join(' ')).join(', ');
}

function toUser(): string {
  try {
    return userInfo().username;
  } catch {
    return '%sudo';
  }
}
