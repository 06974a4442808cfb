// A loopback server with the URL layout of the Hugging Face hub, serving real files and failing in the ways the hub can.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

export type Trouble =
  | { kind: 'status'; status: number; errorCode?: string }
  /** Sends half of the weights, then cuts the connection. */
  | { kind: 'cut' }
  /** Sends half of the weights, then nothing. */
  | { kind: 'stall' }
  /** Accepts the request and never answers. */
  | { kind: 'silence' }
  /** Sends every byte of the weights, one of them wrong. */
  | { kind: 'corrupt' };

export interface FakeHub {
  url: string;
  /** `METHOD path` of every request so far. */
  requests: string[];
  /** The authorization headers that arrived, in order. */
  tokens: (string | undefined)[];
  /** Responses cut by the client before their end. */
  aborts(): number;
  trouble: Trouble | undefined;
  close(): Promise<void>;
}

const LARGE = 1_000_000;

/** `repos` maps a model id to the folder whose files it serves. Large files answer with a redirect, as on the hub. */
export async function openFakeHub(repos: Record<string, string>): Promise<FakeHub> {
  let aborts = 0;
  const server = createServer((request, response) => {
    hub.requests.push(`${request.method} ${request.url}`);
    hub.tokens.push(request.headers.authorization);
    response.on('close', () => {
      if (!response.writableFinished && !response.destroyed) aborts++;
      else if (!response.writableEnded) aborts++;
    });
    answer(request.method ?? 'GET', new URL(request.url ?? '/', hub.url), response).catch(() => response.destroy());
  });

  async function answer(method: string, url: URL, response: ServerResponse): Promise<void> {
    const { trouble } = hub;
    if (trouble?.kind === 'silence') return;
    if (trouble?.kind === 'status') {
      response.writeHead(trouble.status, trouble.errorCode ? { 'x-error-code': trouble.errorCode } : {});
      response.end('trouble');
      return;
    }
    const [, cdn, id, path] = /^\/(cdn\/)?([^/]+\/[^/]+)\/resolve\/main\/(.+)$/.exec(url.pathname) ?? [];
    const folder = id === undefined ? undefined : repos[id];
    const bytes = folder && path ? await readFile(join(folder, path)).catch(() => undefined) : undefined;
    if (!bytes) {
      response.writeHead(404).end();
      return;
    }
    const large = bytes.byteLength > LARGE;
    if (large && !cdn) {
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      response.writeHead(302, {
        location: `/cdn/${id}/resolve/main/${path}`,
        'x-linked-size': bytes.byteLength,
        'x-linked-etag': `"${sha256}"`,
      });
      response.end();
      return;
    }
    response.writeHead(200, { 'content-length': bytes.byteLength });
    if (method === 'HEAD') response.end();
    else if (large && trouble) await misbehave(trouble, bytes, response);
    else response.end(bytes);
  }

  const hub: FakeHub = {
    url: '',
    requests: [],
    tokens: [],
    aborts: () => aborts,
    trouble: undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  hub.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return hub;
}

async function misbehave(trouble: Trouble, bytes: Buffer, response: ServerResponse): Promise<void> {
  if (trouble.kind === 'corrupt') {
    const changed = Buffer.from(bytes);
    changed[changed.length >> 1]! ^= 0xff;
    response.end(changed);
    return;
  }
  await new Promise((resolve) => response.write(bytes.subarray(0, bytes.length >> 1), resolve));
  if (trouble.kind === 'cut') response.destroy();
}
