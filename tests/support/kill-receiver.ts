// The receiver of webhooks for the tests that kill gateways: it keeps every delivery, and checks each signature with the public library.
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';

export interface Delivery {
  /** What was called: the path. */
  target: string;
  /** The header. */
  id: string;
  type: string;
  /** Of the job or batch that it tells of. */
  about: string;
  state: string;
  body: string;
  /** Undefined where the secret of the target is not known. */
  genuine: boolean | undefined;
  status: number;
}

export interface Receiver {
  url(target: string): string;
  deliveries: Delivery[];
  /** Signs what goes to targets that begin so. */
  trust(prefix: string, secret: string): void;
  /** Which share of messages is refused with 500 when it comes for the first time. */
  refuse(share: number): void;
  close(): Promise<void>;
}

interface Payload {
  type: string;
  data: { job?: { id: string; state: string }; batch?: { id: string; state: string } };
}

export async function openReceiver(random: () => number): Promise<Receiver> {
  const deliveries: Delivery[] = [];
  const secrets = new Map<string, Webhook>();
  const seen = new Set<string>();
  let refused = 0;

  function verify(target: string, body: string, headers: Record<string, string>): boolean | undefined {
    const secret = [...secrets].find(([prefix]) => target.startsWith(prefix))?.[1];
    if (!secret) return undefined;
    try {
      secret.verify(body, headers);
      return true;
    } catch {
      return false;
    }
  }

  const server = createServer((request, response) => {
    response.on('error', () => {});
    void readText(request)
      .then((body) => {
        const target = request.url!;
        const headers = request.headers as Record<string, string>;
        const { type, data } = JSON.parse(body) as Payload;
        const { id: about, state } = (data.job ?? data.batch)!;
        const id = headers['webhook-id']!;
        const status = !seen.has(id) && random() < refused ? 500 : 204;
        seen.add(id);
        deliveries.push({ target, id, type, about, state, body, genuine: verify(target, body, headers), status });
        response.writeHead(status).end();
      })
      .catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return {
    url: (target) => `http://127.0.0.1:${port}${target}`,
    deliveries,
    trust: (prefix, secret) => void secrets.set(prefix, new Webhook(secret)),
    refuse: (share) => void (refused = share),
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

async function readText(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const piece of request) text += String(piece);
  return text;
}
