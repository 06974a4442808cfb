// Files in another format: pictures by sharp, films and sounds by ffmpeg where it is installed.
import type { Conversion, MediaTools } from '../../src/media.ts';
import { isPicture, toContainer, type Container } from './container.ts';
import { words, type Ffmpeg } from './ffmpeg.ts';
import type { Pictures } from './pictures.ts';

/** What is drawn by sharp; of films only pictures that move. */
const DRAWN = new Set(['png', 'jpeg', 'webp', 'gif']);
const FILMS = new Set(['mp4', 'webm', 'gif', 'webp']);

/** How ffmpeg reads what: it is told, or it would look for itself, and find playlists in what is said to be a film. */
const DEMUXERS: Partial<Record<Container, string>> = {
  mp4: 'mov',
  matroska: 'matroska',
  avi: 'avi',
  wav: 'wav',
  flac: 'flac',
  ogg: 'ogg',
  mp3: 'mp3',
};

/** All encoders that it needs must be there; the first row of a format whose are counts. */
const RECIPES: Record<string, { needs: string[]; args: string[] }[]> = {
  mp4: [
    toFilm('libx264', 'aac', '-preset veryfast -crf 18 -movflags +faststart -f mp4'),
    toFilm('libopenh264', 'aac', '-b:v 8M -movflags +faststart -f mp4'),
    toFilm('mpeg4', 'aac', '-b:v 8M -movflags +faststart -f mp4'),
  ],
  webm: [
    toFilm('libvpx-vp9', 'libopus', '-crf 24 -b:v 0 -deadline good -cpu-used 4 -f webm'),
    toFilm('libvpx', 'libopus', '-crf 12 -b:v 8M -deadline good -cpu-used 4 -f webm'),
    toFilm('libvpx', 'libvorbis', '-crf 12 -b:v 8M -deadline good -cpu-used 4 -f webm'),
  ],
  gif: [
    {
      needs: ['gif'],
      args: words('-filter_complex split[a][b];[a]palettegen[p];[b][p]paletteuse -an -loop 0 -f gif'),
    },
  ],
  webp: ['libwebp_anim', 'libwebp'].map((encoder) => ({
    needs: [encoder],
    args: words(`-c:v ${encoder} -quality 85 -an -loop 0 -f webp`),
  })),
  mp3: [toSound('libmp3lame', '-q:a 2 -f mp3')],
  wav: [toSound('pcm_s16le', '-f wav')],
  flac: [toSound('flac', '-f flac')],
  ogg: [toSound('libvorbis', '-q:a 6 -f ogg'), toSound('libopus', '-b:a 160k -f ogg')],
};

/** Players want both sides even, and colours at half the resolution. */
function toFilm(video: string, audio: string, rest: string) {
  const args = `-c:v ${video} -vf pad=ceil(iw/2)*2:ceil(ih/2)*2 -pix_fmt yuv420p -c:a ${audio} ${rest}`;
  return { needs: [video, audio], args: words(args) };
}

function toSound(encoder: string, rest: string) {
  return { needs: [encoder], args: words(`-vn -c:a ${encoder} ${rest}`) };
}

export function createConverter({ pictures, ffmpeg }: { pictures: Pictures; ffmpeg: Ffmpeg }): MediaTools['convert'] {
  async function toRecipe({ format }: Conversion): Promise<string[] | undefined> {
    const known = await ffmpeg.encoders();
    return RECIPES[format]?.find(({ needs }) => needs.every((name) => known.has(name)))?.args;
  }

  return async (bytes, to, signal) => {
    const container = toContainer(bytes);
    if (isPicture(container)) {
      if (DRAWN.has(to.format)) return pictures.encode(bytes, to);
      const recipe = FILMS.has(to.format) ? await toRecipe(to) : undefined;
      if (!recipe) return undefined;
      // ffmpeg reads moving pictures of one of the two kinds badly, or not at all.
      const { pixels, width, height, fps } = await pictures.toFrames(bytes);
      const input = words(`-f rawvideo -pix_fmt rgb24 -s ${width}x${height} -r ${fps.toFixed(3)}`);
      return ffmpeg.run(pixels, input, recipe, signal);
    }
    const demuxer = container && DEMUXERS[container];
    const recipe = demuxer && (await toRecipe(to));
    return recipe ? ffmpeg.run(bytes, ['-f', demuxer], recipe, signal) : undefined;
  };
}
