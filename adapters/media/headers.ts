// What of a picture may be told anywhere in its file: the size of a TIFF, how many pictures a moving one has, and how it lies.
import type { RandomAccess } from '../../src/media.ts';

/** More entries than any directory of a TIFF has. */
const MAX_ENTRIES = 4096;
const WIDTH = 256;
const HEIGHT = 257;
const ORIENTATION = 274;
/** Names of chunks, as numbers. */
const ACTL = 0x6163544c;
const EXIF_OF_PNG = 0x65584966;
const IEND = 0x49454e44;
const VP8X = 0x56503858;
const ANMF = 0x414e4d46;
const EXIF = 0x45584946;

export interface Size {
  width: number;
  height: number;
}

/** Beside the size that every reader finds. */
export interface Extras {
  /** Pictures in it. */
  frames: number;
  /** As EXIF numbers it; from 5 on the picture lies on its side. */
  orientation?: number | undefined;
}

/** Of the first picture, as it is seen. Throws for what is no TIFF. */
export async function measureTiff(file: RandomAccess): Promise<Size> {
  const { width, height, orientation } = await readDirectory(file, 0);
  if (!width || !height) throw new Error('the TIFF tells no size');
  return toUpright({ width, height }, orientation);
}

export function toUpright({ width, height }: Size, orientation = 1): Size {
  return orientation >= 5 ? { width: height, height: width } : { width, height };
}

/** Undefined for kinds that have none of it. Throws where the file ends too soon. */
export async function readExtras(file: RandomAccess, mediaType: string): Promise<Extras | undefined> {
  if (mediaType === 'image/gif') return { frames: await countGif(file) };
  if (/^image\/a?png$/.test(mediaType)) return readPng(file);
  if (mediaType === 'image/webp') return readWebp(file);
  return undefined;
}

/** The first directory of a TIFF, or of the EXIF block that begins at `base`, which is one. */
async function readDirectory(file: RandomAccess, base: number) {
  const head = await view(file, base, 8);
  const little = head.getUint16(0) === 0x4949;
  const big = head.getUint16(2, little) === 43;
  const at = base + (big ? await readLong(file, base + 8, little) : head.getUint32(4, little));
  const count = big ? await readLong(file, at, little) : (await view(file, at, 2)).getUint16(0, little);
  const entrySize = big ? 20 : 12;
  const entries = await view(file, at + (big ? 8 : 2), Math.min(count, MAX_ENTRIES) * entrySize);
  const found = new Map<number, number>();
  for (let entry = 0; entry < entries.byteLength; entry += entrySize) {
    const type = entries.getUint16(entry + 2, little);
    const value = entry + (big ? 12 : 8);
    if (type === 3) found.set(entries.getUint16(entry, little), entries.getUint16(value, little));
    if (type === 4) found.set(entries.getUint16(entry, little), entries.getUint32(value, little));
    if (type === 16 && big) found.set(entries.getUint16(entry, little), Number(entries.getBigUint64(value, little)));
  }
  return { width: found.get(WIDTH), height: found.get(HEIGHT), orientation: found.get(ORIENTATION) };
}

async function readLong(file: RandomAccess, at: number, little: boolean): Promise<number> {
  return Number((await view(file, at, 8)).getBigUint64(0, little));
}

async function countGif(file: RandomAccess): Promise<number> {
  const flags = (await view(file, 10, 1)).getUint8(0);
  let at = 13 + colours(flags);
  for (let frames = 0; ;) {
    const kind = (await view(file, at++, 1)).getUint8(0);
    if (kind === 0x3b) return frames;
    if (kind === 0x2c) {
      frames++;
      // Its place and size, its own colours, and the width of its codes.
      at += 9 + colours((await view(file, at + 8, 1)).getUint8(0)) + 1;
    } else if (kind === 0x21) at++;
    else throw new Error('no block of a GIF');
    for (;;) {
      const length = (await view(file, at, 1)).getUint8(0);
      at += 1 + length;
      if (length === 0) break;
    }
  }
}

/** Bytes of the table of colours that these flags announce. */
function colours(flags: number): number {
  return flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0;
}

/** An animated one says how many, before its first picture; how it lies may be said before or after. */
async function readPng(file: RandomAccess): Promise<Extras> {
  let frames = 1;
  for (let at = 8; at + 12 <= file.size;) {
    const chunk = await view(file, at, 12);
    const kind = chunk.getUint32(4);
    if (kind === ACTL) frames = chunk.getUint32(8);
    if (kind === EXIF_OF_PNG) return { frames, ...(await readOrientation(file, at + 8)) };
    if (kind === IEND) break;
    at += 12 + chunk.getUint32(0);
  }
  return { frames };
}

async function readWebp(file: RandomAccess): Promise<Extras> {
  const head = await view(file, 12, 9);
  const flags = head.getUint32(0) === VP8X ? head.getUint8(8) : 0;
  let frames = flags & 2 ? 0 : 1;
  if ((flags & 10) === 0) return { frames };
  for (let at = 12; at + 8 <= file.size;) {
    const chunk = await view(file, at, 8);
    if (chunk.getUint32(0) === ANMF) frames++;
    if (chunk.getUint32(0) === EXIF) return { frames, ...(await readOrientation(file, at + 8)) };
    const length = chunk.getUint32(4, true);
    at += 8 + length + (length % 2);
  }
  return { frames };
}

/** Nothing where it cannot be read: it is beside the point. */
async function readOrientation(file: RandomAccess, at: number): Promise<{ orientation?: number | undefined }> {
  try {
    // Some begin as they do in a JPEG.
    const named = (await view(file, at, 4)).getUint32(0) === 0x45786966;
    const { orientation } = await readDirectory(file, named ? at + 6 : at);
    return { orientation };
  } catch {
    return {};
  }
}

async function view(file: RandomAccess, start: number, size: number): Promise<DataView> {
  const bytes = await file.read(start, start + size);
  if (bytes.byteLength < size) throw new Error('the file ends too soon');
  return new DataView(bytes.buffer, bytes.byteOffset, size);
}
