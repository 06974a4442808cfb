// The ComfyUI runtime over the fake server, and one way to run it: events, files and errors as the gateway would see them.
import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createComfyUI } from '../../adapters/runtimes/comfyui/index.ts';
import type { ComfyUIOptions } from '../../adapters/runtimes/comfyui/index.ts';
import type { Input } from '../../src/capabilities/index.ts';
import { capabilities } from '../../src/capabilities/index.ts';
import type { GatewayError } from '../../src/error.ts';
import type { MadeFile, RunEvent } from '../../src/event.ts';
import type { Call, Handler, InputFile, RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import type { TransportRequest } from '../../src/upstream.ts';

export const tools = openMediaTools({ maxPixels: 10_000_000 });
/** Short enough for tests, long enough for a machine that is busy. */
export const timings = { pollMs: 200, lostMs: 1500, idleMs: 60_000, evictMs: 3000, staleMs: 0 };

type Maker = 'image.generate' | 'image.edit' | 'image.vary' | 'image.upscale' | 'video.generate' | 'music.generate';

export type Event = RunEvent<never, { seed?: number }>;

export function openComfyUI(url: string, options: Partial<ComfyUIOptions> = {}): RuntimeAdapter {
  return createComfyUI({
    name: 'comfyui',
    baseUrl: url,
    transport: fetchTransport,
    limits: { firstByteMs: 10_000, idleMs: 5000, controlMs: 2000, maxReplyBytes: 64_000_000 },
    tools,
    ...options,
    timings: { ...timings, ...options.timings },
  });
}

/** A started request: what it says so far, and how it ends. */
export interface Started {
  events: Event[];
  ended: Promise<{ seed: number | undefined; files: Uint8Array[]; made: MadeFile[]; warnings: string[] }>;
  /** How it failed; rejects where it did not. */
  failed: Promise<GatewayError>;
  cancel(): void;
}

export function start(
  runtime: RuntimeAdapter,
  capability: Maker,
  model: string,
  input: Record<string, unknown>,
  given: { files?: InputFile[]; requestId?: string } = {},
): Started {
  const abort = new AbortController();
  const events: Event[] = [];
  const call: Call = {
    model: { id: model, capabilities: [capability], state: 'ready' },
    signal: abort.signal,
    requestId: given.requestId ?? 'job_0123456789abcdef',
    file: async (reference) => given.files!.find(({ id }) => id === reference)!,
  };
  const parsed = capabilities[capability].input.parse(input) as Input<'image.generate'>;
  const handler = runtime.handles[capability] as unknown as Handler<'image.generate'>;
  const work = async () => {
    for await (const event of handler(parsed, call)) events.push(event as Event);
    const result = events.at(-1);
    if (result?.type !== 'result') throw new Error('The handler ended without a result.');
    const made = result.files ?? [];
    return {
      seed: result.result.seed,
      made,
      files: await Promise.all(made.map(({ bytes }) => collect(bytes))),
      warnings: events.flatMap((event) => (event.type === 'warning' ? event.warning : [])),
    };
  };
  const ended = work();
  ended.catch(() => {});
  const failed = ended.then(
    () => Promise.reject(new Error('The request did not fail.')),
    (error: GatewayError) => error,
  );
  failed.catch(() => {});
  return { events, ended, failed, cancel: () => abort.abort() };
}

/** A picture of one colour as a caller's file. */
export async function picture(id: string, width: number, height: number, colour = '#804020'): Promise<InputFile> {
  const made = await sharp({ create: { width, height, channels: 3, background: colour } })
    .png()
    .toBuffer();
  const bytes = new Uint8Array(made);
  return {
    id,
    media_type: 'image/png',
    size: bytes.byteLength,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    media: { width, height, frames: 1 },
    bytes: async () => bytes,
  };
}

/** Requests of one route stand still until they are let go; `reached` settles with the first. */
export function holdRoute(route: string, when: 'before' | 'after') {
  const reached = Promise.withResolvers<void>();
  const open = Promise.withResolvers<void>();
  const transport = async (request: TransportRequest) => {
    const isMeant = new URL(request.url).pathname === route;
    const stand = async () => {
      if (!isMeant) return;
      reached.resolve();
      await Promise.race([open.promise, aborted(request.signal)]);
    };
    if (when === 'before') await stand();
    const reply = await fetchTransport(request);
    if (when === 'after') await stand();
    return reply;
  };
  return { transport, reached: reached.promise, letGo: () => open.resolve() };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
}

async function collect(bytes: MadeFile['bytes']): Promise<Uint8Array> {
  if (bytes instanceof Uint8Array) return bytes;
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) pieces.push(piece);
  return new Uint8Array(Buffer.concat(pieces));
}
