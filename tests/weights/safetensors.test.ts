// Safetensors headers and indices: what is in them, and what hostile ones can ask for.
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { readSafetensors, readSafetensorsIndex } from '../../adapters/weights/index.ts';
import { u64 } from '../support/fake-gguf.ts';

const HEADER = {
  __metadata__: { format: 'pt' },
  'lora_unet.up.weight': { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
  'lora_unet.down.weight': { dtype: 'F16', shape: [10, 10], data_offsets: [24, 224] },
};

describe('readSafetensors', () => {
  it('adds up what a file on disk holds, in one read', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'weights-'));
    const path = join(folder, 'a.safetensors');
    const bytes = Buffer.concat([make(HEADER), Buffer.alloc(224)]);
    await writeFile(path, bytes);
    const file = await open(path);
    let reads = 0;
    const facts = await readSafetensors(async (start, end) => {
      reads++;
      const { buffer, bytesRead } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
      return buffer.subarray(0, bytesRead);
    });
    await file.close();
    await rm(folder, { recursive: true });
    expect(facts).toEqual({
      parameters: 106,
      bytes: bytes.length,
      dtypes: ['F16', 'F32'],
      tensors: ['lora_unet.up.weight', 'lora_unet.down.weight'],
    });
    expect(reads).toBe(1);
  });

  it.each<[what: string, bytes: Uint8Array]>([
    ['is empty', new Uint8Array()],
    ['has a header of 2^60 bytes', Buffer.concat([u64(2n ** 60n), Buffer.from('{}')])],
    ['has a header of -1 bytes', Buffer.concat([u64(2n ** 64n - 1n), Buffer.from('{}')])],
    ['has a header longer than itself', Buffer.concat([u64(1000), Buffer.from('{}')])],
    ['has brackets without end', raw('['.repeat(5_000_000))],
    ['has objects without end', raw('{"a":'.repeat(1_000_000))],
    ['has no object', raw('[1]')],
    ['has null', raw('null')],
    ['has a tensor that is none', raw('{"a":1}')],
    ['has a shape that is none', make({ a: { dtype: 'F16', shape: ['x'], data_offsets: [0, 1] } })],
    ['has a negative shape', make({ a: { dtype: 'F16', shape: [-5], data_offsets: [0, 1] } })],
    ['has an absurd shape', make({ a: { dtype: 'F16', shape: [2 ** 40, 2 ** 40], data_offsets: [0, 1] } })],
    ['has a place before the file', make({ a: { dtype: 'F16', shape: [1], data_offsets: [-4, 1] } })],
    ['has a place that ends before it begins', make({ a: { dtype: 'F16', shape: [1], data_offsets: [4, 1] } })],
    ['has a type that is a path', make({ a: { dtype: '../../x', shape: [1], data_offsets: [0, 1] } })],
    ['has a type called __proto__', make({ a: { dtype: '__proto__', shape: [1], data_offsets: [0, 1] } })],
  ])('refuses a file that %s', async (_, bytes) => {
    await expect(readSafetensors(reader(bytes))).rejects.toMatchObject({
      name: 'GatewayError',
      code: 'upstream_invalid',
    });
  });

  it('never throws anything but its own error, whatever stands in the header', async () => {
    const valid = make(HEADER);
    const change = fc.record({ at: fc.nat(valid.length - 1), to: fc.nat(255) });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 5 }), async (changes) => {
        const bytes = Uint8Array.from(valid);
        for (const { at, to } of changes) bytes[at] = to;
        const facts = await readSafetensors(reader(bytes)).catch((error: unknown) => {
          expect(error).toMatchObject({ name: 'GatewayError', code: 'upstream_invalid' });
        });
        if (facts) expect(Number.isSafeInteger(facts.parameters) && Number.isSafeInteger(facts.bytes)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe('readSafetensorsIndex', () => {
  it('names each file once', () => {
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    const weight_map = { b: shards[1], a: shards[0], c: shards[1] };
    expect(readSafetensorsIndex({ metadata: { total_size: 12 }, weight_map })).toEqual({ shards, bytes: 12 });
    expect(readSafetensorsIndex({ weight_map }).bytes).toBeUndefined();
    expect(readSafetensorsIndex({ metadata: { total_size: -1 }, weight_map }).bytes).toBeUndefined();
  });

  it.each([
    '../model.safetensors',
    '/etc/model.safetensors',
    'a/b.safetensors',
    'a\\b.safetensors',
    'a..b.safetensors',
    '.safetensors',
    '.hidden.safetensors',
    'model.bin',
    'model.safetensors\u0000.py',
    'model\n.safetensors',
    `${'a'.repeat(300)}.safetensors`,
    'https://example.com/model.safetensors',
    7,
    null,
  ])('refuses to follow %j', (name) => {
    expect(() => readSafetensorsIndex({ weight_map: { a: name } })).toThrow(/not named|may not name|safetensors/);
  });

  it('refuses what is no index', () => {
    const many = Object.fromEntries(Array.from({ length: 1500 }, (_, index) => [index, `m${index}.safetensors`]));
    for (const index of [undefined, null, [], 'x', {}, { weight_map: [] }, { weight_map: {} }, { weight_map: many }]) {
      expect(() => readSafetensorsIndex(index)).toThrow(expect.objectContaining({ code: 'upstream_invalid' }));
    }
  });
});

function make(header: object): Buffer {
  return raw(JSON.stringify(header));
}

function raw(json: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(json)), Buffer.from(json)]);
}

function reader(bytes: Uint8Array) {
  return async (start: number, end: number) => Uint8Array.prototype.slice.call(bytes, start, end);
}
