// A fake xAI for pictures and films over real HTTP: its shapes, its prices, its moderation and both shapes of its errors. What a prompt says decides what goes wrong.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { makeMp4, makePicture, probe } from './media/index.ts';
import type { Rgb } from './media/index.ts';

type Json = Record<string, any>;

/**
 * Prompts about pictures: withheld: all of them are · half: every other one is · bare: base64 without the prefix of a data: URL ·
 * address: an address on this server · away: one on another · busy: a failure under 200 · policy: 403 · slow: takes a minute ·
 * tired: only the first request is answered.
 * Prompts about films: old: answers without a status · fails · expires · withheld · hang: never done · flaky: looks fail now and then ·
 * cut: the film is cut off when it is first fetched · gone: it cannot be fetched · away: it lies elsewhere.
 */
export interface FakeXai {
  /** With /v1. */
  url: string;
  /** Pictures and films begun. */
  executions(): number;
  aborts(): number;
  /** How often a film was looked at, and fetched. */
  looks(): number;
  fetches(): number;
  requests: { method: string; path: string; headers: Record<string, unknown>; body: Json }[];
  close(): Promise<void>;
}

export interface FakeXaiOptions {
  apiKey?: string;
  /** What `away` answers with. */
  away?: string;
}

const RATIOS = '1:1 3:4 4:3 9:16 16:9 2:3 3:2 9:19.5 19.5:9 9:20 20:9 1:2 2:1 21:9 5:2 auto'.split(' ');
const FILM_RATIOS = '16:9 9:16 1:1 4:3 3:4 3:2 2:3'.split(' ');
const SIDES: Record<string, number> = { '1k': 64, '1.5k': 96, '2k': 128 };
const HEIGHTS: Record<string, number> = { '480p': 48, '720p': 72, '1080p': 108 };
const MODELS = [
  'grok-imagine-image',
  'grok-imagine-video',
  'grok-imagine-video-1.5',
  'grok-4.6',
  'grok-3',
  'grok-code-fast-1',
];
const PICTURE_FIELDS = ['model', 'prompt', 'n', 'response_format', 'aspect_ratio', 'resolution', 'quality', 'user'];
const FILM_FIELDS = new Set(['model', 'prompt', 'duration', 'aspect_ratio', 'resolution', 'image', 'reference_images']);
const TICKS = 200_000_000;
const FPS = 2;

class Refusal extends Error {
  readonly status: number;
  readonly body: unknown;
  constructor(status: number, body: unknown) {
    super('refused');
    this.status = status;
    this.body = body;
  }
}

