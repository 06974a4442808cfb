// What is done with pictures, films and sounds themselves: they are measured, made ready for runtimes, and given the format that was asked for.
import type { FileKind, Measures } from './capabilities/file.ts';
import { GatewayError } from './error.ts';
import type { MadeFile } from './event.ts';

/** A file that can be read in any place. */
export interface RandomAccess {
  size: number;
  /** `end` is exclusive and may lie beyond the file. */
  read(start: number, end: number): Promise<Uint8Array>;
}

export interface Picture {
  bytes: Uint8Array<ArrayBuffer>;
  width: number;
  height: number;
}

export interface Conversion {
  /** As callers name it: png, jpeg, webp; mp4, webm, gif; mp3, wav, flac, ogg. */
  format: string;
  /** 0 to 100; for pictures. */
  quality?: number | undefined;
}

/** Given by the host's side; see adapters/media. No picture is decoded beyond the limit of pixels. */
export interface MediaTools {
  /** What the bytes tell, without decoding them; undefined where that is nothing. Never throws. */
  measure(file: RandomAccess, mediaType: string): Promise<Measures | undefined>;
  /**
   * The first picture of a file, upright, as PNG, without what else is written in it; stretched to `size` where that is given.
   * Throws invalid_request for what cannot be decoded.
   */
  toPng(bytes: Uint8Array, size?: { width: number; height: number }): Promise<Picture>;
  /**
   * A mask as a grey PNG: white may change, black stays. Its transparent places may change; where it has no transparency at all,
   * its light ones. Throws invalid_request for what cannot be decoded.
   */
  toMask(bytes: Uint8Array): Promise<Picture>;
  /** A mask of `toMask` in OpenAI's words: a PNG that is transparent where the picture may change. Throws invalid_request. */
  toAlphaMask(bytes: Uint8Array): Promise<Picture>;
  /** RGB bytes, row by row → PNG; scaled up `scale` times where that is given. */
  fromPixels(pixels: Uint8Array, width: number, height: number, scale?: number): Promise<Uint8Array<ArrayBuffer>>;
  /** The same in another format. Undefined where this machine cannot make that. Throws invalid_request, client_closed. */
  convert(bytes: Uint8Array, to: Conversion, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer> | undefined>;
}

const FORMATS: Record<string, RegExp> = {
  png: /^image\/a?png$/,
  jpeg: /^image\/jpeg$/,
  webp: /^image\/webp$/,
  gif: /^image\/gif$/,
  mp4: /^video\/(mp4|x-m4v)$/,
  webm: /^video\/webm$/,
  mp3: /^audio\/(mpeg|mp3)$/,
  wav: /^audio\/(wav|x-wav|wave|vnd\.wave)$/,
  flac: /^audio\/(flac|x-flac)$/,
  ogg: /^(audio|application)\/(ogg|opus)$/,
};

/** What a request says about the format of its files; undefined where anything will do. */
export function toConversion(makes: FileKind, input: Record<string, unknown>): Conversion | undefined {
  const format = (makes === 'image' ? input['output_format'] : input['format']) as string | undefined;
  if (format === undefined) return undefined;
  return { format, quality: input['output_compression'] as number | undefined };
}

interface Finishing {
  tools: Pick<MediaTools, 'convert'>;
  /** Tells what bytes are. */
  sniff(head: Uint8Array): Promise<{ mediaType: string }>;
  signal: AbortSignal;
}

/** How much of a file tells what it is, in bytes. */
const HEAD = 8192;

/**
 * Files in the format that was asked for, and a warning for those that could not be had in it: what was made is never lost
 * to that. A quality counts only where a file is changed: what a runtime made as asked is not made worse. Throws client_closed.
 */
export async function finishFiles(
  files: MadeFile[],
  to: Conversion | undefined,
  finishing: Finishing,
): Promise<{ files: MadeFile[]; warnings: string[] }> {
  if (!to) return { files, warnings: [] };
  const warnings = new Set<string>();
  const finished: MadeFile[] = [];
  for (const file of files) {
    const { file: one, warning } = await finish(file, to, finishing);
    finished.push(one);
    if (warning !== undefined) warnings.add(warning);
  }
  return { files: finished, warnings: [...warnings] };
}

async function finish(
  file: MadeFile,
  to: Conversion,
  { tools, sniff, signal }: Finishing,
): Promise<{ file: MadeFile; warning?: string }> {
  const { head, whole } = await peek(file.bytes);
  const { mediaType } = await sniff(head);
  if (FORMATS[to.format]?.test(mediaType)) return { file: { ...file, bytes: whole } };
  const bytes = whole instanceof Uint8Array ? whole : await collect(whole);
  const stays = (why: string) => ({ file: { ...file, bytes }, warning: `The file stays ${mediaType}: ${why}` });
  try {
    const changed = await tools.convert(bytes, to, signal);
    if (!changed) return stays(`ffmpeg, which could make ${to.format} of it, is missing here or could not.`);
    const { media_type: _, ...rest } = file;
    return { file: { ...rest, bytes: changed } };
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'invalid_request') throw error;
    return stays(`it could not be made ${to.format}. ${error.message}`);
  }
}

