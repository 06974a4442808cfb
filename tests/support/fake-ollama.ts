// A fake Ollama over real HTTP: its wire and its refusals, answers that depend on the model's name, and counters of what ran.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { createFakeLibrary, withTag as tagged } from './fake-ollama-library.ts';
import type { FakeLibrary } from './fake-ollama-library.ts';
import { broken, count, frame, MODELS, Refusal, sendJson, speak, validate } from './fake-ollama-script.ts';
import type { Body } from './fake-ollama-script.ts';

export { UTF8_TEXT } from './fake-ollama-script.ts';

const DIMENSIONS = 32;
const CONTEXT = 8192;
export const VRAM = 3_000_000_000;
/** Of 1024 bytes of cache for each token: 2 layers of 2 heads of 64. */
const INFO = {
  'general.architecture': 'fake',
  'fake.context_length': CONTEXT,
  'fake.block_count': 2,
  'fake.embedding_length': 512,
  'fake.attention.head_count': 8,
  'fake.attention.head_count_kv': 2,
};
const OUT_OF_MEMORY = 'llama runner process has terminated: cudaMalloc failed: out of memory at http://127.0.0.1:40001';

export interface FakeOllamaOptions {
  /** Behave as a version of 0.11: lists without capabilities, no levels of thinking, no log-probabilities. */
  old?: boolean;
  /** Models in memory at the start; a load takes `loadMs`, an unload `unloadMs`. */
  loaded?: string[];
  loadMs?: number;
  unloadMs?: number;
  /** Milliseconds between the tokens of the models that are quick. */
  tokenMs?: number;
  /** Where names of the library are pulled from. */
  registry?: string;
  /** So many more models stand in the list. */
  many?: number;
  /** Called when a model comes to memory or has left it. */
  onMemory?: () => void;
}

export interface FakeOllama {
  url: string;
  /** Generations and embeddings started, of one model or of all. */
  executions(model?: string): number;
  /** Answers that the client left before their end. */
  aborts(): number;
  /** The last requests, oldest first. */
  requests: { method: string; path: string; body: Body | undefined }[];
  /** Names (with tag) of the models in memory. */
  loaded: Set<string>;
  /** Loads that were begun. */
  loads(): number;
  /** Bytes of the card that models hold: those that are there, and those on their way. */
  taken(): number;
  /** Requests that have not ended. */
  running(): number;
  /** By name with tag: what it takes where that is not `VRAM`, all of it on the card. */
  memory: Map<string, { size: number; vram: number }>;
  /** What is on disk beside the models that every fake has. */
  library: FakeLibrary;
  close(): Promise<void>;
}

