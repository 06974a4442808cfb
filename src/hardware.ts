// What the machine has and how it stands: cards, their memory and sensors, processor and main memory; as it is read and as it is told.
import { z } from 'zod';

const bytes = z.int().min(0);
const memory = z.object({ total: bytes, used: bytes });

export const cardView = z.object({
  id: z.string().describe('Stays the same: its PCI address, or the name its driver has for it.'),
  index: z.int().describe('Its number among the cards of its vendor.'),
  vendor: z.enum(['amd', 'nvidia', 'intel', 'apple', 'unknown']),
  name: z.string(),
  kind: z.enum(['discrete', 'integrated', 'unified']),
  chosen: z.boolean().describe('Models run on this one.'),
  architecture: z.string().nullable().describe('gfx1031, 8.9, …'),
  driver: z.string().nullable(),
  vram: memory,
  gtt: memory.nullable().describe('Main memory that the card borrows (AMD); what spills there runs ten times slower.'),
  busy: z.number().nullable().describe('0 to 1.'),
  temperature_c: z.number().nullable(),
  power_w: z.number().nullable(),
  power_cap_w: z.number().nullable(),
  fan_rpm: z.number().nullable(),
});
export type Card = z.output<typeof cardView>;

export const machineView = z.object({
  os: z.string(),
  cpu: z.object({ name: z.string(), cores: z.int(), load: z.number().describe('0 to 1, of all cores.') }),
  ram: memory,
  container: z.boolean().describe('The gateway runs in a container.'),
});
export type Machine = z.output<typeof machineView>;

export interface Reading {
  /** Milliseconds since 1970. */
  at: number;
  cards: Card[];
  machine: Machine;
  /** What could not be read and why, each with its remedy. */
  problems: string[];
  /** Where there is no card that models could run on: why, and what to do, in one line. */
  why?: string;
}

export const sampleView = z.object({
  at: z.string().describe('ISO 8601.'),
  used: bytes.describe('Bytes of VRAM on the chosen card.'),
  gtt_used: bytes.nullable(),
  busy: z.number().nullable(),
  temperature_c: z.number().nullable(),
  power_w: z.number().nullable(),
});
export type Sample = z.output<typeof sampleView>;

export interface Hardware {
  /** How things stand, read at most `maxAgeMs` ago (default one second). Never throws: what cannot be read is a problem of the reading. */
  read(maxAgeMs?: number): Promise<Reading>;
  /** The latest reading, without waiting; undefined before the first. */
  latest(): Reading | undefined;
  /** Of the chosen card, oldest first; empty until `start` or somebody asks. */
  history(): Sample[];
  /** Reads regularly from now on. */
  start(): void;
  close(): void;
}

/** The card that models run on. */
export function chosenCard({ cards }: Pick<Reading, 'cards'>): Card | undefined {
  return cards.find(({ chosen }) => chosen);
}

/** The same as it was last read, without waiting. */
export function latestCard(hardware: Pick<Hardware, 'latest'>): Card | undefined {
  const reading = hardware.latest();
  return reading && chosenCard(reading);
}

/** Of RDNA 2, ROCm is built for gfx1030 alone; the others run as that where they are told to. */
export function runsAsAnother({ architecture }: Pick<Card, 'architecture'>): boolean {
  return /^gfx103[1-7]$/.test(architecture ?? '');
}

export const hardwareView = machineView.extend({
  cards: z.array(cardView),
  why: z.string().nullable().describe('Where there is no card: why, and what to do.'),
  problems: z.array(z.string()),
});

export const ownerView = z.object({
  runtime: z.string(),
  model: z.string().nullable(),
  vram: bytes,
  ram: bytes.nullable(),
  basis: z.enum(['measured', 'estimated']),
  in_use: z.int().describe('Runs of this gateway that use it now.'),
  pinned: z.boolean(),
  expires_at: z.string().nullable(),
});
export type Owner = z.output<typeof ownerView>;

export const gpuView = z.object({
  card: cardView.nullable().describe('The one that models run on.'),
  cards: z.array(cardView),
  budget: bytes.nullable().describe('Bytes of VRAM that models may use.'),
  owners: z.array(ownerView),
  others: bytes.describe('Bytes of VRAM taken by programs that are no runtime of this gateway.'),
  free: bytes.nullable(),
  waiting: z.array(z.object({ runtime: z.string(), model: z.string() })),
  warnings: z
    .array(z.string())
    .describe('Models that run on the processor, memory that spilled, each with its remedy.'),
  why: z.string().nullable(),
  history: z.array(sampleView),
});
export type GpuView = z.output<typeof gpuView>;

export const offeredView = z.object({
  capabilities: z.array(
    z.object({
      id: z.string(),
      path: z.string(),
      offered: z.boolean(),
      model: z.string().nullable().describe('What answers where none is named.'),
      runtime: z.string().nullable(),
      models: z.array(z.string()).describe('All that can be asked for it.'),
      why: z.string().nullable().describe('Where it is not offered.'),
      remedy: z.string().nullable(),
    }),
  ),
});
