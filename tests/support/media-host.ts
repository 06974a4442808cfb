// Run by Node, Bun and Deno in turn: prints what the media tools make there of the same files, so that a test can compare them.
import { openMediaTools } from '../../adapters/media/index.ts';
import { sniff } from '../../src/artifacts/sniff.ts';
import * as media from './media/index.ts';

const tools = openMediaTools({ maxPixels: 4_000_000, ...(process.argv[2] ? { ffmpeg: process.argv[2] } : {}) });
const never = new AbortController().signal;
const frames = [
  [200, 10, 10],
  [10, 10, 200],
] as const;
const film = { width: 32, height: 24, fps: 2, frames: [...frames] };
const hole = { left: 0, top: 0, width: 10, height: 24 };
const picture = await media.makePicture({ width: 32, height: 24, alpha: 0.5, hole });

async function tell(bytes: Uint8Array | undefined) {
  if (!bytes) return 'nothing';
  const { mediaType } = await sniff(bytes.subarray(0, 8192));
  const read = async (start: number, end: number) => bytes.slice(start, end);
  return { mediaType, ...(await tools.measure({ size: bytes.length, read }, mediaType)) };
}

const refused = await tools.toPng(media.pixelBomb()).then(
  () => 'taken',
  (error: { code?: string; message?: string }) => `${error.code}: ${error.message}`,
);
const told = {
  measured: [
    await tell(picture),
    await tell(await media.makeAnimation('gif', film)),
    await tell(await media.makeMp4(film)),
    await tell(await media.makeWebm(film)),
    await tell(media.makeWav({ seconds: 1 })),
    await tell(media.makeMp3({ seconds: 1 })),
    await tell(media.makeFlac({ seconds: 1 })),
    await tell(media.makeOpus({ seconds: 1 })),
  ],
  mask: [...(await tools.toMask(picture)).bytes].length,
  png: await tell((await tools.toPng(picture, { width: 64, height: 16 })).bytes),
  alpha: await tell((await tools.toAlphaMask(picture)).bytes),
  pixels: await tell(await tools.fromPixels(new Uint8Array(12), 2, 2, 8)),
  webp: await tell(await tools.convert(picture, { format: 'webp' }, never)),
  moving: await tell(await tools.convert(await media.makeAnimation('gif', film), { format: 'webp' }, never)),
  mp3: await tell(await tools.convert(media.makeWav({ seconds: 1 }), { format: 'mp3' }, never)),
  refused,
};
console.log(JSON.stringify(told));
// Nothing is closed: no thread of a library may keep the program alive.
