// The picture tools: upright, clean and within limits, masks in one form, and nothing that is no picture.
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { Picture } from '../../src/media.ts';
import * as media from '../support/media/index.ts';

const tools = openMediaTools({ maxPixels: 4_000_000 });
const BLACK = [0, 0, 0] as const;
const WHITE = [255, 255, 255] as const;

/** Pixels of a picture of one row: grey and alpha, or RGBA. */
async function row(values: number[], channels: 1 | 2 | 3 | 4, format: 'png' | 'webp' | 'gif' | 'tiff' = 'png') {
  const picture = sharp(new Uint8Array(values), { raw: { width: values.length / channels, height: 1, channels } });
  const plain = channels < 3 ? picture.toColourspace('b-w') : picture;
  const exact = format === 'tiff' ? { compression: 'lzw' as const } : { lossless: true };
  return new Uint8Array(await plain.toFormat(format, exact).toBuffer());
}

async function greys({ bytes }: Picture): Promise<number[]> {
  const { width, height, channels, depth, hasAlpha } = await sharp(bytes).metadata();
  expect({ channels, depth, hasAlpha }).toEqual({ channels: 1, depth: 'uchar', hasAlpha: false });
  // Of what sharp reads a grey picture as, one channel is enough.
  const raw = await sharp(bytes).extractChannel(0).raw().toBuffer();
  expect(raw.length).toBe(width * height);
  return [...raw];
}

async function refusal(asked: Promise<unknown>): Promise<GatewayError> {
  const error = await asked.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}

describe('toMask', () => {
  it('takes what is light for what may change where nothing is transparent', async () => {
    expect(await greys(await tools.toMask(await row([0, 255, 128, 7], 1)))).toEqual([0, 255, 128, 7]);
    const opaque = await row([...BLACK, 255, ...WHITE, 255], 4);
    expect(await greys(await tools.toMask(opaque))).toEqual([0, 255]);
  });

  it('takes what is transparent for what may change, softly, whatever its colour', async () => {
    const soft = [...WHITE, 255, ...BLACK, 0, ...WHITE, 100];
    for (const format of ['png', 'webp', 'tiff'] as const)
      expect(await greys(await tools.toMask(await row(soft, 4, format))), format).toEqual([0, 255, 155]);
    expect(await greys(await tools.toMask(await row([255, 255, 0, 0, 9, 254], 2)))).toEqual([0, 255, 1]);
    expect(await greys(await tools.toMask(await row([...WHITE, 255, ...BLACK, 0], 4, 'gif')))).toEqual([0, 255]);
  });

  it('takes sixteen bits and palettes', async () => {
    const deep = sharp(new Uint16Array([0, 0, 0, 65_535, 9, 9, 9, 0, 9, 9, 9, 32_768]), {
      raw: { width: 3, height: 1, channels: 4 },
    });
    const bytes = new Uint8Array(await deep.toColourspace('rgb16').png().toBuffer());
    expect((await sharp(bytes).metadata()).depth).toBe('ushort');
    expect(await greys(await tools.toMask(bytes))).toEqual([0, 255, 128]);
    const indexed = await sharp(await row([...WHITE, 255, ...BLACK, 0], 4))
      .png({ palette: true })
      .toBuffer();
    expect(await greys(await tools.toMask(new Uint8Array(indexed)))).toEqual([0, 255]);
  });

  it('turns one that lies on its side', async () => {
    const lying = sharp(new Uint8Array([255, 0, 0]), { raw: { width: 3, height: 1, channels: 1 } });
    const bytes = await lying.toColourspace('b-w').withMetadata({ orientation: 6 }).png().toBuffer();
    const mask = await tools.toMask(new Uint8Array(bytes));
    expect(mask).toMatchObject({ width: 1, height: 3 });
    expect(await greys(mask)).toEqual([255, 0, 0]);
  });

  it('gives toAlphaMask what to make transparent', async () => {
    for (const given of [await row([0, 255, 55], 1), await row([...BLACK, 255, ...BLACK, 0, ...BLACK, 200], 4)]) {
      const { toAlphaMask } = tools;
      const { bytes } = await toAlphaMask(given);
      expect([...(await sharp(bytes).raw().toBuffer())]).toEqual([...BLACK, 255, ...BLACK, 0, ...BLACK, 200]);
    }
  });
});

