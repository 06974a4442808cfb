// Small real videos without a program beside: MP4 of hand-made H.264, WebM of the VP8 frames that sit in WebP pictures.
import {
  BufferTarget,
  EncodedPacket,
  EncodedVideoPacketSource,
  Mp4OutputFormat,
  Output,
  WebMOutputFormat,
} from 'mediabunny';
import sharp from 'sharp';
import { createH264 } from './h264.ts';
import type { Rgb } from './h264.ts';

export interface VideoOptions {
  /** Pixels; odd ones are made even, as encoders do. */
  width: number;
  height: number;
  /** Frames per second. */
  fps: number;
  /** One colour per frame. */
  frames: Rgb[];
}

export async function makeMp4({ width, height, fps, frames }: VideoOptions): Promise<Uint8Array> {
  const even = { width: width + (width % 2), height: height + (height % 2) };
  const h264 = createH264(even.width, even.height);
  const output = new Output({ format: new Mp4OutputFormat({ fastStart: 'in-memory' }), target: new BufferTarget() });
  const source = new EncodedVideoPacketSource('avc');
  output.addVideoTrack(source, { frameRate: fps });
  await output.start();
  const description = h264.description;
  const decoderConfig = { codec: 'avc1.42c033', codedWidth: even.width, codedHeight: even.height, description };
  for (const [index, colour] of frames.entries()) {
    const packet = new EncodedPacket(h264.frame(colour, index), 'key', index / fps, 1 / fps);
    await source.add(packet, { decoderConfig });
  }
  await output.finalize();
  return new Uint8Array(output.target.buffer!);
}

export async function makeWebm({ width, height, fps, frames }: VideoOptions): Promise<Uint8Array> {
  const output = new Output({ format: new WebMOutputFormat(), target: new BufferTarget() });
  const source = new EncodedVideoPacketSource('vp8');
  output.addVideoTrack(source, { frameRate: fps });
  await output.start();
  const decoderConfig = { codec: 'vp8', codedWidth: width, codedHeight: height };
  for (const [index, [r, g, b]] of frames.entries()) {
    const picture = sharp({ create: { width, height, channels: 3, background: { r, g, b } } });
    const frame = vp8(await picture.webp({ quality: 60, effort: 0 }).toBuffer());
    await source.add(new EncodedPacket(frame, 'key', index / fps, 1 / fps), { decoderConfig });
  }
  await output.finalize();
  return new Uint8Array(output.target.buffer!);
}

/** The frame in a lossy WebP file. */
function vp8(webp: Uint8Array): Uint8Array {
  const view = new DataView(webp.buffer, webp.byteOffset, webp.byteLength);
  for (let at = 12; at + 8 <= webp.length;) {
    const size = view.getUint32(at + 4, true);
    if (view.getUint32(at) === 0x56503820) return webp.slice(at + 8, at + 8 + size);
    at += 8 + size + (size % 2);
  }
  throw new Error('no VP8 frame in this WebP');
}
