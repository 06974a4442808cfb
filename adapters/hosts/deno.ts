// The app on Deno.
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
};

export const host: Host = {
  name: `deno ${typeof Deno === 'undefined' ? '' : Deno.version.deno}`,
  transport: byobTransport,
  listen: async ({ app, hostname, port }) => {
    const cut = new AbortController();
    let ended = false;
    const server = Deno.serve({ hostname, port, signal: cut.signal, onListen: () => {} }, (request) =>
      app.fetch(request),
    );
    return {
      hostname,
      port: server.addr.port,
      stop: () => void server.shutdown().then(() => (ended = true)),
      // To cut what has ended by itself is an error that nobody could catch.
      close: async () => {
        if (!ended) cut.abort();
      },
    };
  },
};
