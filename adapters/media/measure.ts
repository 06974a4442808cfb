// How large and how long files are, read from their headers: image-size for pictures, mediabunny for films and sounds.
import type { Measures } from '../../src/capabilities/file.ts';
import type { RandomAccess } from '../../src/media.ts';
import { bound, inPages, type Bounds } from './bounded.ts';
import { measureTiff, readExtras, toUpright, type Size } from './headers.ts';

/** Where the size of a picture stands: early, but a photograph may carry colour profiles and previews before it. */
const HEADS = [65_536, 1 << 20, 16 << 20];
const PICTURE: Bounds = { bytes: 64 << 20, reads: 200, ms: 5000 };
const FILM: Bounds = { bytes: 64 << 20, reads: 2000, ms: 10_000 };
const PAGE = 1 << 20;
/** Blocks of a picture are looked at without a pause for anything else. */
const BLOCKS: Bounds = { bytes: Infinity, reads: 100_000, ms: 1000 };
/** Beyond, a film is too long for its pictures to be counted one by one. */
const MAX_PACKETS = 50_000;

export async function measure(file: RandomAccess, mediaType: string): Promise<Measures | undefined> {
  try {
    if (mediaType.startsWith('image/')) return await measurePicture(bound(file, PICTURE), mediaType);
    if (/^(video|audio)\/|ogg/.test(mediaType)) return await measureFilm(bound(file, FILM));
  } catch {
    // What cannot be read has no size; whoever needs one refuses it.
  }
  return undefined;
}

async function measurePicture(file: RandomAccess, mediaType: string): Promise<Measures> {
  if (mediaType === 'image/tiff') return measureTiff(file);
  const size = await readSize(file);
  const extras = await readExtras(bound(inPages(file, PAGE), BLOCKS), mediaType).catch(() => undefined);
  if (!extras) return size;
  return { ...toUpright(size, extras.orientation), frames: extras.frames };
}

async function readSize(file: RandomAccess): Promise<Size> {
  const { imageSize } = await import('image-size');
  for (const head of HEADS) {
    try {
      const { images, orientation, ...first } = imageSize(await file.read(0, head));
      // Of a picture in tiles the whole is the largest that is told of.
      const { width, height } = [first, ...(images ?? [])].toSorted((a, b) => area(b) - area(a))[0]!;
      return toUpright({ width, height }, orientation);
    } catch (error) {
      if (head >= file.size) throw error;
    }
  }
  throw new Error('no size was found');
}

function area({ width, height }: Size): number {
  return width * height;
}

async function measureFilm(file: RandomAccess): Promise<Measures | undefined> {
  const { ALL_FORMATS, CustomSource, Input } = await import('mediabunny');
  const source = new CustomSource({
    getSize: () => file.size,
    read: (start, end) => file.read(start, end),
    prefetchProfile: 'fileSystem',
  });
  const input = new Input({ source, formats: ALL_FORMATS });
  try {
    const film = await input.getPrimaryVideoTrack();
    const shown = film && { width: await film.getDisplayWidth(), height: await film.getDisplayHeight() };
    const duration = await input.computeDuration();
    const found: Measures = { ...shown, duration_s: round(duration) };
    if (!film) return found;
    const { packetCount, averagePacketRate } = await film.computePacketStats(MAX_PACKETS);
    const counted = packetCount < MAX_PACKETS ? { frames: packetCount } : {};
    return { ...found, ...counted, fps: round(averagePacketRate) };
  } finally {
    input.dispose();
  }
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
