// Streams and departures on Node without web streams: bytes go straight to the socket's response.
import type { ServerResponse } from 'node:http';
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { HostBindings, StreamPort } from '../../src/http/context.ts';
import { PING, startHeartbeat } from '../../src/http/heartbeat.ts';

export function createBindings({ outgoing }: HttpBindings): HostBindings {
  let gone: AbortController | undefined;
  return {
    gone() {
      if (gone) return gone.signal;
      const controller = (gone = new AbortController());
      if (outgoing.destroyed) controller.abort();
      else outgoing.once('close', () => outgoing.writableFinished || controller.abort());
      return controller.signal;
    },
    stream(port) {
      void write(outgoing as ServerResponse, port);
      return RESPONSE_ALREADY_SENT;
    },
  };
}

/** Reads the source as fast as it goes; what the reader does not take waits in the socket's buffer, up to the limit. */
async function write(
  outgoing: ServerResponse,
  { status, headers, body, heartbeatMs, maxBacklog, onGone }: StreamPort,
): Promise<void> {
  let ended = false;
  outgoing.once('close', () => {
    if (!ended) onGone();
  });
  outgoing.writeHead(status, headers);
  outgoing.flushHeaders();
  const heartbeat = heartbeatMs ? startHeartbeat(heartbeatMs, () => outgoing.write(PING)) : undefined;
  try {
    for await (const piece of body) {
      if (outgoing.destroyed) break;
      heartbeat?.touch(piece);
      if (!outgoing.write(piece) && outgoing.writableLength > maxBacklog) {
        outgoing.destroy();
        break;
      }
    }
    ended = !outgoing.destroyed;
    outgoing.end();
  } catch {
    // Bytes that broke off must not look complete: the connection is cut.
    outgoing.destroy();
  } finally {
    heartbeat?.stop();
  }
}
