// A fake OpenAI-compatible server over real HTTP: its wire and its faults, answers that depend on the model's name, and counters of what ran.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { count, TEXT_MODELS, toChoice, toMessage, toScript } from './fake-openai-script.ts';
import type { Json, Script } from './fake-openai-script.ts';

export { UTF8_TEXT } from './fake-openai-script.ts';

const CREATED = 1_795_227_951;
const DIMENSIONS = 32;
const EMBEDDERS = ['embedder', 'embedder-base64', 'embedder-ragged'];
const XAI_MODELS = ['grok-4.6', 'grok-3'];
const REFUSED: Record<string, [status: number, body: Json, headers?: Record<string, string>]> = {
  busy: [503, { error: { code: 503, message: 'Loading model', type: 'unavailable_error' } }],
  limited: [429, toError('Rate limit reached', 'requests', 'rate_limit_exceeded'), { 'retry-after': '7' }],
  detail: [422, { detail: [{ loc: ['body', 'messages'], msg: 'field required', type: 'value_error' }] }],
  oom: [500, { error: { code: 500, message: 'CUDA error: out of memory', type: 'server_error' } }],
  context: [400, { error: { code: 400, message: 'the request exceeds the available context size' } }],
  plain: [400, { error: 'messages must alternate' }],
};

export interface FakeOpenAIOptions {
  /** Required as a bearer token when given. */
  apiKey?: string;
  /** xai also has grok models, refuses what xAI refuses, and has no embeddings. */
  flavour?: 'generic' | 'xai';
  /** What GET /models lists instead. */
  list?: unknown;
  /** Milliseconds between the tokens of the models that are quick. */
  tokenMs?: number;
}

export interface FakeOpenAI {
  /** With /v1. */
  url: string;
  /** Generations and embeddings started. */
  executions(): number;
  /** Answers that the client left before their end. */
  aborts(): number;
  /** The last requests, oldest first. */
  requests: { method: string; path: string; headers: Record<string, unknown>; body: Json | undefined; bytes: Buffer }[];
  close(): Promise<void>;
}

class Refusal extends Error {
  readonly answer: [status: number, body: Json, headers?: Record<string, string>];
  constructor(...answer: [status: number, body: Json, headers?: Record<string, string>]) {
    super('refused');
    this.answer = answer;
  }
}

