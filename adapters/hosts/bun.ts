// The app on Bun.
import { fetchTransport } from '../../src/upstream.ts';
import type { Host } from './host.ts';

/** Bodies are counted by the app, which answers 413 in its own words; this only bounds what the app never sees. */
const MAX_BODY = 1024 ** 3;

export const host: Host = {
  name: `bun ${globalThis.Bun?.version}`,
  transport: fetchTransport,
  listen: async ({ app, hostname, port }) => {
    // Bun would cut a stream after ten silent seconds; heartbeats and deadlines are the app's.
    const server = Bun.serve({
      hostname,
      port,
      idleTimeout: 0,
      maxRequestBodySize: MAX_BODY,
      fetch: (request) => app.fetch(request),
    });
    return {
      hostname,
      port: server.port!,
      stop: () => void server.stop(false),
      close: () => server.stop(true),
    };
  },
};
