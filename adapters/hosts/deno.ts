// The app on Deno.
import { GatewayError } from '../../src/error.ts';
import { closeCodes } from '../../src/realtime/listener.ts';
import type { SocketSession } from '../../src/realtime/session.ts';
import { byobTransport } from '../transports/byob.ts';
import type { Host } from './host.ts';

interface DenoServer {
  addr: { port: number };
  shutdown(): Promise<void>;
}
declare const Deno: {
  version: { deno: string };
  serve(
    options: { hostname: string; port: number; signal: AbortSignal; onListen: () => void },
    handler: (request: Request) => Response | Promise<Response>,
  ): DenoServer;
  upgradeWebSocket(request: Request, options: { idleTimeout: number }): { socket: WebSocket; response: Response };
};

/** Seconds of silence after which Deno pings, and again until the other end counts as dead. */
const IDLE_S = 25;

export const host: Host = {
  name: `deno ${typeof Deno === 'undefined' ? '' : Deno.version.deno}`,
  transport: byobTransport,
  listen: async ({ app, hostname, port }) => {
    const cut = new AbortController();
    const sockets = new Set<WebSocket>();
    let ended = false;
    const server = Deno.serve({ hostname, port, signal: cut.signal, onListen: () => {} }, (request) =>
      app.fetch(request, { upgrade: (session) => upgrade(request, session, sockets) }),
    );
    return {
      hostname,
      port: server.addr.port,
      stop: () => void server.shutdown().then(() => (ended = true)),
      // To cut what has ended by itself is an error that nobody could catch.
      close: async () => {
        for (const socket of sockets) socket.close();
        if (!ended) cut.abort();
      },
    };
  },
};

function upgrade(request: Request, session: SocketSession, sockets: Set<WebSocket>): Response {
  const { socket, response } = accept(request);
  socket.addEventListener('open', () => {
    sockets.add(socket);
    session.open({
      // What is still said after the end of the socket is said to nobody.
      send: (text) => socket.readyState === WebSocket.OPEN && socket.send(text),
      close: (code, reason) => socket.close(code, reason),
      buffered: () => socket.bufferedAmount,
    });
  });
  socket.addEventListener('message', ({ data }) => {
    if (typeof data === 'string') session.message(data);
    else socket.close(closeCodes.unsupported, 'text only');
  });
  socket.addEventListener('close', () => {
    sockets.delete(socket);
    session.closed();
  });
  // A close follows.
  socket.addEventListener('error', () => {});
  return response;
}

function accept(request: Request): { socket: WebSocket; response: Response } {
  try {
    return Deno.upgradeWebSocket(request, { idleTimeout: IDLE_S });
  } catch (error) {
    throw new GatewayError('invalid_request', 'This is not the handshake of a WebSocket.', { cause: error });
  }
}
