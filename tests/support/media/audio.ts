// Small real sound files without an encoder: WAV, MP3, FLAC and Opus, valid to the last checksum, of any length.
export interface SoundOptions {
  /** Seconds. */
  seconds: number;
  /** Told apart by it: another seed makes other bytes. */
  seed?: number;
  /** Written as tags, as programs write the prompt and the whole workflow. */
  tags?: Record<string, string>;
}

const RATE = 44_100;

/** 16-bit mono at 8 kHz, a quiet tone whose pitch depends on the seed. */
export function makeWav({ seconds, seed = 1 }: SoundOptions): Uint8Array {
  const rate = 8000;
  const samples = Math.round(seconds * rate);
  const bytes = new Uint8Array(44 + samples * 2);
  const view = new DataView(bytes.buffer);
  const text = (at: number, word: string) => bytes.set(new TextEncoder().encode(word), at);
  text(0, 'RIFF');
  view.setUint32(4, 36 + samples * 2, true);
  text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, 'data');
  view.setUint32(40, samples * 2, true);
  const pitch = 200 + (seed % 400);
  for (let index = 0; index < samples; index++) {
    view.setInt16(44 + index * 2, Math.round(4000 * Math.sin((2 * Math.PI * pitch * index) / rate)), true);
  }
  return bytes;
}

/** MPEG-1 layer III at 32 kbit/s, 44.1 kHz, stereo: silent frames after an ID3v2 tag that holds seed and tags. */
export function makeMp3({ seconds, seed = 1, tags = {} }: SoundOptions): Uint8Array {
  const texts = Object.entries({ seed: `${seed}`, ...tags }).map(([name, value]) => id3Text(name, value));
  const length = texts.reduce((sum, text) => sum + text.length, 0);
  const head = [0x49, 0x44, 0x33, 4, 0, 0, ...syncSafe(length)];
  const frames: Uint8Array[] = [];
  const count = Math.ceil((seconds * RATE) / 1152);
  let owed = 0;
  for (let index = 0; index < count; index++) {
    // 144 × 32000 / 44100 is no whole number: some frames are one byte longer.
    owed += (144 * 32_000) % RATE;
    const padding = owed >= RATE ? 1 : 0;
    if (padding) owed -= RATE;
    const frame = new Uint8Array(104 + padding);
    frame.set([0xff, 0xfb, 0x10 | (padding << 1), 0x00]);
    frames.push(frame);
  }
  return join([new Uint8Array(head), ...texts, ...frames]);
}

/** 16-bit mono at 44.1 kHz: constant blocks, each with its own level. */
export function makeFlac({ seconds, seed = 1, tags = {} }: SoundOptions): Uint8Array {
  const samples = Math.round(seconds * RATE);
  const size = 4096;
  const info = new Uint8Array(34);
  const view = new DataView(info.buffer);
  view.setUint16(0, size);
  view.setUint16(2, size);
  // 20 bits of rate, 3 of channels − 1, 5 of bits − 1, then the length; checksum of the sound unknown (zeros).
  view.setUint32(10, (RATE << 12) | (0 << 9) | (15 << 4) | Math.floor(samples / 2 ** 32));
  view.setUint32(14, samples >>> 0);
  const comments = vorbisComments({ seed: `${seed}`, ...tags });
  const parts = [new TextEncoder().encode('fLaC'), block(0, info, false), block(4, comments, true)];
  for (let index = 0; index * size < samples; index++) {
    parts.push(flacFrame(index, Math.min(size, samples - index * size), ((seed * 31 + index * 7) % 200) - 100));
  }
  return join(parts);
}

/** Stereo at 48 kHz: packets of silence of 20 ms each. */
export function makeOpus({ seconds, seed = 1, tags = {} }: SoundOptions): Uint8Array {
  const text = new TextEncoder();
  const head = new Uint8Array([...text.encode('OpusHead'), 1, 2, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 0]);
  const comments = join([text.encode('OpusTags'), vorbisComments({ seed: `${seed}`, ...tags })]);
  const pages = [oggPage([head], { number: 0, position: 0, flags: 2 })];
  pages.push(...longPages(comments));
  const total = Math.ceil(seconds * 50);
  const silence = new Uint8Array([0xfc, 0xff, 0xfe]);
  for (let done = 0; done < total;) {
    const count = Math.min(200, total - done);
    done += count;
    const last = done === total;
    // The end is cut to the sample, not to the packet.
    const position = last ? Math.round(seconds * 48_000) : done * 960;
    const packets = Array.from({ length: count }, () => silence);
    pages.push(oggPage(packets, { number: pages.length, position, flags: last ? 4 : 0 }));
  }
  return join(pages);
}

