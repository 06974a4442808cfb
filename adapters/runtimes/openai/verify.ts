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

type Piece = IteratorResult<Uint8Array, void>;

export interface VerifiedStream extends AsyncIterable<Uint8Array> {
  next(): Promise<Piece>;
  return(): Promise<Piece>;
}

/**
 * Gives the body's own pieces. What follows `data: [DONE]` is dropped; where that is missing after a finish_reason, it
 * is added. Throws `upstream_truncated` where both are missing, and the failure that the server reports in an event.
 *
 * Every token of every stream comes through here, so this is an iterator by hand, which costs half of a generator, and
 * a piece is looked at as latin1 text, which is one copy and no decoding: all that is looked for is ASCII, and no byte
 * of a longer character is. A line that is cut waits for its rest, so that whatever has to be said after a failure
 * begins on a line of its own.
 */
export function verifyStream(
  body: AsyncIterable<Uint8Array>,
  upstream: Upstream,
  maxLineBytes: number,
): VerifiedStream {
  const bytes = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, void>;
  /** The text before the next piece: all of the line that waits, as far as it matters, or the end of the last event. */
  let carry = '\n\n';
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let ready: Uint8Array[] = [];
  let begun = false;
  let finished = false;
  let ending: AsyncGenerator<Uint8Array, void> | undefined;

  function next(): Promise<Piece> {
    const piece = ready.shift();
    if (piece !== undefined) return Promise.resolve({ done: false, value: piece });
    return ending ? ending.next() : bytes.next().then(look, (error: unknown) => end(fail(error)));
  }

  function look(result: Piece): Piece | Promise<Piece> {
    if (result.done) return end(endOfBody());
    const piece = result.value;
    const text = waitingBytes === 0 ? toLatin1(piece) : carry + toLatin1(piece);
    const mark = findMark(text, waitingBytes === 0);
    finished ||= FINISH.test(text);
    if (mark !== -1) return end(endAt(piece, text, mark));
    if (waitingBytes > 0 || piece[piece.byteLength - 1] !== NEWLINE) return holdBack(piece, text);
    begun = true;
    carry = text.length < 4 ? (carry + text).slice(-4) : text.slice(-4);
    return result;
  }

  /** Lets the whole lines go and keeps what is left, as a copy: a transport may fill the same memory again. */
  function holdBack(piece: Uint8Array, text: string): Promise<Piece> {
    const context = waitingBytes === 0 && text.length < CARRIED ? carry.slice(-4) + text : text;
    const whole = piece.lastIndexOf(NEWLINE) + 1;
    if (whole > 0) {
      ready = [...waiting, piece.subarray(0, whole)];
      begun = true;
      waiting = [];
      waitingBytes = 0;
    }
    if (whole < piece.byteLength) {
      waiting.push(piece.slice(whole));
      waitingBytes += piece.byteLength - whole;
    }
    carry = context.slice(-CARRIED);
    return waitingBytes > maxLineBytes ? end(fail(tooLong(maxLineBytes, upstream.name))) : next();
  }

  function end(how: AsyncGenerator<Uint8Array, void>): Promise<Piece> {
    ending = how;
    return next();
  }

  async function* endAt(piece: Uint8Array, text: string, mark: number): AsyncGenerator<Uint8Array, void> {
    const carried = waitingBytes === 0 ? 0 : carry.length;
    const before = (carried === 0 ? carry : '') + text.slice(0, mark);
    if (text.startsWith('d', mark) && text.startsWith(DONE, valueAt(text, mark))) {
      const lineEnd = before.endsWith('\r\n') ? '\r\n' : '\n';
      try {
        yield* waiting;
        yield* cutAfter(piece, text.slice(valueAt(text, mark) + DONE.length), lineEnd);
      } finally {
        // Only now: to read on may overwrite the piece.
        void drain(bytes);
      }
      return;
    }
    // What waits is the beginning of a line that ends in this piece, or else the beginning of this very mark.
    const at = mark - carried;
    if (at > 0) {
      yield* waiting;
      yield piece.subarray(0, at);
      begun = true;
    }
    carry = before;
    waitingBytes = 0;
    yield* fail(toLateFailure(await readError(text.slice(mark), bytes), upstream));
  }

  async function* endOfBody(): AsyncGenerator<Uint8Array, void> {
    if (!finished || (waitingBytes > 0 && !isWholeLine(waiting))) return yield* fail(truncated(upstream.name));
    yield* waiting;
    const gap = waitingBytes > 0 ? '\n\n' : EVENT_END.test(carry) ? '' : '\n';
    yield Buffer.from(`${gap}data: ${DONE}\n\n`);
  }

  /** After the end of an event, so that the next line is not taken for a part of it. */
  async function* fail(error: unknown): AsyncGenerator<Uint8Array, never> {
    if (begun && (waitingBytes > 0 || !EVENT_END.test(carry))) yield Buffer.from('\n');
    throw error;
  }

  const stream: VerifiedStream = {
    next,
    async return() {
      ready = [];
      if (ending) return ending.return();
      ending = nothing();
      await bytes.return?.();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]: () => stream,
  };
  return stream;
}

/** Where the first line begins that ends the stream or reports a failure; -1 where there is none. */
function findMark(text: string, atLineStart: boolean): number {
  for (let line = atLineStart ? 0 : text.indexOf('\n') + 1; ; line = text.indexOf('\n', line) + 1) {
    if (line === 0 && !(atLineStart && text !== '')) return -1;
    const first = text.charCodeAt(line);
    if (first === 0x64 /* d */) {
      const at = valueAt(text, line);
      const value = text.charCodeAt(at);
      if (value === 0x5b /* [ */ && text.startsWith(DONE, at) && text.startsWith('data:', line)) return line;
      if (value === 0x7b /* { */ && text.startsWith('"error"', at + 1) && isSet(text, at + 8)) return line;
    } else if (first === 0x65 /* e */) {
      if (text.startsWith('error:', line) || /^event: ?error/.test(text.slice(line, line + 12))) return line;
    }
    atLineStart = false;
  }
}

/** Where the value of a `data:` line begins. */
function valueAt(text: string, line: number): number {
  return text.charCodeAt(line + 5) === 0x20 ? line + 6 : line + 5;
}

/** `"error":null` and `"error":false` are no failures. */
function isSet(text: string, at: number): boolean {
  const value = /^\s*:\s*(.)/.exec(text.slice(at, at + 12));
  return value !== null && value[1] !== 'n' && value[1] !== 'f';
}

/** The piece up to the end of the event that `rest` begins within, and what the event lacks of its line ends. */
function* cutAfter(piece: Uint8Array, rest: string, lineEnd: string): Generator<Uint8Array> {
  const wanted = lineEnd + lineEnd;
  let there = 0;
  while (there < wanted.length && rest[there] === wanted[there]) there++;
  const cut = piece.byteLength - rest.length + there;
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

async function* nothing(): AsyncGenerator<Uint8Array, void> {}
