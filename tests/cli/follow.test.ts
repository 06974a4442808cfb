// What no working gateway does on demand: streams that break, events that are lost, bytes that were changed on the way.
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { call, createHome } from '../support/command-line.ts';

const ID = `job_${'a'.repeat(32)}`;

let home: ReturnType<typeof createHome>;
let server: Server;
let state: string;
let asked: { path: string; after: string | undefined }[];
/** What a connection to the events does, the first one first. */
let streams: ((response: ServerResponse) => void)[];

beforeEach(async () => {
  home = createHome();
  state = 'running';
  asked = [];
  server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  Object.assign(home.env, { HONO_AI_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  home.remove();
});

function answer({ url = '', headers }: IncomingMessage, response: ServerResponse): void {
  asked.push({ path: url, after: headers['last-event-id'] as string | undefined });
  if (url === `/jobs/${ID}`) {
    const artifact = { id: `art_${'b'.repeat(32)}`, name: 'one.txt', size: 3, sha256: '0'.repeat(64) };
    return void response.end(JSON.stringify({ id: ID, object: 'job', state, artifacts: [artifact] }));
  }
  if (url.endsWith('/content')) return void response.end('one');
  if (url !== `/jobs/${ID}/events`) return void response.writeHead(404).end('{}');
  const next = streams.shift();
  if (!next) return;
  next(response);
}

const open = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' });
const send = (response: ServerResponse, type: string, id?: string, data: object = {}) =>
  response.write(`${id ? `id: ${id}\n` : ''}event: ${type}\ndata: ${JSON.stringify({ id: ID, ...data })}\n\n`);

const wait = () => call(['jobs', 'wait', ID, '--timeout', '20'], { env: home.env });
const afters = () => asked.filter(({ path }) => path.endsWith('/events')).map(({ after }) => after);

describe('a wait', () => {
  it('resumes after the last event that it has seen, whatever ended the stream', async () => {
    streams = [
      (response) => {
        send(open(response), 'job:progress', '7', { percent: 10 });
        setTimeout(() => response.destroy(), 50);
      },
      (response) => response.writeHead(503).end('{"error":{"code":"draining","message":"Stopping."}}'),
      (response) => {
        send(open(response), 'job:progress', '9', { percent: 20 });
        response.end();
      },
      (response) => {
        state = 'done';
        send(open(response), 'job:done', '10');
      },
    ];
    expect(await wait()).toMatchObject({ code: 0, stdout: `${ID}\n` });
    expect(afters()).toEqual([undefined, '7', '7', '9']);
  });

  it('asks how the job stands where events were lost', async () => {
    streams = [
      (response) => {
        open(response);
        setTimeout(() => {
          state = 'failed';
          send(response, 'reset');
        }, 100);
      },
    ];
    expect((await wait()).code).toBe(1);
  });

  it('sees on joining again what ended in between', async () => {
    streams = [
      (response) => {
        send(open(response), 'job:progress', '7');
        state = 'cancelled';
        response.end();
      },
      (response) => void open(response).flushHeaders(),
    ];
    expect((await wait()).code).toBe(130);
  });

  it('does not go on where the key is wrong all of a sudden', async () => {
    streams = [
      (response) => void open(response).end(),
      (response) => response.writeHead(401).end('{"error":{"code":"invalid_api_key","message":"Wrong key."}}'),
    ];
    expect((await wait()).code).toBe(4);
  });
});

describe('a download', () => {
  it('of bytes that were changed fails, and leaves nothing behind', async () => {
    state = 'done';
    const before = readdirSync(home.folder);
    const { code, stdout, stderr } = await call(['jobs', 'download', ID, '-o', `${home.folder}/`], { env: home.env });
    expect({ code, stdout }).toEqual({ code: 5, stdout: '' });
    expect(stderr).toContain('is not what the gateway keeps');
    expect(readdirSync(home.folder)).toEqual(before);
  });
});
