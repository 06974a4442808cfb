// The transport on Node: undici without fetch, which has no 300-second cliff and needs no web streams.
import { Agent, request as send } from 'undici';
import type { Transport } from '../../src/upstream.ts';

// Deadlines are the upstream client's business (signals); the pool's own would cut silent video jobs.
const agent = new Agent({
  connections: 1024,
  pipelining: 1,
  keepAliveTimeout: 30_000,
  headersTimeout: 0,
  bodyTimeout: 0,
  connect: { timeout: 5_000 },
});

export const undiciTransport: Transport = async ({ url, method, headers, body, signal }) => {
  // undici sends a Blob in pieces; its type of this call does not name it.
  const sent = (body ?? null) as string | Uint8Array | null;
  const reply = await send(url, { dispatcher: agent, method: method as 'GET', headers, body: sent, signal });
  return {
    status: reply.statusCode,
    header: (name) => {
      const value = reply.headers[name];
      return Array.isArray(value) ? value.join(', ') : value;
    },
    body: reply.body,
  };
};
