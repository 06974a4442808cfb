// What flows between the nodes of a fake ComfyUI: pictures, masks and latents that are computed only where somebody looks.
import { createHash } from 'node:crypto';
import sharp from 'sharp';
import type { Rgb } from '../media/index.ts';

/** A batch of pictures, or the frames of a video. */
export interface Pictures {
  kind: 'pictures';
  width: number;
  height: number;
  count: number;
  /** The mean colour of one; cheap. */
  colour(index: number): Promise<Rgb>;
  /** Red, green, blue of one, row by row. */
  pixels(index: number): Promise<Uint8Array>;
}

export interface Mask {
  kind: 'mask';
  width: number;
  height: number;
  /** 255 = chosen. */
  levels(): Promise<Uint8Array>;
}

export interface Latent {
  kind: 'latent';
  width: number;
  height: number;
  count: number;
  /** Of music. */
  seconds?: number;
  /** What was encoded into it. */
  source?: Pictures;
  /** Where it may change. */
  mask?: Mask;
  /** What a sampler made of it. */
  made?: { key: string; keep: number };
}

export interface Conditioning {
  kind: 'conditioning';
  text: string;
  pictures?: Pictures;
}

export interface Sound {
  kind: 'sound';
  seconds: number;
  key: string;
}

export interface Video {
  kind: 'video';
  pictures: Pictures;
  fps: number;
}

/** Models, encoders, schedules: told apart by a name. */
export interface Thing {
  kind: 'thing';
  name: string;
  steps?: number;
}

export type Value = Pictures | Mask | Latent | Conditioning | Sound | Video | Thing;

/** A number below 2^32 that depends on nothing but the text. */
export function hash(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE();
}

/** Pictures that depend on the key: a gradient around a colour of its own for every index. */
export function generated(key: string, shape: { width: number; height: number; count: number }): Pictures {
  const { width, height, count } = shape;
  const seed = hash(key);
  // Neighbouring frames never share a colour, so that no encoder merges them.
  const tint = (index: number): Rgb => [
    40 + (((seed & 127) + index * 3) % 160),
    40 + ((((seed >> 8) & 127) + index * 7) % 160),
    40 + ((((seed >> 16) & 127) + index * 5) % 160),
  ];
  return {
    kind: 'pictures',
    ...shape,
    colour: async (index) => tint(index % count),
    pixels: async (index) => {
      const [red, green, blue] = tint(index % count);
      const raw = new Uint8Array(width * height * 3);
      for (let y = 0, at = 0; y < height; y++) {
        const down = ((y * 32) / height) | 0;
        for (let x = 0; x < width; x++, at += 3) {
          const across = ((x * 32) / width) | 0;
          raw[at] = red + across;
          raw[at + 1] = green + down;
          raw[at + 2] = blue + ((across ^ down) & 15);
        }
      }
      return raw;
    },
  };
}

/** Pictures of one pixel buffer each. */
export function fixed(width: number, height: number, frames: (() => Promise<Uint8Array>)[]): Pictures {
  const kept = new Map<number, Promise<Uint8Array>>();
  const pixels = (index: number) => {
    const at = index % frames.length;
    if (!kept.has(at)) kept.set(at, frames[at]!());
    return kept.get(at)!;
  };
  return {
    kind: 'pictures',
    width,
    height,
    count: frames.length,
    pixels,
    colour: async (index) => meanColour(await pixels(index)),
  };
}

/** Scaled to a size, without regard to the aspect ratio. */
export function scaled(pictures: Pictures, width: number, height: number): Pictures {
  if (pictures.width === width && pictures.height === height) return pictures;
  const frames = Array.from({ length: pictures.count }, (_, index) => async () => {
    const raw = { width: pictures.width, height: pictures.height, channels: 3 as const };
    const resized = sharp(await pictures.pixels(index), { raw }).resize(width, height, { fit: 'fill' });
    return new Uint8Array(await resized.removeAlpha().raw().toBuffer());
  });
  return fixed(width, height, frames);
}

export async function scaledLevels(mask: Mask, width: number, height: number): Promise<Uint8Array> {
  const levels = await mask.levels();
  if (mask.width === width && mask.height === height) return levels;
  const raw = { width: mask.width, height: mask.height, channels: 1 as const };
  const resized = sharp(levels, { raw }).resize(width, height, { fit: 'fill', kernel: 'linear' });
  return new Uint8Array(await resized.toColourspace('b-w').raw().toBuffer());
}

/** Mask × `over` + (1 − mask) × `under`, exact where the mask is black or white. */
export function composite(under: Uint8Array, over: Uint8Array, levels: Uint8Array): Uint8Array {
  const out = new Uint8Array(under.length);
  for (let at = 0; at < out.length; at++) {
    const share = levels[(at / 3) | 0]!;
    out[at] =
      share === 0 ? under[at]! : share === 255 ? over[at]! : (over[at]! * share + under[at]! * (255 - share)) / 255;
  }
  return out;
}

/** Grown or shrunk pixel by pixel; with tapered corners only up, down, left and right. */
export function grow({ width, height, levels }: Mask, expand: number, tapered: boolean): Mask {
  const pick = expand < 0 ? Math.min : Math.max;
  const step = (from: Uint8Array): Uint8Array => {
    const to = new Uint8Array(from.length);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const left = x > 0 ? -1 : 0;
        const right = x < width - 1 ? 1 : 0;
        const up = y > 0 ? -width : 0;
        const down = y < height - 1 ? width : 0;
        const at = y * width + x;
        let level = pick(from[at]!, from[at + left]!, from[at + right]!, from[at + up]!, from[at + down]!);
        if (!tapered) {
          level = pick(
            level,
            from[at + left + up]!,
            from[at + right + up]!,
            from[at + left + down]!,
            from[at + right + down]!,
          );
        }
        to[at] = level;
      }
    }
    return to;
  };
  return {
    kind: 'mask',
    width,
    height,
    levels: async () => {
      let current = await levels();
      for (let times = 0; times < Math.abs(expand); times++) current = step(current);
      return current;
    },
  };
}

/** What a VAE makes of a latent: whatever was made, mixed with what it came from, never quite as it went in. */
export function decoded(latent: Latent): Pictures {
  const { source, mask, made } = latent;
  const shape = { width: latent.width, height: latent.height, count: latent.count };
  const fresh = generated(made?.key ?? 'nothing was sampled', shape);
  if (!source) return fresh;
  const keep = made ? made.keep : 1;
  const from = scaled(source, shape.width, shape.height);
  const frames = Array.from({ length: shape.count }, (_, index) => async () => {
    const [old, next] = await Promise.all([from.pixels(index), fresh.pixels(index)]);
    const levels = mask && (await scaledLevels(mask, shape.width, shape.height));
    const out = new Uint8Array(old.length);
    for (let at = 0; at < out.length; at++) {
      const kept = levels ? 1 - ((1 - keep) * levels[(at / 3) | 0]!) / 255 : keep;
      // The way through a VAE and back is not exact.
      const noise = at % 5 === 0 ? 2 : 0;
      out[at] = Math.min(255, old[at]! * kept + next[at]! * (1 - kept) + noise);
    }
    return out;
  });
  return fixed(shape.width, shape.height, frames);
}

function meanColour(raw: Uint8Array): Rgb {
  const sums = [0, 0, 0];
  for (let at = 0; at < raw.length; at++) sums[at % 3]! += raw[at]!;
  const [red, green, blue] = sums.map((sum) => Math.round((sum * 3) / raw.length));
  return [red!, green!, blue!];
}
