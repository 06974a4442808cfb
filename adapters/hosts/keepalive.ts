// Pings for the WebSockets of Node, which nobody else sends there: one timer for all, and what is dead is cut.
import type { WebSocket } from 'ws';

/** Milliseconds between two pings; proxies give up on what is silent for a minute. */
const EVERY = 25_000;
/** Pings of the other end that are answered between two of ours; who sends more wants to do harm. */
const MAX_PINGS = 100;

export interface Keepalive {
  add(webSocket: WebSocket): Pulse;
}

export interface Pulse {
  /** Call when something was heard. */
  alive(): void;
  stop(): void;
}

interface Watched {
  webSocket: WebSocket;
  heard: boolean;
  pings: number;
}

export function createKeepalive(every = EVERY): Keepalive {
  const all = new Set<Watched>();
  let timer: ReturnType<typeof setInterval> | undefined;

  function beat(): void {
    for (const watched of all) {
      if (!watched.heard) watched.webSocket.terminate();
      else watched.webSocket.ping();
      watched.heard = false;
      watched.pings = 0;
    }
  }

  return {
    add(webSocket) {
      const watched: Watched = { webSocket, heard: true, pings: 0 };
      if (all.size === 0) timer = setInterval(beat, every);
      all.add(watched);
      webSocket.on('pong', () => (watched.heard = true));
      webSocket.on('ping', () => {
        watched.heard = true;
        if (++watched.pings > MAX_PINGS) webSocket.terminate();
      });
      return {
        alive: () => (watched.heard = true),
        stop() {
          all.delete(watched);
          if (all.size === 0) clearInterval(timer);
        },
      };
    },
  };
}
