// What the fake Ollama has on disk: models that it pulls from a registry as the real one does, models made of blobs, and their end.
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { Refusal, sendJson, type Body } from './fake-ollama-script.ts';

/** `silent`: no more lines · `stall`: lines, but no bytes · `cut`: the connection breaks · `full`: the disk is full · `short`: ends without a word. */
export type PullTrouble = 'silent' | 'stall' | 'cut' | 'full' | 'requires' | 'short';

export interface KeptModel {
  size: number;
  digest: string;
  modified: string;
  layers: string[];
}

export interface FakeLibrary {
  /** With their tags. */
  models: Map<string, KeptModel>;
  /** By digest, with `sha256:`. */
  blobs: Map<string, Uint8Array>;
  /** Bytes that have come of blobs that are not whole. */
  partial: Map<string, Uint8Array[]>;
  /** Downloads of blobs that were begun or taken up again. */
  downloads: string[];
  trouble: PullTrouble | undefined;
  /** Bytes of blobs that callers brought. */
  brought(): number;
  pull(response: ServerResponse, body: Body): Promise<void>;
  create(response: ServerResponse, body: Body): Promise<void>;
  copy(response: ServerResponse, body: Body): void;
  /** The files of a blob: HEAD and POST. */
  blob(request: IncomingMessage, response: ServerResponse, digest: string): Promise<void>;
  remove(name: string): void;
}

interface Download {
  total: number;
  completed: number;
  waiters: number;
  abort: AbortController;
  done: Promise<void>;
}

interface WireLayer {
  digest: string;
  size: number;
}

const TICK_MS = 15;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const NAME = /^((?<host>[\w.:-]+)\/)??((?<space>[\w.-]+)\/)?(?<model>[\w][\w.-]*)(:(?<tag>[\w][\w.-]*))?$/;

