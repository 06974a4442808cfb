// What a call needs of the card: measured, told or estimated, growing with what is asked, and never refused for a guess alone.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import type { CapabilityId } from '../../src/capabilities/index.ts';
import { createFootprints } from '../../src/models/footprints.ts';
import { toNeed } from '../../src/models/need.ts';
import type { GpuTenant, Model, RuntimeAdapter } from '../../src/runtime.ts';
import { createMemoryDocuments } from '../support/open-pulls.ts';

const GB = 1024 ** 3;
const MP = 1024 ** 2;
const KV = 144 * 1024;
const qwen: Model = {
  id: 'qwen3:8b',
  capabilities: ['text.chat'],
  state: 'ready',
  size: 5 * GB,
  kvPerToken: KV,
  contextWindow: 40_960,
};
const sdxl: Model = {
  id: 'sdxl',
  capabilities: ['image.generate', 'image.edit'],
  state: 'ready',
  vram: 9 * GB,
  usual: { 'image.generate': { width: 1024, height: 1024, steps: 25 } },
};

function open(
  model: Model,
  { told = 0, budget = 11 * GB, device }: { told?: number; budget?: number; device?: 'processor' } = {},
) {
  const footprints = createFootprints(createMemoryDocuments(), { budget: () => budget });
  const gpu: GpuTenant = {
    footprint: () => told,
    residents: async () => [],
    evict: async () => {},
    device: () => device,
  };
  const runtime = { name: 'r', gpu } as unknown as RuntimeAdapter;
  const of = (id: CapabilityId, input: object) =>
    toNeed(id, { runtime, model }, input, { footprints, usualContext: () => 4096, budget: () => budget });
  const learn = (vram: number, contextWindow?: number) =>
    footprints.learn('r', { model: model.id, vram, ...(contextWindow ? { contextWindow } : {}) });
  return { footprints, of, learn };
}

describe('a text', () => {
  it('needs what was measured for its context', () => {
    const { of, learn } = open(qwen, { told: 6 * GB });
    learn(5.5 * GB, 4096);
    learn(7 * GB, 16_384);
    expect(of('text.chat', { context: 4096 })).toEqual({ footprint: 5.5 * GB, extent: 4096, work: 'text.chat' });
    expect(of('text.chat', { context: 10_240 }).footprint).toBe(6.25 * GB);
    expect(of('text.chat', { context: 32_768 }).footprint).toBe(9 * GB);
    // As it was loaded last.
    expect(of('text.chat', {})).toEqual({ footprint: 7 * GB, work: 'text.chat' });
  });

  it('needs its weights and its cache where nothing was measured, and what its runtime says where that is more', () => {
    const { of } = open(qwen, { told: 6 * GB });
    const grown = of('text.chat', { context: 20_480 }).footprint - of('text.chat', { context: 4096 }).footprint;
    expect(grown).toBe(16_384 * KV);
    expect(of('text.chat', {}).footprint).toBe(6 * GB);
    expect(open(qwen, { told: 5 * GB }).of('text.chat', {}).footprint).toBeGreaterThan(5.5 * GB);
  });

  it('has the card for itself where only a guess says that it is too large', () => {
    const { of, learn } = open(qwen, { told: 6 * GB, budget: 8 * GB });
    expect(of('text.chat', { context: 40_960 }).footprint).toBe(8 * GB);
    learn(5.5 * GB, 4096);
    expect(of('text.chat', { context: 40_960 }).footprint).toBe(8 * GB);
    // What was seen to spill is known to be too large.
    const spilled = open(qwen, { budget: 8 * GB });
    spilled.footprints.learn('r', { model: qwen.id, vram: 8 * GB, ram: 2 * GB, contextWindow: 40_960 });
    expect(spilled.of('text.chat', { context: 40_960 }).footprint).toBe(10 * GB);
    expect(open({ ...qwen, size: 20 * GB }, { told: 21 * GB }).of('text.chat', {}).footprint).toBeGreaterThan(20 * GB);
  });

  it('needs nothing that runs elsewhere', () => {
    expect(open({ ...qwen, size: 0 }, { told: 0 }).of('text.chat', { context: 8192 }).footprint).toBe(0);
    const { of, learn } = open(sdxl, { told: 0, device: 'processor' });
    learn(9 * GB);
    expect(of('image.generate', {}).footprint).toBe(0);
  });
});

