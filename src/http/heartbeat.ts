// `: ping` comments for event streams that are silent for long, so that nothing between here and the reader gives up.
import type { Piece } from './context.ts';

export const PING = ': ping\n\n';

export interface Heartbeat {
  /** Call with every piece that is sent. */
  touch(piece: Piece): void;
  stop(): void;
}

/** Calls `ping` after `ms` of silence, but only where the last piece ended an event: a comment inside one would break it. */
export function startHeartbeat(ms: number, ping: () => void): Heartbeat {
  let last = performance.now();
  let between = true;
  // One timer looks at the clock now and then: re-arming one for every token would cost more than the token.
  const watch = () => {
    const left = last + ms - performance.now();
    if (left <= 1) {
      last = performance.now();
      if (between) ping();
    }
    timer = setTimeout(watch, left <= 1 ? ms : left);
  };
  let timer = setTimeout(watch, ms);
  return {
    touch(piece) {
      last = performance.now();
      between = endsEvent(piece);
    },
    stop: () => clearTimeout(timer),
  };
}

function endsEvent(piece: Piece): boolean {
  if (typeof piece === 'string') return piece.endsWith('\n\n');
  const last = piece.byteLength - 1;
  return piece[last] === 10 && (piece[last - 1] === 10 || (piece[last - 1] === 13 && piece[last - 2] === 10));
}
