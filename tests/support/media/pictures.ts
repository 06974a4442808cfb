// Small real pictures: of one colour or a pattern, in every format, with the metadata that image programs write.
import { crc32, deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { join } from './audio.ts';
import type { Rgb } from './h264.ts';

export type PictureType = 'png' | 'jpeg' | 'webp' | 'gif';

export interface PictureOptions {
  width: number;
  height: number;
  type?: PictureType;
  colour?: Rgb;
  /** 0 … 1 makes it transparent; with `hole` only there. */
  alpha?: number;
  /** A rectangle that has `alpha` or `holeColour` while the rest does not. */
  hole?: { left: number; top: number; width: number; height: number; colour?: Rgb };
}

export async function makePicture(options: PictureOptions): Promise<Uint8Array> {
  const { width, height, type = 'png', colour = [40, 120, 200], alpha = 1, hole } = options;
  const channels = alpha < 1 ? 4 : 3;
  const raw = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const inHole =
        hole && x >= hole.left && x < hole.left + hole.width && y >= hole.top && y < hole.top + hole.height;
      const at = (y * width + x) * channels;
      raw.set((inHole && hole.colour) || colour, at);
      if (channels === 4) raw[at + 3] = !hole || inHole ? Math.round(alpha * 255) : 255;
    }
  }
  return new Uint8Array(await sharp(raw, { raw: { width, height, channels } }).toFormat(type).toBuffer());
}

/** A picture in which every pixel differs from its neighbours, so that scaling and compositing can be measured. */
export async function makePattern(width: number, height: number, type: PictureType = 'png'): Promise<Uint8Array> {
  const raw = new Uint8Array(width * height * 3);
  for (let index = 0; index < width * height; index++) {
    const x = index % width;
    const y = Math.floor(index / width);
    raw.set([(x * 255) / Math.max(1, width - 1), (y * 255) / Math.max(1, height - 1), ((x ^ y) * 8) & 255], index * 3);
  }
  return new Uint8Array(
    await sharp(raw, { raw: { width, height, channels: 3 } })
      .toFormat(type)
      .toBuffer(),
  );
}

/** One frame per colour; loops for ever. */
export async function makeAnimation(
  type: 'gif' | 'webp',
  options: { width: number; height: number; fps: number; frames: Rgb[] },
): Promise<Uint8Array> {
  const { width, height, fps, frames } = options;
  const raw = new Uint8Array(width * height * frames.length * 3);
  for (const [index, colour] of frames.entries()) {
    const start = index * width * height * 3;
    for (let at = start; at < start + width * height * 3; at += 3) raw.set(colour, at);
  }
  const shape = { width, height: height * frames.length, channels: 3 as const, pageHeight: height };
  const delay = frames.map(() => Math.round(1000 / fps));
  const picture = sharp(raw, { raw: shape, limitInputPixels: false });
  const made =
    type === 'gif'
      ? picture.gif({ delay, loop: 0, effort: 1 })
      : picture.webp({ delay, loop: 0, lossless: true, effort: 0 });
  return new Uint8Array(await made.toBuffer());
}

/** A PNG with texts in it, as ComfyUI and A1111 write prompt and workflow: short ones as tEXt, others as iTXt. */
export async function makePngWithTexts(texts: Record<string, string>, size = 16): Promise<Uint8Array> {
  return withTexts(await makePicture({ width: size, height: size }), texts);
}

/** The PNG with these texts after its header. */
export function withTexts(png: Uint8Array, texts: Record<string, string>): Uint8Array {
  const latin = new RegExp(String.raw`^[\x00-\xff]*$`);
  const chunks = Object.entries(texts).map(([name, text]) =>
    latin.test(text)
      ? pngChunk('tEXt', Buffer.from(`${name}\0${text}`, 'latin1'))
      : pngChunk('iTXt', Buffer.from(`${name}\0\0\0\0\0${text}`, 'utf8')),
  );
  return join([png.subarray(0, 33), ...chunks, png.subarray(33)]);
}

export function pngChunk(type: string, content: Uint8Array): Uint8Array {
  const body = join([new TextEncoder().encode(type), content]);
  const whole = new Uint8Array(body.length + 8);
  const view = new DataView(whole.buffer);
  view.setUint32(0, content.length);
  whole.set(body, 4);
  view.setUint32(4 + body.length, crc32(body));
  return whole;
}

/** The header of a PNG of this size, truecolour. */
export function pngHeader(width: number, height: number): Uint8Array {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 2, 0, 0, 0], 8);
  return join([new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]), pngChunk('IHDR', header)]);
}

/** The data and end of a PNG that holds only these bytes, whatever its header says. */
export function pngRest(data: Uint8Array): Uint8Array {
  return join([pngChunk('IDAT', deflateSync(data)), pngChunk('IEND', new Uint8Array())]);
}