describe('a picture', () => {
  it('needs what its workflow says, and more where it is larger', () => {
    const { of } = open(sdxl, { told: 9 * GB });
    expect(of('image.generate', {})).toEqual({ footprint: 9 * GB, extent: MP, work: 'image.generate 1024x1024x1 s25' });
    expect(of('image.generate', { size: '512x512' }).footprint).toBe(9 * GB);
    expect(of('image.generate', { size: '1024x1536' }).footprint).toBe(Math.round(9.9 * GB));
    expect(of('image.generate', { size: '2048x2048', n: 4 }).footprint).toBe(11 * GB);
    expect(of('image.edit', {})).toEqual({ footprint: 9 * GB, work: 'image.edit x1' });
  });

  it('needs what was measured for its size, as soon as that was seen', () => {
    const { of, learn, footprints } = open(sdxl, { told: 9 * GB });
    learn(7 * GB, MP);
    expect(of('image.generate', {}).footprint).toBe(7 * GB);
    expect(of('image.generate', { size: '512x512' }).footprint).toBe(7 * GB);
    expect(of('image.generate', { n: 2 }).footprint).toBe(Math.round(8.4 * GB));
    footprints.learn('r', { model: 'sdxl', vram: 2 * GB, contextWindow: 4 * MP, busy: true });
    expect(of('image.generate', { n: 4 }).footprint).toBe(9 * GB);
    footprints.outgrew('r', 'sdxl', MP, 7 * GB);
    expect(of('image.generate', {}).footprint).toBe(9 * GB);
    learn(6 * GB, MP);
    expect(of('image.generate', {}).footprint).toBe(8.75 * GB);
  });

  it('needs what was measured before sizes were known, and more where it is larger', () => {
    const { of, learn } = open(sdxl, { told: 9 * GB });
    learn(8 * GB);
    expect(of('image.generate', {}).footprint).toBe(8 * GB);
    expect(of('image.generate', { n: 2 }).footprint).toBe(Math.round(9.6 * GB));
  });
});

it('never needs less for more, whatever was learned', () => {
  const reading = fc.record({
    vram: fc.integer({ min: 1, max: 14 }),
    contextWindow: fc.option(fc.integer({ min: 64, max: 40_000 }), { nil: undefined }),
    ram: fc.option(fc.integer({ min: 0, max: 4 }), { nil: undefined }),
    busy: fc.boolean(),
    out: fc.boolean(),
  });
  const sides = { 'image.generate': { width: 64, height: 64 } };
  fc.assert(
    fc.property(fc.array(reading, { maxLength: 8 }), fc.nat(12), fc.boolean(), (readings, told, ofText) => {
      const { of, footprints } = open(ofText ? qwen : { ...sdxl, usual: sides }, { told: told * GB });
      for (const { out, vram, contextWindow, busy, ram } of readings) {
        const model = ofText ? qwen.id : sdxl.id;
        if (out) footprints.outgrew('r', model, contextWindow, vram * GB);
        else {
          const more = { ...(contextWindow ? { contextWindow } : {}), ...(ram ? { ram: ram * GB } : {}) };
          footprints.learn('r', { model, vram: vram * GB, busy, ...more });
        }
      }
      let before = 0;
      for (let asked = 64; asked <= 41_000; asked += 1000) {
        const need = ofText ? of('text.chat', { context: asked }) : of('image.generate', { width: asked, height: 1 });
        expect(need.footprint).toBeGreaterThanOrEqual(before);
        expect(Number.isSafeInteger(need.footprint)).toBe(true);
        before = need.footprint;
      }
    }),
  );
});
