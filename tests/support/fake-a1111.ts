// A fake AUTOMATIC1111 over real HTTP: one picture at a time, progress and interrupt beside it, and counters of what ran.
import { readdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { makeResult, smallPicture } from './fake-a1111-pictures.ts';
import type { Body, Kind } from './fake-a1111-pictures.ts';
import { json, listen, parseJson, readBody, write } from './fake-http.ts';
import type { Answer } from './fake-http.ts';

export interface FakeA1111Options {
  /** Checkpoint titles, the first one loaded; SDXL and SD 1.5. */
  models?: string[];
  /** `user:password` of --api-auth; none. */
  auth?: string;
  /** Its folder `models`: what comes into Stable-diffusion is listed after a refresh. */
  modelsDir?: string;
  /** Milliseconds per sampling step; 1. */
  stepMs?: number;
  port?: number;
  /** Progress carries a preview (current_image); true. */
  previews?: boolean;
}

export interface FakeA1111 {
  url: string;
  port: number;
  /** txt2img and img2img calls that began. */
  executions(): number;
  /** Bodies of txt2img and img2img, oldest first. */
  calls(): { path: 'txt2img' | 'img2img'; body: Record<string, unknown> }[];
  interrupts(): number;
  requests(): string[];
  /** Title of the checkpoint that is loaded. */
  loaded(): string | undefined;
  /** Fails the next call: `oom` = 500 {error:'OutOfMemoryError',…}, `error` = 500 of another kind. */
  failNext(kind: 'oom' | 'error'): void;
  /** Calls stand still after their first step until `release`; an interrupt ends them. */
  hold(): void;
  held(): Promise<void>;
  release(): void;
  close(): Promise<void>;
}

const SAMPLERS = [
  'DPM++ 2M',
  'DPM++ SDE',
  'DPM++ 2M SDE',
  'Euler a',
  'Euler',
  'LMS',
  'Heun',
  'DPM2',
  'DDIM',
  'UniPC',
  'LCM',
];
const SCHEDULERS = [
  'automatic',
  'uniform',
  'karras',
  'exponential',
  'polyexponential',
  'sgm_uniform',
  'simple',
  'normal',
  'ddim',
  'beta',
];
const TITLES = ['sd_xl_base_1.0.safetensors [31e35c80fc]', 'v1-5-pruned-emaonly.safetensors [6ce0161689]'];
const IDLE = { job: '', job_no: 0, job_count: 0, sampling_step: 0, sampling_steps: 0 };
const VRAM = 12_868_124_672;

export async function openFakeA1111(options: FakeA1111Options = {}): Promise<FakeA1111> {
  const { stepMs = 1, previews = true, modelsDir } = options;
  let models = options.models ?? TITLES;
  const calls: { path: Kind; body: Body }[] = [];
  const requests: string[] = [];
  let loaded: string | undefined = models[0];
  /** As the options have it; it stays when it is unloaded. */
  let chosen = loaded;
  let executions = 0;
  let interrupts = 0;
  let failure: 'oom' | 'error' | undefined;
  /** The one global lock: calls run in the order in which they came. */
  let lock: Promise<unknown> = Promise.resolve();
  let state = { ...IDLE, interrupted: false };
  let preview: string | null = null;
  let interrupt = Promise.withResolvers<void>();
  let gate: PromiseWithResolvers<void> | undefined;
  let standing = false;
  let watchers: (() => void)[] = [];

  async function answer(request: IncomingMessage): Promise<Answer> {
    const url = new URL(request.url ?? '/', 'http://fake');
    requests.push(`${request.method} ${url.pathname}`);
    const bytes = (await readBody(request))!;
    const expected = options.auth && `Basic ${Buffer.from(options.auth).toString('base64')}`;
    if (expected && request.headers.authorization !== expected) {
      return json({ detail: 'Incorrect username or password' }, 401);
    }
    const route = ROUTES[`${request.method} ${url.pathname}`];
    if (!route) return json({ detail: 'Not Found' }, 404);
    const body = bytes.length === 0 ? {} : parseJson(bytes);
    if (typeof body !== 'object' || body === null)
      return json({ detail: [{ loc: ['body'], msg: 'JSON decode error' }] }, 422);
    return route(body as Body, url.searchParams);
  }

  const ROUTES: Record<string, (body: Body, query: URLSearchParams) => Answer | Promise<Answer>> = {
    'POST /sdapi/v1/txt2img': (body) => generate('txt2img', body),
    'POST /sdapi/v1/img2img': (body) => generate('img2img', body),
    'GET /sdapi/v1/progress': (_, query) => json(progress(query.get('skip_current_image') === 'true')),
    'POST /sdapi/v1/interrupt': () => {
      interrupts++;
      state.interrupted = true;
      interrupt.resolve();
      return json({});
    },
    'POST /sdapi/v1/skip': () => json({}),
    'POST /sdapi/v1/unload-checkpoint': () => {
      loaded = undefined;
      return json({});
    },
    'POST /sdapi/v1/reload-checkpoint': () => {
      loaded ??= chosen;
      return json({});
    },
    'POST /sdapi/v1/refresh-checkpoints': () => {
      if (modelsDir) {
        const found = readdirSync(join(modelsDir, 'Stable-diffusion')).filter((name) => name.endsWith('.safetensors'));
        models = [...(options.models ?? TITLES), ...found];
      }
      return json(null);
    },
    'POST /sdapi/v1/refresh-loras': () => json(null),
    'GET /sdapi/v1/sd-models': () => json(models.map(toModel)),
    'GET /sdapi/v1/samplers': () =>
      json(SAMPLERS.map((name) => ({ name, aliases: [`k_${name.toLowerCase()}`], options: {} }))),
    'GET /sdapi/v1/schedulers': () => json(SCHEDULERS.map((name) => ({ name, label: name, aliases: null }))),
    'GET /sdapi/v1/loras': () =>
      json([{ name: 'detail', alias: 'detail', path: '/models/Lora/detail.safetensors', metadata: {} }]),
    'GET /sdapi/v1/upscalers': () => json([{ name: 'R-ESRGAN 4x+', model_name: 'RealESRGAN_x4plus', scale: 4 }]),
    'GET /sdapi/v1/options': () => json({ sd_model_checkpoint: chosen, samples_format: 'png' }),
    'POST /sdapi/v1/options': (body) => {
      const wanted = body['sd_model_checkpoint'];
      const found = findModel(wanted);
      // An option that stays as it is has nothing done.
      if (found !== undefined && found !== chosen) loaded = chosen = found;
      return json(null);
    },
    'GET /sdapi/v1/memory': () => {
      const used = 600_000_000 + (loaded ? 6_900_000_000 : 0);
      return json({
        ram: { free: 20e9, used: 10e9, total: 30e9 },
        cuda: { system: { free: VRAM - used, used, total: VRAM } },
      });
    },
  };

  function generate(kind: Kind, body: Body): Answer | Promise<Answer> {
    const sampler = body['sampler_name'] ?? body['sampler_index'];
    if (typeof sampler === 'string' && !SAMPLERS.includes(sampler)) return json({ detail: 'Sampler not found' }, 404);
    if (kind === 'img2img' && !Array.isArray(body['init_images'])) return json({ detail: 'Init image not found' }, 404);
    const wrong = ['steps', 'width', 'height', 'batch_size', 'n_iter'].find(
      (name) => name in body && !Number.isInteger(body[name]),
    );
    if (wrong)
      return json(
        { detail: [{ type: 'int_parsing', loc: ['body', wrong], msg: 'Input should be a valid integer' }] },
        422,
      );
    calls.push({ path: kind, body });
    const mine = lock.then(() => perform(kind, body));
    lock = mine.catch(() => undefined);
    return mine;
  }

  async function perform(kind: Kind, body: Body): Promise<Answer> {
    executions++;
    const steps = Number(body['steps'] ?? 50);
    state = {
      ...IDLE,
      job: `scripts_${kind}`,
      job_count: Number(body['n_iter'] ?? 1),
      sampling_steps: steps,
      interrupted: false,
    };
    interrupt = Promise.withResolvers();
    try {
      const failed = failure;
      failure = undefined;
      const overrides = (body['override_settings'] ?? {}) as Body;
      const before = loaded;
      loaded = chosen = findModel(overrides['sd_model_checkpoint']) ?? chosen;
      if (failed) return broken(failed);
      const seed = Number(body['seed'] ?? -1) < 0 ? Math.floor(Math.random() * 2 ** 32) : Number(body['seed']);
      for (let step = 1; step <= steps && !state.interrupted; step++) {
        await pause(stepMs);
        state.sampling_step = step;
        if (previews) preview = await smallPicture(body, seed);
        if (step === 1) await standStill();
      }
      const answer = json(await makeResult(kind, body, { seed, model: loaded ?? '' }));
      if (body['override_settings_restore_afterwards'] !== false && overrides['sd_model_checkpoint']) loaded = before;
      return answer;
    } finally {
      state = { ...IDLE, interrupted: false };
      preview = null;
    }
  }

  async function standStill(): Promise<void> {
    if (!gate) return;
    standing = true;
    for (const resolve of watchers.splice(0)) resolve();
    await Promise.race([gate.promise, interrupt.promise]);
    standing = false;
  }

  /** 0 when nothing runs and when something has just begun. */
  function progress(skipImage: boolean): object {
    const share = state.sampling_steps === 0 ? 0 : state.sampling_step / state.sampling_steps;
    return {
      progress: Math.min(share, 1),
      eta_relative: share === 0 ? 0 : ((1 - share) * state.sampling_steps * stepMs) / 1000,
      state: { skipped: false, stopping_generation: false, job_timestamp: '20261121101112', ...state },
      current_image: skipImage ? null : preview,
      textinfo: null,
    };
  }

  function findModel(name: unknown): string | undefined {
    return typeof name === 'string' ? models.find((title) => title === name || title.startsWith(name)) : undefined;
  }

  function respond(request: IncomingMessage, response: ServerResponse): void {
    answer(request)
      .catch((error: unknown) => json({ error: 'RuntimeError', detail: '', body: '', errors: String(error) }, 500))
      .then((answer) => write(response, answer))
      .catch(() => response.destroy());
  }

  const server = await listen(respond, options.port);
  return {
    url: `http://127.0.0.1:${server.port}`,
    port: server.port,
    executions: () => executions,
    calls: () => calls,
    interrupts: () => interrupts,
    requests: () => requests,
    loaded: () => loaded,
    failNext: (kind) => void (failure = kind),
    hold: () => void (gate = Promise.withResolvers()),
    held: () => (standing ? Promise.resolve() : new Promise((resolve) => watchers.push(resolve))),
    release() {
      gate?.resolve();
      gate = undefined;
    },
    async close() {
      state.interrupted = true;
      gate?.resolve();
      watchers = [];
      await server.stop();
    },
  };
}

function broken(kind: 'oom' | 'error'): Answer {
  const [error, errors] =
    kind === 'oom'
      ? ['OutOfMemoryError', 'HIP out of memory. Tried to allocate 2.00 GiB (GPU 0; 11.98 GiB total capacity)']
      : ['RuntimeError', 'mat1 and mat2 shapes cannot be multiplied (154x2048 and 768x320)'];
  return json({ error, detail: '', body: '', errors }, 500);
}

function toModel(title: string): object {
  const [filename, hash] = title.split(' ');
  const model_name = filename!.replace(/\.\w+$/, '');
  return {
    title,
    model_name,
    hash: hash?.slice(1, -1) ?? null,
    sha256: null,
    filename: `/models/Stable-diffusion/${filename}`,
    config: null,
  };
}
