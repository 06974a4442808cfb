// What the gateway knows of Socket.IO: the contract of what speaks its protocol.
import type { SocketSession } from './session.ts';

export interface SocketIoRequest {
  method: string;
  /** Path and query. */
  target: string;
  headers: Headers;
  /** What was posted. */
  body: string;
  /** Aborts when the client leaves before its answer. */
  signal: AbortSignal;
  /** Whether it asks for a WebSocket. */
  upgrade: boolean;
}

/** Long polling gets an answer, a WebSocket gets a session; refusals are answers. Connections belong to their caller. */
export type SocketIo = (request: SocketIoRequest, caller: string) => Promise<SocketIoAnswer | SocketSession>;

export interface SocketIoAnswer {
  status: number;
  contentType: string;
  body: string;
}

/** Bytes of the largest post; what a client says is a few words. */
export const MAX_POST = 100_000;
