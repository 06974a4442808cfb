// What a host is: a JS engine that serves the app.
import type { App } from '../../src/app.ts';
import type { Transport } from '../../src/upstream.ts';

export interface ListenOptions {
  app: App;
  hostname: string;
  /** 0 takes a free one. */
  port: number;
  /** Milliseconds a caller may take to send a request. */
  requestMs: number;
}

export interface Listening {
  hostname: string;
  port: number;
  /** No new connections from now on; open answers go on. */
  stop(): void;
  /** Cuts what is still open. */
  close(): Promise<void>;
}

export interface Host {
  /** For people: `node 24.1.0`. */
  name: string;
  transport: Transport;
  listen(options: ListenOptions): Promise<Listening>;
}

/** The engine that this code runs on. */
export async function currentHost(): Promise<Host> {
  if ('Bun' in globalThis) return (await import('./bun.ts')).host;
  if ('Deno' in globalThis) return (await import('./deno.ts')).host;
  return (await import('./node.ts')).host;
}
