// The header of a safetensors file, or the index of one in several files → what is in it, without reading the weights.
import { createCursor, HEADER_BYTES, toCount, unreadable } from './header.ts';
import type { HeaderLimits, ReadRange } from './header.ts';

export interface SafetensorsFacts {
  /** Number of weights. */
  parameters: number;
  /** Of the whole file. */
  bytes: number;
  /** `F16`, `BF16`, …: the one that most weights have first. */
  dtypes: string[];
  /** Names, as the file has them: they tell what it is for. */
  tensors: string[];
}

export interface SafetensorsIndex {
  /** Names of files in the same folder. */
  shards: string[];
  /** Of all of them; undefined where it does not say. */
  bytes: number | undefined;
}

const FORMAT = 'safetensors';
const MAX_SHARDS = 1000;
const DTYPE = /^[A-Z][A-Z0-9_]{0,15}$/;
/** A plain name, with nothing before it that could lead elsewhere. */
const SHARD = /^[A-Za-z0-9_][\w.-]{0,200}\.safetensors$/;

/** Throws upstream_invalid for anything else; what `read` throws goes through. */
export async function readSafetensors(read: ReadRange, options: HeaderLimits = {}): Promise<SafetensorsFacts> {
  const limit = options.limit ?? HEADER_BYTES;
  const cursor = createCursor(read, FORMAT, limit);
  const length = toCount((await cursor.view(8)).getBigUint64(0, true), limit - 8, FORMAT, 'the length of its header');
  const header = parse(new TextDecoder().decode(await cursor.bytes(length)));
  const weights = new Map<string, number>();
  const tensors: string[] = [];
  let end = 0;
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const { dtype, items, last } = toTensor(entry);
    weights.set(dtype, (weights.get(dtype) ?? 0) + items);
    end = Math.max(end, last);
    tensors.push(name);
  }
  const parameters = [...weights.values()].reduce((sum, each) => sum + each, 0);
  if (!Number.isSafeInteger(parameters)) throw unreadable(FORMAT, 'the size of a tensor is absurd');
  const dtypes = [...weights].toSorted((one, other) => other[1] - one[1]).map(([dtype]) => dtype);
  return { parameters, bytes: 8 + length + end, dtypes, tensors };
}

/** Throws upstream_invalid for names that are none of files in the same folder. */
export function readSafetensorsIndex(index: unknown): SafetensorsIndex {
  const { weight_map: map, metadata } = toRecord(index, 'it is no index');
  const shards = new Set<string>();
  for (const name of Object.values(toRecord(map, 'it is no index'))) {
    if (typeof name !== 'string' || !SHARD.test(name) || name.includes('..')) {
      throw unreadable(FORMAT, 'its index names files that it may not name');
    }
    if (shards.add(name).size > MAX_SHARDS) throw unreadable(FORMAT, 'its index names too many files');
  }
  if (shards.size === 0) throw unreadable(FORMAT, 'its index names no file');
  const bytes = (Object(metadata) as Record<string, unknown>)['total_size'];
  return { shards: [...shards].toSorted(), bytes: isCount(bytes) ? bytes : undefined };
}

function toTensor(entry: unknown): { dtype: string; items: number; last: number } {
  const { dtype, shape, data_offsets: offsets } = toRecord(entry, 'a tensor in it is none');
  if (typeof dtype !== 'string' || !DTYPE.test(dtype)) throw unreadable(FORMAT, 'a tensor in it has no type');
  if (!Array.isArray(shape) || shape.length > 16 || !shape.every(isCount)) {
    throw unreadable(FORMAT, 'a tensor in it has no shape');
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount) || offsets[1]! < offsets[0]!) {
    throw unreadable(FORMAT, 'a tensor in it has no place');
  }
  return { dtype, items: shape.reduce((product, side) => product * side, 1), last: offsets[1]! };
}

function parse(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    // Also what an engine throws for brackets that never end.
    throw unreadable(FORMAT, 'its header is no JSON', cause);
  }
  return toRecord(value, 'its header is no JSON object');
}

function toRecord(value: unknown, otherwise: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw unreadable(FORMAT, otherwise);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
