// The jobs of a fake sd-server: one worker and a queue, with jobs that can be held, cancelled, lost and made to fail. It counts what ran.
import { setTimeout as pause } from 'node:timers/promises';
import sharp from 'sharp';
import { makePicture, makeWebm } from './media/index.ts';
import { paint, toColour } from './paint.ts';

type Json = Record<string, any>;

export interface FakeSdOptions {
  /** Milliseconds that a job takes. */
  delayMs?: number;
  /** Milliseconds until a job that is handed in has an answer. */
  answerMs?: number;
  /** Whether it stops what it generates; those of August 2026 do not. */
  interrupts?: boolean;
  /** Jobs that may wait or run. */
  maxQueue?: number;
  modes?: string[];
  /** Cancellations that fail before one does not. */
  deafFor?: number;
  /** Milliseconds that it takes to cancel. */
  cancelMs?: number;
}

export interface FakeSdJobs {
  answer(request: { method: string; path: string; body: Json }): Promise<{ status: number; body?: Json }>;
  /** Jobs begun. */
  begun(): number;
  /** Those that were cancelled, and what they were doing. */
  cancelled: { id: string; was: string }[];
  /** Cancellations that came, also for jobs that went on. */
  cancels(): number;
  /** Nothing that is begun ends until it is released. */
  hold(): void;
  release(): void;
  /** It answers nothing about jobs any more: 404, 410, or not at all for 0. */
  lose(status: number): void;
  stateOf(id: string): string | undefined;
}

interface Job {
  id: string;
  kind: string;
  body: Json;
  status: string;
  result: Json | null;
  error: Json | null;
}

export function createFakeSdJobs(options: FakeSdOptions): FakeSdJobs {
  const { delayMs = 0, answerMs = 0, cancelMs = 0, interrupts = false, maxQueue = 64, modes = ['img_gen'] } = options;
  let { deafFor = 0 } = options;
  const jobs = new Map<string, Job>();
  const queue: Job[] = [];
  const cancelled: { id: string; was: string }[] = [];
  let cancels = 0;
  let begun = 0;
  let working = false;
  let lost: number | undefined;
  let held: PromiseWithResolvers<void> | undefined;

  async function work(): Promise<void> {
    if (working) return;
    working = true;
    for (let job = queue.shift(); job; job = queue.shift()) {
      job.status = 'generating';
      begun++;
      await pause(delayMs);
      await held?.promise;
      // A stop takes effect between two steps: the worker goes on to the next job.
      if ((job.status as string) === 'cancelled') continue;
      try {
        job.result = await make(job);
        job.status = 'completed';
      } catch (error) {
        job.status = 'failed';
        job.error = { code: 'generation_failed', message: (error as Error).message };
      }
    }
    working = false;
  }

  async function submit(kind: string, body: Json): Promise<{ status: number; body?: Json }> {
    if (!modes.includes(kind)) return { status: 400, body: { error: `${kind} is not supported by the loaded model` } };
    if (body['prompt'] === 'refused') return { status: 400, body: { error: 'invalid generation parameters' } };
    const pending = [...jobs.values()].filter(({ status }) => status === 'queued' || status === 'generating');
    if (pending.length >= maxQueue) return { status: 429, body: { error: 'job queue is full' } };
    const job: Job = { id: `job_${jobs.size + 1}`, kind, body, status: 'queued', result: null, error: null };
    jobs.set(job.id, job);
    queue.push(job);
    const told = { id: job.id, kind, status: job.status, created: 1_795_227_951, poll_url: `/sdcpp/v1/jobs/${job.id}` };
    void work();
    await pause(answerMs);
    return { status: 202, body: told };
  }

  function cancel(job: Job): { status: number; body: Json } {
    const was = job.status;
    if (was === 'generating' && !interrupts)
      return { status: 409, body: { error: 'job is currently generating and cannot be interrupted yet' } };
    if (was === 'queued' || was === 'generating') {
      if (was === 'queued') queue.splice(queue.indexOf(job), 1);
      cancelled.push({ id: job.id, was });
      Object.assign(job, { status: 'cancelled', error: { code: 'cancelled', message: 'job cancelled by client' } });
    }
    return { status: 200, body: toJson(job) };
  }

  function toJson({ id, kind, status, result, error }: Job): Json {
    const position = status === 'queued' ? queue.findIndex((each) => each.id === id) + 1 : 0;
    return { id, kind, status, created: 1, started: null, completed: null, queue_position: position, result, error };
  }

  return {
    async answer({ method, path, body }) {
      const [, , , what = '', id = '', verb] = path.split('/');
      if (method === 'GET' && what === 'capabilities') return { status: 200, body: toCapabilities(modes, interrupts) };
      if (method === 'POST' && (what === 'img_gen' || what === 'vid_gen')) return submit(what, body);
      if (what !== 'jobs') return { status: 404, body: { error: 'Not Found' } };
      if (lost !== undefined) return { status: lost, body: { error: 'job not found' } };
      const job = jobs.get(id);
      if (!job) return { status: 404, body: { error: 'job not found' } };
      if (verb === undefined) return { status: 200, body: toJson(job) };
      cancels++;
      if (deafFor-- > 0) return { status: 0 };
      await pause(cancelMs);
      return cancel(job);
    },
    begun: () => begun,
    cancelled,
    cancels: () => cancels,
    hold: () => void (held ??= Promise.withResolvers<void>()),
    release() {
      held?.resolve();
      held = undefined;
    },
    lose: (status) => void (lost = status),
    stateOf: (id) => jobs.get(id)?.status,
  };
}

