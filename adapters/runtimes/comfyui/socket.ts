// The one websocket of a server: opened by the first job, shared by all, opened again when it breaks, closed when nobody listens.
import { parseBinary, parseText } from './wire.ts';
import type { Message } from './wire.ts';

/** `reopened`: what was said meanwhile is lost, so whoever needs to know must look. */
export type Heard = Message | { type: 'reopened' };

export interface Socket {
  /** The server sends the events of a prompt to whom it names here. */
  readonly clientId: string;
  /** Hears what is said of a prompt, and to everybody, until the returned function is called. */
  listen(prompt: string, hear: (heard: Heard) => void): () => void;
  /** Resolves when it is open, or when it has not become so in `ms`: jobs go on without it. */
  ready(ms: number): Promise<void>;
  /** Milliseconds since it was last heard: what happens meanwhile is told to a dead connection. */
  quietMs(): number;
  /** Gives up the connection for a new one. */
  renew(): void;
  close(): void;
}

export interface SocketOptions {
  /** With `http:` or `https:`, as the runtime is configured. */
  baseUrl: string;
  headers: Record<string, string>;
  /** Milliseconds without listeners until it is closed. */
  idleMs: number;
  /** The server was away, or the way to it. */
  onReopen: () => void;
}

const CONNECT_MS = 10_000;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5000;

export function createSocket({ baseUrl, headers, idleMs, onReopen }: SocketOptions): Socket {
  const clientId = crypto.randomUUID();
  const url = `${baseUrl.replace(/\/+$/, '').replace(/^http/, 'ws')}/ws?clientId=${clientId}`;
  const listeners = new Map<string, (heard: Heard) => void>();
  const waiting = new Set<() => void>();
  let socket: WebSocket | undefined;
  let isOpen = false;
  let wasOpen = false;
  let closed = false;
  let failures = 0;
  let heardAt = 0;
  /** The prompt that messages without an id are about. */
  let running: string | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let idle: ReturnType<typeof setTimeout> | undefined;

  function connect(): void {
    clearTimeout(retry);
    retry = undefined;
    let mine: WebSocket;
    try {
      mine = openWebSocket(url, headers);
    } catch {
      return lost(undefined);
    }
    socket = mine;
    mine.binaryType = 'arraybuffer';
    const patience = setTimeout(() => lost(mine), CONNECT_MS);
    mine.addEventListener('open', () => {
      clearTimeout(patience);
      if (mine === socket) opened(mine);
    });
    mine.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
      if (mine === socket) hear(data);
    });
    for (const type of ['error', 'close']) {
      mine.addEventListener(type, () => {
        clearTimeout(patience);
        lost(mine);
      });
    }
  }

  function opened(mine: WebSocket): void {
    failures = 0;
    isOpen = true;
    // First of all: without it previews do not say whose they are.
    mine.send(JSON.stringify({ type: 'feature_flags', data: { supports_preview_metadata: true } }));
    if (wasOpen) onReopen();
    wasOpen = true;
    tell({ type: 'reopened' });
    for (const wake of waiting) wake();
  }

  function lost(mine: WebSocket | undefined): void {
    if (mine !== socket) return;
    leave();
    failures++;
    if (closed || listeners.size === 0) return;
    const wait = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(10, failures - 1));
    retry ??= unref(setTimeout(connect, wait));
  }

  /** The connection is no longer ours, whatever it still says. */
  function leave(): void {
    const left = socket;
    socket = undefined;
    isOpen = false;
    running = undefined;
    try {
      left?.close();
    } catch {
      // It never was one.
    }
  }

  function hear(data: unknown): void {
    heardAt = performance.now();
    const message =
      typeof data === 'string'
        ? parseText(data)
        : data instanceof ArrayBuffer
          ? parseBinary(new Uint8Array(data))
          : undefined;
    if (!message) return;
    if (message.type === 'start' || (message.type === 'node' && message.node !== null)) running = message.id;
    if (message.type === 'status') return tell(message);
    const id = 'id' in message ? (message.id ?? running) : running;
    if (id !== undefined) listeners.get(id)?.(message);
  }

  function tell(heard: Heard): void {
    for (const listener of listeners.values()) listener(heard);
  }

  function rest(): void {
    clearTimeout(retry);
    retry = undefined;
    failures = 0;
    wasOpen = false;
    leave();
  }

  return {
    clientId,
    quietMs: () => performance.now() - heardAt,
    listen(prompt, hear) {
      clearTimeout(idle);
      listeners.set(prompt, hear);
      if (!socket && !retry && !closed) connect();
      return () => {
        if (!listeners.delete(prompt) || listeners.size > 0) return;
        clearTimeout(idle);
        idle = unref(setTimeout(rest, idleMs));
      };
    },
    async ready(ms) {
      if (isOpen || closed) return;
      let wake = () => {};
      const timer = setTimeout(() => wake(), ms);
      await new Promise<void>((resolve) => {
        wake = resolve;
        waiting.add(wake);
      });
      clearTimeout(timer);
      waiting.delete(wake);
    },
    renew() {
      if (!isOpen || closed) return;
      leave();
      connect();
    },
    close() {
      closed = true;
      clearTimeout(idle);
      rest();
      for (const wake of waiting) wake();
    },
  };
}

/** Browsers cannot send headers with it; Node, Bun and Deno can. */
function openWebSocket(url: string, headers: Record<string, string>): WebSocket {
  if (Object.keys(headers).length === 0) return new WebSocket(url);
  return new WebSocket(url, { headers } as unknown as string[]);
}

/** A process that has nothing else to do need not wait for it. */
function unref<Timer extends ReturnType<typeof setTimeout>>(timer: Timer): Timer {
  (timer as { unref?: () => void }).unref?.();
  return timer;
}
