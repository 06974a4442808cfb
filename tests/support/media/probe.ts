// What a media file is, by libraries that are not the makers: its type, size, frames and duration.
import { imageSize } from 'image-size';
import { ALL_FORMATS, BufferSource, Input } from 'mediabunny';
import sharp from 'sharp';

export interface Probed {
  /** `image/png`, `video/mp4`, `audio/mpeg`, … */
  type: string;
  width?: number;
  height?: number;
  /** Frames of a video or an animated picture; 1 for a still one. */
  frames?: number;
  /** Seconds. */
  duration_s?: number;
  /** Frames per second of a video. */
  fps?: number;
  codec?: string;
}

const AUDIO: Record<string, string> = { MP3: 'audio/mpeg', WAVE: 'audio/wav', FLAC: 'audio/flac', Ogg: 'audio/ogg' };
const VIDEO: Record<string, string> = { MP4: 'video/mp4', WebM: 'video/webm', Matroska: 'video/x-matroska' };

/** Throws where neither a picture, a video nor a sound library can read it. */
export async function probe(bytes: Uint8Array): Promise<Probed> {
  return (await probePicture(bytes)) ?? (await probeTimed(bytes));
}

async function probePicture(bytes: Uint8Array): Promise<Probed | undefined> {
  let size: ReturnType<typeof imageSize>;
  try {
    size = imageSize(bytes);
  } catch {
    return undefined;
  }
  const { width, height, type } = size;
  const meta = await sharp(bytes, { animated: true, limitInputPixels: false }).metadata();
  const frames = meta.pages ?? 1;
  const found: Probed = { type: type === 'jpg' ? 'image/jpeg' : `image/${type}`, width, height, frames };
  if (frames > 1 && meta.delay) found.duration_s = meta.delay.reduce((sum, ms) => sum + ms, 0) / 1000;
  return found;
}

async function probeTimed(bytes: Uint8Array): Promise<Probed> {
  using input = new Input({ source: new BufferSource(bytes), formats: ALL_FORMATS });
  const format = (await input.getFormat()).name;
  const duration_s = await input.computeDuration();
  const video = await input.getPrimaryVideoTrack();
  if (!video) {
    const audio = await input.getPrimaryAudioTrack();
    if (!audio) throw new Error(`${format} without a track`);
    return { type: AUDIO[format] ?? format, duration_s, ...(audio.codec && { codec: audio.codec }) };
  }
  const stats = await video.computePacketStats();
  return {
    type: VIDEO[format] ?? format,
    width: video.displayWidth,
    height: video.displayHeight,
    frames: stats.packetCount,
    fps: Math.round(stats.averagePacketRate * 100) / 100,
    duration_s,
    ...(video.codec && { codec: video.codec }),
  };
}