function id3Text(name: string, value: string): Uint8Array {
  const content = new Uint8Array([3, ...new TextEncoder().encode(`${name}\0${value}`)]);
  return join([new Uint8Array([0x54, 0x58, 0x58, 0x58, ...syncSafe(content.length), 0, 0]), content]);
}

function syncSafe(length: number): number[] {
  return [21, 14, 7, 0].map((shift) => (length >> shift) & 127);
}

function block(type: number, content: Uint8Array, last: boolean): Uint8Array {
  const head = [type | (last ? 0x80 : 0), content.length >> 16, (content.length >> 8) & 255, content.length & 255];
  return join([new Uint8Array(head), content]);
}

/** One constant sub-frame: sync, block size in 16 bits, rate and depth of the stream, CRC-8, the level, CRC-16. */
function flacFrame(index: number, samples: number, level: number): Uint8Array {
  const head = [0xff, 0xf8, 0x70, 0x00, ...utf8Number(index), (samples - 1) >> 8, (samples - 1) & 255];
  head.push(crc(head, 0x07, 8));
  const body = [...head, 0x00, (level >> 8) & 255, level & 255];
  const check = crc(body, 0x8005, 16);
  return new Uint8Array([...body, check >> 8, check & 255]);
}

function utf8Number(value: number): number[] {
  return value < 0x80 ? [value] : [...new TextEncoder().encode(String.fromCodePoint(value))];
}

function vorbisComments(tags: Record<string, string>): Uint8Array {
  const text = new TextEncoder();
  const strings = ['made by a test', ...Object.entries(tags).map(([name, value]) => `${name}=${value}`)];
  const parts = strings.map((string) => {
    const bytes = text.encode(string);
    return join([little32(bytes.length), bytes]);
  });
  return join([parts[0]!, little32(parts.length - 1), ...parts.slice(1)]);
}

/** One packet over as many pages as it needs: a page holds 255 pieces of 255 bytes. */
function longPages(packet: Uint8Array): Uint8Array[] {
  const pages: Uint8Array[] = [];
  const room = 255 * 255;
  for (let at = 0; at < packet.length; at += room) {
    const part = packet.subarray(at, at + room);
    const more = at + room < packet.length;
    const flags = at > 0 ? 1 : 0;
    pages.push(oggPage([part], { number: 1 + pages.length, position: more ? -1 : 0, flags, unfinished: more }));
  }
  return pages;
}

function oggPage(
  packets: Uint8Array[],
  page: { number: number; position: number; flags: number; unfinished?: boolean },
): Uint8Array {
  const laces = packets.flatMap((packet) => {
    const full = Array.from({ length: Math.floor(packet.length / 255) }, () => 255);
    return page.unfinished ? full : [...full, packet.length % 255];
  });
  const head = new Uint8Array(27);
  const view = new DataView(head.buffer);
  head.set(new TextEncoder().encode('OggS'));
  head[5] = page.flags;
  view.setBigInt64(6, BigInt(page.position), true);
  view.setUint32(14, 0x0fa6e, true);
  view.setUint32(18, page.number, true);
  head[26] = laces.length;
  const whole = join([head, new Uint8Array(laces), ...packets]);
  new DataView(whole.buffer).setUint32(22, crc(whole, 0x04c11db7, 32), true);
  return whole;
}

const tables = new Map<string, Uint32Array>();

/** A cyclic redundancy check without reflection, started at 0. */
function crc(bytes: ArrayLike<number>, polynomial: number, width: 8 | 16 | 32): number {
  let table = tables.get(`${polynomial}/${width}`);
  if (!table) tables.set(`${polynomial}/${width}`, (table = crcTable(polynomial, width)));
  let value = 0;
  const mask = width === 32 ? 0xffffffff : 2 ** width - 1;
  for (let index = 0; index < bytes.length; index++) {
    value = ((width === 8 ? 0 : value << 8) ^ table[((value >>> (width - 8)) ^ bytes[index]!) & 255]!) & mask;
  }
  return value >>> 0;
}

function crcTable(polynomial: number, width: number): Uint32Array {
  const top = 2 ** (width - 1);
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte * 2 ** (width - 8);
    for (let bit = 0; bit < 8; bit++) {
      const carry = value >= top;
      value = (value * 2) % 2 ** width;
      if (carry) value = (value ^ polynomial) >>> 0;
    }
    return value >>> 0;
  });
}

function little32(value: number): Uint8Array {
  return new Uint8Array([value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24]);
}

export function join(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
