// The app on Node.
import type { Server } from 'node:http';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { undiciTransport } from '../transports/undici.ts';
import type { Host } from './host.ts';
import { createBindings } from './node-sink.ts';
import { acceptUpgrades, isWebSocket } from './node-upgrade.ts';

export const host: Host = {
  name: `node ${process.versions.node}`,
  transport: undiciTransport,
  listen: ({ app, hostname, port, requestMs }) =>
    new Promise((resolve, reject) => {
      const server = createAdaptorServer({
        fetch: (request, env) => app.fetch(request, createBindings(env as HttpBindings)),
        // Behind a tunnel, a proxy must be the one that closes idle connections first.
        serverOptions: {
          keepAliveTimeout: 75_000,
          headersTimeout: Math.min(requestMs, 15_000),
          // A whole upload may take long; how slow a body may be is the app's to say.
          requestTimeout: 0,
          // Offers of other protocols are not taken up: such a request is answered like any other.
          shouldUpgradeCallback: isWebSocket,
        } as object,
      }) as Server;
      const upgrades = acceptUpgrades(server, app);
      server.once('error', reject);
      server.listen(port, hostname, () => {
        const address = server.address() as { port: number };
        resolve({
          hostname,
          port: address.port,
          stop: () => {
            server.close();
            server.closeIdleConnections();
          },
          close: async () => {
            upgrades.close();
            server.closeAllConnections();
          },
        });
      });
    }),
};