describe('toPng', () => {
  it('gives an upright picture without what else is in it', async () => {
    const secret = { parameters: 'a prompt', GPS: 'home' };
    const clean = await tools.toPng(await media.makePngWithTexts(secret));
    expect(Buffer.from(clean.bytes).includes('a prompt')).toBe(false);
    const lying = sharp({ create: { width: 30, height: 20, channels: 3, background: '#080' } });
    const photo = await lying
      .withExif({ IFD0: { Copyright: 'me' } })
      .withMetadata({ orientation: 6 })
      .jpeg()
      .toBuffer();
    const upright = await tools.toPng(new Uint8Array(photo));
    expect(upright).toMatchObject({ width: 20, height: 30 });
    const { format, exif, orientation, depth } = await sharp(upright.bytes).metadata();
    expect({ format, exif, orientation, depth }).toEqual({ format: 'png', depth: 'uchar' });
  });

  it('stretches to a size, and takes the first picture of many', async () => {
    const small = await tools.toPng(await media.makePattern(30, 20), { width: 64, height: 16 });
    expect(await sharp(small.bytes).metadata()).toMatchObject({ width: 64, height: 16 });
    const frames = [BLACK, WHITE];
    for (const type of ['gif', 'webp'] as const) {
      const first = await tools.toPng(await media.makeAnimation(type, { width: 8, height: 8, fps: 2, frames }));
      expect(first).toMatchObject({ width: 8, height: 8 });
      expect((await sharp(first.bytes).raw().toBuffer())[0]).toBe(0);
    }
  });

  it.each([
    ['text', async () => media.plainText(), /damaged, or is none/],
    ['a drawing', async () => media.activeSvg(), /damaged, or is none/],
    [
      'a drawing that begins like a text',
      async () => new TextEncoder().encode(`\n<?xml version="1.0"?><svg/>`),
      /none/,
    ],
    ['nothing', async () => new Uint8Array(), /none/],
    ['a PNG that ends in the middle', media.truncatedPng, /damaged/],
    ['fifty thousand by fifty thousand', async () => media.pixelBomb(), /larger than 4 megapixels/],
    ['a PDF', async () => new TextEncoder().encode('%PDF-1.4\n1 0 obj\n<<>>\n'), /none/],
    ['noise behind the name of a JPEG', async () => new Uint8Array(3000).fill(0xff), /damaged/],
  ] as const)('refuses %s', async (_, make, message) => {
    const bytes = await make();
    for (const ask of [tools.toPng, tools.toMask, tools.toAlphaMask]) {
      const error = await refusal(ask(bytes));
      expect(error.code).toBe('invalid_request');
      expect(error.message).toMatch(message);
    }
  });

  it('loads no drawing through any other door of the library', async () => {
    await tools.toPng(await media.makePicture({ width: 4, height: 4 }));
    await expect(sharp(Buffer.from(media.activeSvg())).png().toBuffer()).rejects.toThrow();
  });

  it('stays small where many large pictures and bombs come at once', async () => {
    const large = new Uint8Array(
      await sharp({ create: { width: 2000, height: 2000, channels: 3, background: '#123' } })
        .png()
        .toBuffer(),
    );
    const bombs = [await media.frameBomb('gif'), await media.frameBomb('webp'), media.pixelBomb()];
    await tools.toPng(large);
    const before = process.memoryUsage().rss;
    let highest = before;
    const watch = setInterval(() => (highest = Math.max(highest, process.memoryUsage().rss)), 5);
    const asked = Array.from({ length: 12 }, (_, index) => tools.toPng(index < 8 ? large : bombs[index % 3]!));
    await Promise.allSettled(asked);
    clearInterval(watch);
    expect((highest - before) / 1e6).toBeLessThan(150);
  });
});

describe('fromPixels', () => {
  it('makes a picture of bytes, as large as asked', async () => {
    const made = await tools.fromPixels(new Uint8Array([...BLACK, ...WHITE]), 2, 1, 8);
    expect(await sharp(made).metadata()).toMatchObject({ format: 'png', width: 16, height: 8, channels: 3 });
  });
});
