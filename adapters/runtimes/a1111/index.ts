// The AUTOMATIC1111 runtime, and those that speak its API: pictures drawn, changed, varied and enlarged.
import { fromBase64, toBase64 } from '../../../src/base64.ts';
import type { CapabilityId, Chunk, Input, Result } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { MadeFile, RunEvent } from '../../../src/event.ts';
import type { MediaTools } from '../../../src/media.ts';
import type { Call, RuntimeAdapter } from '../../../src/runtime.ts';
import { createUpstream, type Transport, type UpstreamLimits } from '../../../src/upstream.ts';
import { createHub } from '../../downloads/hub.ts';
import type { Downloads } from '../../downloads/index.ts';
import { createMemory } from './memory.ts';
import { createModels } from './models.ts';
import { createNames } from './names.ts';
import { createPainter, withoutPrefix } from './paint.ts';
import { createPuller } from './puller.ts';
import { toChanging, toDrawing, toVarying, type Parts, type Request } from './request.ts';
import { createTurns } from './turns.ts';
import { notA1111, toFailure, type MadeReply, type UpscaleReply } from './wire.ts';

export interface A1111Options {
  name: string;
  /** e.g. `http://127.0.0.1:7860`, without a path. */
  baseUrl: string;
  transport: Transport;
  limits: UpstreamLimits;
  /** Default 50. */
  priority?: number;
  /** `user:password` as in --api-auth, or a token. */
  apiKey?: string;
  /** Sent with every request. */
  headers?: Record<string, string>;
  tools: MediaTools;
  /** Its folder `models`, where that is on this machine. */
  modelsDir?: string;
  /** What brings models; without it none can be got. */
  downloads?: Downloads;
  /** The Hugging Face hub or its mirror. */
  hubUrl?: string;
  /** How many requests it is sent at the same time; default 1, as it works on one after the other. */
  slots?: number;
  /** Milliseconds between two looks at the progress; default 500. */
  pollMs?: number;
  /** Milliseconds until an unload that does not happen is an error; default 15 000. */
  evictMs?: number;
}

type Id = 'image.generate' | 'image.edit' | 'image.vary' | 'image.upscale';
type Events<Of extends CapabilityId> = AsyncGenerator<RunEvent<Chunk<Of>, Result<Of>>>;

/** It answers only when the picture is there; whether it still works, its progress says. */
const LONGEST_MS = 3_600_000;
const STOP_MS = 10_000;
const HUB_URL = 'https://huggingface.co';
const MAX_SEED = 4_294_967_295;

