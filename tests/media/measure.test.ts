// Measuring: what is told of files from their headers, within bounds of bytes and time, whatever is in them.
import fc from '../support/property.ts';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { measure } from '../../adapters/media/measure.ts';
import { sniff } from '../../src/artifacts/sniff.ts';
import type { RandomAccess } from '../../src/media.ts';
import * as media from '../support/media/index.ts';

const RED = [200, 10, 10] as const;
const BLUE = [10, 10, 200] as const;

interface Counted extends RandomAccess {
  bytes: number;
}

function access(bytes: Uint8Array): Counted {
  const counted: Counted = {
    size: bytes.length,
    bytes: 0,
    async read(start, end) {
      const piece = bytes.slice(start, end);
      counted.bytes += piece.length;
      return piece;
    },
  };
  return counted;
}

async function measured(bytes: Uint8Array) {
  return measure(access(bytes), (await sniff(bytes.subarray(0, 8192))).mediaType);
}

/** 300 by 200, or 200 by 300 as it is seen where the file says that it lies on its side. */
async function lying(format: 'jpeg' | 'png' | 'webp' | 'tiff', orientation: number): Promise<Uint8Array> {
  const picture = sharp({ create: { width: 300, height: 200, channels: 3, background: '#a00' } });
  return new Uint8Array(await picture.withMetadata({ orientation }).toFormat(format).toBuffer());
}

describe('the size of a picture', () => {
  it.each(['png', 'jpeg', 'webp', 'gif', 'avif', 'tiff'] as const)('is told of %s', async (format) => {
    const picture = sharp({ create: { width: 33, height: 21, channels: 3, background: '#a00' } });
    expect(await measured(new Uint8Array(await picture.toFormat(format).toBuffer()))).toMatchObject({
      width: 33,
      height: 21,
    });
  });

  it.each(['jpeg', 'png', 'webp', 'tiff'] as const)('is that of the upright one where a %s lies', async (format) => {
    for (const orientation of [1, 2, 3, 4, 5, 6, 7, 8]) {
      const bytes = await lying(format, orientation);
      const { width, height } = (await measured(bytes))!;
      const { info } = await sharp(bytes).autoOrient().toBuffer({ resolveWithObject: true });
      expect([width, height], `${orientation}`).toEqual([info.width, info.height]);
    }
  });

  it('is found behind megabytes of profiles and previews', async () => {
    const bytes = await lying('jpeg', 6);
    const filler = new Uint8Array(65_535);
    filler.set([0xff, 0xe2, 0xff, 0xfd]);
    const fillers = Array.from({ length: 40 }, () => filler);
    const long = new Uint8Array(Buffer.concat([bytes.subarray(0, 2), ...fillers, bytes.subarray(2)]));
    expect(await measured(long)).toEqual({ width: 200, height: 300 });
  });

  it('is found in a TIFF whose directory stands at its end', async () => {
    const raw = new Uint8Array(3 * 1200 * 1000).map((_, at) => (at * 2_654_435_761) >>> 24);
    const large = sharp(raw, { raw: { width: 1200, height: 1000, channels: 3 } }).tiff({ compression: 'none' });
    const file = access(new Uint8Array(await large.toBuffer()));
    expect(await measure(file, 'image/tiff')).toEqual({ width: 1200, height: 1000 });
    expect(file.bytes).toBeLessThan(10_000);
  });

  it('is believed of a header that no memory could hold, without reading on', async () => {
    const bomb = media.pixelBomb();
    expect(await measured(bomb)).toMatchObject({ width: 50_000, height: 50_000 });
  });
});

describe('the pictures of a moving one', () => {
  it.each(['gif', 'webp'] as const)('are counted in %s', async (type) => {
    const moving = await media.makeAnimation(type, { width: 16, height: 12, fps: 5, frames: [RED, BLUE, RED] });
    expect(await measured(moving)).toEqual({ width: 16, height: 12, frames: 3 });
  });

  it('are counted up to thousands within a moment', async () => {
    const moving = await media.frameBomb('gif', 2000);
    expect(await measured(moving)).toMatchObject({ frames: 2000 });
  });

  it('are as many as an animated PNG says', async () => {
    const still = await media.makePicture({ width: 20, height: 10 });
    const control = Buffer.from('000000086163544c000000070000000000000000', 'hex');
    const moving = new Uint8Array(Buffer.concat([still.subarray(0, 33), control, still.subarray(33)]));
    expect(await measured(moving)).toMatchObject({ width: 20, height: 10, frames: 7 });
    expect(await measured(still)).toMatchObject({ frames: 1 });
  });

  it('are not counted through a file that is made of nothing but small blocks', async () => {
    const head = (await media.makePicture({ width: 20, height: 10 })).subarray(0, 33);
    const chunk = Buffer.from('000000007a7a5a7a00000000', 'hex');
    const endless = new Uint8Array(Buffer.concat([head, Buffer.alloc(chunk.length * 1_000_000, chunk)]));
    const file = access(endless);
    expect(await measure(file, 'image/png')).toEqual({ width: 20, height: 10 });
    expect(file.bytes).toBeLessThan(4_000_000);
  });
});

