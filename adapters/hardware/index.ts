// What this machine has, from whoever can tell: sysfs for AMD, nvidia-smi for NVIDIA, the system for the rest.
import type { Card, Hardware, Machine, Reading, Sample } from '../../src/hardware.ts';
import { chosenCard } from '../../src/hardware.ts';
import { within } from '../../src/timers.ts';
import { createAmd } from './amd.ts';
import type { Findings, Found } from './checked.ts';
import { choose, merge } from './choose.ts';
import { createMachine } from './machine.ts';
import { createNvidia, type NvidiaOptions } from './nvidia.ts';
import { createPackaged, readApple, readIntel } from './others.ts';
import { createTree } from './tree.ts';
import { createWhy } from './why.ts';

export interface HardwareOptions {
  /** Which card models run on: its number, PCI address or a part of its name; the one with most memory if absent. */
  card?: string | undefined;
  /** In place of /sys and /proc; for tests. */
  root?: string;
  now?: () => number;
  /** Where nvidia-smi is looked for, and what hides cards. */
  env?: Record<string, string | undefined>;
  /** How patient nvidia-smi is waited for; for tests. */
  limits?: NvidiaOptions['limits'];
}

/** Longest time that one reader may take, in milliseconds. */
const DEADLINE_MS = 1000;
const WHY_MS = 300;
const EVERY_MS = 2000;
const HISTORY_MS = 15 * 60_000;
/** Samples closer to each other tell nothing new. */
const APART_MS = 900;

export function openHardware(options: HardwareOptions = {}): Hardware {
  const { card, root = '', now = Date.now, env = process.env, limits } = options;
  const tree = createTree(root);
  const nvidia = createNvidia({ tree, env, ...(limits ? { limits } : {}) });
  const packaged = createPackaged();
  const none: Findings = { cards: [], problems: [] };
  const readMachine = patient('The processor and main memory', createMachine(tree), NO_MACHINE);
  const readAmd = patient('The AMD card', createAmd(tree), none);
  const readNvidia = patient('The NVIDIA card', nvidia.read, { ...none, shares: new Set<string>() });
  const readIntels = patient('The Intel card', () => readIntel(tree), none);
  const readRest = patient(
    'systeminformation',
    async () => {
      const cards = readApple();
      // A Linux tells by itself, in /sys; elsewhere somebody must be asked who knows the system.
      return process.platform === 'linux' || cards.length > 0 ? { cards, problems: [] } : packaged();
    },
    none,
  );
  const readWhy = createWhy(tree);
  let latest: Reading | undefined;
  let under: Promise<Reading> | undefined;
  let samples: { ms: number; sample: Sample }[] = [];
  let sampled: string | undefined;
  const listeners: ((sample: Sample) => void)[] = [];
  let timer: ReturnType<typeof setInterval> | undefined;

  async function take(): Promise<Reading> {
    const [machine, amd, smi, intel, rest] = await Promise.all([
      readMachine(),
      readAmd(),
      readNvidia(),
      readIntels(),
      readRest(),
    ]);
    const shared = smi.value.cards.map((one) => (smi.value.shares.has(one.id) ? toUnified(one, machine.value) : one));
    const found = merge([amd.value, { cards: shared, problems: [] }, intel.value, rest.value]);
    const { cards, problems } = choose(found, card, env);
    const all = [amd, smi, intel, rest].flatMap(({ value, late }) => [...late, ...value.problems]);
    const reading: Reading = {
      at: now(),
      cards,
      machine: machine.value,
      problems: [...all, ...machine.late, ...problems],
    };
    if (!chosenCard(reading)) {
      const { container } = machine.value;
      const why = all[0] ?? (await within(WHY_MS, readWhy({ container, seen: found.map(({ name }) => name) })));
      if (why !== undefined) reading.why = why;
    }
    latest = reading;
    remember(reading);
    return reading;
  }

  function remember({ at, cards }: Reading): void {
    const chosen = chosenCard({ cards });
    if (!chosen) return;
    if (sampled !== chosen.id) samples = [];
    sampled = chosen.id;
    const last = samples.at(-1);
    if (last && at - last.ms < APART_MS) return;
    const sample = toSample(at, chosen);
    samples = [...samples.filter(({ ms }) => at - ms < HISTORY_MS), { ms: at, sample }];
    for (const listener of listeners) listener(sample);
  }

  function read(maxAgeMs = 1000): Promise<Reading> {
    if (latest && now() - latest.at < maxAgeMs) return Promise.resolve(latest);
    return (under ??= take().finally(() => (under = undefined)));
  }

  return {
    read,
    latest: () => latest,
    history: () => samples.map(({ sample }) => sample),
    onSample: (listener) => void listeners.push(listener),
    start() {
      timer ??= setInterval(() => void read(), EVERY_MS);
      timer.unref();
    },
    close() {
      clearInterval(timer);
      nvidia.close();
    },
  };
}

const NO_MACHINE: Machine = {
  os: '',
  cpu: { name: '', cores: 1, load: 0 },
  ram: { total: 0, used: 0 },
  container: false,
};

/** A reader that answers in time: with what it last read, and a word about it, where the system hangs. Asked anew only when it is done. */
function patient<T>(what: string, read: () => Promise<T>, none: T): () => Promise<{ value: T; late: string[] }> {
  let value = none;
  let under: Promise<string[]> | undefined;
  return async () => {
    under ??= read()
      .then(
        (found) => {
          value = found;
          return [];
        },
        () => [`${what} could not be read.`],
      )
      .finally(() => (under = undefined));
    const late = (await within(DEADLINE_MS, under)) ?? [
      `${what} does not answer; its figures are old. Restart the machine if that goes on.`,
    ];
    return { value, late };
  };
}

/** A card that works in the machine's memory. */
function toUnified(card: Found, { ram }: Machine): Found {
  return { ...card, kind: 'unified', vram: ram };
}

function toSample(at: number, { vram, gtt, busy, temperature_c, power_w }: Card): Sample {
  return {
    at: new Date(at).toISOString(),
    used: vram.used,
    gtt_used: gtt?.used ?? null,
    busy,
    temperature_c,
    power_w,
  };
}
