// Pictures that are painted over where a mask says so, and the colour at a place of a picture.
import sharp from 'sharp';
import type { Rgb } from './media/index.ts';

/** What fakes paint, so that a picture tells its seed. */
export function toColour(seed: number): Rgb {
  return [seed % 256, (seed >> 8) % 256, 90];
}

/** r, g, b, alpha. */
export async function colourAt(bytes: Uint8Array, x: number, y: number): Promise<number[]> {
  const { data, info } = await toRgba(bytes);
  const at = (y * info.width + x) * 4;
  return [...data.subarray(at, at + 4)];
}

/** Red where it may change, as it was elsewhere. */
export async function paint(
  picture: Uint8Array,
  mask: Uint8Array | undefined,
  changes: (rgba: Uint8Array) => boolean,
): Promise<Uint8Array> {
  const { data, info } = await toRgba(picture);
  const where = mask && (await toRgba(mask)).data;
  for (let at = 0; at < data.length; at += 4) {
    if (!where || changes(where.subarray(at, at + 4))) data.set([255, 0, 0, 255], at);
  }
  const { width, height } = info;
  return new Uint8Array(
    await sharp(data, { raw: { width, height, channels: 4 } })
      .removeAlpha()
      .png()
      .toBuffer(),
  );
}

function toRgba(bytes: Uint8Array) {
  return sharp(bytes).toColourspace('srgb').ensureAlpha().raw().toBuffer({ resolveWithObject: true });
}
