// The header of a GGUF file → what the model is and what an estimate of its memory is made of, without reading the weights.
import { createCursor, toCount, unreadable } from './header.ts';
import type { Cursor, HeaderLimits, ReadRange } from './header.ts';
import { fileTypes, nameOfType, tensorBytes } from './ggml.ts';

export interface GgufFacts {
  /** `llama`, `qwen3`, `clip`, … */
  architecture: string | undefined;
  name: string | undefined;
  /** Number of weights; where only the beginning was read, about that, if it says so. */
  parameters: number | undefined;
  /** `Q4_K_M`. */
  quantization: string | undefined;
  /** Tokens. */
  contextWindow: number | undefined;
  layers: number | undefined;
  /**
   * Bytes of the attention's cache for each token of context, at 16 bits a value and as if every layer saw all of it: layers with a
   * sliding window or without attention of their own take less.
   */
  kvPerToken: number | undefined;
  /** Tokens that some layers look back at most, where the model has such. */
  slidingWindow: number | undefined;
  license: string | undefined;
  /** Bytes of the whole file as its header has it; undefined where only the beginning was read. */
  size: number | undefined;
}

export interface GgufOptions extends HeaderLimits {
  /** Stop before the vocabulary, which is megabytes, and so without the list of tensors; default false. */
  brief?: boolean;
}

const FORMAT = 'GGUF';
/** 'GGUF', read as a little-endian number. */
const MAGIC = 0x46554747;
const MAX_TENSORS = 200_000;
const MAX_KEYS = 100_000;
const MAX_KEY_BYTES = 65_535;
/** Longer texts are templates and licences, of which the beginning does. */
const KEPT_BYTES = 512;
/** Longer lists are vocabularies. */
const KEPT_ITEMS = 1024;
const MAX_DIMENSIONS = 4;
const DEFAULT_ALIGNMENT = 32;

type Value = string | number | boolean | number[] | undefined;
type Facts = Map<string, Value>;

const UINT8 = 0;
const STRING = 8;
const ARRAY = 9;
/** Type → its bytes and how it is read. */
const numbers: Record<number, [bytes: number, read: (view: DataView) => number]> = {
  [UINT8]: [1, (view) => view.getUint8(0)],
  1: [1, (view) => view.getInt8(0)],
  2: [2, (view) => view.getUint16(0, true)],
  3: [2, (view) => view.getInt16(0, true)],
  4: [4, (view) => view.getUint32(0, true)],
  5: [4, (view) => view.getInt32(0, true)],
  6: [4, (view) => view.getFloat32(0, true)],
  7: [1, (view) => view.getUint8(0)],
  10: [8, (view) => Number(view.getBigUint64(0, true))],
  11: [8, (view) => Number(view.getBigInt64(0, true))],
  12: [8, (view) => view.getFloat64(0, true)],
};

/** Throws upstream_invalid for anything that is no GGUF of version 2 or 3; what `read` throws goes through. */
export async function readGguf(read: ReadRange, options: GgufOptions = {}): Promise<GgufFacts> {
  const cursor = createCursor(read, FORMAT, options.limit);
  const head = await cursor.view(24);
  if (head.getUint32(0, true) !== MAGIC) throw unreadable(FORMAT, 'it begins with something else');
  const version = head.getUint32(4, true);
  if (version !== 2 && version !== 3) throw unreadable(FORMAT, 'only versions 2 and 3 are known');
  const tensors = toCount(head.getBigUint64(8, true), MAX_TENSORS, FORMAT, 'its number of tensors');
  const keys = toCount(head.getBigUint64(16, true), MAX_KEYS, FORMAT, 'its number of keys');
  const facts: Facts = new Map();
  for (let index = 0; index < keys; index++) {
    const key = await readString(cursor, MAX_KEY_BYTES);
    // Writers put the vocabulary behind everything that is wanted here; where one does not, it is read.
    if (options.brief && key.startsWith('tokenizer.') && facts.size > 2) return toFacts(facts);
    const type = (await cursor.view(4)).getUint32(0, true);
    const value = await readValue(cursor, type);
    if (value !== undefined) facts.set(key, value);
  }
  return toFacts(facts, await readTensors(cursor, tensors, facts));
}

async function readValue(cursor: Cursor, type: number): Promise<Value> {
  if (type === STRING) return readString(cursor, KEPT_BYTES, true);
  if (type === ARRAY) return readArray(cursor);
  const number = numbers[type];
  if (!number) throw unreadable(FORMAT, 'it has values of an unknown kind');
  return number[1](await cursor.view(number[0]));
}

async function readArray(cursor: Cursor): Promise<number[] | undefined> {
  const head = await cursor.view(12);
  const type = head.getUint32(0, true);
  const count = toCount(head.getBigUint64(4, true), Number.MAX_SAFE_INTEGER, FORMAT, 'the length of a list');
  if (type === STRING) {
    await skipStrings(cursor, count);
    return undefined;
  }
  const number = numbers[type];
  // Lists of lists are in no file that anybody writes.
  if (!number) throw unreadable(FORMAT, 'it has lists of an unknown kind');
  const [bytes, convert] = number;
  if (count > KEPT_ITEMS) {
    cursor.skip(count * bytes);
    return undefined;
  }
  const view = await cursor.view(count * bytes);
  return Array.from({ length: count }, (_, index) =>
    convert(new DataView(view.buffer, view.byteOffset + index * bytes, bytes)),
  );
}

