// Watchers that do not read, and clients that talk nonsense: bounded memory, the right close, and a server that lives.
import { once } from 'node:events';
import { connect, type Socket as TcpSocket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  openIo,
  openSocket,
  openStream,
  openWatchers,
  quiet,
  types,
  until,
  watcherEngines,
  type Watchers,
} from '../support/watchers.ts';

const MB = 1024 * 1024;
/** One preview, and how many of them: 60 MB for each watcher. */
const PREVIEW = 'x'.repeat(100_000);
const PREVIEWS = 600;

describe.each(watcherEngines)('%s', (engine) => {
  let server: Watchers;
  const open: { close(): void }[] = [];
  beforeAll(async () => {
    server = await openWatchers(engine);
  });
  afterEach(() => open.splice(0).forEach((client) => client.close()));
  afterAll(() => server?.close());

  const keep = <T extends { close(): void }>(client: T): T => {
    open.push(client);
    return client;
  };

  /** A TCP connection that speaks for itself. */
  async function raw(head: string): Promise<TcpSocket> {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    keep({ close: () => socket.destroy() });
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.write(head);
    return socket;
  }

  const handshake = (path = '/ws', key = 'dGhlIHNhbXBsZSBub25jZQ==') =>
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`;

  /** Everything that comes until it is closed; what follows a close frame's first two bytes is the code. */
  async function hearOut(socket: TcpSocket): Promise<Buffer> {
    const pieces: Buffer[] = [];
    socket.on('data', (piece: Buffer) => pieces.push(piece));
    if (!socket.destroyed) await new Promise((resolve) => socket.once('close', resolve));
    return Buffer.concat(pieces);
  }

  const frame = (opcode: number, payload: Buffer, { fin = true, length = payload.length } = {}) => {
    const head = Buffer.alloc(length > 65_535 ? 14 : length > 125 ? 8 : 6);
    head[0] = (fin ? 0x80 : 0) | opcode;
    head[1] = 0x80 | (length > 65_535 ? 127 : length > 125 ? 126 : length);
    if (length > 65_535) head.writeBigUInt64BE(BigInt(length), 2);
    else if (length > 125) head.writeUInt16BE(length, 2);
    return Buffer.concat([head, payload]);
  };

  /** Deno cuts what it has closed and still hears of; the close frame may be lost then. */
  const refused = engine === 'deno' ? [1008, 1006] : [1008];

  const alive = async () => {
    const client = keep(await openSocket(`${server.url}/ws`));
    client.say({ type: 'ping' });
    await until(client, 'pong');
  };

  /** Clients that do not read, as the socket to read from later where there is one. */
  const stalls: Record<string, () => Promise<TcpSocket | undefined>> = {
    SSE: async () => (await raw('GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')).pause(),
    WebSocket: async () => (await raw(handshake())).pause(),
    'Socket.IO, websocket': async () => {
      const client = keep(await openIo(server.url, { transports: ['websocket'] }));
      await quiet();
      (client.socket.io.engine.transport as unknown as { ws: { pause(): void } }).ws.pause();
      return undefined;
    },
    'Socket.IO, polling': async () => {
      const url = `${server.url}/socket.io/?EIO=4&transport=polling`;
      const { sid } = JSON.parse((await (await fetch(url)).text()).slice(1)) as { sid: string };
      await fetch(`${url}&sid=${sid}`, { method: 'POST', body: '40' });
      // And it never polls.
      return undefined;
    },
  };

  /** What had waited for it in all: with the kernel, and with us. */
  async function countBytes(socket: TcpSocket): Promise<number> {
    let bytes = 0;
    socket.on('data', (piece: Buffer) => (bytes += piece.length));
    socket.resume();
    for (let seen = -1; seen < bytes; await quiet()) seen = bytes;
    return bytes;
  }

  it.each(Object.keys(stalls))(
    '%s: who does not read costs bounded memory, and nobody else anything',
    { timeout: 60_000 },
    async (name) => {
      const reader = keep(await openStream(`${server.url}/events`));
      const stalled = [];
      for (let n = 0; n < 10; n++) stalled.push(await stalls[name]!());
      await quiet();
      const before = (await server.stats()).rss;
      const said = { type: 'job:preview', job: 'job_p', owner: 'owner', data: { data: PREVIEW } };
      let most = 0;
      for (let n = 0; n < PREVIEWS; n += 20) {
        await server.publish({ ...said, times: 20 });
        most = Math.max(most, (await server.stats()).rss);
      }
      await server.publish({ type: 'job:done', job: `job_${name}`, owner: 'owner' });
      await until(reader, 'job:done');
      // Without a bound it would be 600 MB. The window, what the kernel holds and what is not collected yet come on top.
      expect((most - before) / MB).toBeLessThan(220);
      // Of 60 MB each. The kernel takes up to 10 MB before anything waits with us.
      for (const socket of stalled) if (socket) expect((await countBytes(socket)) / MB).toBeLessThan(20);
      await alive();
    },
  );

  it(
    'a WebSocket that does not read is closed at the event that must not be lost, and gets it when it is back',
    { timeout: 60_000 },
    async () => {
      const slow = keep(await openSocket(`${server.url}/ws`));
      await server.publish({ type: 'job:running', job: 'job_slow', owner: 'owner' });
      await until(slow, 'job:running');
      const after = slow.heard.findLast(({ id }) => id !== undefined)!.id!;
      slow.socket.pause();
      const about = { job: 'job_slow', owner: 'owner' };
      // The kernel's buffers, then ours up to where passing events are left out, then ours.
      for (let n = 0; n < 20; n++) {
        await server.publish({ ...about, type: 'job:preview', data: { data: PREVIEW }, times: 5 });
      }
      await server.publish({ ...about, type: 'job:queued', data: { fill: PREVIEW.slice(0, 20_000) }, times: 60 });
      await server.publish({ ...about, type: 'job:done' });
      slow.socket.resume();
      expect([1006, 1013]).toContain(await slow.closed);
      expect(types(slow.heard)).not.toContain('job:done');
      const back = keep(await openSocket(`${server.url}/ws?after=${after}`));
      await until(back, 'job:done');
      expect(back.heard.filter(({ type }) => type === 'job:queued')).toHaveLength(60);
    },
  );

  describe('nonsense', () => {
    it('of any kind is answered, and too much of it ends the conversation', async () => {
      const client = keep(await openSocket(`${server.url}/ws`));
      for (const junk of [
        '',
        '{',
        'null',
        '[]',
        '{"type":7}',
        '{"type":"subscribe","job":{}}',
        `{"type":"subscribe","job":"${'x'.repeat(1000)}"}`,
      ])
        client.say(junk);
      await until(client, 'error', 7);
      for (let n = 0; n < 10; n++) client.say('{');
      expect(refused).toContain(await client.closed);
    });

    it('in a flood ends the conversation', async () => {
      const client = keep(await openSocket(`${server.url}/ws`));
      for (let n = 0; n < 1000; n++) client.say({ type: 'ping' });
      expect(refused).toContain(await client.closed);
      expect(client.heard.filter(({ type }) => type === 'pong').length).toBeLessThan(200);
    });

    it('in binary is not for us', async () => {
      const client = keep(await openSocket(`${server.url}/ws`));
      client.socket.send(Buffer.from([1, 2, 3]));
      expect(await client.closed).toBe(1003);
    });

    it('too large is refused', async () => {
      const client = keep(await openSocket(`${server.url}/ws`));
      client.say({ type: 'ping', fill: 'x'.repeat(100_000) });
      expect([1006, 1009]).toContain(await client.closed);
      await alive();
    });

    it('in frames never takes the server down: bad UTF-8, a gigabyte announced, crumbs, reserved bits', async () => {
      const before = (await server.stats()).rss;
      const cases: Buffer[][] = [
        [frame(1, Buffer.from([0xff, 0xfe, 0xfd]))],
        [frame(1, Buffer.alloc(10), { length: 1024 ** 3 }), Buffer.alloc(200_000)],
        [
          frame(1, Buffer.from('{'), { fin: false }),
          ...Array.from({ length: 10_000 }, () => frame(0, Buffer.from(' '), { fin: false })),
        ],
        [Buffer.from([0xf1, 0x80, 0, 0, 0, 0])],
        [frame(0, Buffer.from('x'))],
        [frame(0xb, Buffer.from('x'))],
        [Buffer.from([0x81, 0x01, 0x41])],
        [frame(9, Buffer.alloc(200))],
      ];
      for (const frames of cases) {
        const socket = await raw(handshake());
        await new Promise((resolve) => socket.once('data', resolve));
        const heard = hearOut(socket);
        for (const piece of frames) socket.write(piece);
        // Deno takes crumbs, and waits with a frame for its bytes; what matters is what comes of it.
        await Promise.race([heard, quiet()]);
        socket.destroy();
      }
      await alive();
      expect(((await server.stats()).rss - before) / MB).toBeLessThan(64);
    });

    it('in handshakes leaves nothing behind', { timeout: 60_000 }, async () => {
      const before = (await server.stats()).watchers;
      for (let n = 0; n < 300; n++) {
        const socket = await raw(
          n % 3 === 0 ? handshake('/ws', 'no key') : n % 3 === 1 ? handshake() : handshake().slice(0, 60),
        );
        if (n % 2) await new Promise((resolve) => setImmediate(resolve));
        socket.destroy();
      }
      await alive();
      await expect.poll(async () => (await server.stats()).watchers).toBeLessThanOrEqual(before + 1);
    });

    it('for Socket.IO ends its connection, not the server', async () => {
      const post = async (body: string | ReadableStream, query = '') => {
        const url = `${server.url}/socket.io/?EIO=4&transport=polling`;
        const { sid } = JSON.parse((await (await fetch(url)).text()).slice(1)) as { sid: string };
        const init = { method: 'POST', body, duplex: 'half' } as RequestInit;
        return fetch(`${url}&sid=${sid}${query}`, init).then(
          async (reply) => (await reply.text(), reply.status),
          () => 'cut',
        );
      };
      const packets = [
        '9',
        'b!!!',
        '4',
        '42',
        '40\x1e42["subscribe",{"job":[]},1]',
        '42["__proto__"]',
        '42["constructor",{}]',
        '451000-["x",{"_placeholder":true,"num":999}]',
        '4'.repeat(50_000),
        '40/admin,',
        '40{"job":{"x":1}}',
        '40\x1e40\x1e40',
        '\x1e'.repeat(2000),
      ];
      for (const packet of packets) expect([200, 400, 'cut']).toContain(await post(packet));
      const endless = new ReadableStream<Uint8Array>({
        async pull(controller) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          controller.enqueue(new Uint8Array(MB));
        },
      });
      expect([413, 'cut']).toContain(await post(endless));
      expect([413, 'cut']).toContain(await post('4'.repeat(10 * MB)));
      await alive();
      keep(await openIo(server.url));
    });

    it('in a flood of packets ends a Socket.IO connection', async () => {
      const client = keep(await openIo(server.url, { transports: ['websocket'] }));
      for (let n = 0; n < 2000; n++) client.socket.emit(`event ${n}`, { n });
      await client.closed;
      await alive();
    });
  });
});