export function createA1111(options: A1111Options): RuntimeAdapter {
  const { name, priority = 50, slots = 1, limits, tools, downloads, pollMs = 500, evictMs = 15_000 } = options;
  const upstream = createUpstream({
    ...options,
    headers: { ...toAuthorization(options.apiKey), ...options.headers },
    limits: { ...limits, firstByteMs: Math.max(LONGEST_MS, limits.firstByteMs) },
    hint: 'Start it with --api, or correct its address in the configuration.',
  });
  const hubUrl = options.hubUrl ?? HUB_URL;
  const names = createNames(upstream);
  const models = createModels(upstream, names);
  /** The server works on one picture at a time; who waits for it there could not leave. */
  const turns = createTurns();
  const memory = createMemory({ upstream, models, turns, evictMs });
  const painter = createPainter(upstream, { pollMs, silentMs: limits.firstByteMs, stopMs: STOP_MS });

  async function* make(input: { n: number }, call: Call, toRequest: (parts: Parts) => Promise<Request>): Events<Id> {
    const title = models.title(call.model.id);
    const { path, body, seed, warnings } = await toRequest({ names, tools, title, source: name });
    for (const warning of warnings) yield { type: 'warning', warning };
    yield* turns.wait(call.signal);
    try {
      const files: MadeFile[] = [];
      let first = seed;
      for (let index = 0; index < input.n; index++) {
        // One by one: the relatives of this server do not all make several, and each takes the memory of one.
        const next = first === undefined ? -1 : (first + index) % (MAX_SEED + 1);
        const made = yield* paint(path, { ...body, seed: next }, { call, index, count: input.n });
        first ??= toSeed(made);
        files.push({ bytes: toPicture(made.images?.[0], name) });
      }
      memory.used(call.model.id);
      yield { type: 'result', result: first === undefined ? {} : { seed: first }, files };
    } finally {
      turns.leave();
    }
  }

  async function* paint(
    path: string,
    body: Record<string, unknown>,
    { call, index, count }: { call: Call; index: number; count: number },
  ): AsyncGenerator<RunEvent<never, never>, MadeReply> {
    const watching = painter.paint(path, body, call.signal);
    let stopped = false;
    try {
      for (;;) {
        const { done, value } = await watching.next();
        if (done) return value;
        const { steps, preview, interrupted } = value;
        if (interrupted && !stopped) {
          stopped = true;
          yield { type: 'warning', warning: `Somebody stopped ${name}: the picture is not finished.` };
        }
        if (steps) {
          const { done: made, total } = steps;
          yield { type: 'progress', done: index * total + made, total: count * total, unit: 'steps' };
        }
        if (preview) yield preview;
      }
    } finally {
      await watching.return({});
    }
  }

  async function* upscale(input: Input<'image.upscale'>, call: Call): Events<'image.upscale'> {
    const picture = await tools.toPng(await (await call.file(input.image)).bytes());
    yield* turns.wait(call.signal);
    try {
      yield { type: 'status', state: 'running' };
      const scale = input.scale ?? (Number(/(\d)x|x(\d)/i.exec(call.model.id)?.slice(1).find(Boolean)) || 4);
      const json = {
        image: toBase64(picture.bytes),
        resize_mode: 0,
        upscaling_resize: scale,
        upscaler_1: call.model.id,
      };
      const reply = await upstream.send('/sdapi/v1/extra-single-image', { json, signal: call.signal });
      const text = await reply.text();
      if (reply.status !== 200) throw toFailure(upstream, reply.status, text);
      yield { type: 'result', result: {}, files: [{ bytes: toPicture(toUpscaled(text), name) }] };
    } finally {
      turns.leave();
    }
  }

  function toUpscaled(text: string): string | null | undefined {
    try {
      return (JSON.parse(text) as UpscaleReply | null)?.image;
    } catch (cause) {
      throw notA1111(name, cause);
    }
  }

  return {
    name,
    priority,
    models: models.list,
    handles: {
      'image.generate': (input, call) => make(input, call, (parts) => toDrawing(input, call, parts)),
      'image.edit': (input, call) => make(input, call, (parts) => toChanging(input, call, parts)),
      'image.vary': (input, call) => make(input, call, (parts) => toVarying(input, call, parts)),
      'image.upscale': upscale,
    },
    gpu: { ...memory.gpu, slots: { runtime: slots } },
    ...(downloads
      ? {
          puller: createPuller({
            upstream,
            models,
            dir: options.modelsDir,
            downloads,
            hub: createHub(downloads, { url: hubUrl }),
          }),
        }
      : {}),
    async health(signal) {
      if (!Array.isArray(await upstream.control<unknown>('/sdapi/v1/sd-models', { signal }))) throw notA1111(name);
    },
    pullHint: (model) => `Put ${model} into models/Stable-diffusion of ${name}.`,
  };
}

function toAuthorization(key: string | undefined): Record<string, string> {
  if (!key) return {};
  const basic = key.includes(':') ? toBase64(new TextEncoder().encode(key)) : undefined;
  return { authorization: basic === undefined ? `Bearer ${key}` : `Basic ${basic}` };
}

function toSeed({ info }: MadeReply): number | undefined {
  try {
    const { seed } = JSON.parse(info ?? '') as { seed?: unknown };
    return Number.isSafeInteger(seed) && (seed as number) >= 0 ? (seed as number) : undefined;
  } catch {
    return undefined;
  }
}

function toPicture(base64: string | null | undefined, source: string): Uint8Array<ArrayBuffer> {
  const bytes = base64 ? fromBase64(withoutPrefix(base64)) : undefined;
  if (bytes && bytes.byteLength > 0) return bytes;
  throw new GatewayError('upstream_invalid', `${source} sent no picture.`, { source, retry: false });
}