export async function openFakeOllama(options: FakeOllamaOptions = {}): Promise<FakeOllama> {
  const { old = false, loadMs = 5, unloadMs = 50, tokenMs = 0, onMemory = () => {} } = options;
  const loaded = new Set((options.loaded ?? []).map(tagged));
  const requests: FakeOllama['requests'] = [];
  const executions = new Map<string, number>();
  const busy = new Map<string, number>();
  const deleted = new Set<string>();
  const library = createFakeLibrary(options.registry, old);
  const memory: FakeOllama['memory'] = new Map();
  const loading = new Map<string, { done: Promise<boolean>; wanted: number; stop: () => void }>();
  /** Milliseconds since 1970. */
  const expires = new Map<string, number>();
  const contexts = new Map<string, number>();
  let aborts = 0;
  let loads = 0;

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) return response.destroy();
      const status = error instanceof Refusal ? error.status : 500;
      sendJson(response, { error: error instanceof Error ? error.message : String(error) }, status);
    });
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? '/', 'http://fake').pathname;
    const digest = /^\/api\/blobs\/(.+)$/.exec(path)?.[1];
    if (digest !== undefined) {
      requests.push({ method: request.method ?? '', path, body: undefined });
      return library.blob(request, response, decodeURIComponent(digest));
    }
    const text = await readBody(request);
    const body = text === '' ? undefined : parse(text);
    requests.push({ method: request.method ?? '', path, body });
    if (requests.length > 500) requests.shift();
    const route = routes[path];
    if (!route) return void response.writeHead(404, { 'content-type': 'text/plain' }).end('404 page not found');
    if (!route.methods.includes(request.method ?? '')) {
      return void response.writeHead(405, { 'content-type': 'text/plain' }).end('405 method not allowed');
    }
    await route.run(response, body);
  }

  const routes: Record<string, { methods: string[]; run(response: ServerResponse, body?: Body): unknown }> = {
    '/': { methods: ['GET', 'HEAD'], run: (response) => response.end('Ollama is running') },
    '/api/version': {
      methods: ['GET', 'HEAD'],
      run: (response) => sendJson(response, { version: old ? '0.11.4' : '0.33.0' }),
    },
    '/api/tags': {
      methods: ['GET', 'HEAD'],
      run: (response) => sendJson(response, { models: listed() }),
    },
    '/api/ps': { methods: ['GET'], run: (response) => sendJson(response, { models: [...loaded].map(toRunning) }) },
    '/api/show': {
      methods: ['POST'],
      run: (response, body) => {
        const capabilities = can(known(body));
        const license = 'MIT License\n\nCopyright (c) nobody';
        sendJson(response, { license, details: { family: 'fake' }, model_info: INFO, capabilities });
      },
    },
    '/api/pull': { methods: ['POST'], run: (response, body) => library.pull(response, body ?? {}) },
    '/api/create': { methods: ['POST'], run: (response, body) => library.create(response, body ?? {}) },
    '/api/copy': { methods: ['POST'], run: (response, body) => library.copy(response, body ?? {}) },
    '/api/delete': {
      methods: ['DELETE'],
      run: (response, body) => {
        const name = known(body);
        if (library.models.has(tagged(name))) library.remove(name);
        else deleted.add(name);
        response.writeHead(200).end();
      },
    },
    '/api/generate': { methods: ['POST'], run: (response, body) => runText(false, response, body) },
    '/api/chat': { methods: ['POST'], run: (response, body) => runText(true, response, body) },
    '/api/embed': { methods: ['POST'], run: runEmbed },
  };

  function listed(): Body[] {
    const fixed = Object.keys(MODELS).filter((name) => !deleted.has(name));
    const more = Array.from({ length: options.many ?? 0 }, (_, index) => `more${index}:1b`);
    return [
      ...[...fixed, ...more].map((name, index) => toTag(name, index, old)),
      ...[...library.models].map(([name, { size, digest, modified }]) => ({
        ...toTag(name, 0, old),
        size,
        digest,
        modified_at: modified,
      })),
    ];
  }

  /** Its name here: those that every fake has go without `latest`. */
  function known(body: Body | undefined): string {
    if (!body) throw new Refusal(400, 'missing request body');
    const asked = String(body['model'] ?? body['name'] ?? '');
    const name = asked.replace(/:latest$/, '');
    if (name in MODELS && !deleted.has(name)) return name;
    if (library.models.has(tagged(asked))) return tagged(asked);
    if (/^more\d+:1b$/.test(asked) && options.many) return asked;
    throw new Refusal(404, `model '${asked}' not found`);
  }

  async function runText(chat: boolean, response: ServerResponse, body: Body = {}): Promise<void> {
    const model = known(body);
    const empty = chat ? !body['messages']?.length : !body['prompt'];
    if (empty) {
      const unload = body['keep_alive'] === 0;
      if (unload) expire(model);
      else {
        if (model === 'oom') throw new Refusal(500, OUT_OF_MEMORY);
        await load(model, body, left(response));
      }
      return sendJson(response, { ...frame(model, chat, ''), done: true, done_reason: unload ? 'unload' : 'load' });
    }
    validate(chat, model, can(model), body, old);
    await whileBusy(model, response, body, () => speak({ chat, model, body, response, old, tokenMs }));
  }

  async function runEmbed(response: ServerResponse, body: Body = {}): Promise<void> {
    const model = known(body);
    const texts: unknown[] = Array.isArray(body['input']) ? body['input'] : body['input'] ? [body['input']] : [];
    if (texts.some((text) => typeof text !== 'string')) throw new Refusal(400, 'invalid input type');
    if (!can(model).includes('embedding')) throw new Refusal(400, 'this model does not support embeddings');
    if (body['truncate'] === false && texts.some((text) => String(text).length > CONTEXT)) {
      throw new Refusal(400, 'the input length exceeds the context length');
    }
    await whileBusy(model, response, body, async () => {
      const embeddings = texts.map((text) => toVector(String(text), body['dimensions'] ?? DIMENSIONS));
      sendJson(response, {
        model,
        embeddings,
        total_duration: 1,
        prompt_eval_count: count(texts.join(' ')) || undefined,
      });
    });
  }

  /** Counts the execution, and the abort if the client leaves before its end. */
  async function whileBusy(
    model: string,
    response: ServerResponse,
    body: Body,
    work: () => Promise<void>,
  ): Promise<void> {
    executions.set(model, (executions.get(model) ?? 0) + 1);
    busy.set(model, (busy.get(model) ?? 0) + 1);
    const closed = left(response);
    void closed.then(() => {
      busy.set(model, (busy.get(model) ?? 1) - 1);
      if (!response.writableFinished && !broken.has(response)) aborts++;
      if (body['keep_alive'] === 0) expire(model);
    });
    if (model === 'oom') throw new Refusal(500, OUT_OF_MEMORY);
    await load(model, body, closed);
    await work();
  }

  /** Once, however many ask for it, and no longer than any of them is there; every request says anew how long it stays. */
  async function load(model: string, body: Body, closed: Promise<void>): Promise<void> {
    if (model === 'cloud') return;
    const name = tagged(model);
    if (!loaded.has(name)) {
      const begun = loading.get(name) ?? beginLoad(name, body);
      begun.wanted++;
      void closed.then(() => --begun.wanted === 0 && begun.stop());
      if (!(await begun.done)) throw new Refusal(499, 'context canceled');
    }
    const seconds = Number(body['keep_alive'] ?? 300);
    // Its own way to say never.
    expires.set(name, seconds < 0 ? Date.UTC(2318, 0) : Date.now() + seconds * 1000);
  }

  function beginLoad(name: string, body: Body) {
    loads++;
    const given = new AbortController();
    const done = pause(loadMs, undefined, { signal: given.signal }).then(
      () => {
        loaded.add(name);
        contexts.set(name, body['options']?.num_ctx ?? 4096);
        return true;
      },
      () => false,
    );
    const begun = { done, wanted: 0, stop: () => given.abort() };
    loading.set(name, begun);
    onMemory();
    void done.then(() => {
      loading.delete(name);
      onMemory();
    });
    return begun;
  }

  const bytesOf = (name: string) => memory.get(name) ?? { size: VRAM, vram: VRAM };

  function toRunning(name: string): Body {
    const { size, vram } = bytesOf(name);
    return {
      name,
      model: name,
      size,
      digest: library.models.get(name)?.digest ?? digestOf(name.replace(/:latest$/, '')),
      expires_at: new Date(expires.get(name) ?? Date.now() + 300_000).toISOString(),
      size_vram: vram,
      context_length: contexts.get(name) ?? 4096,
    };
  }

  /** Only marks the model: it goes when its requests have ended and the driver has given the memory back. */
  function expire(model: string): void {
    if (model === 'sticky') return;
    const go = () => {
      if (busy.get(model)) return expire(model);
      loaded.delete(tagged(model));
      onMemory();
    };
    setTimeout(go, unloadMs).unref();
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    executions: (model) =>
      model === undefined
        ? [...executions.values()].reduce((sum, each) => sum + each, 0)
        : (executions.get(model) ?? 0),
    aborts: () => aborts,
    requests,
    loaded,
    loads: () => loads,
    taken: () => [...new Set([...loaded, ...loading.keys()])].reduce((sum, name) => sum + bytesOf(name).vram, 0),
    running: () => [...busy.values()].reduce((sum, each) => sum + each, 0),
    memory,
    library,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** Resolves when the answer is over, whoever ended it. */
function left(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => response.once('close', resolve));
}

