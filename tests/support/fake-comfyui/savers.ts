// The output nodes of a fake ComfyUI: real files in its output folder, under the names and keys that the real nodes give.
import { posix } from 'node:path';
import sharp from 'sharp';
import { makeAnimation, makeFlac, makeMp3, makeMp4, makeOpus, makeWebm, withTexts } from '../media/index.ts';
import type { Rgb } from '../media/index.ts';
import type { Disk, Folder, SaveName } from './disk.ts';
import type { Inputs, NodeContext, NodeResult } from './nodes.ts';
import { RaisedError } from './raised.ts';
import { hash } from './values.ts';
import type { Pictures, Sound, Video } from './values.ts';

/** Undefined where the class saves nothing. */
export async function save(type: string, inputs: Inputs, context: NodeContext): Promise<NodeResult | undefined> {
  if (type === 'SaveImage') return saveImages(inputs, context, 'output');
  if (type === 'PreviewImage') return saveImages({ ...inputs, filename_prefix: 'ComfyUI_temp_fakes' }, context, 'temp');
  if (type === 'VHS_VideoCombine') return combine(inputs, context);
  if (type === 'SaveVideo') return saveVideo(inputs, context);
  if (type === 'SaveWEBM') return saveFrames(inputs, context, '.webm', makeWebm);
  if (type === 'SaveAnimatedWEBP') {
    return saveFrames(inputs, context, '.webp', (options) => makeAnimation('webp', options));
  }
  if (type === 'SaveAudioMP3') return saveSound(inputs, context, '.mp3', makeMp3);
  if (type === 'SaveAudio') return saveSound(inputs, context, '.flac', makeFlac);
  if (type === 'SaveAudioOpus') return saveSound(inputs, context, '.opus', makeOpus);
  return undefined;
}

async function saveImages(inputs: Inputs, { disk, prompt }: NodeContext, folder: Folder): Promise<NodeResult> {
  const pictures = inputs['images'] as Pictures;
  const { width, height, count } = pictures;
  const name = nameFor(disk, folder, inputs, pictures);
  const images = [];
  for (let index = 0; index < count; index++) {
    const raw = { width, height, channels: 3 as const };
    const png = await sharp(await pictures.pixels(index), { raw, limitInputPixels: false })
      .png({ compressionLevel: 1 })
      .toBuffer();
    const filename = `${name.stem}_${counter(name, index)}_.png`;
    disk.put(folder, posix.join(name.subfolder, filename), withTexts(png, { prompt }));
    images.push({ filename, subfolder: name.subfolder, type: folder });
  }
  return { outputs: [pictures], ui: { images } };
}

/** VideoHelperSuite: its files are `gifs`, whatever they are. */
async function combine(inputs: Inputs, context: NodeContext): Promise<NodeResult> {
  const { disk, prompt } = context;
  const pictures = inputs['images'] as Pictures;
  const format = String(inputs['format']);
  const fps = Number(inputs['frame_rate']);
  const folder: Folder = inputs['save_output'] === false ? 'temp' : 'output';
  const name = nameFor(disk, folder, inputs, pictures);
  const stem = `${name.stem}_${counter(name, 0)}`;
  if (format.startsWith('video/') && !context.ffmpeg) {
    const message =
      'ffmpeg is required for video outputs and could not be found.\nIn order to use video outputs, you must either:\n- Install imageio-ffmpeg with pip,\n- Place a ffmpeg executable in /ComfyUI, or\n- Install ffmpeg and add it to the system path.';
    throw new RaisedError('ProcessLookupError', message);
  }
  const frames = await framesOf(pictures, context);
  const options = {
    width: pictures.width,
    height: pictures.height,
    fps,
    frames: inputs['pingpong'] ? bounced(frames) : frames,
  };
  const made = await encode(format, options);
  const at = (file: string) => posix.join(name.subfolder, file);
  const filename = `${stem}${made.extension}`;
  disk.put(folder, at(filename), made.bytes);
  const first = sharp({
    create: { width: pictures.width, height: pictures.height, channels: 3, background: '#808080' },
  });
  disk.put(folder, at(`${stem}.png`), withTexts(new Uint8Array(await first.png().toBuffer()), { prompt }));
  const gif = { filename, subfolder: name.subfolder, type: folder, format, frame_rate: fps, workflow: `${stem}.png` };
  return { outputs: [], ui: { gifs: [{ ...gif, fullpath: `/ComfyUI/${folder}/${at(filename)}` }] } };
}

