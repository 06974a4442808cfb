// What a request carries through the app, and what a host may do better than the web standard.
import type { Context } from 'hono';
import type { Config } from '../config.ts';
import type { Gateway } from '../gateway.ts';

/** A piece of an answer; text is sent as UTF-8. */
export type Piece = string | Uint8Array;

export interface StreamPort {
  status: number;
  headers: Record<string, string>;
  body: AsyncIterable<Piece>;
  /** Send `: ping` after this much silence; for event streams only. */
  heartbeatMs?: number;
  /** Bytes that may wait for the reader before the connection is cut. */
  maxBacklog: number;
  /** The reader left, or was cut. */
  onGone: () => void;
}

/** Given by a host with each request; every member is optional, the web standard serves where one is missing. */
export interface HostBindings {
  /** Sends a streamed answer past web streams; the Response that it returns only tells Hono so. */
  stream?(answer: StreamPort): Response;
  /** Aborts when the client leaves before its answer is complete; the request's own signal if absent. */
  gone?(): AbortSignal;
}

export interface LogEntry {
  level: 'debug' | 'info' | 'warn' | 'error';
  message: string;
  [field: string]: unknown;
}

export type Log = (entry: LogEntry) => void;

/** What the app is made of; see adapters/index.ts. */
export interface AppOptions {
  gateway: Gateway;
  config: Config;
  version: string;
  /** The JS engine that serves, for people: `node 24.1.0`. */
  host: string;
  /** Changes with every start; how the CLI recognises the gateway of a state directory. */
  instance: string;
  log: Log;
  /** Files of the interactive documents page. */
  asset(name: string): Promise<{ bytes: Uint8Array<ArrayBuffer>; contentType: string } | undefined>;
}

export interface AppEnv {
  Bindings: HostBindings;
  Variables: {
    requestId: string;
    /** Headers that every answer to this request gets. */
    headers: Record<string, string>;
    /** Filled in for the log line. */
    logged: Record<string, unknown>;
    /** Whose words failures are told in. */
    app: AppOptions;
  };
}

export type AppContext = Context<AppEnv>;

export function clientSignal(c: AppContext): AbortSignal {
  return c.env?.gone?.() ?? c.req.raw.signal;
}
