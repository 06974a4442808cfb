// GGUF files made by hand: valid ones with what a test needs in them, and their pieces for those that are not.

export type GgufValue = string | number | boolean | bigint | number[] | string[];

export interface GgufOptions {
  version?: number;
  /** With the architecture's own keys spelled out; an integer becomes u32, a fraction f32. */
  keys?: Record<string, GgufValue>;
  /** Words of the vocabulary. */
  words?: number;
  tensors?: { name: string; shape: number[]; type?: number }[];
  /** Bytes of weights behind the header. */
  weights?: number;
}

/** A small model of the llama family, with 128 bytes of cache for each token. */
export const SMALL: Record<string, GgufValue> = {
  'general.architecture': 'llama',
  'general.name': 'Small',
  'general.file_type': 15,
  'general.license': 'apache-2.0',
  'llama.context_length': 4096,
  'llama.embedding_length': 32,
  'llama.block_count': 2,
  'llama.attention.head_count': 4,
  'llama.attention.head_count_kv': 2,
};

export function makeGguf(options: GgufOptions = {}): Uint8Array<ArrayBuffer> {
  const { version = 3, keys = SMALL, words = 0, weights = 0 } = options;
  const tensors = options.tensors ?? [{ name: 'token_embd.weight', shape: [32, 100], type: 1 }];
  const all: Record<string, GgufValue> = { ...keys };
  if (words > 0) all['tokenizer.ggml.tokens'] = Array.from({ length: words }, (_, index) => `word${index}`);
  const pieces: Uint8Array[] = [
    Buffer.from('GGUF'),
    u32(version),
    u64(tensors.length),
    u64(Object.keys(all).length),
    ...Object.entries(all).flatMap(([key, value]) => [text(key), ...typed(value)]),
    ...tensors.flatMap(({ name, shape, type = 1 }) => [
      text(name),
      u32(shape.length),
      ...shape.map(u64),
      u32(type),
      u64(0),
    ]),
  ];
  const header = Buffer.concat(pieces);
  const padded = Math.ceil(header.length / 32) * 32;
  return new Uint8Array(Buffer.concat([header, Buffer.alloc(padded - header.length + weights)]));
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function typed(value: GgufValue): Uint8Array[] {
  if (typeof value === 'string') return [u32(8), text(value)];
  if (typeof value === 'boolean') return [u32(7), Buffer.from([Number(value)])];
  if (typeof value === 'bigint') return [u32(10), u64(value)];
  if (typeof value === 'number') return Number.isInteger(value) ? [u32(4), u32(value)] : [u32(6), f32(value)];
  const [first] = value;
  if (typeof first === 'string') return [u32(9), u32(8), u64(value.length), ...(value as string[]).map(text)];
  return [u32(9), u32(5), u64(value.length), ...(value as number[]).map(i32)];
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function i32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
