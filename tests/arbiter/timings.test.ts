// What is learned of loads and runs, how it is remembered, and how far off ETAs were.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { createLearned } from '../../src/arbiter/learned.ts';
import { createTimings, type Timings } from '../../src/arbiter/timings.ts';
import type { DocumentStore, Put, Store } from '../../src/store.ts';

const GB = 1024 ** 3;
const sdxl = { runtime: 'comfyui', model: 'sdxl', footprint: 7 * GB };
const llama = { runtime: 'ollama', model: 'llama3.1:8b', footprint: 6 * GB };
const LARGE = 'image.generate 1024x1024x1 s20';
const SMALL = 'image.generate 512x512x1 s20';

let folder: string;
let store: Store;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hono-ai-timings-'));
  store = await openSqliteStore({ path: join(folder, 'store.db') });
});
afterEach(async () => {
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

const times = (count: number, call: (index: number) => void) =>
  Array.from({ length: count }, (_, index) => call(index));

describe('a mean', () => {
  const learn = (...values: number[]) => {
    const learned = createLearned(undefined, 'test');
    for (const value of values) learned.learn('x', value);
    return learned.of('x');
  };

  it('is the first, then the mean of the first few, then follows', () => {
    expect(learn(4000)!.mean).toBe(4000);
    expect(learn(4000, 2000)!.mean).toBe(3000);
    expect(learn(4000, 2000, 3000)!.mean).toBe(3000);
    const fast = learn(...Array.from({ length: 20 }, () => 4000), ...Array.from({ length: 15 }, () => 1000))!;
    expect(fast.mean).toBeLessThan(1300);
  });

  it('is not moved far by one that is far off, and is by many', () => {
    const usual = Array.from({ length: 12 }, (_, index) => 1000 + (index % 3) * 20);
    expect(learn(...usual, 60_000)!.mean).toBeLessThan(1200);
    expect(learn(...usual, 0)!.mean).toBeGreaterThan(900);
    expect(learn(...usual, ...Array.from({ length: 16 }, () => 60_000))!.mean).toBeGreaterThan(30_000);
  });

  it('knows how far off one usually is', () => {
    const steady = learn(...Array.from({ length: 30 }, (_, index) => 1000 + (index % 2) * 10))!;
    const wild = learn(...Array.from({ length: 30 }, (_, index) => 1000 + (index % 2) * 1500))!;
    expect(steady.spread).toBeLessThan(50);
    expect(wild.spread).toBeGreaterThan(500);
  });

  it('learns nothing from what is no duration', () => {
    expect(learn(NaN, Infinity, -1)).toBeUndefined();
    const learned = createLearned(undefined, 'test');
    learned.learn('k'.repeat(10_000), 5);
    expect(learned.of('k'.repeat(10_000))).toBeUndefined();
  });
});

describe('a run', () => {
  it('is told by its work, then its capability, then its model, then its runtime, then a guess', () => {
    const timings = createTimings();
    expect(timings.runMs(llama, 'text.chat')).toBe(8000);
    expect(timings.runMs(sdxl, 'video.generate 512x512')).toBeGreaterThan(timings.runMs(sdxl, LARGE));
    timings.learnRun(sdxl, LARGE, 20_000);
    timings.learnRun(sdxl, SMALL, 5000);
    expect(timings.runMs(sdxl, LARGE)).toBe(20_000);
    expect(timings.runMs(sdxl, SMALL)).toBe(5000);
    expect(timings.runMs(sdxl, 'image.generate 768x768x1 s20')).toBe(12_500);
    timings.learnRun(sdxl, 'image.upscale', 500);
    expect(timings.runMs(sdxl, 'image.generate 768x768x1 s20')).toBe(12_500);
    expect(timings.runMs(sdxl)).toBe(8500);
    expect(timings.runMs({ ...sdxl, model: 'flux' }, LARGE)).toBe(12_500);
    expect(timings.runMs({ ...sdxl, model: 'flux' }, 'image.upscale')).toBe(500);
    expect(timings.runMs({ ...sdxl, runtime: 'other', model: 'flux' }, LARGE)).toBe(15_000);
  });

  it('of one model says nothing of another whose name looks like both', () => {
    const timings = createTimings();
    timings.learnRun({ runtime: 'r', model: 'a b', footprint: 1 }, 'text.chat', 1);
    expect(timings.runMs({ runtime: 'r', model: 'a', footprint: 1 }, 'b text.chat')).toBe(8000);
    expect(timings.runMs({ runtime: 'r a', model: 'b', footprint: 1 }, 'text.chat')).toBe(8000);
  });
});

describe('a load', () => {
  it('is guessed by its size, then by how fast others of its runtime were, then known', () => {
    const timings = createTimings();
    const guess = timings.loadMs(sdxl);
    expect(guess).toBeGreaterThan(3000);
    expect(guess).toBeLessThan(10_000);
    expect(timings.loadMs({ ...sdxl, footprint: GB })).toBeLessThan(guess);
    timings.learnLoad({ ...sdxl, model: 'flux' }, guess * 3);
    expect(timings.loadMs(sdxl)).toBeCloseTo(guess * 3);
    expect(timings.loadMs({ ...sdxl, runtime: 'other' })).toBe(guess);
    timings.learnLoad(sdxl, 4321);
    expect(timings.loadMs(sdxl)).toBe(4321);
  });

  it('is told apart from what a run takes to its first sign', () => {
    const timings = createTimings();
    expect(timings.firstMs(llama, 'text.chat c4096')).toBe(0);
    timings.learnFirst(llama, 'text.chat c4096', 300);
    timings.learnFirst(llama, 'text.chat c32768', 900);
    expect(timings.firstMs(llama, 'text.chat c4096')).toBe(300);
    expect(timings.firstMs(llama, 'text.chat c8192')).toBe(600);
    expect(timings.firstMs(sdxl, LARGE)).toBe(0);
  });
});

describe('memory', () => {
  async function reopen(documents: DocumentStore = store.documents): Promise<Timings> {
    const timings = createTimings(documents);
    await timings.load();
    return timings;
  }

  it('outlives the process', async () => {
    const first = await reopen();
    times(6, (index) => first.learnRun(sdxl, LARGE, 20_000 + index));
    first.learnLoad(sdxl, 4000);
    first.learnFirst(llama, 'text.chat', 250);
    await first.save(0);
    const second = await reopen();
    expect(second.runMs(sdxl, LARGE)).toBeCloseTo(first.runMs(sdxl, LARGE), 2);
    expect(second.runMs({ ...sdxl, model: 'new' }, LARGE)).toBeCloseTo(first.runMs(sdxl, LARGE), 2);
    expect(second.loadMs(sdxl)).toBe(4000);
    expect(second.firstMs(llama, 'text.chat')).toBe(250);
    // It goes on where it was: one that is far off does not count as if it were the second.
    second.learnRun(sdxl, LARGE, 500_000);
    expect(second.runMs(sdxl, LARGE)).toBeLessThan(30_000);
  });

  it('is written where something has changed, and again where that failed', async () => {
    const writes: Put[][] = [];
    let fails = false;
    const documents: DocumentStore = {
      ...store.documents,
      put: async (puts) => {
        if (fails) throw new Error('away');
        writes.push(puts);
        return undefined;
      },
    };
    const timings = createTimings(documents);
    await timings.save(0);
    expect(writes).toEqual([]);
    timings.learnLoad(sdxl, 4000);
    fails = true;
    await expect(timings.save(0)).rejects.toThrow('away');
    fails = false;
    await timings.save(0);
    await timings.save(0);
    expect(writes).toHaveLength(1);
    expect(writes[0]).toHaveLength(2);
  });

  it('is bounded: what was not measured for longest is forgotten, also on disk', async () => {
    const learned = createLearned(store.documents, 'timing-run', 3);
    for (const key of ['a', 'b', 'c', 'd']) learned.learn(key, 1);
    await learned.save();
    learned.learn('b', 1);
    learned.learn('e', 1);
    await learned.save();
    const { documents } = await store.documents.list('timing-run', { limit: 10 });
    expect(documents.map(({ id }) => id).toSorted()).toEqual(['b', 'd', 'e']);
    expect(['a', 'b', 'c', 'd', 'e'].filter((key) => learned.of(key))).toEqual(['b', 'd', 'e']);
  });

  it('believes nothing that is no figure', async () => {
    const kind = 'timing-load';
    const odd = [5, null, 'x', [], [1, 2], [NaN, 1, 1], [-1, 1, 1], ['1', 1, 1], { mean: 1 }, [null, 1, 2]];
    await store.documents.put(
      odd.map((value, index) => ({ kind, id: `["comfyui","${index}"]`, owner: 'gateway', value })),
    );
    const timings = await reopen();
    odd.forEach((_, index) => {
      const model = { ...sdxl, model: String(index) };
      expect(timings.loadMs(model)).toBe(createTimings().loadMs(model));
    });
  });
});

describe('the error of ETAs', () => {
  it('is of those who were told something', () => {
    const timings = createTimings();
    expect(timings.view()).toBeNull();
    timings.learnWait({ expectedMs: undefined, ms: 5000 });
    timings.learnWait({ expectedMs: NaN, ms: 5000 });
    expect(timings.view()).toBeNull();
    timings.learnWait({ expectedMs: 5000, ms: 5000 });
    expect(timings.view()).toEqual({ waits: 1, mean_s: 0, mean_abs_s: 0, p90_abs_s: 0 });
  });

  it('has a sign, a size, and what nine of ten were better than', () => {
    const timings = createTimings();
    // Nine took 2 s less than was told, one 20 s more.
    times(9, () => timings.learnWait({ expectedMs: 10_000, ms: 8000 }));
    timings.learnWait({ expectedMs: 10_000, ms: 30_000 });
    expect(timings.view()).toEqual({ waits: 10, mean_s: 0.2, mean_abs_s: 3.8, p90_abs_s: 2 });
  });

  it('is that of the last 200', () => {
    const timings = createTimings();
    times(200, () => timings.learnWait({ expectedMs: 0, ms: 60_000 }));
    times(199, () => timings.learnWait({ expectedMs: 0, ms: 1000 }));
    expect(timings.view()).toMatchObject({ waits: 200, mean_s: 1.3 });
    timings.learnWait({ expectedMs: 0, ms: 1000 });
    expect(timings.view()).toEqual({ waits: 200, mean_s: 1, mean_abs_s: 1, p90_abs_s: 1 });
  });
});
