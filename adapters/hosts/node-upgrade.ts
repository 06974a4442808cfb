// WebSockets on Node: the app decides over the request like over any other, then ws speaks the protocol.
import { STATUS_CODES, type IncomingMessage, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket, WebSocketServer } from 'ws';
import type { App } from '../../src/app.ts';
import { closeCodes } from '../../src/realtime/listener.ts';
import { MAX_MESSAGE, type SocketSession } from '../../src/realtime/session.ts';
import { createKeepalive, type Keepalive } from './keepalive.ts';

/** Pieces that one message may come in; nobody needs more for a few words. */
const MAX_FRAGMENTS = 256;
/** Milliseconds that the other end may take to agree to a close. */
const CLOSE_MS = 2000;

interface Upgrades {
  /** Cuts what is open. */
  close(): void;
}

export function acceptUpgrades(server: Server, app: App): Upgrades {
  const open = new Set<Duplex>();
  // Loaded by the first who needs it: starting must not cost what is seldom used.
  let loading: Promise<{ sockets: WebSocketServer; keepalive: Keepalive }> | undefined;
  const load = async () => {
    const { WebSocketServer } = await import('ws');
    const sockets = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE,
      maxFragments: MAX_FRAGMENTS,
      closeTimeout: CLOSE_MS,
    } as object);
    return { sockets, keepalive: createKeepalive() };
  };

  async function take(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { session, response } = await ask(app, incoming, socket);
    if (!session) return refuse(socket, response);
    const { sockets, keepalive } = await (loading ??= load());
    // Whoever left meanwhile is told so by ws, which answers a broken handshake too.
    sockets.handleUpgrade(incoming, socket, head, (webSocket) => plug(webSocket, session, keepalive));
  }

  server.on('upgrade', (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    take(incoming, socket, head).catch(() => socket.destroy());
  });
  return {
    close() {
      for (const socket of open) socket.destroy();
    },
  };
}

export function isWebSocket(incoming: IncomingMessage): boolean {
  return incoming.headers.upgrade?.toLowerCase() === 'websocket';
}

async function ask(
  app: App,
  incoming: IncomingMessage,
  socket: Duplex,
): Promise<{ session: SocketSession | undefined; response: Response }> {
  const request = toRequest(incoming);
  if (!request) return { session: undefined, response: new Response(null, { status: 400 }) };
  const gone = new AbortController();
  socket.once('close', () => gone.abort());
  let session: SocketSession | undefined;
  const response = await app.fetch(request, {
    gone: () => gone.signal,
    upgrade(given) {
      session = given;
      // Seen by nobody but the log.
      return new Response(null, { status: 204 });
    },
  });
  return { session, response };
}

/** Undefined for a request that no URL can be made of, or that has a body: what follows its head are not frames. */
function toRequest({ method, url, headers, rawHeaders }: IncomingMessage): Request | undefined {
  if (headers['content-length'] || headers['transfer-encoding']) return undefined;
  try {
    const all = new Headers();
    for (let index = 0; index < rawHeaders.length; index += 2) all.append(rawHeaders[index]!, rawHeaders[index + 1]!);
    return new Request(new URL(url ?? '/', `http://${headers.host ?? 'localhost'}`), { method: method!, headers: all });
  } catch {
    return undefined;
  }
}

async function refuse(socket: Duplex, { status, headers, body }: Response): Promise<void> {
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`];
  for (const [name, value] of headers)
    if (!/^(connection|transfer-encoding)$/.test(name)) lines.push(`${name}: ${value}`);
  socket.write(`${lines.join('\r\n')}\r\nconnection: close\r\n\r\n`);
  if (body) for await (const piece of body) socket.write(piece);
  socket.end();
}

function plug(webSocket: WebSocket, session: SocketSession, keepalive: Keepalive): void {
  const pulse = keepalive.add(webSocket);
  webSocket.on('error', () => {});
  webSocket.on('message', (data: Buffer, isBinary) => {
    pulse.alive();
    if (isBinary) return webSocket.close(closeCodes.unsupported, 'text only');
    session.message(data.toString());
  });
  webSocket.on('close', () => {
    pulse.stop();
    session.closed();
  });
  session.open({
    send: (text) => webSocket.send(text),
    close: (code, reason) => webSocket.close(code, reason),
    buffered: () => webSocket.bufferedAmount,
  });
}