/** `registry`: where names without a host, and those of the hub, are got. */
export function createFakeLibrary(registry: string | undefined, old: boolean): FakeLibrary {
  const downloads = new Map<string, Download>();
  let brought = 0;

  /** One however many wait for it; what has come stays when the last of them leaves. */
  async function download(layer: WireLayer, url: string, left: AbortSignal, tell: (line: Body) => void): Promise<void> {
    const status = `pulling ${layer.digest.slice(7, 19)}`;
    if (library.blobs.has(layer.digest)) {
      return tell({ status, digest: layer.digest, total: layer.size, completed: layer.size });
    }
    const shared = downloads.get(layer.digest) ?? begin(layer, url);
    shared.waiters++;
    // What is quicker than a tick is never told.
    const ticker = setInterval(() => {
      const completed = shared.completed ? { completed: shared.completed } : {};
      tell({ status, digest: layer.digest, total: shared.total, ...completed });
    }, TICK_MS);
    const leaving = new Promise<void>((resolve) => left.addEventListener('abort', () => resolve(), { once: true }));
    try {
      await Promise.race([shared.done, leaving]);
      if (library.trouble === 'stall' || library.trouble === 'silent') await leaving;
    } finally {
      clearInterval(ticker);
      if (--shared.waiters === 0) shared.abort.abort();
    }
  }

  function begin(layer: WireLayer, url: string): Download {
    const abort = new AbortController();
    const started: Download = { total: layer.size, completed: 0, waiters: 0, abort, done: Promise.resolve() };
    started.done = fetchBlob(layer, url, started).finally(() => downloads.delete(layer.digest));
    started.done.catch(() => {});
    downloads.set(layer.digest, started);
    return started;
  }

  async function fetchBlob({ digest }: WireLayer, url: string, state: Download): Promise<void> {
    library.downloads.push(digest);
    const pieces = library.partial.get(digest) ?? [];
    library.partial.set(digest, pieces);
    state.completed = pieces.reduce((sum, piece) => sum + piece.length, 0);
    for (let tries = 0; state.completed < state.total; tries++) {
      if (tries > 5) throw new Error('max retries exceeded: unexpected EOF');
      const headers = { range: `bytes=${state.completed}-` };
      try {
        const reply = await fetch(url, { headers, signal: state.abort.signal });
        if (reply.status >= 400) throw new Error(`unexpected status code ${reply.status}`);
        for await (const piece of reply.body!) {
          pieces.push(piece);
          state.completed += piece.length;
        }
      } catch (error) {
        if (state.abort.signal.aborted) throw error;
      }
    }
    library.blobs.set(digest, new Uint8Array(Buffer.concat(pieces)));
    library.partial.delete(digest);
  }

  async function pullLayers(name: string, left: AbortSignal, tell: (line: Body) => void): Promise<void> {
    tell({ status: 'pulling manifest' });
    const { host, space = 'library', model, tag = 'latest' } = NAME.exec(name)!.groups!;
    const base = host?.includes(':') ? `http://${host}` : registry;
    if (base === undefined) {
      throw new Error('pull model manifest: Get "https://registry.ollama.ai/v2/": dial tcp: lookup: no such host');
    }
    const home = `${base}/v2/${space}/${model}`;
    const reply = await fetch(`${home}/manifests/${tag}`, { signal: left });
    if (reply.status === 404) throw new Error('pull model manifest: file does not exist');
    if (!reply.ok) throw new Error(`pull model manifest: ${reply.status}: ${await reply.text()}`);
    const text = await reply.text();
    const manifest = JSON.parse(text) as { layers: WireLayer[]; config: WireLayer };
    const layers = [...manifest.layers, manifest.config];
    // What was here already is not looked at again.
    const fresh = layers.filter(({ digest }) => !library.blobs.has(digest));
    for (const layer of layers) {
      await download(layer, `${home}/blobs/${layer.digest}`, left, tell);
      if (left.aborted) return;
    }
    tell({ status: 'verifying sha256 digest' });
    for (const { digest } of fresh) {
      const found = sha256(library.blobs.get(digest)!);
      if (found === digest) continue;
      library.blobs.delete(digest);
      throw new Error(`digest mismatch, file must be downloaded again: want ${digest}, got ${found}`);
    }
    tell({ status: 'writing manifest' });
    keep(name, layers, text);
    tell({ status: 'success' });
  }

  function keep(name: string, layers: WireLayer[], manifest: string): void {
    library.models.set(withTag(name), {
      size: layers.reduce((sum, { size }) => sum + size, 0),
      digest: sha256(Buffer.from(manifest)).slice(7),
      modified: new Date().toISOString(),
      layers: layers.map(({ digest }) => digest),
    });
  }

  const library: FakeLibrary = {
    models: new Map(),
    blobs: new Map(),
    partial: new Map(),
    downloads: [],
    trouble: undefined,
    brought: () => brought,
    async pull(response, body) {
      const name = String((old ? body['name'] : (body['model'] ?? body['name'])) ?? '');
      if (!NAME.test(name) || name.includes('..')) throw new Refusal(400, 'invalid model name');
      const left = new AbortController();
      response.on('close', () => left.abort());
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      let bytes = 0;
      const tell = (line: Body) => {
        const { trouble } = library;
        const begun = line['digest'] !== undefined && line['completed'] !== undefined;
        bytes = begun ? (line['completed'] as number) : bytes;
        if (begun && trouble === 'cut') return void response.destroy();
        if ((begun && trouble === 'silent') || (trouble === 'short' && line['status'] === 'success')) return;
        const frozen = begun && trouble === 'stall' ? { completed: 1 } : {};
        response.write(JSON.stringify({ ...line, ...frozen }) + '\n');
      };
      try {
        const failing = toTrouble(library.trouble);
        if (failing) {
          tell({ status: 'pulling manifest' });
          throw new Error(failing);
        }
        await pullLayers(name, left.signal, tell);
      } catch (error) {
        if (!left.signal.aborted) response.write(JSON.stringify({ error: (error as Error).message }) + '\n');
      }
      response.end();
    },
    async create(response, body) {
      const name = String(body['model'] ?? body['name'] ?? '');
      if (!NAME.test(name) || name.includes('..')) throw new Refusal(400, 'invalid model name');
      const files = Object.entries((body['files'] ?? {}) as Record<string, string>);
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      const tell = (line: Body) => response.write(JSON.stringify(line) + '\n');
      tell({ status: 'parsing GGUF' });
      await pause(5);
      for (const [, digest] of files) {
        const bytes = library.blobs.get(digest);
        if (!bytes) return void response.end('{"error":"open /models/blobs/x: no such file or directory"}\n');
        if (Buffer.from(bytes.subarray(0, 4)).toString() !== 'GGUF') {
          return void response.end('{"error":"supplied file was not in GGUF format"}\n');
        }
        tell({ status: 'verifying conversion' });
        tell({ status: `using existing layer ${digest}` });
      }
      const layers = files.map(([, digest]) => ({ digest, size: library.blobs.get(digest)!.length }));
      keep(name, layers, JSON.stringify(layers));
      tell({ status: 'writing manifest' });
      response.end('{"status":"success"}\n');
    },
    copy(response, body) {
      const found = library.models.get(withTag(String(body['source'])));
      if (!found) throw new Refusal(404, `model "${body['source']}" not found`);
      library.models.set(withTag(String(body['destination'])), found);
      response.writeHead(200).end();
    },
    async blob(request, response, digest) {
      if (!DIGEST.test(digest)) return sendJson(response, { error: 'invalid digest format' }, 400);
      if (request.method === 'HEAD') return void response.writeHead(library.blobs.has(digest) ? 200 : 404).end();
      if (library.blobs.has(digest)) return void response.writeHead(200).end();
      const pieces: Uint8Array[] = [];
      for await (const piece of request as AsyncIterable<Uint8Array>) {
        pieces.push(piece);
        brought += piece.length;
      }
      if (library.trouble === 'full') throw new Refusal(500, 'write /models/blobs/x: no space left on device');
      const bytes = new Uint8Array(Buffer.concat(pieces));
      const found = sha256(bytes);
      if (found !== digest) throw new Refusal(400, `digest mismatch, expected "${digest}", got "${found}"`);
      library.blobs.set(digest, bytes);
      response.writeHead(201).end();
    },
    remove(name) {
      const found = library.models.get(withTag(name));
      library.models.delete(withTag(name));
      const used = new Set([...library.models.values()].flatMap(({ layers }) => layers));
      for (const digest of found?.layers ?? []) if (!used.has(digest)) library.blobs.delete(digest);
    },
  };
  return library;
}

export function withTag(name: string): string {
  return name.includes(':', name.lastIndexOf('/') + 1) ? name : `${name}:latest`;
}

function toTrouble(trouble: PullTrouble | undefined): string | undefined {
  if (trouble === 'full') return 'write /root/.ollama/models/blobs/sha256-x-partial: no space left on device';
  if (trouble !== 'requires') return undefined;
  return 'pull model manifest: 412: {"errors":[{"message":"this model requires a newer version of Ollama"}]}';
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
