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
  /** Called with each sample that is added to the history. */
  onSample?(listener: (sample: Sample) => void): void;
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

const place = z.object({ runtime: z.string(), model: z.string() });

export const holdView = z.object({
  since: z.string(),
  until: z.string(),
  left_s: z.int(),
  reason: z.string().nullable(),
});
export type HoldView = z.output<typeof holdView>;

export const waitView = place.extend({
  position: z.int().describe('From 1.'),
  class: z.enum(['interactive', 'normal', 'background']),
  caller: z.string().nullable().describe('Only the owner of the gateway sees others than himself.'),
  waited_s: z.number(),
  eta_s: z.number().nullable().describe('Seconds until it is done.'),
  why: z.string().nullable(),
});
export type WaitView = z.output<typeof waitView>;

export const swapView = place.extend({
  at: z.string().describe('ISO 8601: when making room began.'),
  caller: z.string().nullable().describe('For whom; only the owner of the gateway sees others than himself.'),
  evicted: z.array(place),
  because: z.string(),
  took_s: z.number().describe('Making room; loading comes after it.'),
  failure: z.string().nullable(),
});
export type SwapView = z.output<typeof swapView>;

export const timelineView = z.object({
  at: z.array(z.string()).describe('ISO 8601, one for each row; oldest first.'),
  owners: z.array(place),
  rows: z
    .array(z.array(bytes))
    .describe('For each time the bytes of each owner, in their order, as the gateway booked them.'),
  others: z.array(bytes).describe('For each time what is in use beyond that.'),
  swaps: z.array(swapView).describe('Of the same time, oldest first.'),
});
export type Timeline = z.output<typeof timelineView>;

export const etaErrorView = z.object({
  waits: z.int().describe('That the figures are of.'),
  mean_s: z.number().describe('Above 0: it took longer than was told.'),
  mean_abs_s: z.number().describe('Mean of the distance, whichever way.'),
  p90_abs_s: z.number().describe('Nine of ten waits were closer than that.'),
});

export const gpuView = z.object({
  card: cardView.nullable().describe('The one that models run on.'),
  cards: z.array(cardView),
  budget: bytes.nullable().describe('Bytes of VRAM that models may use.'),
  owners: z.array(ownerView),
  others: bytes.describe('Bytes of VRAM taken by programs that are no runtime of this gateway.'),
  others_counted: bytes.describe(
    'What was seen of that when a model last came to the card: beyond the headroom, the budget is less by it.',
  ),
  free: bytes.nullable(),
  hold: holdView.nullable().describe('The card is lent to a person, and nothing begins on it.'),
  waiting: z.array(waitView),
  swaps: z.array(swapView).describe('The last few, newest first.'),
  eta_error: etaErrorView.nullable().describe('How far off the told waiting times were; null where none was told yet.'),
  warnings: z
    .array(z.string())
    .describe('Models that run on the processor, memory that spilled, each with its remedy.'),
  why: z.string().nullable(),
  history: z.array(sampleView),
  timeline: timelineView
    .nullable()
    .describe('Who held how much at the times of `history`; null where that is left out.'),
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
