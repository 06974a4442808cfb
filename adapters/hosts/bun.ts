// The app on Bun.
import { GatewayError } from '../../src/error.ts';
import { closeCodes } from '../../src/realtime/listener.ts';
import { MAX_MESSAGE, type SocketSession } from '../../src/realtime/session.ts';
import { fetchTransport } from '../../src/upstream.ts';
import type { Host } from './host.ts';

/** Bodies are counted by the app, which answers 413 in its own words; this only bounds what the app never sees. */
const MAX_BODY = 1024 ** 4;
/** Bytes that may wait for one WebSocket before Bun itself cuts it; sessions leave out or close long before. */
const MAX_WAITING = 4 * 1024 * 1024;
/** Seconds of silence after which a WebSocket is dead; Bun pings before. */
const IDLE_S = 50;

export const host: Host = {
  name: `bun ${globalThis.Bun?.version}`,
  transport: fetchTransport,
  listen: async ({ app, hostname, port }) => {
    // Bun would cut a stream after ten silent seconds; heartbeats and deadlines are the app's.
    const server = Bun.serve<{ session: SocketSession }>({
      hostname,
      port,
      idleTimeout: 0,
      maxRequestBodySize: MAX_BODY,
      fetch: (request) =>
        app.fetch(request, {
          upgrade(session) {
            if (!server.upgrade(request, { data: { session } })) throw notHandshake();
            // Bun has answered already; this tells Hono so.
            return new Response(null);
          },
        }),
      websocket,
    });
    return {
      hostname,
      port: server.port!,
      stop: () => void server.stop(false),
      close: () => server.stop(true),
    };
  },
};

const websocket: Bun.WebSocketHandler<{ session: SocketSession }> = {
  maxPayloadLength: MAX_MESSAGE,
  perMessageDeflate: false,
  backpressureLimit: MAX_WAITING,
  closeOnBackpressureLimit: true,
  idleTimeout: IDLE_S,
  sendPings: true,
  open: (socket) =>
    socket.data.session.open({
      send: (text) => void socket.send(text),
      close: (code, reason) => socket.close(code, reason),
      buffered: () => socket.getBufferedAmount(),
    }),
  message(socket, message) {
    if (typeof message === 'string') socket.data.session.message(message);
    else socket.close(closeCodes.unsupported, 'text only');
  },
  close: (socket) => socket.data.session.closed(),
};

function notHandshake(): GatewayError {
  return new GatewayError('invalid_request', 'This is not the handshake of a WebSocket.');
}
