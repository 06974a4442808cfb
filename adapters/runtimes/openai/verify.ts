// Watches a stream that is passed on: its bytes are not touched, but it ends once, and never as if it were whole when it is not.
import { Buffer } from 'node:buffer';
import { GatewayError } from '../../../src/error.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { drain } from '../sse.ts';
import { toLateFailure, truncated } from './failure.ts';

const NEWLINE = 0x0a;
const DONE = '[DONE]';
/** Longer than anything looked for, so that nothing hides on the border of two pieces. */
const CARRIED = 64;
const MAX_ERROR_CHARS = 64 * 1024;
const FINISH = /finish_reason"\s*:\s*"/;
const FAILURE_LINE = /(?:^|\n)(?:data|error):([^\n]*)\n/;
const EVENT_END = /\n\r?\n$/;

/**
 * Yields the body's own pieces. What follows `data: [DONE]` is dropped; where that is missing after a finish_reason, it
 * is added. Throws `upstream_truncated` where both are missing, and the failure that the server reports in an event.
 *
 * Every token of every stream comes through here. A piece is looked at as latin1 text, which costs one copy and no
 * decoding; all that is looked for is ASCII, and no byte of a longer character is. A line that is cut waits for its
 * rest, so that whatever has to be said after a failure begins on a line of its own.
 */
export async function* verifyStream(
  body: AsyncIterable<Uint8Array>,
  upstream: Upstream,
  maxLineBytes: number,
): AsyncGenerator<Uint8Array, void> {
  const bytes = body[Symbol.asyncIterator]();
  let carry = '\n\n';
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let begun = false;
  let finished = false;
  let over = false;
  try {
    for (;;) {
      const { done, value: piece } = await bytes.next();
      if (done) break;
      if (piece.byteLength === 0) continue;
      const text = carry + toLatin1(piece);
      const mark = findMark(text);
      finished ||= FINISH.test(text);
      if (mark === -1) {
        const whole = piece[piece.byteLength - 1] === NEWLINE ? piece.byteLength : piece.lastIndexOf(NEWLINE) + 1;
        if (whole > 0) {
          if (waitingBytes > 0) yield* waiting;
          yield whole === piece.byteLength ? piece : piece.subarray(0, whole);
          begun = true;
          waiting = [];
          waitingBytes = 0;
        }
        if (whole < piece.byteLength) {
          // A copy: a transport may fill the same memory again.
          waiting.push(piece.slice(whole));
          waitingBytes += piece.byteLength - whole;
          if (waitingBytes > maxLineBytes) throw tooLong(maxLineBytes, upstream.name);
        }
        carry = text.slice(whole === piece.byteLength ? -4 : -CARRIED);
        continue;
      }
      const at = mark - carry.length;
      if (text.startsWith('data:', mark) && text.startsWith(DONE, mark + (text[mark + 5] === ' ' ? 6 : 5))) {
        over = true;
        try {
          yield* waiting;
          yield* endWith(piece, text, mark, carry.length);
        } finally {
          // Only now: to read on may overwrite the piece.
          void drain(bytes);
        }
        return;
      }
      // What waits is the beginning of a line that ends in this piece, or it is the beginning of this very mark.
      if (at > 0) {
        yield* waiting;
        yield piece.subarray(0, at);
        begun = true;
      }
      carry = text.slice(0, mark).slice(-4);
      waiting = [];
      waitingBytes = 0;
      over = true;
      throw toLateFailure(await readError(text.slice(mark), bytes), upstream);
    }
    over = true;
    if (waitingBytes > 0 && !isWholeLine(waiting)) throw truncated(upstream.name);
    if (!finished) throw truncated(upstream.name);
    yield* waiting;
    const gap = waitingBytes > 0 ? '\n\n' : EVENT_END.test(carry) ? '' : '\n';
    yield Buffer.from(`${gap}data: ${DONE}\n\n`);
  } catch (error) {
    over = true;
    if (begun && !(waitingBytes === 0 && EVENT_END.test(carry))) yield Buffer.from('\n');
    throw error;
  } finally {
    if (!over) await bytes.return?.();
  }
}

/** Where the first line begins that ends the stream or reports a failure; -1 where there is none. */
function findMark(text: string): number {
  for (let line = text.indexOf('\n') + 1; line !== 0; line = text.indexOf('\n', line) + 1) {
    const first = text.charCodeAt(line);
    if (first === 0x64 /* d */) {
      const at = text.charCodeAt(line + 5) === 0x20 ? line + 6 : line + 5;
      const value = text.charCodeAt(at);
      if (value === 0x5b /* [ */ && text.startsWith(DONE, at) && text.startsWith('data:', line)) return line;
      if (value === 0x7b /* { */ && text.startsWith('"error"', at + 1) && isSet(text, at + 8)) return line;
    } else if (first === 0x65 /* e */) {
      if (text.startsWith('error:', line) || /^event: ?error/.test(text.slice(line, line + 12))) return line;
    }
  }
  return -1;
}

/** `"error":null` and `"error":false` are no failures. */
function isSet(text: string, at: number): boolean {
  const value = /^\s*:\s*(.)/.exec(text.slice(at, at + 12));
  return value !== null && value[1] !== 'n' && value[1] !== 'f';
}

/** The piece up to the end of its [DONE] event, and what the event lacks of its line ends, in the manner of the stream. */
function* endWith(piece: Uint8Array, text: string, mark: number, carried: number): Generator<Uint8Array> {
  const lineEnd = text.charCodeAt(mark - 2) === 0x0d ? '\r\n' : '\n';
  const wanted = lineEnd + lineEnd;
  const end = text.indexOf(DONE, mark) + DONE.length;
  let there = 0;
  while (there < wanted.length && text[end + there] === wanted[there]) there++;
  const cut = end + there - carried;
  yield cut === piece.byteLength ? piece : piece.subarray(0, cut);
  if (there < wanted.length) yield Buffer.from(wanted.slice(there));
}

/** The JSON text of the failure that begins in `start`, whose line may go on in what follows. */
async function readError(start: string, bytes: AsyncIterator<Uint8Array>): Promise<string> {
  let text = start;
  try {
    while (!FAILURE_LINE.test(text) && text.length < MAX_ERROR_CHARS) {
      const { done, value } = await bytes.next();
      text += done ? '\n\n' : toLatin1(value);
      if (done) break;
    }
    await bytes.return?.();
  } catch {
    // What the server has said so far tells more than how its connection ended.
  }
  const line = FAILURE_LINE.exec(text)?.[1] ?? '';
  return Buffer.from(line, 'latin1').toString().trim();
}

/** Whether the last line is all there although its line end is not. */
function isWholeLine(parts: Uint8Array[]): boolean {
  const line = Buffer.concat(parts).toString();
  if (!line.startsWith('data:')) return true;
  try {
    JSON.parse(line.slice(5));
    return true;
  } catch {
    return false;
  }
}

function toLatin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

function tooLong(maxBytes: number, source: string): GatewayError {
  return new GatewayError('upstream_invalid', `${source} sent a line of more than ${maxBytes} bytes.`, {
    source,
    retry: false,
  });
}
