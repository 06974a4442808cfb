// A gateway that listens, over one scripted runtime that makes real pictures, films and sounds; asked by the real OpenAI SDK.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { currentHost } from '../../adapters/hosts/host.ts';
import { openGateway } from '../../adapters/index.ts';
import { toSize } from '../../src/capabilities/image/fields.ts';
import type { CapabilityId } from '../../src/capabilities/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { MadeFile } from '../../src/event.ts';
import type { Call, InputFile, Model, RuntimeAdapter } from '../../src/runtime.ts';
import { makeWav } from './media/audio.ts';
import { makePicture } from './media/pictures.ts';
import { makeMp4 } from './media/video.ts';

type Json = Record<string, unknown>;

/** One run, as the runtime saw it. */
export interface Seen {
  capability: CapabilityId;
  model: string;
  input: Json;
  /** The files that the input names. */
  files: Pick<InputFile, 'media_type' | 'size' | 'media'>[];
}

export interface Atelier {
  runtime: RuntimeAdapter;
  seen: Seen[];
  /** Runs that were stopped from outside. */
  aborts: number;
  /** Runs that wait for `release`. */
  held: number;
  /** Lets what is held go on. */
  release(): void;
}

const STEPS = 8;
const SIZE = { width: 96, height: 64 };

/**
 * Models: `brush` draws, edits and varies; `pencil` only draws; `camera` films, `lute` plays. Words of a prompt: `hold` waits for
 * release, `fail` fails at half, `slow` takes its time for each step, `bad` asks for what the model refuses, `revise` says what it
 * made of the prompt.
 */
