// Socket.IO on every host: the library's own engine, fed with the requests and WebSockets that the app has let in.
import { EventEmitter } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Server, type Socket } from 'socket.io';
import { toGatewayError } from '../../src/error.ts';
import { createListener } from '../../src/realtime/listener.ts';
import { memoize } from '../../src/realtime/notice.ts';
import type { Realtime } from '../../src/realtime/realtime.ts';
import type { SessionSocket } from '../../src/realtime/session.ts';
import { MAX_POST, type SocketIo, type SocketIoAnswer, type SocketIoRequest } from '../../src/realtime/socketio.ts';

/** Milliseconds that a connection may take to join, and the other transport to take over. */
const JOIN_MS = 10_000;
/** Bytes in the socket from which on the rest waits in the engine, and milliseconds until the next look. */
const FULL = 256 * 1024;
const LOOK_MS = 50;
const MAX_ID = 128;
/** Packets of a connection that has not joined. */
const MAX_EARLY = 10;

/** What the engine reads of a request. */
interface EngineRequest extends EventEmitter {
  method: string;
  url: string;
  headers: Record<string, string>;
  connection: object;
  caller: string;
  setEncoding(): void;
  destroy(): void;
}

/** The engine's idea of a WebSocket. */
interface EngineSocket extends EventEmitter {
  send(data: string, sent: () => void): void;
  close(): void;
}

type Accept = (socket: EngineSocket) => void;

/** What the engine's session shows that its types do not. */
interface EngineSession extends EventEmitter {
  request: EngineRequest;
  /** Ours: somebody listens to it. */
  joined?: boolean;
  transport: { socket?: { buffered(): number } };
  close(discard?: boolean): void;
}

export function createSocketIo(realtime: Realtime): SocketIo {
  // It never listens: requests come from the app.
  const server = createServer();
  const io = new Server(server, {
    path: '/socket.io',
    serveClient: false,
    maxHttpBufferSize: MAX_POST,
    perMessageDeflate: false,
    httpCompression: false,
    connectTimeout: JOIN_MS,
    upgradeTimeout: JOIN_MS,
    // In place of ws: the host has the WebSocket, the engine gets it when it is open.
    wsEngine: HostSockets as never,
  });
  const engine = io.engine as unknown as EventEmitter & {
    clients: Record<string, EngineSession>;
    handleRequest(request: IncomingMessage, response: ServerResponse): void;
    handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  };
  io.on('connection', (socket) => join(realtime, socket));

  engine.on('connection', refuseChatter);
  realtime.closing.addEventListener('abort', () => void io.close());

  return async (request, caller) => {
    const sid = new URLSearchParams(request.target.split('?')[1]).get('sid');
    // A session that is somebody else's is one that is not there.
    if (sid !== null && Object.hasOwn(engine.clients, sid) && engine.clients[sid]!.request.caller !== caller) {
      return { status: 400, contentType: 'application/json', body: '{"code":1,"message":"Session ID unknown"}' };
    }
    const asked = toEngineRequest(request, caller);
    if (!request.upgrade) return poll(request, asked, (response) => engine.handleRequest(asked as never, response));
    const offered = createOffer();
    engine.handleUpgrade(asked as never, offered as never, Buffer.alloc(0));
    if (offered.accept === undefined) return { status: 400, contentType: 'text/plain', body: 'Bad Request' };
    return toSession(offered.accept);
  };
}

/** Who has not joined has one thing to say. */
function refuseChatter(conn: EngineSession): void {
  let packets = 0;
  conn.on('packet', () => {
    if (!conn.joined && ++packets > MAX_EARLY) conn.close(true);
  });
}

/** Speaks with one client, in events named like those of the other wires. */
function join(realtime: Realtime, socket: Socket): void {
  const conn = socket.conn as unknown as EngineSession;
  const { caller } = conn.request;
  socket.data.caller = caller;
  conn.joined = true;
  const waiting = countWaiting(conn);
  const listener = createListener(realtime, caller, {
    tell: (notice) => void socket.emit(notice.type, toData(notice), ...(notice.id === undefined ? [] : [notice.id])),
    close: (_, reason) => {
      socket.emit('closing', { reason });
      conn.close(true);
    },
    buffered: waiting,
  });
  conn.on('packet', () => listener.allow());
  socket.on('disconnect', listener.close);
  socket.on('subscribe', async (to: unknown, ack: unknown) => {
    const say = typeof ack === 'function' ? (ack as (answer: object) => void) : () => {};
    const { job, after } = toWish(to);
    try {
      await listener.subscribe({ job, after }, (ended) => say({ ok: true, job: job ?? null, ended }));
    } catch (error) {
      const { code, message } = toGatewayError(error);
      say({ ok: false, error: { code, message } });
    }
  });
  socket.on('unsubscribe', (to: unknown, ack: unknown) => {
    listener.unsubscribe(toWish(to).job);
    if (typeof ack === 'function') ack({ ok: true });
  });
  socket.emit('hello', { caller });
  // What a client wants from the start stands in its handshake.
  const wish = toWish({ ...socket.handshake.query, ...socket.handshake.auth });
  void listener.subscribe(wish).catch((error: unknown) => {
    const { code, message } = toGatewayError(error);
    socket.emit('error', { code, message });
  });
}