/** The beginning of a file, and all of it again; one that comes in pieces is not held whole for that. */
async function peek(bytes: MadeFile['bytes']): Promise<{ head: Uint8Array; whole: MadeFile['bytes'] }> {
  if (bytes instanceof Uint8Array) return { head: bytes.subarray(0, HEAD), whole: bytes };
  const source = bytes[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  let size = 0;
  let done = false;
  while (size < HEAD && !done) {
    const step = await source.next();
    if (step.done) done = true;
    else {
      pieces.push(step.value);
      size += step.value.byteLength;
    }
  }
  async function* whole() {
    try {
      yield* pieces;
      for (let step = await source.next(); !step.done; step = await source.next()) yield step.value;
    } finally {
      await source.return?.();
    }
  }
  return { head: join(pieces, size).subarray(0, HEAD), whole: whole() };
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of source) {
    pieces.push(piece);
    size += piece.byteLength;
  }
  return join(pieces, size);
}

export function join(pieces: Uint8Array[], size: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}

/** Types of pictures that runtimes are given; an SVG is a program. */
const PICTURES = new Set([
  'image/png',
  'image/apng',
  'image/jpeg',
  'image/webp',
  'image/gif',
  'image/avif',
  'image/tiff',
]);

/** Throws invalid_request for a file that is not of the kind that its field asks for, or is too large to be looked at. */
export function checkKind(
  file: { media_type: string; size: number; media?: Measures | undefined },
  kind: FileKind,
  param: string,
  maxPixels: number,
): void {
  const { media_type, size, media } = file;
  if (size === 0) throw new GatewayError('invalid_request', `${param}: the file is empty.`, { param });
  if (kind !== 'image') {
    if (media_type.startsWith(`${kind}/`)) return;
    throw new GatewayError('invalid_request', `${param}: this is ${media_type}, not ${kind}.`, { param });
  }
  if (!PICTURES.has(media_type)) {
    throw new GatewayError('invalid_request', `${param}: this is ${media_type}, not a picture that can be used.`, {
      param,
      hint: 'Send PNG, JPEG, WebP, GIF, AVIF or TIFF.',
    });
  }
  if (media?.width === undefined || media.height === undefined || media.width < 1 || media.height < 1) {
    throw new GatewayError('invalid_request', `${param}: the picture is damaged: its size cannot be read.`, { param });
  }
  if (media.width * media.height > maxPixels) {
    throw new GatewayError(
      'invalid_request',
      `${param}: ${media.width}x${media.height} is more than ${Math.floor(maxPixels / 1e6)} megapixels.`,
      { param, hint: 'Send a smaller picture, or raise HONO_AI_MAX_PIXELS.' },
    );
  }
}