export async function openFakeOpenAI(options: FakeOpenAIOptions = {}): Promise<FakeOpenAI> {
  const { apiKey, flavour = 'generic', tokenMs = 0 } = options;
  const xai = flavour === 'xai';
  const models = [...TEXT_MODELS, ...(xai ? XAI_MODELS : EMBEDDERS)];
  const requests: FakeOpenAI['requests'] = [];
  /** Connections that this side broke, so that they are not counted as the client's doing. */
  const broken = new WeakSet<ServerResponse>();
  let executions = 0;
  let aborts = 0;

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) return response.destroy();
      const [status, body, headers] =
        error instanceof Refusal ? error.answer : [500, toError(String(error), 'server_error', null)];
      sendJson(response, body, status, headers);
    });
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '/', headers } = request;
    const path = new URL(url, 'http://fake').pathname;
    const bytes = await readBody(request);
    const body = bytes.length === 0 ? undefined : parse(bytes);
    requests.push({ method, path, headers, body, bytes });
    if (requests.length > 500) requests.shift();
    if (apiKey !== undefined && headers.authorization !== `Bearer ${apiKey}`) {
      throw new Refusal(
        401,
        toError(`Incorrect API key provided: ${headers.authorization}`, 'invalid_request_error', 'invalid_api_key'),
      );
    }
    if (method === 'GET' && path === '/v1/models') return sendJson(response, options.list ?? toList(models, xai));
    if (method === 'POST' && path === '/v1/chat/completions') return await runText(true, response, body);
    if (method === 'POST' && path === '/v1/completions') return await runText(false, response, body);
    if (method === 'POST' && path === '/v1/embeddings' && !xai) return runEmbed(response, body);
    throw new Refusal(404, toError(`Invalid URL (${method} ${path})`, 'invalid_request_error', null));
  }

  async function runText(chat: boolean, response: ServerResponse, body: Json = {}): Promise<void> {
    const model = known(body);
    if (REFUSED[model]) throw new Refusal(...REFUSED[model]);
    if (EMBEDDERS.includes(model))
      throw new Refusal(400, toError(`${model} makes no text`, 'invalid_request_error', null));
    validate(chat, model, body, xai);
    begin(response);
    if (model === 'silent') return;
    if (model === 'garbage')
      return void response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Welcome</html>');
    if (model === 'rubbish') return void response.end('all is well\nreally\n');
    if (model === 'error-200')
      return sendJson(response, { code: 'unavailable', error: 'The service is currently unavailable' });
    const script = toScript(chat, body);
    if (body['stream'] === true && model !== 'whole') return await stream(response, script, body);
    const choices = [toChoice(script, toMessage(script), script.finish, body, false)];
    const object = chat ? 'chat.completion' : 'text_completion';
    sendJson(response, { ...toHead(chat, model), object, choices, usage: script.usage });
  }

  async function stream(response: ServerResponse, script: Script, body: Json): Promise<void> {
    const model: string = body['model'];
    const head = toHead(script.chat, model);
    const wantsUsage = body['stream_options']?.include_usage === true && model !== 'uncounted';
    const end = model === 'crlf' ? '\r\n' : '\n';
    const write = (text: string) => writeCut(response, text, model === 'utf8');
    const event = (fields: Json) => write(`data: ${JSON.stringify({ ...head, ...fields })}${end}${end}`);
    const usageOn = (last: boolean) =>
      model === 'usage-every' || (model === 'usage-last' && last)
        ? { usage: script.usage }
        : wantsUsage
          ? { usage: null }
          : {};
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    if (model === 'error-first') return void response.end(toErrorEvent('the sampler failed'));
    if (model === 'crlf') await write(': PROCESSING\r\n\r\n');
    if (script.chat)
      await event({
        choices: [toChoice(script, { role: 'assistant', content: '' }, null, body, true)],
        ...usageOn(false),
      });
    for (const [at, delta] of script.deltas.entries()) {
      if (response.destroyed) return;
      if (at === 2 && (await fail(response, model))) return;
      if (model === 'crlf') await write(':\r\n\r\n');
      await event({ choices: [toChoice(script, delta, null, body, true)], ...usageOn(false) });
      await pause(model === 'slow' ? 50 : tokenMs);
    }
    await event({ choices: [toChoice(script, {}, script.finish, body, true)], ...usageOn(true) });
    if (model === 'eof') return void response.end();
    if (wantsUsage && !model.startsWith('usage-')) await event({ choices: [], usage: script.usage });
    await write(`data: [DONE]${end}${end}`);
    if (model === 'twice')
      await write(`data: {"choices":[{"index":0,"delta":{"content":"late"}}]}\n\ndata: [DONE]\n\n`);
    response.end();
  }

  /** The faults that come after two tokens. */
  async function fail(response: ServerResponse, model: string): Promise<boolean> {
    const ends: Record<string, string | undefined> = {
      truncated: '',
      cut: 'data: {"id":"chatcmpl-1","choices":[{"index":0,"del',
      'error-mid': toErrorEvent('the sampler failed'),
      'error-named': 'event: error\ndata: {"message":"the sampler failed"}\n\n',
      'error-line': 'error: {"code":500,"message":"the sampler failed","type":"server_error"}\n\n',
      'error-text': 'data: {"error":"the sampler failed"}\n\ndata: [DONE]\n\n',
    };
    if (model === 'hang') return true;
    if (model === 'reset') {
      broken.add(response);
      await pause(20);
      response.destroy();
      return true;
    }
    if (ends[model] === undefined) return false;
    response.end(ends[model]);
    return true;
  }

  function runEmbed(response: ServerResponse, body: Json = {}): void {
    const model = known(body);
    if (!EMBEDDERS.includes(model))
      throw new Refusal(400, toError(`${model} makes no vectors`, 'invalid_request_error', null));
    const texts: string[] = [body['input']].flat();
    begin(response);
    const base64 = model === 'embedder-base64' || body['encoding_format'] === 'base64';
    const data = texts.map((text, index) => {
      const vector = toVector(text, body['dimensions'] ?? DIMENSIONS);
      if (model === 'embedder-ragged' && index > 0) vector.pop();
      return { object: 'embedding', index, embedding: base64 ? toBase64(vector) : vector };
    });
    const tokens = count(texts.join(' '));
    // Their order is nobody's promise: `index` is.
    sendJson(response, {
      object: 'list',
      data: data.toReversed(),
      model,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    });
  }

  function begin(response: ServerResponse): void {
    executions++;
    response.once('close', () => {
      if (!response.writableFinished && !broken.has(response)) aborts++;
    });
  }

  function known(body: Json): string {
    const model = String(body['model']);
    if (!models.includes(model)) {
      throw new Refusal(
        404,
        toError(`The model \`${model}\` does not exist`, 'invalid_request_error', 'model_not_found', 'model'),
      );
    }
    return model;
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    executions: () => executions,
    aborts: () => aborts,
    requests,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

function validate(chat: boolean, model: string, body: Json, xai: boolean): void {
  const refuse = (message: string) =>
    new Refusal(
      400,
      xai ? { code: 'invalid-argument', error: message } : toError(message, 'invalid_request_error', null),
    );
  if (chat ? !Array.isArray(body['messages']) : body['prompt'] === undefined) throw refuse('no prompt');
  const limit = body['max_tokens'] ?? body['max_completion_tokens'];
  if (limit !== undefined && limit < (body['echo'] ? 0 : 1)) throw refuse('max_tokens must be at least 1');
  if (model === 'picky') {
    const odd = ['chat_template_kwargs', 'top_k', 'stream_options'].find((name) => body[name] !== undefined);
    if (odd) throw refuse(`Unrecognized request argument supplied: ${odd}`);
  }
  if (!xai) return;
  const refused = [
    'top_k',
    'min_p',
    'repeat_penalty',
    'repetition_penalty',
    'logit_bias',
    'chat_template_kwargs',
    'max_tokens',
  ];
  if (model.startsWith('grok-4')) refused.push('presence_penalty', 'frequency_penalty', 'stop');
  const odd = refused.find((name) => body[name] !== undefined);
  if (odd) throw refuse(`Argument not supported: ${odd}`);
  if (body['top_logprobs'] > 8) throw refuse('top_logprobs must be at most 8');
}

/** In two writes on the socket, cut inside each character that is longer than a byte. */
async function writeCut(response: ServerResponse, text: string, cut: boolean): Promise<void> {
  const bytes = Buffer.from(text);
  const long = cut ? bytes.findIndex((byte) => byte >= 0xc0) : -1;
  if (long === -1) return void response.write(bytes);
  response.write(bytes.subarray(0, long + 1));
  await pause(2);
  response.write(bytes.subarray(long + 1));
}

function toHead(chat: boolean, model: string): Json {
  const object = chat ? 'chat.completion.chunk' : 'text_completion';
  return { id: chat ? 'chatcmpl-fake' : 'cmpl-fake', object, created: CREATED, model, system_fingerprint: 'fp_fake' };
}

function toList(models: string[], xai: boolean): Json {
  return {
    object: 'list',
    data: models.map((id) => ({ id, object: 'model', created: CREATED, owned_by: xai ? 'xai' : 'fake' })),
  };
}

function toError(message: string, type: string, code: string | number | null, param: string | null = null): Json {
  return { error: { message, type, param, code } };
}

function toErrorEvent(message: string): string {
  return `data: ${JSON.stringify(toError(message, 'server_error', 500))}\n\n`;
}

/** Not of length one, as of servers that leave that to the client. */
function toVector(text: string, dimensions: number): number[] {
  const hash = createHash('sha256').update(text).digest();
  return Array.from(hash.subarray(0, Math.min(dimensions, DIMENSIONS)), (byte) => byte - 127.5);
}

function toBase64(vector: number[]): string {
  return Buffer.from(new Float32Array(vector).buffer).toString('base64');
}

function sendJson(response: ServerResponse, body: unknown, status = 200, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

function parse(bytes: Buffer): Json {
  try {
    return JSON.parse(bytes.toString()) as Json;
  } catch {
    throw new Refusal(400, toError('We could not parse the JSON body', 'invalid_request_error', null));
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}