async function encode(
  format: string,
  options: { width: number; height: number; fps: number; frames: Rgb[] },
): Promise<{ bytes: Uint8Array; extension: string }> {
  if (format === 'image/gif' || format === 'video/ffmpeg-gif') {
    return { bytes: await makeAnimation('gif', options), extension: '.gif' };
  }
  if (format === 'image/webp') return { bytes: await makeAnimation('webp', options), extension: '.webp' };
  if (format.endsWith('webm')) return { bytes: await makeWebm(options), extension: '.webm' };
  if (format.endsWith('mp4')) return { bytes: await makeMp4(options), extension: '.mp4' };
  throw new RaisedError('Exception', `An error occured in the ffmpeg subprocess:\nUnknown encoder of ${format}`);
}

async function saveVideo(inputs: Inputs, context: NodeContext): Promise<NodeResult> {
  const { pictures, fps } = inputs['video'] as Video;
  const webm = inputs['format'] === 'webm';
  const given = { ...inputs, images: pictures, fps };
  return saveFrames(given, context, webm ? '.webm' : '.mp4', webm ? makeWebm : makeMp4, [inputs['video'] as Video]);
}

async function saveFrames(
  inputs: Inputs,
  { disk }: NodeContext,
  extension: string,
  make: (options: { width: number; height: number; fps: number; frames: Rgb[] }) => Promise<Uint8Array>,
  outputs: (Video | Pictures)[] = [inputs['images'] as Pictures],
): Promise<NodeResult> {
  const pictures = inputs['images'] as Pictures;
  const name = nameFor(disk, 'output', inputs, pictures);
  const frames = await Promise.all(Array.from({ length: pictures.count }, (_, index) => pictures.colour(index)));
  const bytes = await make({ width: pictures.width, height: pictures.height, fps: Number(inputs['fps']), frames });
  const filename = `${name.stem}_${counter(name, 0)}_${extension}`;
  disk.put('output', posix.join(name.subfolder, filename), bytes);
  return { outputs, ui: { images: [{ filename, subfolder: name.subfolder, type: 'output' }], animated: [true] } };
}

function saveSound(inputs: Inputs, { disk, prompt }: NodeContext, extension: string, make: typeof makeMp3): NodeResult {
  const sound = inputs['audio'] as Sound;
  const name = nameFor(disk, 'output', inputs, { width: 0, height: 0 });
  const filename = `${name.stem}_${counter(name, 0)}_${extension}`;
  const bytes = make({ seconds: sound.seconds, seed: hash(sound.key) % 1_000_000, tags: { prompt } });
  disk.put('output', posix.join(name.subfolder, filename), bytes);
  return { outputs: [sound], ui: { audio: [{ filename, subfolder: name.subfolder, type: 'output' }] } };
}

/** Each frame's colour, told as progress. */
async function framesOf(pictures: Pictures, context: NodeContext): Promise<Rgb[]> {
  const frames: Rgb[] = [];
  for (let index = 0; index < pictures.count; index++) {
    frames.push(await pictures.colour(index));
    context.tick(index + 1, pictures.count);
  }
  return frames;
}

function bounced(frames: Rgb[]): Rgb[] {
  return [...frames, ...frames.slice(1, -1).toReversed()];
}

function nameFor(disk: Disk, folder: Folder, inputs: Inputs, size: { width: number; height: number }): SaveName {
  try {
    return disk.nextName(folder, String(inputs['filename_prefix']), size);
  } catch (error) {
    throw new RaisedError('Exception', error instanceof Error ? error.message : String(error));
  }
}

function counter(name: SaveName, index: number): string {
  return String(name.counter + index).padStart(5, '0');
}