describe('a film or a sound', () => {
  it.each([
    ['mp4', media.makeMp4],
    ['webm', media.makeWebm],
  ] as const)('in %s tells its size, length and pictures', async (_, make) => {
    const film = await make({ width: 64, height: 48, fps: 8, frames: Array.from({ length: 16 }, () => RED) });
    const told = (await measured(film))!;
    expect(told).toMatchObject({ width: 64, height: 48, frames: 16 });
    expect(told.fps).toBeCloseTo(8, 0);
    expect(told.duration_s).toBeCloseTo(2, 0);
  });

  it.each([
    ['wav', media.makeWav],
    ['mp3', media.makeMp3],
    ['flac', media.makeFlac],
    ['ogg', media.makeOpus],
  ] as const)('in %s tells its length', async (_, make) => {
    const told = (await measured(make({ seconds: 2 })))!;
    expect(Object.keys(told)).toEqual(['duration_s']);
    expect(told.duration_s).toBeCloseTo(2, 0);
  });

  it('of hundreds of megabytes is not read whole', async () => {
    const wav = media.makeWav({ seconds: 1 });
    const size = 400_000_000;
    const header = wav.slice(0, 44);
    new DataView(header.buffer).setUint32(4, size - 8, true);
    new DataView(header.buffer).setUint32(40, size - 44, true);
    let read = 0;
    const file: RandomAccess = {
      size,
      async read(start, end) {
        read += end - start;
        const piece = new Uint8Array(end - start);
        if (start < 44) piece.set(header.subarray(start, Math.min(44, end)));
        return piece;
      },
    };
    expect((await measure(file, 'audio/wav'))!.duration_s).toBeGreaterThan(100);
    expect(read).toBeLessThan(10_000_000);
  });
});

describe('what is damaged', () => {
  const types = ['image/png', 'image/jpeg', 'image/webp', 'image/gif', 'image/avif', 'image/tiff', 'video/mp4'];
  const sounds = ['video/webm', 'audio/wav', 'audio/mpeg', 'audio/flac', 'audio/ogg'];
  let wholes: [string, Uint8Array][];
  beforeAll(async () => {
    const frames = [RED, BLUE, RED, BLUE];
    const picture = (format: 'avif' | 'tiff' | 'jpeg') =>
      sharp({ create: { width: 33, height: 21, channels: 3, background: '#a00' } })
        .toFormat(format)
        .toBuffer();
    wholes = [
      ['image/png', await media.makePicture({ width: 16, height: 12 })],
      ['image/jpeg', new Uint8Array(await picture('jpeg'))],
      ['image/avif', new Uint8Array(await picture('avif'))],
      ['image/tiff', new Uint8Array(await picture('tiff'))],
      ['image/gif', await media.makeAnimation('gif', { width: 16, height: 12, fps: 5, frames })],
      ['image/webp', await media.makeAnimation('webp', { width: 16, height: 12, fps: 5, frames })],
      ['video/mp4', await media.makeMp4({ width: 64, height: 48, fps: 8, frames })],
      ['video/webm', await media.makeWebm({ width: 64, height: 48, fps: 8, frames })],
      ['audio/wav', media.makeWav({ seconds: 0.2 })],
      ['audio/mpeg', media.makeMp3({ seconds: 0.2 })],
      ['audio/flac', media.makeFlac({ seconds: 0.2 })],
      ['audio/ogg', media.makeOpus({ seconds: 0.2 })],
    ];
  });

  it('tells nothing where it is noise, of whatever it is said to be', async () => {
    const noise = fc.uint8Array({ maxLength: 4000 });
    await fc.assert(
      fc.asyncProperty(noise, fc.constantFrom(...types, ...sounds), async (bytes, type) => {
        sane(await measure(access(bytes), type));
      }),
      { numRuns: 300 },
    );
  });

  it('tells numbers or nothing wherever a file is cut or changed', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: 11 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat({ max: 255 })), { maxLength: 6 }),
        async (which, cut, changes) => {
          const [type, whole] = wholes[which]!;
          const bytes = whole.slice(0, Math.ceil(whole.length * (0.05 + cut)));
          // Most of what matters stands at the beginning.
          for (const [at, value] of changes) bytes[Math.floor(at ** 3 * bytes.length)] = value;
          const file = access(bytes);
          sane(await measure(file, type));
          expect(file.bytes).toBeLessThan(80_000_000);
        },
      ),
      { numRuns: 400 },
    );
  });

  function sane(told: Awaited<ReturnType<typeof measure>>): void {
    for (const value of Object.values(told ?? {})) expect(value).toBeTypeOf('number');
  }

  it('ends where reading fails', async () => {
    const file = { size: 1000, read: () => Promise.reject(new Error('gone')) };
    for (const type of [...types, ...sounds]) expect(await measure(file, type)).toBeUndefined();
  });
});
