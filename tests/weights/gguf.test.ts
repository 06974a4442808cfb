// GGUF headers: real files, files made by hand, and what hostile ones can ask for.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { readGguf, toKvPerToken, toParameters } from '../../adapters/weights/index.ts';
import { GatewayError } from '../../src/error.ts';
import { makeGguf, SMALL, text, u32, u64 } from '../support/fake-gguf.ts';
import { root } from '../support/gateway.ts';

const MB = 1024 ** 2;

describe('readGguf', () => {
  it('reads a real file, and knows its size to the byte', async () => {
    const bytes = await readFile(join(root, 'models/tiny-story/tiny-story-q8_0.gguf'));
    const facts = await readGguf(reader(bytes).read);
    expect(facts).toMatchObject({
      architecture: 'llama',
      name: 'tiny-story',
      parameters: 2_361_408,
      quantization: 'Q8_0',
      contextWindow: 512,
      layers: 5,
      // 2 · 5 layers · 2 heads · 32 · 2 bytes
      kvPerToken: 1280,
      size: bytes.length,
    });
  });

  it('reads what people want to know', async () => {
    for (const version of [2, 3]) {
      expect(await readGguf(reader(makeGguf({ version })).read)).toEqual({
        architecture: 'llama',
        name: 'Small',
        parameters: 3200,
        quantization: 'Q4_K_M',
        contextWindow: 4096,
        layers: 2,
        kvPerToken: 2 * 2 * 2 * 8 * 2,
        slidingWindow: undefined,
        license: 'apache-2.0',
        size: makeGguf({ version }).length + 6400,
      });
    }
  });

  it('passes over a vocabulary in few reads, and over long lists of numbers without reading them', async () => {
    const keys = { 'general.scores': Array.from({ length: 100_000 }, (_, index) => index), ...SMALL };
    const bytes = makeGguf({ keys, words: 50_000 });
    const { read, reads } = reader(bytes);
    expect((await readGguf(read)).kvPerToken).toBe(128);
    expect(reads.length).toBeLessThan(12);
    expect(total(reads)).toBeLessThan(bytes.length - MB / 4);
  });

  it('stops before the vocabulary where that is enough, and finds the facts behind it where they are there', async () => {
    const named = { ...SMALL, 'general.size_label': '8B' };
    const bytes = makeGguf({ keys: named, words: 20_000 });
    const { read, reads } = reader(bytes);
    expect(await readGguf(read, { brief: true })).toMatchObject({ kvPerToken: 128, parameters: 8e9, size: undefined });
    expect(reads).toHaveLength(1);
    const first = makeGguf({ keys: { 'tokenizer.ggml.model': 'gpt2', ...named } });
    expect(await readGguf(reader(first).read, { brief: true })).toMatchObject({ contextWindow: 4096 });
  });

  it('takes reads that are shorter or longer than the file', async () => {
    const bytes = makeGguf();
    const facts = await readGguf(async (start, end) => bytes.slice(start, Math.min(end, bytes.length)));
    expect(facts.architecture).toBe('llama');
  });

  it.each<[what: string, bytes: Uint8Array]>([
    ['is empty', new Uint8Array()],
    ['is something else', Buffer.from('PK\u0003\u0004'.padEnd(200))],
    ['is of version 1', makeGguf({ version: 1 })],
    ['is of a version to come', makeGguf({ version: 4 })],
    ['is big-endian', makeGguf({ version: 0x03000000 })],
    ['ends in the middle', makeGguf().slice(0, 100)],
    ['has 2^60 keys', head(0, 2n ** 60n)],
    ['has 2^60 tensors', head(2n ** 60n, 0)],
    ['has more keys than bytes', head(0, 90_000)],
    ['has a key of 2^60 bytes', Buffer.concat([head(0, 1), u64(2n ** 60n)])],
    ['has a key of a megabyte', Buffer.concat([head(0, 1), u64(1_000_000), Buffer.alloc(1_000_000, 97)])],
    ['has a text of 2^63 bytes', Buffer.concat([head(0, 1), text('a'), u32(8), u64(2n ** 63n)])],
    ['has a text that ends behind the file', Buffer.concat([head(0, 2), text('a'), u32(8), u64(2n ** 40n)])],
    ['has a value of no known kind', Buffer.concat([head(0, 1), text('a'), u32(77)])],
    ['has a list of 2^60 numbers', Buffer.concat([head(0, 2), text('a'), u32(9), u32(12), u64(2n ** 60n)])],
    ['has a list of 2^52 numbers', Buffer.concat([head(0, 2), text('a'), u32(9), u32(12), u64(2n ** 52n)])],
    ['has a list of 2^50 texts', Buffer.concat([head(0, 2), text('a'), u32(9), u32(8), u64(2n ** 50n), zeros(17)])],
    ['has lists of lists', Buffer.concat([head(0, 1), text('a'), u32(9), ...Array.from({ length: 99 }, () => list())])],
    ['has a tensor of 9 dimensions', Buffer.concat([head(1, 0), text('t'), u32(9), zeros(1)])],
    ['has a tensor of 2^60 weights', tensor([2n ** 30n, 2n ** 30n])],
    ['has a tensor at 2^63', tensor([1n], 2n ** 63n)],
  ])('refuses a file that %s, soon and without much memory', async (_, bytes) => {
    const { read, reads } = reader(bytes);
    const error = await readGguf(read).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(GatewayError);
    expect(error).toMatchObject({ code: 'upstream_invalid', retry: false });
    expect(total(reads)).toBeLessThanOrEqual(17 * MB);
  });

  it('never throws anything but its own error, whatever stands in the header', async () => {
    const valid = makeGguf({ words: 20 });
    const change = fc.record({ at: fc.nat(valid.length - 1), to: fc.nat(255), run: fc.integer({ min: 1, max: 9 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), fc.nat(valid.length), async (changes, cut) => {
        const bytes = valid.slice(0, cut < valid.length / 4 ? cut : undefined);
        for (const { at, to, run } of changes) bytes.fill(to, at, at + run);
        const { read, reads } = reader(bytes);
        const facts = await readGguf(read).catch((error: unknown) => {
          expect(error).toMatchObject({ name: 'GatewayError', code: 'upstream_invalid' });
        });
        for (const value of Object.values(facts ?? {})) {
          if (typeof value === 'number') expect(Number.isSafeInteger(value) && value > 0).toBe(true);
          if (typeof value === 'string') expect(value).toMatch(/^[^\p{Cc}]{1,200}$/u);
        }
        expect(total(reads)).toBeLessThanOrEqual(17 * MB);
      }),
      { numRuns: 400 },
    );
  });

  it('lets through what the reader throws', async () => {
    const failure = new GatewayError('upstream_terminated', 'cut');
    await expect(readGguf(() => Promise.reject(failure))).rejects.toBe(failure);
  });
});

describe('toKvPerToken', () => {
  const of = (own: Record<string, unknown>) => toKvPerToken((key) => own[key]);
  const heads = { block_count: 4, 'attention.head_count': 8, embedding_length: 512 };

  it.each([
    ['every head where it says no more', heads, 2 * 4 * 8 * 64 * 2],
    ['heads that are shared', { ...heads, 'attention.head_count_kv': 2 }, 2 * 4 * 2 * 64 * 2],
    [
      'heads of a width of their own',
      { ...heads, 'attention.key_length': 128, 'attention.value_length': 96 },
      2 * 4 * 8 * (128 + 96),
    ],
    ['layers that differ, some without any', { ...heads, 'attention.head_count_kv': [2, 0, 4, 0] }, 2 * 6 * 128],
    ['what it does not say', { block_count: 4 }, undefined],
    ['what is no number', { ...heads, 'attention.head_count_kv': 'many' }, 2 * 4 * 8 * 64 * 2 * Number.NaN],
    ['what is absurd', { ...heads, 'attention.key_length': 2 ** 50 }, undefined],
    ['null, as Ollama has it for lists', { ...heads, 'attention.head_count_kv': null }, 2 * 4 * 8 * 64 * 2],
  ])('counts %s', (_, own, expected) => {
    expect(of(own)).toBe(Number.isNaN(expected) ? undefined : expected);
  });
});

it('reads counts as people write them', () => {
  expect(['8.2B', '494.03M', '135m', '1T', ' 3B '].map(toParameters)).toEqual([8.2e9, 494.03e6, 135e6, 1e12, 3e9]);
  for (const other of ['', '8x7B', 'B', '-1B', '1e9B', undefined, 8, '9'.repeat(40) + 'B']) {
    expect(toParameters(other)).toBeUndefined();
  }
});

/** Bytes as a file, and what was asked of it. */
function reader(bytes: Uint8Array) {
  const reads: [number, number][] = [];
  return {
    reads,
    read: async (start: number, end: number) => {
      reads.push([Math.min(start, bytes.length), Math.min(end, bytes.length)]);
      return Uint8Array.prototype.slice.call(bytes, start, end);
    },
  };
}

function total(reads: [number, number][]): number {
  return reads.reduce((sum, [start, end]) => sum + end - start, 0);
}

function head(tensors: number | bigint, keys: number | bigint): Buffer {
  return Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors), u64(keys)]);
}

function list(): Buffer {
  return Buffer.concat([u32(9), u64(1)]);
}

function zeros(megabytes: number): Buffer {
  return Buffer.alloc(megabytes * MB);
}

function tensor(shape: bigint[], offset: bigint = 0n): Buffer {
  return Buffer.concat([head(1, 0), text('t'), u32(shape.length), ...shape.map(u64), u32(0), u64(offset)]);
}
