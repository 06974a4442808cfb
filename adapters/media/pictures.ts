// Pictures by sharp: of known kinds only, decoded within limits of pixels, time and number, and never an SVG.
import type { Sharp, SharpOptions } from 'sharp';
import { GatewayError } from '../../src/error.ts';
import type { Conversion, MediaTools, Picture } from '../../src/media.ts';
import { isPicture, toContainer } from './container.ts';
import { createLane } from './lane.ts';

export interface Pictures extends Pick<MediaTools, 'toPng' | 'toMask' | 'toAlphaMask' | 'fromPixels'> {
  /** Every picture of a moving one where the format can move, too. Throws invalid_request for what cannot be decoded. */
  encode(bytes: Uint8Array, to: Conversion): Promise<Uint8Array<ArrayBuffer>>;
  /** The pictures of a moving one, one below the other, as RGB bytes. Throws invalid_request. */
  toFrames(bytes: Uint8Array): Promise<Frames>;
}

export interface Frames {
  pixels: Uint8Array;
  width: number;
  height: number;
  /** Per second. */
  fps: number;
}

/** Seconds after which a picture that is still being decoded is given up. */
const TIMEOUT_S = 30;
/** Each holds a thread of those that files are written with, too, and up to four bytes a pixel. */
const AT_A_TIME = 2;
/** What is made here may be larger than what may be brought: times as many pixels, all its frames together. */
const MADE = 8;
/** Loaders of what can run programs, load other files, or was never meant to come from strangers. */
const BLOCKED = [
  'Svg',
  'Pdf',
  'Magick',
  'Magick7',
  'Matrix',
  'Csv',
  'Analyze',
  'Mat',
  'OpenSlide',
  'Vips',
  'Ppm',
  'Rad',
];

export function createPictures(maxPixels: number): Pictures {
  const inLane = createLane(AT_A_TIME);

  /** What `work` makes of an opened picture. Throws invalid_request for one that cannot be decoded within the limits. */
  function decode<T>(bytes: Uint8Array, work: (picture: Sharp) => Promise<T>, options?: SharpOptions): Promise<T> {
    return inLane(async () => {
      if (!isPicture(toContainer(bytes))) throw damaged();
      const limited = { limitInputPixels: maxPixels, failOn: 'error', pages: 1, sequentialRead: true } as const;
      try {
        return await work((await loadSharp())(bytes, { ...limited, ...options }).timeout({ seconds: TIMEOUT_S }));
      } catch (error) {
        throw toFailure(error, maxPixels);
      }
    });
  }

  const toMask: MediaTools['toMask'] = (bytes) =>
    decode(bytes, async (picture) => {
      const upright = picture.autoOrient();
      if ((await picture.metadata()).hasAlpha) {
        const { data, info } = await toGrey(upright.clone().extractChannel('alpha'));
        if (data.some((value) => value !== 255)) {
          for (let at = 0; at < data.length; at++) data[at] = 255 - data[at]!;
          return toGreyPng(data, info);
        }
      }
      const { data, info } = await toGrey(upright.clone().removeAlpha().greyscale());
      return toGreyPng(data, info);
    });

  return {
    toPng: (bytes, size) =>
      decode(bytes, (picture) => {
        const upright = picture.autoOrient().toColourspace('srgb');
        return toPicture(size ? upright.resize(size.width, size.height, { fit: 'fill' }) : upright);
      }),
    toMask,
    async toAlphaMask(bytes) {
      const canonical = await toMask(bytes);
      return decode(canonical.bytes, async (picture) => {
        const { data, info } = await toGrey(picture);
        const { width, height } = info;
        for (let at = 0; at < data.length; at++) data[at] = 255 - data[at]!;
        const black = await createPicture({ create: { width, height, channels: 3, background: '#000' } });
        return toPicture(black.joinChannel(data, { raw: { width, height, channels: 1 } }));
      });
    },
    async fromPixels(pixels, width, height, scale = 1) {
      const picture = await createPicture(pixels, { raw: { width, height, channels: 3 } });
      const larger = scale === 1 ? picture : picture.resize(width * scale, height * scale, { kernel: 'lanczos3' });
      return (await toPicture(larger)).bytes;
    },
    encode: (bytes, { format, quality = 90 }) =>
      decode(
        bytes,
        async (picture) => {
          const moves = ((await picture.metadata()).pages ?? 1) > 1;
          const upright = moves ? picture : picture.autoOrient();
          // 0 is asked for by callers and refused by the encoders.
          const options = { quality: Math.max(1, quality) };
          if (format === 'jpeg') return toBytes(upright.flatten({ background: '#fff' }).jpeg(options));
          if (format === 'webp') return toBytes(upright.webp(options));
          return toBytes(format === 'gif' ? upright.gif() : upright.png());
        },
        { limitInputPixels: maxPixels * MADE, pages: format === 'webp' || format === 'gif' ? -1 : 1 },
      ),
    toFrames: (bytes) =>
      decode(
        bytes,
        async (picture) => {
          const { width, height, pageHeight = height, delay = [] } = await picture.metadata();
          const pixels = await picture.toColourspace('srgb').flatten({ background: '#000' }).raw().toBuffer();
          const lasts = delay.reduce((sum, ms) => sum + ms, 0);
          return { pixels, width, height: pageHeight, fps: lasts > 0 ? (delay.length * 1000) / lasts : 10 };
        },
        { limitInputPixels: maxPixels * MADE, pages: -1 },
      ),
  };
}

type SharpModule = (typeof import('sharp'))['default'];

let loading: Promise<SharpModule> | undefined;

/** One thread for each picture, nothing kept for later ones, and nothing but pictures loaded. */
function loadSharp(): Promise<SharpModule> {
  return (loading ??= import('sharp').then(({ default: sharp }) => {
    sharp.concurrency(1);
    sharp.cache(false);
    sharp.block({ operation: BLOCKED.map((name) => `VipsForeignLoad${name}`) });
    return sharp;
  }));
}

async function createPicture(...given: [SharpOptions] | [Uint8Array, SharpOptions]): Promise<Sharp> {
  const sharp = await loadSharp();
  return given.length === 1 ? sharp(given[0]) : sharp(given[0], given[1]);
}

interface Size {
  width: number;
  height: number;
}

/** One byte a pixel. */
async function toGrey(picture: Sharp): Promise<{ data: Buffer; info: Size }> {
  return picture.toColourspace('b-w').raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
}

async function toGreyPng(data: Uint8Array, { width, height }: Size): Promise<Picture> {
  const picture = await createPicture(data, { raw: { width, height, channels: 1 } });
  return toPicture(picture.toColourspace('b-w'));
}

async function toPicture(picture: Sharp): Promise<Picture> {
  const { data, info } = await picture.png().toBuffer({ resolveWithObject: true });
  return { bytes: new Uint8Array(data), width: info.width, height: info.height };
}

async function toBytes(picture: Sharp): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await picture.toBuffer());
}

function toFailure(error: unknown, maxPixels: number): GatewayError {
  if (error instanceof GatewayError) return error;
  const { message } = error as Error;
  if (/pixel limit/i.test(message)) {
    const limit = Math.floor(maxPixels / 1e6);
    return new GatewayError('invalid_request', `The picture is larger than ${limit} megapixels.`, { cause: error });
  }
  if (/timeout/i.test(message)) {
    return new GatewayError('invalid_request', `The picture takes more than ${TIMEOUT_S} s to read.`, { cause: error });
  }
  return damaged(error);
}

function damaged(cause?: unknown): GatewayError {
  return new GatewayError('invalid_request', 'The picture is damaged, or is none.', { cause });
}