async function make({ kind, body }: Job): Promise<Json> {
  if (body['prompt'] === 'oom') throw new Error('ggml_vulkan: out of memory in /opt/models/unet.gguf');
  if (body['prompt'] === 'fails') throw new Error('cannot read /opt/models/unet.gguf: bad magic');
  const { width = 64, height = 64, seed } = body;
  if (kind === 'vid_gen') {
    const fps = body['fps'] ?? 8;
    const first = toColour(seed);
    const film = await makeWebm({
      width,
      height,
      fps,
      frames: Array.from({ length: body['video_frames'] ?? 5 }, () => first),
    });
    return { output_format: 'webm', mime_type: 'video/webm', fps, frame_count: 5, b64_json: toText(film) };
  }
  const images: Json[] = [];
  for (let index = 0; index < body['batch_count']; index++) {
    images.push({ index, b64_json: toText(await draw(body, seed + index)) });
  }
  // Not in their order: each has its number.
  return { output_format: body['output_format'] ?? 'png', images: images.toReversed() };
}

/** A plain picture in the colour of its seed, or the one that was given with what may change in red. */
async function draw(body: Json, seed: number): Promise<Uint8Array> {
  const { width = 64, height = 64, output_format: type = 'png' } = body;
  if (!body['init_image']) return makePicture({ width, height, type, colour: toColour(seed) });
  const first = await sharp(Buffer.from(body['init_image'], 'base64')).resize(width, height).png().toBuffer();
  const mask = body['mask_image'] && Buffer.from(body['mask_image'], 'base64');
  return paint(first, mask, (rgba) => rgba[0]! > 127);
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function toCapabilities(modes: string[], interrupts: boolean): Json {
  const cancels = { cancel_queued: true, cancel_generating: interrupts };
  const img_gen = { init_image: true, mask_image: true, ref_images: true, lora: true, ...cancels };
  const vid_gen = { init_image: true, end_image: true, lora: true, ...cancels };
  return {
    model: { name: 'unet.gguf', stem: 'unet', path: '/opt/models/unet.gguf' },
    current_mode: modes[0],
    supported_modes: modes,
    defaults_by_mode: { img_gen: { width: 512, height: 512 }, vid_gen: { fps: 8 } },
    output_formats_by_mode: { img_gen: ['png', 'jpeg', 'webp'], vid_gen: ['webm', 'webp', 'avi'] },
    features_by_mode: { img_gen, vid_gen },
    samplers: ['euler', 'euler_a', 'dpm++2m'],
    schedulers: ['discrete', 'karras'],
    loras: [{ name: 'ink', path: 'styles/ink.safetensors' }],
    limits: {
      min_width: 64,
      max_width: 4096,
      min_height: 64,
      max_height: 4096,
      max_batch_count: 8,
      max_queue_size: 64,
    },
  };
}
