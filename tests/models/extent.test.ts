// How large what is asked for is, and the key that its times are kept under: from the request, then from what the model usually makes.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { capabilityIds, type CapabilityId } from '../../src/capabilities/index.ts';
import { extentOf, workOf } from '../../src/models/extent.ts';
import type { Model } from '../../src/runtime.ts';

const sdxl: Pick<Model, 'usual'> = { usual: { 'image.generate': { width: 1024, height: 1024, steps: 25 } } };
const ltx: Pick<Model, 'usual'> = {
  usual: { 'video.generate': { width: 768, height: 512, frames: 97, fps: 24, steps: 30 } },
};

describe('extentOf', () => {
  it.each<[CapabilityId, object, Pick<Model, 'usual' | 'contextWindow'>, number | undefined]>([
    ['text.chat', { context: 8192 }, {}, 8192],
    ['text.chat', { context: 100_000 }, { contextWindow: 40_960 }, 40_960],
    ['text.chat', { max_tokens: 100 }, { contextWindow: 40_960 }, undefined],
    ['image.describe', { context: 4096 }, {}, 4096],
    ['image.generate', { size: '512x768' }, sdxl, 512 * 768],
    ['image.generate', { width: 512, height: 768, n: 4 }, sdxl, 4 * 512 * 768],
    ['image.generate', { size: 'auto', n: 2 }, sdxl, 2 * 1024 ** 2],
    ['image.generate', { n: 2 }, {}, undefined],
    ['image.edit', { n: 2 }, sdxl, undefined],
    ['video.generate', {}, ltx, 768 * 512 * 97],
    ['video.generate', { frames: 25 }, ltx, 768 * 512 * 25],
    ['video.generate', { seconds: 2 }, ltx, 768 * 512 * 48],
    ['video.generate', { seconds: 2, fps: 10 }, ltx, 768 * 512 * 20],
    ['music.generate', { seconds: 90 }, {}, 90],
    ['music.generate', {}, { usual: { 'music.generate': { seconds: 120 } } }, 120],
    ['image.upscale', { scale: 4 }, {}, undefined],
  ])('%s %j', (id, input, model, extent) => {
    expect(extentOf(id, input, model)).toBe(extent);
  });
});

describe('workOf', () => {
  it.each<[CapabilityId, object, Pick<Model, 'usual'>, string]>([
    ['image.generate', {}, sdxl, 'image.generate 1024x1024x1 s25'],
    ['image.generate', { size: '512x512', n: 3, steps: 8 }, sdxl, 'image.generate 512x512x3 s8'],
    ['image.edit', { num_inference_steps: 12, n: 2 }, {}, 'image.edit x2 s12'],
    ['image.upscale', { scale: 2 }, {}, 'image.upscale x1 by2'],
    ['video.generate', { seconds: 1 }, ltx, 'video.generate 768x512x24 s30'],
    ['music.generate', { seconds: 63, steps: 8 }, {}, 'music.generate 70s s8'],
    ['text.chat', { max_tokens: 300 }, {}, 'text.chat t512'],
    ['text.chat', { max_tokens: 0 }, {}, 'text.chat'],
    ['text.embed', { input: ['a', 'b', 'c'] }, {}, 'text.embed n4'],
    ['text.story', { length: 'long' }, {}, 'text.story long'],
  ])('%s %j', (id, input, model, work) => {
    expect(workOf(id, input, model)).toBe(work);
  });

  it('is short and has no words of the caller, whatever comes', () => {
    const odd = fc.oneof(fc.anything(), fc.string(), fc.double(), fc.constant('1e309x-5'), fc.constant('999999999x9'));
    const names = [
      'size',
      'width',
      'height',
      'n',
      'frames',
      'seconds',
      'fps',
      'steps',
      'scale',
      'max_tokens',
      'context',
    ];
    const input = fc.dictionary(fc.constantFrom(...names, 'prompt', 'messages', 'input'), odd);
    fc.assert(
      fc.property(fc.constantFrom(...capabilityIds), fc.oneof(input, fc.anything()), (id, given) => {
        const work = workOf(id, given, sdxl);
        expect(work.length).toBeLessThanOrEqual(80);
        expect(work.startsWith(id)).toBe(true);
        expect(work.slice(id.length)).toMatch(/^( [a-z]*[\d.e+x-]+s?| short| medium| long)*$/);
        const extent = extentOf(id, given, sdxl);
        if (extent !== undefined) expect(extent > 0 && extent <= Number.MAX_SAFE_INTEGER).toBe(true);
      }),
    );
    expect(workOf('image.generate', { prompt: 'a secret', size: 'secret' }, {})).not.toContain('secret');
    expect(workOf('text.story', { topic: 'secret', length: 'secret!' }, {})).not.toContain('secret');
  });
});
