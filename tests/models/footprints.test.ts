// What was measured of models: the most counts, what became smaller is believed in time, and it outlives the process.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import type { Resident } from '../../src/runtime.ts';
import { estimateVram } from '../../src/models/fit.ts';
import { createFootprints } from '../../src/models/footprints.ts';
import { createMemoryDocuments } from '../support/open-pulls.ts';

const GB = 1024 ** 3;

function open(documents = createMemoryDocuments(), budget?: number) {
  let now = 0;
  const footprints = createFootprints(documents, { clock: () => now, budget: () => budget });
  return { footprints, documents, wait: (ms: number) => (now += ms) };
}

describe('footprints', () => {
  it('keeps the most of each extent, and counts what found no room on the card', () => {
    const { footprints } = open();
    footprints.learn('r', { model: 'a', vram: 4 * GB, contextWindow: 4096 });
    footprints.learn('r', { model: 'a', vram: 5 * GB, contextWindow: 4096 });
    footprints.learn('r', { model: 'a', vram: 4.8 * GB, contextWindow: 4096 });
    expect(footprints.of('r', 'a')).toEqual({ bytes: 5 * GB, extent: 4096, count: 3, confidence: 'seen' });
    footprints.learn('r', { model: 'a', vram: 6 * GB, ram: 2 * GB, contextWindow: 32_768 });
    expect(footprints.of('r', 'a')).toMatchObject({ bytes: 8 * GB, extent: 32_768 });
    expect(footprints.of('r', 'a', 4096)).toMatchObject({ bytes: 5 * GB, extent: 4096 });
    expect(footprints.of('other', 'a')).toBeUndefined();
  });

  it('goes between what was measured, beyond it by what more of it took, and never below what less of it took', () => {
    const { footprints } = open();
    const learn = (extent: number, size: number) =>
      footprints.learn('r', { model: 'a', vram: size * GB, contextWindow: extent });
    learn(1000, 4);
    expect(footprints.of('r', 'a', 9000)).toEqual({ bytes: 4 * GB, extent: 1000, count: 1, confidence: 'seen' });
    learn(5000, 8);
    expect(footprints.of('r', 'a', 3000)).toEqual({ bytes: 6 * GB, extent: 3000, count: 1, confidence: 'seen' });
    expect(footprints.of('r', 'a', 9000)).toMatchObject({ bytes: 8 * GB, extent: 5000, perUnit: GB / 1000 });
    expect(footprints.of('r', 'a', 10)).toMatchObject({ bytes: 4 * GB, extent: 1000 });
    learn(7000, 5);
    expect(footprints.of('r', 'a', 7000)).toMatchObject({ bytes: 8 * GB, extent: 7000 });
    expect(footprints.of('r', 'a')).toMatchObject({ bytes: 5 * GB, extent: 7000 });
  });

  it('never tells less for more, whatever was learned in whatever order', () => {
    const reading = fc.record({
      vram: fc.integer({ min: 1, max: 100 }),
      contextWindow: fc.option(fc.integer({ min: 1, max: 100 }), { nil: undefined }),
      busy: fc.boolean(),
      out: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(reading, { minLength: 1, maxLength: 12 }), (readings) => {
        const { footprints } = open();
        for (const { out, vram, contextWindow, busy } of readings) {
          if (out) footprints.outgrew('r', 'a', contextWindow, vram);
          else footprints.learn('r', { model: 'a', vram, busy, ...(contextWindow ? { contextWindow } : {}) });
        }
        let before = 0;
        for (let extent = 1; extent <= 120; extent++) {
          const bytes = estimateVram({ vram: 50 }, footprints.of('r', 'a', extent), extent)!.bytes;
          expect(bytes).toBeGreaterThanOrEqual(before);
          before = bytes;
        }
      }),
    );
  });

  it('takes the peak for what is needed', () => {
    const { footprints } = open(undefined, 10 * GB);
    footprints.learn('r', { model: 'a', vram: 6 * GB, peak: 9 * GB });
    expect(footprints.of('r', 'a')?.bytes).toBe(9 * GB);
    footprints.learn('r', { model: 'a', vram: 6 * GB, peak: 99 * GB });
    expect(footprints.of('r', 'a')?.bytes).toBe(10 * GB);
  });

  it('knows how far it can be believed', () => {
    const { footprints } = open();
    const learn = (size: number, busy = false) => footprints.learn('r', { model: 'a', vram: size * GB, busy });
    const confidence = () => footprints.of('r', 'a')?.confidence;
    learn(1, true);
    expect(confidence()).toBe('guess');
    learn(8);
    expect(confidence()).toBe('seen');
    learn(8);
    learn(7.9);
    expect(confidence()).toBe('sure');
    learn(3, true);
    expect(confidence()).toBe('sure');
    learn(4);
    expect(confidence()).toBe('seen');
    for (let look = 0; look < 20; look++) learn(8);
    expect(confidence()).toBe('sure');
  });

  it('has what ran out of memory need more, as much as there is at most', () => {
    const { footprints } = open(undefined, 12 * GB);
    footprints.learn('r', { model: 'a', vram: 8 * GB, contextWindow: 100 });
    footprints.outgrew('r', 'a', 100, 8 * GB);
    expect(footprints.of('r', 'a', 100)).toEqual({ bytes: 10 * GB, extent: 100, count: 0, confidence: 'guess' });
    footprints.outgrew('r', 'a', 100, 10 * GB);
    expect(footprints.of('r', 'a', 100)?.bytes).toBe(12 * GB);
    footprints.outgrew('r', 'a', 100, 8 * GB);
    expect(footprints.of('r', 'a', 100)?.bytes).toBe(12 * GB);
    footprints.outgrew('r', 'b', undefined, Number.NaN);
    expect(footprints.of('r', 'b')).toBeUndefined();
  });

  it('reads what was written when contexts were all there was', async () => {
    const documents = createMemoryDocuments();
    const value = [
      [6 * GB, 4096, 7],
      [9 * GB, null, 2],
    ];
    await documents.put([{ kind: 'footprint', id: 'ollama qwen3:8b', owner: 'gateway', value }]);
    const { footprints } = open(documents);
    await footprints.load();
    expect(footprints.of('ollama', 'qwen3:8b', 4096)).toEqual({
      bytes: 6 * GB,
      extent: 4096,
      count: 7,
      confidence: 'sure',
    });
    expect(footprints.of('ollama', 'qwen3:8b')).toEqual({
      bytes: 9 * GB,
      extent: undefined,
      count: 2,
      confidence: 'seen',
    });
  });

  it('takes what sat wholly on the card for something that fits there, however much was cached beside it', () => {
    const { footprints } = open(undefined, 8 * GB);
    footprints.learn('comfyui', { model: 'a', vram: 8.5 * GB });
    expect(footprints.of('comfyui', 'a')?.bytes).toBe(8 * GB);
    footprints.learn('ollama', { model: 'b', vram: 7 * GB, ram: 3 * GB });
    expect(footprints.of('ollama', 'b')?.bytes).toBe(10 * GB);
  });

  it.each([
    ['nothing on the card', { vram: 0, ram: GB }],
    ['figures of several models', { vram: GB, shared: true }],
    ['a guess', { vram: GB, estimated: true }],
    ['no number', { vram: Number.NaN }],
    ['less than nothing', { vram: -1 }],
    ['more than there is', { vram: Infinity }],
    ['an endless name', { vram: GB, model: 'x'.repeat(5000) }],
  ])('learns nothing from %s', (_, odd: Partial<Resident> & { vram: number }) => {
    const { footprints } = open();
    footprints.learn('r', { model: 'a', ...odd });
    expect(footprints.of('r', odd.model ?? 'a')).toBeUndefined();
    expect(footprints.version()).toBe(0);
  });

  it('believes that a model became smaller after three looks in a row that are not of one load', () => {
    const { footprints, wait } = open();
    const learn = (size: number) => footprints.learn('r', { model: 'a', vram: size * GB });
    learn(8);
    for (let look = 0; look < 20; look++) learn(1);
    expect(footprints.of('r', 'a')?.bytes).toBe(8 * GB);
    wait(60_000);
    learn(5);
    learn(7.9);
    for (const size of [5, 4, 5]) {
      expect(footprints.of('r', 'a')?.bytes).toBe(8 * GB);
      wait(60_000);
      learn(size);
    }
    expect(footprints.of('r', 'a')?.bytes).toBe(5 * GB);
  });

  it('tells a new version only when something else is told', () => {
    const { footprints } = open();
    footprints.learn('r', { model: 'a', vram: GB });
    const version = footprints.version();
    footprints.learn('r', { model: 'a', vram: GB });
    expect(footprints.version()).toBe(version);
    footprints.learn('r', { model: 'a', vram: 2 * GB });
    expect(footprints.version()).toBeGreaterThan(version);
  });

  it('is there after a restart, and writes only what has changed', async () => {
    const { footprints, documents } = open();
    footprints.learn('ollama', { model: 'qwen3 8b:latest', vram: 6 * GB, contextWindow: 8192 });
    footprints.learn('comfyui', { model: 'sdxl', vram: 9 * GB });
    await footprints.save(0);
    let puts = 0;
    const counting = { ...documents, put: (all: never[]) => ((puts += all.length), documents.put(all)) };
    const { footprints: next } = open(counting as typeof documents);
    await next.load();
    expect(next.of('ollama', 'qwen3 8b:latest')).toEqual({ bytes: 6 * GB, extent: 8192, count: 1, confidence: 'seen' });
    expect(next.of('comfyui', 'sdxl')).toEqual({ bytes: 9 * GB, extent: undefined, count: 1, confidence: 'seen' });
    await next.save(1);
    expect(puts).toBe(0);
    next.learn('comfyui', { model: 'sdxl', vram: 10 * GB });
    await next.save(2);
    expect(puts).toBe(1);
  });

  it('does not lose what could not be written', async () => {
    const { footprints, documents } = open();
    const { put } = documents;
    documents.put = () => Promise.reject(new Error('the disk is full'));
    footprints.learn('r', { model: 'a', vram: GB });
    await expect(footprints.save(0)).rejects.toThrow('disk');
    documents.put = put;
    await footprints.save(1);
    expect(documents.size()).toBe(1);
  });

  it('forgets the oldest of too many, in memory and in the store', async () => {
    const { footprints, documents } = open();
    for (let index = 0; index < 5002; index++) {
      footprints.learn('r', { model: `m${index}`, vram: GB });
      if (index === 0) await footprints.save(0);
    }
    await footprints.save(1);
    expect(footprints.of('r', 'm0')).toBeUndefined();
    expect(footprints.of('r', 'm1')).toBeUndefined();
    expect(footprints.of('r', 'm2')).toBeDefined();
    expect(documents.size()).toBe(5000);
  });
});
