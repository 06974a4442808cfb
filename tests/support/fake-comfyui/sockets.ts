// The websockets of a fake ComfyUI: the newest socket of a client id gets its events, the older ones stay open and hear nothing.
import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import { WebSocketServer } from 'ws';
import type { WebSocket } from 'ws';

export interface Sockets {
  /** Takes upgrades to /ws and /api/ws on this server. */
  attach(server: Server): void;
  /** To the newest socket of one client. */
  send(clientId: string, type: string, data: object): void;
  sendBinary(clientId: string, frame: Uint8Array): void;
  broadcast(type: string, data: object): void;
  /** What the client said of itself in its first message. */
  flag(clientId: string, name: string): boolean;
  open(): string[];
  drop(): void;
  silent: boolean;
}

const FEATURES = {
  supports_preview_metadata: true,
  supports_model_type_tags: true,
  max_upload_size: 104_857_600,
  extension: { manager: { supports_v4: true } },
  node_replacements: true,
  assets: false,
};

export function createSockets(hooks: {
  status(): object;
  /** The node that runs for this client, told to one that comes back. */
  lastNode(clientId: string): string | undefined;
  refuse(headers: Record<string, string | string[] | undefined>): boolean;
}): Sockets {
  const current = new Map<string, { socket: WebSocket; flags: Record<string, unknown> }>();
  const all = new Map<WebSocket, string>();

  function say(socket: WebSocket, type: string, data: object): void {
    if (!sockets.silent && socket.readyState === socket.OPEN) socket.send(JSON.stringify({ type, data }));
  }

  function accept(socket: WebSocket, clientId: string): void {
    const sid = clientId || randomUUID().replaceAll('-', '');
    all.set(socket, sid);
    current.set(sid, { socket, flags: {} });
    say(socket, 'status', { status: hooks.status(), sid });
    const node = hooks.lastNode(sid);
    if (node !== undefined) say(socket, 'executing', { node });
    let first = true;
    socket.on('message', (raw, binary) => {
      if (binary) return;
      const message = parse(String(raw));
      if (first && message?.['type'] === 'feature_flags') {
        const entry = current.get(sid);
        if (entry) entry.flags = (message['data'] ?? {}) as Record<string, unknown>;
        const newest = entry?.socket;
        if (newest) say(newest, 'feature_flags', FEATURES);
      }
      first = false;
    });
    socket.on('error', () => socket.terminate());
    socket.on('close', () => {
      all.delete(socket);
      // As in the real one: whichever socket of an id ends takes the id's entry with it, so that a newer one hears nothing either.
      current.delete(sid);
    });
  }

  const sockets: Sockets = {
    silent: false,
    attach(server) {
      const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
      server.on('upgrade', (request, stream, head) => {
        const url = new URL(request.url ?? '/', 'http://fake');
        if (!/^(\/api)?\/ws$/.test(url.pathname)) return void stream.end('HTTP/1.1 404 Not Found\r\n\r\n');
        if (hooks.refuse(request.headers)) return void stream.end('HTTP/1.1 403 Forbidden\r\n\r\n');
        webSockets.handleUpgrade(request, stream, head, (socket) =>
          accept(socket, url.searchParams.get('clientId') ?? ''),
        );
      });
    },
    send(clientId, type, data) {
      const entry = current.get(clientId);
      if (entry) say(entry.socket, type, data);
    },
    sendBinary(clientId, frame) {
      const socket = current.get(clientId)?.socket;
      if (socket && !sockets.silent && socket.readyState === socket.OPEN) socket.send(frame);
    },
    broadcast(type, data) {
      for (const { socket } of current.values()) say(socket, type, data);
    },
    flag: (clientId, name) => current.get(clientId)?.flags[name] === true,
    open: () => [...all].filter(([socket]) => socket.readyState === socket.OPEN).map(([, sid]) => sid),
    drop() {
      for (const socket of all.keys()) socket.terminate();
      current.clear();
    },
  };
  return sockets;
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