export function createAtelier(): Atelier {
  let gate = Promise.withResolvers<void>();
  const models: Model[] = [
    { id: 'brush', capabilities: ['image.generate', 'image.edit', 'image.vary'], state: 'ready', rank: 9, mask: true },
    { id: 'pencil', capabilities: ['image.generate'], state: 'ready' },
    { id: 'camera', capabilities: ['video.generate'], state: 'ready', animate: true },
    { id: 'lute', capabilities: ['music.generate'], state: 'ready' },
  ];

  async function stopped<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
    const { promise, reject } = Promise.withResolvers<never>();
    const stop = () => {
      atelier.aborts++;
      reject(new GatewayError('client_closed', 'The request was cancelled.', { source: 'atelier' }));
    };
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
    try {
      return await Promise.race([work, promise]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async function* work(capability: CapabilityId, given: object, call: Call, make: () => Promise<MadeFile[]>) {
    const input = given as Json;
    const named = [input['image'], input['mask']].flat().filter((id) => id !== undefined) as string[];
    const files = await Promise.all(named.map((id) => call.file(id)));
    for (const file of files) await file.bytes();
    atelier.seen.push({ capability, model: call.model.id, input, files });
    const words = String(input['prompt'] ?? '').split(' ');
    yield { type: 'status' as const, state: 'loading' as const, message: `Loading ${call.model.id}` };
    if (words.includes('bad')) {
      throw new GatewayError('invalid_request', 'sampler: there is no “warp”.', {
        param: 'sampler',
        source: 'atelier',
      });
    }
    const preview = await makePicture({ width: 24, height: 16, type: 'jpeg' });
    for (let step = 1; step <= STEPS; step++) {
      yield { type: 'progress' as const, done: step, total: STEPS, unit: 'steps' };
      yield { type: 'preview' as const, media_type: 'image/jpeg', bytes: preview };
      if (step * 2 === STEPS && words.includes('hold')) {
        atelier.held++;
        await stopped(gate.promise, call.signal).finally(() => atelier.held--);
      }
      if (step * 2 === STEPS && words.includes('fail')) {
        throw new GatewayError('upstream_error', 'The easel fell over.', { source: 'atelier', retry: false });
      }
      if (words.includes('slow')) await stopped(new Promise((resolve) => setTimeout(resolve, 120)), call.signal);
    }
    if (input['negative_prompt'] !== undefined) {
      yield { type: 'warning' as const, warning: `${call.model.id} has no negative_prompt.` };
    }
    const result = { seed: 7, ...(words.includes('revise') ? { revised_prompt: 'A better one.' } : {}) };
    yield { type: 'result' as const, result, files: await make() };
  }

  const pictures = (input: Parameters<typeof toSize>[0] & { n?: number }) => async () =>
    Promise.all(
      Array.from({ length: input.n ?? 1 }, async (_, index) => ({
        bytes: await makePicture({ ...(toSize(input) ?? SIZE), colour: [index * 20, 90, 200] }),
      })),
    );

  const atelier: Atelier = {
    seen: [],
    aborts: 0,
    held: 0,
    release() {
      gate.resolve();
      gate = Promise.withResolvers();
    },
    runtime: {
      name: 'atelier',
      priority: 50,
      models: async () => models,
      health: async () => {},
      handles: {
        'image.generate': (input, call) => work('image.generate', input, call, pictures(input)),
        'image.edit': (input, call) => work('image.edit', input, call, pictures(input)),
        'image.vary': (input, call) => work('image.vary', input, call, pictures(input)),
        'video.generate': (input, call) =>
          work('video.generate', input, call, async () => {
            const frames = Array.from({ length: (input.seconds ?? 1) * 4 }, (_, at) => [at * 9, 60, 90] as const);
            return [{ name: 'film.mp4', bytes: await makeMp4({ ...(toSize(input) ?? SIZE), fps: 4, frames }) }];
          }),
        'music.generate': (input, call) =>
          work('music.generate', input, call, async () => [{ bytes: makeWav({ seconds: input.seconds ?? 1 }) }]),
      },
    },
  };
  return atelier;
}

const KEYS = { alice: 'alice-0123456789abcdef', bob: 'bob-0123456789abcdef' };
export type Caller = keyof typeof KEYS;

export type OpenAtelier = Awaited<ReturnType<typeof openAtelier>>;

export async function openAtelier(env: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-atelier-'));
  const atelier = createAtelier();
  const host = await currentHost();
  const opened = await openGateway({
    env: {
      HONO_AI_CONFIG: '/dev/null',
      HONO_AI_STATE_DIR: folder,
      HONO_AI_DISCOVER: 'false',
      HONO_AI_LOG_LEVEL: 'silent',
      HONO_AI_CALLERS: Object.entries(KEYS)
        .map(([name, key]) => `${name}:${key}`)
        .join(','),
      HONO_AI_JOB_ATTEMPTS: '1',
      HONO_AI_JOB_CONCURRENCY: '4',
      ...env,
    },
    transport: host.transport,
    runtimes: [atelier.runtime],
  });
  const listening = await host.listen({ app: opened.app, hostname: '127.0.0.1', port: 0, requestMs: 10_000 });
  const url = `http://127.0.0.1:${listening.port}`;
  return {
    ...opened,
    atelier,
    url,
    sdk: (caller: Caller = 'alice') => new OpenAI({ apiKey: KEYS[caller], baseURL: `${url}/v1`, maxRetries: 0 }),
    /** A request with the caller's key; an object as its body is sent as JSON. */
    async ask(path: string, init: Omit<RequestInit, 'body'> & { body?: unknown } = {}, caller: Caller = 'alice') {
      const { body, ...rest } = init;
      const headers = new Headers(init.headers);
      headers.set('authorization', `Bearer ${KEYS[caller]}`);
      const raw = body === undefined || body instanceof FormData || typeof body === 'string';
      return fetch(url + path, {
        method: body === undefined ? 'GET' : 'POST',
        ...rest,
        headers,
        ...(body === undefined ? {} : { body: raw ? (body as string) : JSON.stringify(body) }),
      });
    },
    async close() {
      atelier.release();
      listening.stop();
      await listening.close();
      await opened.gateway.drain(1000);
      await opened.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
