// Files that somebody sends to do harm, or by mistake: small on the wire, large or wrong once somebody opens them.
import type { Rgb } from './h264.ts';
import { makeAnimation, makePicture, pngHeader, pngRest } from './pictures.ts';
import { join } from './audio.ts';

/** A PNG of a few hundred bytes whose header says 50,000 × 50,000 pixels: 7.5 GB once it is decoded. */
export function pixelBomb(side = 50_000): Uint8Array {
  return join([pngHeader(side, side), pngRest(new Uint8Array(1000))]);
}

/** A WebP or GIF of one small frame size and very many frames. */
export async function frameBomb(type: 'gif' | 'webp', frames = 2000): Promise<Uint8Array> {
  // Two colours by turns: a frame that repeats the last one would be left out.
  const turns: Rgb[] = [
    [10, 10, 250],
    [250, 10, 10],
  ];
  const colours = Array.from({ length: frames }, (_, index) => turns[index % 2]!);
  return makeAnimation(type, { width: 8, height: 8, fps: 10, frames: colours });
}

/** The smallest picture there is. */
export async function onePixel(): Promise<Uint8Array> {
  return makePicture({ width: 1, height: 1 });
}

/** A drawing with a script and an outside reference in it. */
export function activeSvg(): Uint8Array {
  return new TextEncoder().encode(
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="64" height="64">' +
      '<script>fetch("http://127.0.0.1:9/stolen")</script><image xlink:href="file:///etc/hostname" width="64" height="64"/></svg>',
  );
}

/** What somebody may call `picture.png`. */
export function plainText(): Uint8Array {
  return new TextEncoder().encode('This is no picture, whatever its name says.\n');
}

/** A PNG that ends in the middle of its data. */
export async function truncatedPng(): Promise<Uint8Array> {
  const whole = await makePicture({
    width: 256,
    height: 256,
    hole: { left: 9, top: 9, width: 99, height: 99, colour: [9, 9, 9] },
  });
  return whole.slice(0, Math.floor(whole.length / 2));
}
