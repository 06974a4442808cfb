// The two timers: pings on silent streams, and pings on WebSockets of Node.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { createKeepalive } from '../../adapters/hosts/keepalive.ts';
import { startHeartbeat } from '../../src/http/heartbeat.ts';
import { eventually } from '../support/gateway.ts';

afterEach(() => vi.restoreAllMocks());

describe('the heartbeat', () => {
  it('is one timer for any number of streams, and none for none', async () => {
    const started = vi.spyOn(globalThis, 'setInterval');
    const stopped = vi.spyOn(globalThis, 'clearInterval');
    let pings = 0;
    const beats = Array.from({ length: 10_000 }, () => startHeartbeat(80, () => pings++));
    await eventually('every stream was pinged', () => pings >= 10_000);
    expect(started).toHaveBeenCalledTimes(1);
    for (const beat of beats) beat.stop();
    beats[0]!.stop();
    expect(stopped).toHaveBeenLastCalledWith(started.mock.results[0]!.value);
    const before = pings;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(pings).toBe(before);
  });

  it('gives each stream its own measure of silence', async () => {
    const [slow, quick] = [vi.fn(), vi.fn()];
    const beats = [startHeartbeat(60_000, slow), startHeartbeat(40, quick)];
    await eventually('the quick one was pinged', () => quick.mock.calls.length >= 2);
    expect(slow).not.toHaveBeenCalled();
    for (const beat of beats) beat.stop();
  });

  it('waits where something was sent', async () => {
    const ping = vi.fn();
    const beat = startHeartbeat(400, ping);
    for (let n = 0; n < 30; n++) {
      beat.touch('data: 1\n\n');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(ping).not.toHaveBeenCalled();
    beat.stop();
  });
});

describe('the keepalive', () => {
  async function serve(every: number) {
    const keepalive = createKeepalive(every);
    const sockets = new WebSocketServer({ noServer: true });
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const open: WebSocket[] = [];
    server.on('upgrade', (request, socket, head) =>
      sockets.handleUpgrade(request, socket, head, (webSocket) => {
        const pulse = keepalive.add(webSocket);
        webSocket.on('error', () => {});
        webSocket.on('close', () => pulse.stop());
        open.push(webSocket);
      }),
    );
    const { port } = server.address() as { port: number };
    return { port, open, close: () => (open.forEach((webSocket) => webSocket.terminate()), server.close()) };
  }

  it('cuts a connection that is dead, and no other', async () => {
    const { port, open, close } = await serve(100);
    const client = new WebSocket(`ws://127.0.0.1:${port}`);
    await once(client, 'open');
    const dead = connect(port, '127.0.0.1');
    dead.write(
      'GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    );
    dead.resume();
    await once(dead, 'close');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(client.readyState).toBe(WebSocket.OPEN);
    expect(open).toHaveLength(2);
    close();
  });

  it('cuts a connection that floods it with pings', async () => {
    const { port, close } = await serve(60_000);
    const client = new WebSocket(`ws://127.0.0.1:${port}`);
    client.on('error', () => {});
    await once(client, 'open');
    const closed = once(client, 'close');
    for (let n = 0; n < 200; n++) client.ping();
    await closed;
    close();
  });
});
