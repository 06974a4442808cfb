// What nvidia-smi prints → cards: rows of values however the pipe cut them, and whatever else it says.
import { MEMORY, toCelsius, toMemory, toShare, toWatts, type Found } from './checked.ts';
import { toNumber } from './tree.ts';

/** Asked in this order; the name comes last, for it may hold a comma. */
export const FIELDS = [
  'index',
  'uuid',
  'pci.bus_id',
  'driver_version',
  'memory.total',
  'memory.used',
  'utilization.gpu',
  'temperature.gpu',
  'power.draw',
  'power.limit',
  'compute_cap',
  'name',
] as const;

export interface Row {
  uuid: string;
  /** A card whose memory is the machine's has none of its own to tell. */
  shares: boolean;
  card: Found;
}

const MIB = 1024 ** 2;
/** A line of values is a fraction of this; longer ones are no such thing. */
const MAX_LINE = 4096;
const MAX_NAME = 100;
const NOT_THERE = /^\[?(N\/A|Not Supported|Not Found)\]?$/i;

/** Calls back for each whole line, none longer than a limit. */
export function createLines(onLine: (line: string) => void): (piece: string) => void {
  let rest = '';
  let skipping = false;
  return (piece) => {
    const lines = (rest + piece).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      if (!skipping && line.length <= MAX_LINE) onLine(line.trim());
      skipping = false;
    }
    if (rest.length > MAX_LINE) {
      rest = '';
      skipping = true;
    }
  };
}

/** Undefined where the line is no row of values. `fields` are those that were asked for. */
export function toRow(line: string, fields: readonly string[], before: Found | undefined): Row | undefined {
  const parts = line.split(',').map((part) => part.trim());
  const value = (field: (typeof FIELDS)[number]) => {
    const at = fields.indexOf(field);
    return at < 0 ? undefined : parts[at];
  };
  const index = toNumber(value('index'), { max: 1023 });
  const uuid = value('uuid') ?? '';
  // Nothing is left for the name where values are missing.
  const name = parts
    .slice(fields.length - 1)
    .join(', ')
    .replace(/[\u0000-\u001f\u007f]/g, '');
  if (index === undefined || !/^(GPU|MIG)-[\w-]{8,60}$/.test(uuid) || name === '') return undefined;
  const bytes = (text: string | undefined) => {
    const mib = toNumber(text, { max: MEMORY.max! / MIB });
    return mib === undefined ? undefined : mib * MIB;
  };
  const total = bytes(value('memory.total')) ?? 0;
  const driver = value('driver_version') ?? '';
  return {
    uuid,
    shares: NOT_THERE.test(value('memory.total') ?? ''),
    card: {
      id: toAddress(value('pci.bus_id')) ?? uuid.toLowerCase(),
      index,
      vendor: 'nvidia',
      name: name.slice(0, MAX_NAME),
      kind: 'discrete',
      architecture: /^\d{1,2}\.\d$/.test(value('compute_cap') ?? '') ? value('compute_cap')! : null,
      driver: /^[\d.]{3,20}$/.test(driver) ? driver : null,
      vram: toMemory(total, bytes(value('memory.used')), before?.vram.used),
      gtt: null,
      busy: toShare(value('utilization.gpu')),
      temperature_c: toCelsius(value('temperature.gpu')),
      power_w: toWatts(value('power.draw')),
      power_cap_w: toWatts(value('power.limit')),
      fan_rpm: null,
    },
  };
}

/** `00000000:0B:00.0` → `0000:0b:00.0`, as Linux writes it. */
export function toAddress(bus: string | undefined): string | undefined {
  const match = /^(?:[0-9a-f]{4})?([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$/i.exec(bus ?? '');
  return match?.[1]?.toLowerCase();
}

/** What it said in place of values, fit to be shown. */
export function toComplaint(line: string): string {
  return line.replace(/[^\x20-\x7e]/g, '').slice(0, 200);
}
