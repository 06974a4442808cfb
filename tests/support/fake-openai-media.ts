// A fake maker of pictures and films over real HTTP, in the four ways of its family: OpenAI itself, sd-server, vLLM-Omni, LocalAI. It counts what ran.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import sharp from 'sharp';
import { makeMp4, makePicture } from './media/index.ts';
import type { Rgb } from './media/index.ts';
import { createFakeSdJobs } from './fake-sd-jobs.ts';
import type { FakeSdJobs, FakeSdOptions } from './fake-sd-jobs.ts';
import { paint, toColour } from './paint.ts';

export type MediaKind = 'openai' | 'sd-server' | 'vllm' | 'localai';
type Json = Record<string, any>;

export interface FakeMediaOptions {
  kind: MediaKind;
  /** Required as a bearer token when given. */
  apiKey?: string;
  /** What localai answers with instead of an address of its own. */
  address?: (own: string) => string;
  /** Where its files are: 302 to here. */
  redirect?: string;
  /** Milliseconds that a picture takes. */
  delayMs?: number;
  /** Of an sd-server: how its own API behaves, or `none` for an older one. */
  sdcpp?: FakeSdOptions | 'none';
}

export interface SentFile {
  field: string;
  name: string;
  type: string;
  bytes: Buffer;
}

export interface MediaRequest {
  method: string;
  path: string;
  headers: Record<string, unknown>;
  /** Of JSON, or of the fields of a form. */
  body: Json;
  files: SentFile[];
  /** What an sd-server found in the prompt's block. */
  block?: Json | undefined;
}

export interface FakeMedia {
  /** With /v1. */
  url: string;
  /** Pictures and films begun, whichever way they were asked for. */
  executions(): number;
  /** The jobs of an sd-server. */
  jobs: FakeSdJobs;
  /** An sd-server has no API of its own any more. */
  replaceByOlder(): void;
  /** Answers that the client left before their end. */
  aborts(): number;
  /** Films that were deleted. */
  deleted: string[];
  requests: MediaRequest[];
  close(): Promise<void>;
}

const MODELS: Record<MediaKind, [ids: string[], owner?: string]> = {
  openai: [['gpt-image-1', 'dall-e-2', 'dall-e-3', 'sora-2', 'gpt-4o'], 'system'],
  'sd-server': [['sd-cpp-local'], 'local'],
  vllm: [['Qwen/Qwen-Image', 'Qwen/Qwen-Image-Edit'], 'vllm'],
  localai: [['stablediffusion', 'flux.1-kontext']],
};
/** What each takes; anything else is refused, where it refuses at all. */
const KNOWN: Record<string, string[]> = {
  'gpt-image-1': ['model', 'prompt', 'n', 'size', 'output_format', 'output_compression', 'image', 'mask'],
  'dall-e-2': ['model', 'prompt', 'n', 'size', 'response_format', 'image', 'mask'],
  'dall-e-3': ['model', 'prompt', 'n', 'size', 'response_format'],
};
const FPS = 6;
const OPENAI_SIZES = new Set(['1024x1024', '1536x1024', '1024x1536']);

class Refusal extends Error {
  readonly status: number;
  readonly body: unknown;
  constructor(status: number, body: unknown) {
    super('refused');
    this.status = status;
    this.body = body;
  }
}

