// Streams and departures on Node without web streams: bytes go straight to the socket's response.
import type { ServerResponse } from 'node:http';
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { HostBindings, Piece, PushPort, StreamPort } from '../../src/http/context.ts';
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
    push(port) {
      push(outgoing as ServerResponse, port);
      return RESPONSE_ALREADY_SENT;
    },
  };
}

/** Events go to the socket the moment they happen. */
function push(outgoing: ServerResponse, { status, headers, heartbeatMs, maxBacklog, open }: PushPort): void {
  let over = false;
  let leave: (() => void) | undefined;
  const finish = () => {
    if (over) return;
    over = true;
    heartbeat.stop();
    leave?.();
  };
  const send = (piece: Piece) => {
    if (over) return;
    // Asked before and not after, so that a piece which alone is more gets through.
    if (outgoing.writableLength > maxBacklog) {
      outgoing.destroy();
      return finish();
    }
    heartbeat.touch(piece);
    outgoing.write(piece);
  };
  const heartbeat = startHeartbeat(heartbeatMs, () => send(PING));
  outgoing.once('close', finish);
  outgoing.writeHead(status, headers);
  leave = open({
    send,
    buffered: () => outgoing.writableLength,
    end() {
      finish();
      outgoing.end();
    },
  });
  // It may have ended before there was anything to leave, and the reader may have left before that.
  if (over) leave();
  else if (outgoing.destroyed) finish();
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