function toTag(name: string, index: number, old: boolean): Body {
  const details = {
    format: 'gguf',
    family: 'fake',
    families: ['fake'],
    parameter_size: name === 'embedder' ? '22M' : '3.2B',
    quantization_level: 'Q4_K_M',
  };
  return {
    name: tagged(name),
    model: tagged(name),
    modified_at: new Date(Date.UTC(2026, 0, 30) - index * 86_400_000).toISOString(),
    size: 2_000_000_000,
    digest: digestOf(name),
    details: old ? details : { ...details, context_length: CONTEXT },
    ...(old ? {} : { capabilities: can(name) }),
    ...(name === 'cloud' ? { remote_host: 'https://ollama.com:443' } : {}),
  };
}

function toVector(text: string, dimensions: number): number[] {
  const hash = createHash('sha256').update(text).digest();
  const raw = Array.from(hash.subarray(0, Math.min(dimensions, DIMENSIONS)), (byte) => byte - 127.5);
  const norm = Math.hypot(...raw);
  return raw.map((value) => value / norm);
}

/** Whoever is pulled writes. */
function can(model: string): string[] {
  return MODELS[model] ?? ['completion'];
}

function parse(text: string): Body {
  try {
    return JSON.parse(text) as Body;
  } catch {
    throw new Refusal(400, 'invalid character in request body');
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

function digestOf(name: string): string {
  return createHash('sha256').update(name).digest('hex');
}
