// `: ping` comments for event streams that are silent for long, so that nothing between here and the reader gives up.
import type { Piece } from './context.ts';

export const PING = ': ping\n\n';

export interface Heartbeat {
  /** Call with every piece that is sent. */
  touch(piece: Piece): void;
  stop(): void;
}

interface Stream {
  ms: number;
  last: number;
  /** The last piece ended an event: a comment inside one would break it. */
  between: boolean;
  ping: () => void;
}

/** A ping may be late by this part of the silence it is for. */
const LATENESS = 1 / 8;

const streams = new Set<Stream>();
let timer: ReturnType<typeof setInterval> | undefined;
/** Milliseconds between two looks at all streams. */
let period = Infinity;

/** Calls `ping` after `ms` of silence. One timer looks after all streams: ten thousand idle ones cost one glance each now and then. */
export function startHeartbeat(ms: number, ping: () => void): Heartbeat {
  const stream: Stream = { ms, last: performance.now(), between: true, ping };
  streams.add(stream);
  if (ms * LATENESS < period) {
    clearInterval(timer);
    period = ms * LATENESS;
    timer = setInterval(beat, period);
  }
  return {
    touch(piece) {
      stream.last = performance.now();
      stream.between = endsEvent(piece);
    },
    stop() {
      if (!streams.delete(stream) || streams.size > 0) return;
      clearInterval(timer);
      period = Infinity;
    },
  };
}

function beat(): void {
  const now = performance.now();
  for (const stream of streams) {
    // Timers are early by a millisecond now and then.
    if (now - stream.last < stream.ms - 1) continue;
    stream.last = now;
    if (stream.between) stream.ping();
  }
}

function endsEvent(piece: Piece): boolean {
  if (typeof piece === 'string') return piece.endsWith('\n\n');
  const last = piece.byteLength - 1;
  return piece[last] === 10 && (piece[last - 1] === 10 || (piece[last - 1] === 13 && piece[last - 2] === 10));
}
