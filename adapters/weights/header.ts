// Reading the beginning of a file of weights in pieces, wherever it lies: bounded, and in words for the caller when it is not what it says.
import { GatewayError } from '../../src/error.ts';

/** Bytes `start` to `end` (exclusive) of a file; fewer where it ends before. */
export type ReadRange = (start: number, end: number) => Promise<Uint8Array>;

export interface HeaderLimits {
  /** Most bytes that are read; default 16 MiB. */
  limit?: number;
}

export const HEADER_BYTES = 16 * 1024 ** 2;
/** Enough for the facts of most files; later pieces are larger. */
const FIRST_BYTES = 64 * 1024;
const MOST_BYTES = 2 * 1024 ** 2;

/** A place in the file that moves forward. Whatever would lead beyond the limit or the end throws. */
export interface Cursor {
  readonly position: number;
  /** Little-endian, as every number here. */
  view(bytes: number): Promise<DataView>;
  bytes(count: number): Promise<Uint8Array>;
  /** What has been read already from here on, at least `count` bytes; the position stays. */
  peek(count: number): Promise<DataView>;
  /** Without reading what lies between. */
  skip(bytes: number): void;
}

export function createCursor(read: ReadRange, format: string, limit = HEADER_BYTES): Cursor {
  let position = 0;
  let buffer: Uint8Array = new Uint8Array();
  let bufferStart = 0;
  let piece = FIRST_BYTES;
  let spent = 0;

  /** Has `count` bytes from the position on in the buffer. */
  async function fill(count: number): Promise<number> {
    const offset = position - bufferStart;
    if (offset >= 0 && offset + count <= buffer.byteLength) return offset;
    const kept = offset >= 0 && offset < buffer.byteLength ? buffer.subarray(offset) : new Uint8Array();
    const start = position + kept.byteLength;
    const wanted = Math.max(count - kept.byteLength, Math.min(piece, limit - spent));
    if (wanted > limit - spent) throw unreadable(format, 'its header is too long');
    const more = await read(start, start + wanted);
    if (more.byteLength > wanted) throw unreadable(format, 'it changed while it was read');
    if (kept.byteLength + more.byteLength < count) throw unreadable(format, 'it ends too early');
    spent += wanted;
    piece = Math.min(piece * 2, MOST_BYTES);
    buffer = kept.byteLength === 0 ? more : concat(kept, more);
    bufferStart = position;
    return 0;
  }

  async function bytes(count: number): Promise<Uint8Array> {
    const offset = await fill(count);
    position += count;
    return buffer.subarray(offset, offset + count);
  }

  return {
    get position() {
      return position;
    },
    bytes,
    async peek(count) {
      const offset = await fill(count);
      return new DataView(buffer.buffer, buffer.byteOffset + offset, buffer.byteLength - offset);
    },
    async view(count) {
      const { buffer: memory, byteOffset, byteLength } = await bytes(count);
      return new DataView(memory, byteOffset, byteLength);
    },
    skip(count) {
      position += count;
      if (!Number.isSafeInteger(position)) throw unreadable(format, 'it names a place that no file has');
    },
  };
}

/** A length or count as it stands in the file: absurd ones end here. */
export function toCount(value: bigint, most: number, format: string, what: string): number {
  if (value < 0n || value > BigInt(most)) throw unreadable(format, `${what} is absurd`);
  return Number(value);
}

export function unreadable(format: string, why: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_invalid', `This is no ${format} file that can be read: ${why}.`, {
    retry: false,
    cause,
    hint: 'Fetch it again, or report it to whoever offers it.',
  });
}

function concat(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(first.byteLength + second.byteLength);
  whole.set(first);
  whole.set(second, first.byteLength);
  return whole;
}