/** A vocabulary: hundreds of thousands of words, passed over without waiting for each. */
async function skipStrings(cursor: Cursor, count: number): Promise<void> {
  for (let left = count; left > 0;) {
    const view = await cursor.peek(8);
    let offset = 0;
    for (; left > 0 && offset + 8 <= view.byteLength; left--) {
      if (view.getUint32(offset + 4, true) !== 0) throw unreadable(FORMAT, 'a length is absurd');
      offset += 8 + view.getUint32(offset, true);
    }
    cursor.skip(offset);
  }
}

/** At most `most` bytes of it; a longer one is an error, or cut where that is allowed. */
async function readString(cursor: Cursor, most: number, cut = false): Promise<string> {
  const length = toCount((await cursor.view(8)).getBigUint64(0, true), Number.MAX_SAFE_INTEGER, FORMAT, 'a length');
  if (length > most && !cut) throw unreadable(FORMAT, 'a name in it is too long');
  const kept = Math.min(length, most);
  const text = kept === 0 ? '' : new TextDecoder().decode(await cursor.bytes(kept));
  cursor.skip(length - kept);
  return text;
}

interface Weights {
  parameters: number;
  size: number;
  /** Of most of the weights. */
  type: number | undefined;
}

async function readTensors(cursor: Cursor, count: number, facts: Facts): Promise<Weights> {
  const byType = new Map<number, number>();
  let parameters = 0;
  let end = 0;
  for (let index = 0; index < count; index++) {
    await readString(cursor, MAX_KEY_BYTES);
    const dimensions = (await cursor.view(4)).getUint32(0, true);
    if (dimensions > MAX_DIMENSIONS) throw unreadable(FORMAT, 'a tensor has too many dimensions');
    const rest = await cursor.view(dimensions * 8 + 12);
    let items = 1;
    for (let axis = 0; axis < dimensions; axis++) items *= Number(rest.getBigUint64(axis * 8, true));
    const type = rest.getUint32(dimensions * 8, true);
    const start = Number(rest.getBigUint64(dimensions * 8 + 4, true));
    byType.set(type, (byType.get(type) ?? 0) + items);
    parameters += items;
    end = Math.max(end, start + tensorBytes(type, items));
    if (!Number.isSafeInteger(parameters) || !Number.isSafeInteger(end)) {
      throw unreadable(FORMAT, 'the size of a tensor is absurd');
    }
  }
  const told = facts.get('general.alignment');
  const alignment = typeof told === 'number' && told > 0 ? told : DEFAULT_ALIGNMENT;
  const [type] = [...byType].toSorted((one, other) => other[1] - one[1])[0] ?? [];
  return { parameters, size: Math.ceil(cursor.position / alignment) * alignment + end, type };
}

function toFacts(facts: Facts, weights?: Weights): GgufFacts {
  const architecture = toText(facts.get('general.architecture'));
  const own = (key: string) => facts.get(`${architecture}.${key}`);
  const type = toNumber(facts.get('general.file_type'));
  const layers = toNumber(own('block_count'));
  return {
    architecture,
    name: toText(facts.get('general.name')),
    parameters:
      weights?.parameters ||
      toNumber(facts.get('general.parameter_count')) ||
      toParameters(facts.get('general.size_label')),
    quantization: type === undefined ? nameOfType(weights?.type) : fileTypes[type],
    contextWindow: toNumber(own('context_length')),
    layers,
    kvPerToken: toKvPerToken(own, layers),
    slidingWindow: toNumber(own('attention.sliding_window')),
    license: toText(facts.get('general.license.name')) ?? toText(facts.get('general.license')),
    size: weights?.size,
  };
}

/** From the keys of a model's own architecture, as GGUF and Ollama's `model_info` have them. */
export function toKvPerToken(own: (key: string) => unknown, layers = toNumber(own('block_count'))): number | undefined {
  const heads = own('attention.head_count');
  const keyHeads = own('attention.head_count_kv') ?? heads;
  const headCount = Array.isArray(heads) ? Math.max(...heads.map(Number)) : toNumber(heads);
  const embedding = toNumber(own('embedding_length'));
  const width = embedding && headCount ? embedding / headCount : undefined;
  const key = toNumber(own('attention.key_length')) ?? width;
  const value = toNumber(own('attention.value_length')) ?? width;
  if (key === undefined || value === undefined || layers === undefined) return undefined;
  // One number for each layer where they differ; 0 is a layer without attention.
  const all = Array.isArray(keyHeads)
    ? keyHeads.reduce((sum: number, each) => sum + (toNumber(each, true) ?? Number.NaN), 0)
    : (toNumber(keyHeads) ?? Number.NaN) * layers;
  const bytes = 2 * all * (key + value);
  return Number.isFinite(bytes) && bytes > 0 && bytes < 1e9 ? Math.ceil(bytes) : undefined;
}

function toNumber(value: unknown, zero = false): number | undefined {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) return undefined;
  return value > 0 || zero ? value : undefined;
}

/** One line of printable text, so that nobody's header says anything but a name. */
function toText(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined;
  const text = value
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .trim()
    .slice(0, 200);
  return text === '' ? undefined : text;
}

/** `3.2B` and `494.03M` → a count; undefined for anything else. */
export function toParameters(size: unknown): number | undefined {
  const [, digits = '', unit = ''] =
    /^([\d.]{1,12})\s*([KMBT])$/i.exec(typeof size === 'string' ? size.trim() : '') ?? [];
  const scale = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 }[unit.toUpperCase()];
  const count = scale === undefined ? Number.NaN : Math.round(Number(digits) * scale);
  return Number.isSafeInteger(count) && count > 0 ? count : undefined;
}
