// What was measured of models: the most counts, what became smaller is believed in time, and it outlives the process.
import { describe, expect, it } from 'vitest';
import type { Resident } from '../../src/runtime.ts';
import { createFootprints } from '../../src/models/footprints.ts';
import { createMemoryDocuments } from '../support/open-pulls.ts';

const GB = 1024 ** 3;

function open(documents = createMemoryDocuments(), budget?: number) {
  let now = 0;
  const footprints = createFootprints(documents, { clock: () => now, budget: () => budget });
  return { footprints, documents, wait: (ms: number) => (now += ms) };
}

describe('footprints', () => {
  it('keeps the most of each context, and counts what found no room on the card', () => {
    const { footprints } = open();
    footprints.learn('r', { model: 'a', vram: 4 * GB, contextWindow: 4096 });
    footprints.learn('r', { model: 'a', vram: 5 * GB, contextWindow: 4096 });
    footprints.learn('r', { model: 'a', vram: 4.8 * GB, contextWindow: 4096 });
    expect(footprints.of('r', 'a')).toEqual({ bytes: 5 * GB, context: 4096, count: 3 });
    footprints.learn('r', { model: 'a', vram: 6 * GB, ram: 2 * GB, contextWindow: 32_768 });
    expect(footprints.of('r', 'a')).toMatchObject({ bytes: 8 * GB, context: 32_768 });
    expect(footprints.of('r', 'a', 5000)).toMatchObject({ bytes: 5 * GB, context: 4096 });
    expect(footprints.of('other', 'a')).toBeUndefined();
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
    expect(next.of('ollama', 'qwen3 8b:latest')).toEqual({ bytes: 6 * GB, context: 8192, count: 1 });
    expect(next.of('comfyui', 'sdxl')).toEqual({ bytes: 9 * GB, context: undefined, count: 1 });
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