const toData = memoize(({ json }) => JSON.parse(json) as unknown);

/** Anything that is no id is none. */
function toWish(given: unknown): { job?: string; after?: string } {
  const { job, after } = Object(given) as Record<string, unknown>;
  const isId = (value: unknown): value is string => typeof value === 'string' && value !== '' && value.length <= MAX_ID;
  return { ...(isId(job) ? { job } : {}), ...(isId(after) ? { after } : {}) };
}

/** Bytes that wait in the engine, for want of a poll or of room in the socket, and in the socket itself. */
function countWaiting(conn: EngineSession): () => number {
  let bytes = 0;
  conn.on('packetCreate', ({ data }: { data?: unknown }) => (bytes += typeof data === 'string' ? data.length : 0));
  conn.on('flush', () => (bytes = 0));
  return () => bytes + (conn.transport.socket?.buffered() ?? 0);
}

function toEngineRequest({ method, target, headers, signal }: SocketIoRequest, caller: string): EngineRequest {
  const gone = () => request.emit('close');
  const request: EngineRequest = Object.assign(new EventEmitter(), {
    method,
    url: target,
    headers: Object.fromEntries(headers),
    connection: {},
    caller,
    setEncoding: () => {},
    destroy: () => void gone(),
  });
  signal.addEventListener('abort', gone, { once: true });
  return request;
}

/** One request of long polling: the engine answers now, or when it has something to say. */
function poll(
  { body, method }: SocketIoRequest,
  asked: EngineRequest,
  handle: (response: ServerResponse) => void,
): Promise<SocketIoAnswer> {
  return new Promise((resolve) => {
    let status = 200;
    let contentType = 'text/plain';
    const response = {
      writeHead(code: number, headers: Record<string, string> = {}) {
        status = code;
        contentType = headers['Content-Type'] ?? contentType;
        return response;
      },
      end: (text = '') => resolve({ status, contentType, body: text }),
    };
    // It left, or the engine will hear no more of it: nobody may wait for an answer.
    asked.once('close', () => resolve({ status: 400, contentType, body: '' }));
    handle(response as unknown as ServerResponse);
    if (method !== 'POST') return;
    asked.emit('data', body);
    asked.emit('end');
  });
}

/** Stands where the engine expects a TCP socket, and learns whether the upgrade is granted. */
function createOffer() {
  const offer = Object.assign(new EventEmitter(), {
    accept: undefined as Accept | undefined,
    writable: false,
    write: () => true,
    destroy: () => {},
  });
  return offer;
}

/** Stands where the engine expects the server of ws. */
function HostSockets() {
  return {
    on: () => {},
    close: () => {},
    handleUpgrade: (_: unknown, offer: ReturnType<typeof createOffer>, __: unknown, accept: Accept) => {
      offer.accept = accept;
    },
  };
}

function toSession(accept: Accept) {
  let engineSocket: EngineSocket | undefined;
  return {
    open(socket: SessionSocket) {
      engineSocket = toEngineSocket(socket);
      accept(engineSocket);
    },
    message: (text: string) => void engineSocket?.emit('message', text, false),
    closed: () => void engineSocket?.emit('close'),
  };
}

function toEngineSocket(socket: SessionSocket): EngineSocket {
  // The engine hands over the next packets only when the last are sent: what cannot go waits there, where it is counted.
  const whenRoom = (sent: () => void) => {
    if (socket.buffered() <= FULL) sent();
    else setTimeout(whenRoom, LOOK_MS, sent);
  };
  return Object.assign(new EventEmitter(), {
    send(data: string, sent: () => void) {
      socket.send(data);
      queueMicrotask(() => whenRoom(sent));
    },
    close: () => socket.close(1000, ''),
    buffered: () => socket.buffered(),
  });
}