export async function openFakeMedia(options: FakeMediaOptions): Promise<FakeMedia> {
  const { kind, apiKey, delayMs = 0 } = options;
  const [models, owner] = MODELS[kind];
  const requests: MediaRequest[] = [];
  const deleted: string[] = [];
  const made = new Map<string, Uint8Array>();
  const films = new Map<string, { body: Json; looks: number }>();
  let sdcpp = kind === 'sd-server' && options.sdcpp !== 'none';
  const jobs = createFakeSdJobs({ delayMs, ...(typeof options.sdcpp === 'object' ? options.sdcpp : {}) });
  let executions = 0;
  let aborts = 0;
  let origin = '';

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) return response.destroy();
      if (error instanceof Refusal) return sendJson(response, error.body, error.status);
      return sendJson(response, { error: String(error) }, 500);
    });
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const read = await readRequest(request);
    requests.push(read);
    const { method, path, headers } = read;
    if (method === 'GET' && path.startsWith('/generated/')) return sendFile(response, path);
    if (apiKey !== undefined && headers['authorization'] !== `Bearer ${apiKey}`) {
      throw new Refusal(401, { error: { message: 'Incorrect API key provided', type: 'invalid_request_error' } });
    }
    const data = models.map((id) => ({ id, object: 'model', ...(owner ? { owned_by: owner } : {}) }));
    if (method === 'GET' && path === '/v1/models') return sendJson(response, { object: 'list', data });
    if (sdcpp && path.startsWith('/sdcpp/v1/')) return answerSdcpp(response, read);
    const [, , family, what] = path.split('/');
    if (family === 'videos' && kind === 'openai') return answerFilm(response, read);
    const known = method === 'POST' && family === 'images' && ['generations', 'edits', 'variations'].includes(what!);
    if (!known || (what === 'variations' && kind !== 'openai')) throw new Refusal(404, { detail: 'Not Found' });
    return answerPictures(response, read);
  }

  async function answerSdcpp(response: ServerResponse, request: MediaRequest): Promise<void> {
    const { status, body } = await jobs.answer(request);
    if (status === 0) return void response.destroy();
    sendJson(response, body, status);
  }

  async function answerPictures(response: ServerResponse, request: MediaRequest): Promise<void> {
    const { body } = request;
    if (kind === 'openai') checkOpenAI(request);
    if (kind === 'sd-server') request.block = takeBlock(body);
    executions++;
    response.once('close', () => {
      if (!response.writableFinished) aborts++;
    });
    await pause(delayMs);
    if (body['prompt'] === 'oom') throw new Refusal(500, { error: 'CUDA error: out of memory' });
    const count = Number(body['n'] ?? 1);
    // LocalAI may make fewer than were asked for.
    const given = kind === 'localai' ? Math.min(count, 2) : count;
    const data: Json[] = [];
    for (let at = 0; at < given; at++) data.push(await present(await draw(request, kind), body, executions * 100 + at));
    sendJson(response, { created: 1_795_227_951, data });
  }

  async function present(bytes: Uint8Array, body: Json, number: number): Promise<Json> {
    if (kind === 'localai' || (String(body['model']).startsWith('dall-e') && body['response_format'] !== 'b64_json')) {
      const path = `/generated/${number}.png`;
      made.set(path, bytes);
      return { url: options.address?.(origin + path) ?? origin + path };
    }
    const revised = body['model'] === 'dall-e-3' ? { revised_prompt: `${body['prompt']}, told at length` } : {};
    return { b64_json: Buffer.from(bytes).toString('base64'), ...revised };
  }

  function sendFile(response: ServerResponse, path: string): void {
    if (options.redirect) return void response.writeHead(302, { location: options.redirect }).end();
    const bytes = made.get(path);
    if (!bytes) throw new Refusal(404, { error: 'gone' });
    response.writeHead(200, { 'content-type': 'image/png', 'content-length': bytes.length }).end(bytes);
  }

  async function answerFilm(response: ServerResponse, { method, path, body }: MediaRequest): Promise<void> {
    const [, , , id = '', part] = path.split('/');
    if (method === 'POST' && id === '') {
      if (!['4', '8', '12', undefined].includes(body['seconds']))
        throw new Refusal(400, { error: { message: 'Invalid seconds' } });
      executions++;
      const name = `video_${executions}`;
      films.set(name, { body, looks: 0 });
      return sendJson(response, { id: name, object: 'video', status: 'queued', progress: 0, error: null });
    }
    const film = films.get(id);
    if (!film) throw new Refusal(404, { error: { message: `Video ${id} not found` } });
    if (method === 'DELETE') {
      deleted.push(id);
      films.delete(id);
      return sendJson(response, { id, deleted: true, object: 'video.deleted' });
    }
    if (part === 'content') {
      const [width, height] = String(film.body['size'] ?? '1280x720')
        .split('x')
        .map(Number) as [number, number];
      const frames = Array.from({ length: Number(film.body['seconds'] ?? 4) * FPS }, (): Rgb => [9, 9, 9]);
      const bytes = await makeMp4({ width, height, fps: FPS, frames });
      return void response.writeHead(200, { 'content-type': 'video/mp4' }).end(bytes);
    }
    film.looks++;
    const { prompt } = film.body;
    if (prompt === 'fails' && film.looks > 1) {
      const error = { code: 'moderation_blocked', message: 'Blocked by our moderation system' };
      return sendJson(response, { id, object: 'video', status: 'failed', progress: 50, error });
    }
    const done = film.looks > 2 && prompt !== 'hang';
    sendJson(response, {
      id,
      object: 'video',
      status: done ? 'completed' : 'in_progress',
      progress: done ? 100 : film.looks * 30,
      error: null,
    });
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `${origin}/v1`,
    executions: () => executions + jobs.begun(),
    jobs,
    replaceByOlder: () => void (sdcpp = false),
    aborts: () => aborts,
    deleted,
    requests,
    async close() {
      jobs.release();
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** What is asked for: a plain picture, or the first one that was given with what may change in red. */
async function draw({ body, files, block, path }: MediaRequest, kind: MediaKind): Promise<Uint8Array> {
  const format = body['output_format'] ?? 'png';
  const first = files.find(({ field }) => field.startsWith('image'));
  if (!first) {
    const [width, height] = String(body['size'] ?? '64x64')
      .split('x')
      .map(Number) as [number, number];
    return makePicture({ width, height, type: format, colour: toColour(block?.['seed'] ?? body['seed'] ?? 0) });
  }
  if (path.endsWith('variations')) return first.bytes;
  const mask = files.find(({ field }) => field.startsWith('mask'));
  if (mask) await assertSameSize(first.bytes, mask.bytes);
  // OpenAI looks at what is transparent; the others at what is light, and never at what is transparent.
  const changes =
    kind === 'openai' || kind === 'localai'
      ? (rgba: Uint8Array) => rgba[3] === 0
      : (rgba: Uint8Array) => rgba[0]! > 127;
  return paint(first.bytes, mask?.bytes, changes);
}

async function assertSameSize(first: Buffer, mask: Buffer): Promise<void> {
  const [one, other] = [await sharp(first).metadata(), await sharp(mask).metadata()];
  if (one.width === other.width && one.height === other.height) return;
  throw new Refusal(400, { error: { message: 'Invalid mask image: sizes differ', type: 'invalid_request_error' } });
}

function checkOpenAI({ body, files, path }: MediaRequest): void {
  const refuse = (message: string) =>
    new Refusal(400, { error: { message, type: 'invalid_request_error', param: null, code: null } });
  const model = String(body['model']);
  if (!KNOWN[model]) throw new Refusal(404, { error: { message: `The model \`${model}\` does not exist` } });
  const odd = Object.keys(body).find((name) => !KNOWN[model]!.includes(name));
  if (odd) throw refuse(`Unknown parameter: '${odd}'.`);
  if (model === 'dall-e-3' && Number(body['n']) !== 1) throw refuse('You must provide n=1 for this model.');
  if (Number(body['n']) > 10) throw refuse('Expected n to be at most 10');
  if (model !== 'dall-e-2' && body['size'] && !OPENAI_SIZES.has(body['size']))
    throw refuse(`Invalid size '${body['size']}'.`);
  if (path.endsWith('edits') && !files.some(({ field }) => field.startsWith('image')))
    throw refuse('image is required');
  if (body['prompt'] === 'forbidden') {
    throw new Refusal(400, {
      error: { message: 'Your request was rejected by the safety system.', code: 'moderation_blocked' },
    });
  }
}

/** As sd-server does: the first block is read, all are taken out. */
function takeBlock(body: Json): Json | undefined {
  const pattern = /<sd_cpp_extra_args>(.*?)<\/sd_cpp_extra_args>/;
  const text = pattern.exec(body['prompt'])?.[1];
  body['prompt'] = String(body['prompt']).replaceAll(new RegExp(pattern, 'g'), '');
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Json);
  } catch {
    throw new Refusal(400, { error: 'invalid sd_cpp_extra_args' });
  }
}

async function readRequest(request: IncomingMessage): Promise<MediaRequest> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  const bytes = Buffer.concat(pieces);
  const { method = '', headers } = request;
  const common = { method, path: new URL(request.url ?? '/', 'http://fake').pathname, headers };
  const type = headers['content-type'] ?? '';
  if (!type.startsWith('multipart/'))
    return { ...common, body: bytes.length ? (JSON.parse(bytes.toString()) as Json) : {}, files: [] };
  const body: Json = {};
  const files: SentFile[] = [];
  for (const [field, value] of await new Response(bytes, { headers: { 'content-type': type } }).formData()) {
    if (typeof value === 'string') body[field] = value;
    else files.push({ field, name: value.name, type: value.type, bytes: Buffer.from(await value.arrayBuffer()) });
  }
  return { ...common, body, files };
}

function sendJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
