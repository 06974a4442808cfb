// Two loopback servers that are the Hugging Face hub and its content network: redirects, listings in pages, terms, and their troubles.
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { answerTrouble, hashOf, openFakeFiles, takeTrouble, type FakeFiles, type Trouble } from './fake-files.ts';

export type { Trouble } from './fake-files.ts';

/** Paths → bytes, or the folder that holds them. */
export type FakeRepo = string | Record<string, Uint8Array>;

export interface FakeHub {
  url: string;
  /** The content network; its host is another one. */
  cdn: FakeFiles;
  /** Both, as origins that may be reached. */
  origins: string[];
  /** `METHOD path` of every request to the hub itself and, after `/cdn`, to its content network. */
  requests: string[];
  /** The authorization headers that the hub was sent, in order; the content network's are in `cdn.headers`. */
  tokens: (string | undefined)[];
  /** Entries that listings hold beside the files. */
  extra: unknown[];
  /** Entries of one page of a listing. */
  pageSize: number;
  /** What it calls itself where it links to its next page, as a mirror does that passes on what the hub says. */
  spoken: string | undefined;
  /** Repositories whose terms are to be accepted, with the token that has. */
  gated: Map<string, string>;
  /** Statuses, silence and redirects are the hub's; all others are met by large files. */
  set trouble(trouble: Trouble | undefined);
  /** Downloads that were left before their end. */
  aborts(): number;
  close(): Promise<void>;
}

/** What is larger is kept in the content network. */
const LARGE = 1_000_000;

export async function openFakeHub(repos: Record<string, FakeRepo>): Promise<FakeHub> {
  const cdn = await openFakeFiles();
  const pushed = cdn.requests.push.bind(cdn.requests);
  cdn.requests.push = (...lines) => {
    hub.requests.push(...lines.map((line) => line.replace(' /', ' /cdn/')));
    return pushed(...lines);
  };
  const own: { trouble: Trouble | undefined } = { trouble: undefined };
  const server = createServer((request, response) => {
    hub.requests.push(`${request.method} ${request.url}`);
    hub.tokens.push(request.headers.authorization);
    answer(request, response).catch(() => response.destroy());
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (answerTrouble(takeTrouble(own), response)) return;
    const url = new URL(request.url ?? '/', hub.url);
    const listing = /^\/api\/models\/([^/]+\/[^/]+)\/tree\/([^/]+)$/.exec(url.pathname);
    const about = /^\/api\/models\/([^/]+\/[^/]+)$/.exec(url.pathname);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    const repo = (listing ?? about ?? file)?.[1];
    if (url.pathname === '/api/models') return json(response, await search(url.searchParams));
    if (repo === undefined) return void response.writeHead(404).end();
    if (!repos[repo]) return void response.writeHead(401, { 'x-error-code': 'RepoNotFound' }).end();
    if (about) return json(response, await describe(repo));
    const terms = hub.gated.get(repo);
    if (terms !== undefined && request.headers.authorization !== `Bearer ${terms}`) {
      return void response.writeHead(401, { 'x-error-code': 'GatedRepo' }).end('Access to model is restricted.');
    }
    if (listing) return list(repo, url, response);
    await give(repo, decodeURIComponent(file![3]!), request.method === 'HEAD', response);
  }

  async function give(repo: string, path: string, head: boolean, response: ServerResponse): Promise<void> {
    const bytes = await read(repos[repo]!, path);
    if (!bytes) return void response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end();
    if (bytes.byteLength <= LARGE) {
      response.writeHead(200, { 'content-length': bytes.byteLength, etag: `"${hashOf('sha1', bytes)}"` });
      return void response.end(head ? undefined : bytes);
    }
    const sha256 = hashOf('sha256', bytes);
    cdn.files.set(`${repo}/${path}`, bytes);
    const place = `${repo}/${path}`.split('/').map(encodeURIComponent).join('/');
    response.writeHead(302, {
      location: `${cdn.url}/${place}?signature=${Math.random().toString(36).slice(2)}`,
      'x-linked-size': bytes.byteLength,
      'x-linked-etag': `"${sha256}"`,
    });
    response.end();
  }

  async function list(repo: string, url: URL, response: ServerResponse): Promise<void> {
    const entries: unknown[] = [...hub.extra];
    for (const path of await paths(repos[repo]!)) {
      const bytes = (await read(repos[repo]!, path))!;
      const large = bytes.byteLength > LARGE;
      const lfs = { oid: hashOf('sha256', bytes), size: bytes.byteLength, pointerSize: 135 };
      entries.push({ type: 'file', oid: hashOf('sha1', bytes), path, size: bytes.byteLength, ...(large && { lfs }) });
    }
    const from = Number(url.searchParams.get('cursor') ?? 0);
    const to = from + hub.pageSize;
    url.searchParams.set('cursor', String(to));
    const more = to < entries.length;
    const next = (hub.spoken ?? url.origin) + url.pathname + url.search;
    json(response, entries.slice(from, to), more ? { link: `<${next}>; rel="next"` } : {});
  }

  async function describe(repo: string) {
    const tags = ['gguf', 'license:apache-2.0', 'region:us'];
    const gated = hub.gated.has(repo) ? 'manual' : false;
    return { id: repo, modelId: repo, tags, gated, downloads: repo.length * 100, pipeline_tag: 'text-generation' };
  }

  async function search(query: URLSearchParams) {
    const words = (query.get('search') ?? '').toLowerCase();
    const found = Object.keys(repos).filter((repo) => repo.toLowerCase().includes(words));
    return Promise.all(found.slice(0, Number(query.get('limit') ?? 20)).map(describe));
  }

  const hub: FakeHub = {
    url: '',
    cdn,
    origins: [],
    requests: [],
    tokens: [],
    extra: [],
    pageSize: 1000,
    spoken: undefined,
    gated: new Map(),
    set trouble(trouble: Trouble | undefined) {
      const whole = trouble !== undefined && /^(status|silence|redirect)$/.test(trouble.kind);
      own.trouble = whole ? trouble : undefined;
      cdn.trouble = whole ? undefined : trouble;
    },
    aborts: () => cdn.aborts(),
    async close() {
      await cdn.close();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  hub.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  hub.origins = [hub.url, cdn.url];
  return hub;
}

async function read(repo: FakeRepo, path: string): Promise<Uint8Array | undefined> {
  if (typeof repo !== 'string') return repo[path];
  return readFile(join(repo, path)).catch(() => undefined);
}

async function paths(repo: FakeRepo): Promise<string[]> {
  if (typeof repo !== 'string') return Object.keys(repo);
  const found = await readdir(repo, { recursive: true, withFileTypes: true });
  return found
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(repo.length + 1));
}

function json(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
}
