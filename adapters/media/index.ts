// The gateway's tools for pictures, films and sounds, put together; each library is loaded by the first who needs it.
import type { MediaTools } from '../../src/media.ts';
import { createConverter } from './convert.ts';
import { createFfmpeg } from './ffmpeg.ts';
import { measure } from './measure.ts';
import { createPictures } from './pictures.ts';

export interface MediaOptions {
  /** Of a picture that callers bring: width × height. */
  maxPixels: number;
  /** Where ffmpeg is; looked for by its name if absent. */
  ffmpeg?: string;
}

export function openMediaTools({ maxPixels, ffmpeg }: MediaOptions): MediaTools {
  const { encode, toFrames, ...tools } = createPictures(maxPixels);
  const convert = createConverter({ pictures: { ...tools, encode, toFrames }, ffmpeg: createFfmpeg(ffmpeg) });
  return { measure, ...tools, convert };
}
