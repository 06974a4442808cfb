// Readers that do not keep up, and silence: on the portable sink and on Node's own.
import { once } from 'node:events';
import { connect } from 'node:net';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createBindings } from '../../adapters/hosts/node-sink.ts';
import type { AppEnv, AppOptions, Piece } from '../../src/http/context.ts';
import { respondBytes, respondEvents } from '../../src/http/respond.ts';
import { eventually } from '../support/gateway.ts';

const closers: (() => void)[] = [];
afterEach(() => closers.splice(0).forEach((close) => close()));

/** An app of one route; `source` makes the stream. */
function createStreams(source: () => AsyncIterable<Piece>, binary = false) {
  const onGone = vi.fn();
  const logged: unknown[] = [];
  const app = new Hono<AppEnv>();
  app.get('/', (c) => {
    const options = { config: { heartbeat_ms: 60, max_backlog: 100_000 }, log: (entry: unknown) => logged.push(entry) };
    c.set('app', options as unknown as AppOptions);
    c.set('headers', {});
    c.set('logged', {});
    if (binary)
      return respondBytes(c, { contentType: 'audio/wav', body: source() as AsyncIterable<Uint8Array>, onGone });
    return respondEvents(c, {
      ready: Promise.resolve(),
      body: source(),
      onError: ({ code }) => `data: ${code}\n\n`,
      onGone,
    });
  });
  return { app, onGone, logged };
}

async function serve({ app }: ReturnType<typeof createStreams>): Promise<number> {
  const server = createAdaptorServer({
    fetch: (request, env) => app.fetch(request, createBindings(env as HttpBindings)),
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => server.close());
  return (server.address() as { port: number }).port;
}

/** As fast as it is read, without end. */
function createFlood() {
  const state = { sent: 0, ended: false };
  const flood = async function* (): AsyncGenerator<Piece> {
    try {
      for (;;) {
        yield `data: ${'x'.repeat(10_000)}\n\n`;
        state.sent += 10_000;
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      state.ended = true;
    }
  };
  return { state, flood };
}

const tick = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('a reader who does not read', () => {
  it('is cut after the backlog, and the source stops: portable', async () => {
    const { state, flood } = createFlood();
    const { app, onGone } = createStreams(flood);
    const response = await app.request('/');
    await eventually('the source was stopped', () => state.ended);
    expect(onGone).toHaveBeenCalled();
    expect(state.sent).toBeLessThan(1_000_000);
    await expect(response.text()).rejects.toThrow();
  });

  it('is cut after the backlog, and the source stops: Node', async () => {
    const { state, flood } = createFlood();
    const streams = createStreams(flood);
    const socket = connect(await serve(streams), '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'));
    socket.on('error', () => {});
    closers.push(() => socket.destroy());
    socket.pause();
    await eventually('the source was stopped', () => state.ended);
    // What the kernel's own buffers take comes on top of the backlog.
    expect(state.sent).toBeLessThan(20_000_000);
    await eventually('the departure was reported', () => streams.onGone.mock.calls.length > 0);
  });
});

describe('silence', () => {
  const slow = async function* (): AsyncGenerator<Piece> {
    yield 'data: a';
    await tick(150);
    yield '\n\n';
    await tick(150);
    yield 'data: b\n\n';
  };

  it('is broken by pings, but never inside an event', async () => {
    const streams = createStreams(slow);
    const portable = await (await streams.app.request('/')).text();
    const node = await (await fetch(`http://127.0.0.1:${await serve(streams)}/`)).text();
    for (const text of [portable, node]) {
      expect(text).toMatch(/^data: a\n\n(: ping\n\n)+data: b\n\n$/);
    }
  });

  it('before the first event opens the stream with a ping', async () => {
    const app = new Hono<AppEnv>();
    app.get('/', (c) => {
      c.set('app', { config: { heartbeat_ms: 30, max_backlog: 1000 }, log: () => {} } as unknown as AppOptions);
      c.set('headers', {});
      c.set('logged', {});
      const never = new Promise<never>((_, reject) => setTimeout(reject, 100, new Error('late')));
      const body = (async function* () {
        yield await never;
      })();
      return respondEvents(c, { ready: never, body, onError: ({ code }) => `data: ${code}\n\n`, onGone: () => {} });
    });
    expect(await (await app.request('/')).text()).toMatch(/^(: ping\n\n)+data: internal\n\n$/);
  });
});

describe('bytes that break off', () => {
  const broken = async function* (): AsyncGenerator<Piece> {
    yield new Uint8Array([1, 2, 3]);
    await tick(20);
    throw new Error('the runtime died');
  };

  it('never look complete', async () => {
    const streams = createStreams(broken, true);
    await expect((await streams.app.request('/')).arrayBuffer()).rejects.toThrow();
    const url = `http://127.0.0.1:${await serve(streams)}/`;
    await expect(fetch(url).then((response) => response.arrayBuffer())).rejects.toThrow();
  });
});
