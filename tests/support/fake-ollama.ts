// A fake Ollama over real HTTP: its wire and its refusals, answers that depend on the model's name, and counters of what ran.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { broken, count, frame, MODELS, Refusal, sendJson, speak, validate } from './fake-ollama-script.ts';
import type { Body } from './fake-ollama-script.ts';

export { UTF8_TEXT } from './fake-ollama-script.ts';

const DIMENSIONS = 32;
const CONTEXT = 8192;
export const VRAM = 3_000_000_000;

export interface FakeOllamaOptions {
  /** Behave as a version of 0.11: lists without capabilities, no levels of thinking, no log-probabilities. */
  old?: boolean;
  /** Models in memory at the start; a load takes `loadMs`, an unload `unloadMs`. */
  loaded?: string[];
  loadMs?: number;
  unloadMs?: number;
  /** Milliseconds between the tokens of the models that are quick. */
  tokenMs?: number;
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
  close(): Promise<void>;
}

export async function openFakeOllama(options: FakeOllamaOptions = {}): Promise<FakeOllama> {
  const { old = false, loadMs = 5, unloadMs = 50, tokenMs = 0 } = options;
  const loaded = new Set((options.loaded ?? []).map(tagged));
  const requests: FakeOllama['requests'] = [];
  const executions = new Map<string, number>();
  const busy = new Map<string, number>();
  let aborts = 0;

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) return response.destroy();
      const status = error instanceof Refusal ? error.status : 500;
      sendJson(response, { error: error instanceof Error ? error.message : String(error) }, status);
    });
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? '/', 'http://fake').pathname;
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
      run: (response) =>
        sendJson(response, { models: Object.keys(MODELS).map((name, index) => toTag(name, index, old)) }),
    },
    '/api/ps': { methods: ['GET'], run: (response) => sendJson(response, { models: [...loaded].map(toRunning) }) },
    '/api/show': {
      methods: ['POST'],
      run: (response, body) => {
        const model = known(body);
        const info = { 'general.architecture': 'fake', 'fake.context_length': CONTEXT };
        sendJson(response, { details: { family: 'fake' }, model_info: info, capabilities: MODELS[model] });
      },
    },
    '/api/generate': { methods: ['POST'], run: (response, body) => runText(false, response, body) },
    '/api/chat': { methods: ['POST'], run: (response, body) => runText(true, response, body) },
    '/api/embed': { methods: ['POST'], run: runEmbed },
  };

  async function runText(chat: boolean, response: ServerResponse, body: Body = {}): Promise<void> {
    const model = known(body);
    const empty = chat ? !body['messages']?.length : !body['prompt'];
    if (empty) {
      const unload = body['keep_alive'] === 0;
      if (unload) expire(model);
      else await load(model);
      return sendJson(response, { ...frame(model, chat, ''), done: true, done_reason: unload ? 'unload' : 'load' });
    }
    validate(chat, model, body, old);
    await whileBusy(model, response, body, () => speak({ chat, model, body, response, old, tokenMs }));
  }

  async function runEmbed(response: ServerResponse, body: Body = {}): Promise<void> {
    const model = known(body);
    const texts: unknown[] = Array.isArray(body['input']) ? body['input'] : body['input'] ? [body['input']] : [];
    if (texts.some((text) => typeof text !== 'string')) throw new Refusal(400, 'invalid input type');
    if (!MODELS[model]?.includes('embedding')) throw new Refusal(400, 'this model does not support embeddings');
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
    const closed = new Promise<void>((resolve) => response.once('close', resolve));
    void closed.then(() => {
      busy.set(model, (busy.get(model) ?? 1) - 1);
      if (!response.writableFinished && !broken.has(response)) aborts++;
      if (body['keep_alive'] === 0) expire(model);
    });
    if (model === 'oom') {
      throw new Refusal(
        500,
        'llama runner process has terminated: cudaMalloc failed: out of memory at http://127.0.0.1:40001',
      );
    }
    await load(model);
    await work();
  }

  async function load(model: string): Promise<void> {
    if (model === 'cloud' || loaded.has(tagged(model))) return;
    await pause(loadMs);
    loaded.add(tagged(model));
  }

  /** Only marks the model: it goes when its requests have ended and the driver has given the memory back. */
  function expire(model: string): void {
    if (model === 'sticky') return;
    setTimeout(() => (busy.get(model) ? expire(model) : loaded.delete(tagged(model))), unloadMs).unref();
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
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
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
    modified_at: new Date(Date.UTC(2026, 0, 30 - index)).toISOString(),
    size: 2_000_000_000,
    digest: digestOf(name),
    details: old ? details : { ...details, context_length: CONTEXT },
    ...(old ? {} : { capabilities: MODELS[name] }),
    ...(name === 'cloud' ? { remote_host: 'https://ollama.com:443' } : {}),
  };
}

function toRunning(name: string): Body {
  const expires_at = new Date(Date.now() + 300_000).toISOString();
  return {
    name,
    model: name,
    size: VRAM,
    digest: digestOf(name.split(':')[0]!),
    expires_at,
    size_vram: VRAM,
    context_length: 4096,
  };
}

function toVector(text: string, dimensions: number): number[] {
  const hash = createHash('sha256').update(text).digest();
  const raw = Array.from(hash.subarray(0, Math.min(dimensions, DIMENSIONS)), (byte) => byte - 127.5);
  const norm = Math.hypot(...raw);
  return raw.map((value) => value / norm);
}

function known(body: Body | undefined): string {
  if (!body) throw new Refusal(400, 'missing request body');
  const name = String(body['model'] ?? '').replace(/:latest$/, '');
  if (!(name in MODELS)) throw new Refusal(404, `model '${body['model']}' not found`);
  return name;
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

function tagged(name: string): string {
  return name.includes(':') ? name : `${name}:latest`;
}

function digestOf(name: string): string {
  return createHash('sha256').update(name).digest('hex');
}
