// The makers of media files, read by libraries that did not make them.
import { expect, it } from 'vitest';
import * as media from '../support/media/index.ts';

const frames: media.Rgb[] = Array.from({ length: 12 }, (_, index) => [index * 20, 200 - index * 9, 60]);

it.each([
  ['MP4', media.makeMp4, { type: 'video/mp4', codec: 'avc' }],
  ['WebM', media.makeWebm, { type: 'video/webm', codec: 'vp8' }],
] as const)('%s has its frames, size, rate and length', async (_, make, expected) => {
  const found = await media.probe(await make({ width: 96, height: 64, fps: 6, frames }));
  expect(found).toMatchObject({ ...expected, width: 96, height: 64, frames: 12, fps: 6 });
  expect(found.duration_s).toBeCloseTo(2, 2);
});

it.each([
  ['MP3', media.makeMp3, 'audio/mpeg'],
  ['FLAC', media.makeFlac, 'audio/flac'],
  ['Opus', media.makeOpus, 'audio/ogg'],
  ['WAV', media.makeWav, 'audio/wav'],
] as const)('%s has its length, and other bytes for another seed', async (_, make, type) => {
  const found = await media.probe(make({ seconds: 7.5 }));
  expect(found.type).toBe(type);
  expect(Math.abs(found.duration_s! - 7.5)).toBeLessThan(0.1);
  expect(Buffer.compare(make({ seconds: 1, seed: 1 }), make({ seconds: 1, seed: 2 }))).not.toBe(0);
});

it.each(['gif', 'webp'] as const)('an animated %s has its frames and size', async (type) => {
  const made = await media.makeAnimation(type, { width: 40, height: 24, fps: 10, frames });
  expect(await media.probe(made)).toMatchObject({
    type: `image/${type}`,
    width: 40,
    height: 24,
    frames: 12,
    duration_s: 1.2,
  });
});

it('hostile files are what they say', async () => {
  expect(media.pixelBomb().length).toBeLessThan(200);
  expect(await media.probe(media.pixelBomb())).toMatchObject({ type: 'image/png', width: 50_000, height: 50_000 });
  for (const type of ['gif', 'webp'] as const) {
    expect(await media.probe(await media.frameBomb(type, 300))).toMatchObject({ type: `image/${type}`, frames: 300 });
  }
  expect(await media.probe(await media.onePixel())).toMatchObject({ width: 1, height: 1 });
  await expect(media.probe(media.plainText())).rejects.toThrow();
  const { default: sharp } = await import('sharp');
  await expect(
    sharp(await media.truncatedPng())
      .raw()
      .toBuffer(),
  ).rejects.toThrow();
  const texts = await media.makePngWithTexts({ prompt: '{"text":"été → hiver"}', parameters: 'a cat' });
  expect(Buffer.from(texts).includes('iTXtprompt')).toBe(true);
  expect(Buffer.from(texts).includes('tEXtparameters')).toBe(true);
  await expect(sharp(texts).raw().toBuffer()).resolves.toBeDefined();
});