export async function openFakeXai({
  apiKey = 'secret',
  away = 'https://example.com/x',
}: FakeXaiOptions = {}): Promise<FakeXai> {
  const requests: FakeXai['requests'] = [];
  const films = new Map<string, { body: Json; looks: number; fetches: number }>();
  const counts = { executions: 0, aborts: 0, looks: 0, fetches: 0 };
  let origin = '';

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) return response.destroy();
      if (error instanceof Refusal) return sendJson(response, error.body, error.status);
      return sendJson(response, { error: { message: String(error) } }, 500);
    });
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const { method = '', headers } = request;
    const path = new URL(request.url ?? '/', 'http://fake').pathname;
    const text = Buffer.concat(pieces).toString();
    const body = text === '' ? {} : (JSON.parse(text) as Json);
    requests.push({ method, path, headers, body });
    if (method === 'GET' && path.startsWith('/files/')) return sendFile(response, path);
    if (headers.authorization !== `Bearer ${apiKey}`) throw plain(400, 'Incorrect API key provided: se***');
    if (method === 'GET' && path === '/v1/models') {
      return sendJson(response, { data: MODELS.map((id) => ({ id, object: 'model', owned_by: 'xai' })) });
    }
    if (method === 'POST' && path === '/v1/images/generations') return await draw(response, body, []);
    if (method === 'POST' && path === '/v1/images/edits') return await draw(response, body, ['image', 'images']);
    if (method === 'POST' && path === '/v1/videos/generations') return film(response, body);
    if (method === 'GET' && path.startsWith('/v1/videos/')) return look(response, path.slice('/v1/videos/'.length));
    throw plain(404, 'Not Found');
  }

  async function draw(response: ServerResponse, body: Json, also: string[]): Promise<void> {
    checkPictures(body, also);
    const given: Json[] = [body['image'] ?? [], body['images'] ?? []].flat();
    if (also.length > 0) await checkGiven(given);
    if (body['prompt'] === 'tired' && counts.executions > 0) throw plain(503, 'Come back later');
    counts.executions++;
    response.once('close', () => {
      if (!response.writableFinished) counts.aborts++;
    });
    const { prompt, n = 1 } = body;
    if (prompt === 'slow') await pause(60_000, undefined, { ref: false });
    if (prompt === 'busy')
      return sendJson(response, { code: 'unavailable', error: 'The service is currently unavailable' });
    const [wide, high] = (body['aspect_ratio'] ?? '1:1').split(':').map(Number) as [number, number];
    const side = SIDES[body['resolution'] ?? '1k']! / Math.sqrt(wide * high);
    const size = { width: Math.round(side * wide), height: Math.round(side * high) };
    const bytes = Buffer.from(await makePicture({ ...size, type: 'jpeg' })).toString('base64');
    const data = Array.from({ length: n }, (_, at) => {
      if (prompt === 'withheld' || (prompt === 'half' && at % 2 === 1))
        return { respect_moderation: false, b64_json: '' };
      const told = { revised_prompt: `${prompt}, in detail`, respect_moderation: true, mime_type: 'image/jpeg' };
      if (prompt === 'away') return { ...told, url: away };
      if (prompt === 'address') return { ...told, url: `${origin}/files/${size.width}x${size.height}.jpg` };
      return { ...told, b64_json: prompt === 'bare' ? bytes : `data:image/jpeg;base64,${bytes}` };
    });
    sendJson(response, { data, usage: { cost_in_usd_ticks: TICKS * n } });
  }

  function film(response: ServerResponse, body: Json): void {
    const odd = Object.keys(body).find((name) => !FILM_FIELDS.has(name));
    if (odd) throw plain(400, `Argument not supported: ${odd}`);
    const { duration = 6, aspect_ratio = '16:9', resolution = '480p', model } = body;
    if (!String(model).includes('video')) throw nested(404, `The model ${model} does not exist`, 'model_not_found');
    if (!Number.isInteger(duration) || duration < 1 || duration > 15) throw plain(422, 'duration must be 1 to 15');
    if (!FILM_RATIOS.includes(aspect_ratio)) throw plain(400, `aspect_ratio ${aspect_ratio} is not supported`);
    if (!HEIGHTS[resolution] || (resolution === '1080p' && !model.includes('1.5')))
      throw plain(400, `resolution ${resolution} is not supported`);
    if (body['image'] && !/^data:image\/(png|jpeg);base64,/.test(body['image'].url))
      throw plain(400, 'image must be PNG or JPEG');
    counts.executions++;
    const id = `req-${counts.executions}`;
    films.set(id, { body, looks: 0, fetches: 0 });
    sendJson(response, { request_id: id });
  }

  function look(response: ServerResponse, id: string): void {
    const known = films.get(id);
    if (!known) throw plain(404, 'Request not found');
    counts.looks++;
    const at = ++known.looks;
    const { prompt, model, duration = 6 } = known.body;
    if (prompt === 'flaky' && at === 1) return void response.destroy();
    if (prompt === 'flaky' && at === 2)
      return sendJson(response, { code: 'unavailable', error: 'The service is currently unavailable' });
    if (prompt === 'flaky' && at === 3) throw plain(503, 'Busy');
    if (at === 1) return void response.writeHead(202).end();
    if (at === 2 || prompt === 'hang') return sendJson(response, { status: 'pending', progress: 40 }, 202);
    if (prompt === 'fails') {
      return sendJson(response, {
        status: 'failed',
        model,
        progress: 40,
        error: { code: 'internal', message: 'The renderer failed' },
      });
    }
    if (prompt === 'expires') return sendJson(response, { status: 'expired', model });
    const url = prompt === 'away' ? away : `${origin}/files/${id}.mp4`;
    const video = { url, duration, respect_moderation: prompt !== 'withheld' };
    const usage = { cost_in_usd_ticks: TICKS * 5 * duration };
    sendJson(
      response,
      prompt === 'old' ? { video, model, usage } : { status: 'done', video, model, usage, progress: 100 },
    );
  }

  async function sendFile(response: ServerResponse, path: string): Promise<void> {
    const name = path.slice('/files/'.length);
    const [, width, height] = /^(\d+)x(\d+)\.jpg$/.exec(name) ?? [];
    if (width) {
      const bytes = await makePicture({ width: Number(width), height: Number(height), type: 'jpeg' });
      return void response.writeHead(200, { 'content-type': 'image/jpeg' }).end(bytes);
    }
    const known = films.get(name.replace('.mp4', ''));
    if (!known) throw plain(404, 'gone');
    counts.fetches++;
    const { prompt, duration = 6, aspect_ratio = '16:9', resolution = '480p' } = known.body;
    if (prompt === 'gone') throw plain(500, 'storage failed');
    const [wide, high] = aspect_ratio.split(':').map(Number) as [number, number];
    const short = HEIGHTS[resolution]!;
    const size =
      wide > high
        ? { width: Math.round((short * wide) / high), height: short }
        : { width: short, height: Math.round((short * high) / wide) };
    const frames = Array.from({ length: duration * FPS }, (_, at): Rgb => [at * 7, 60, 90]);
    const bytes = await makeMp4({ ...size, fps: FPS, frames });
    response.writeHead(200, { 'content-type': 'video/mp4', 'content-length': bytes.length });
    if (prompt !== 'cut' || known.fetches++ > 0) return void response.end(bytes);
    response.write(bytes.subarray(0, 100));
    await pause(20);
    response.destroy();
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `${origin}/v1`,
    executions: () => counts.executions,
    aborts: () => counts.aborts,
    looks: () => counts.looks,
    fetches: () => counts.fetches,
    requests,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

function checkPictures(body: Json, also: string[]): void {
  const odd = Object.keys(body).find((name) => ![...PICTURE_FIELDS, ...also].includes(name));
  if (odd) throw plain(400, `Argument not supported: ${odd}`);
  const { model, n = 1, prompt, aspect_ratio = '1:1', resolution = '1k' } = body;
  if (!String(model).includes('image')) throw nested(404, `The model ${model} does not exist`, 'model_not_found');
  if (n > 10) throw plain(422, 'n must be at most 10');
  if (!RATIOS.includes(aspect_ratio)) throw plain(400, `aspect_ratio ${aspect_ratio} is not supported`);
  if (!SIDES[resolution] || (prompt === 'no resolution' && body['resolution']))
    throw plain(400, `resolution ${resolution} is not supported`);
  if (prompt === 'nested') throw nested(400, 'Generated image rejected by content moderation.', 'invalid-argument');
  if (prompt === 'policy') throw plain(403, 'Content violates usage guidelines.');
  if (prompt === 'limited') throw nested(429, 'Too many requests', 'rate_limit_exceeded');
}

async function checkGiven(given: Json[]): Promise<void> {
  if (given.length === 0 || given.length > 3) throw plain(400, 'one to three images');
  for (const { type, url } of given) {
    const [, text] = /^data:image\/(?:png|jpeg);base64,(.+)$/.exec(url) ?? [];
    if (type !== 'image_url' || !text) throw plain(400, 'image must be PNG or JPEG');
    await probe(Buffer.from(text, 'base64'));
  }
}

function plain(status: number, message: string): Refusal {
  return new Refusal(status, { code: 'Client specified an invalid argument', error: message });
}

function nested(status: number, message: string, code: string): Refusal {
  return new Refusal(status, { error: { message, type: 'invalid_request_error', param: null, code } });
}

function sendJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
