// The embedded runtime: real models of language and pictures in this process, on the CPU, with nothing else installed.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Input } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { ProgressEvent, StatusEvent } from '../../../src/event.ts';
import type { MediaTools } from '../../../src/media.ts';
import type { Call, Handlers, RuntimeAdapter } from '../../../src/runtime.ts';
import type { Downloads } from '../../downloads/index.ts';
import type { Entry } from './catalogue.ts';
import { loadTinyEmbedder, type TinyEmbedder } from './embed.ts';
import { createHub } from './hub.ts';
import { createLane, type Lane } from './lane.ts';
import { createMemory } from './memory.ts';
import { findModels, type Found, showPath, toModel } from './models.ts';
import { paint } from './picture.ts';
import { createPuller } from './puller.ts';
import { prepareChat, prepareGenerate, type Prepared, toChatResult, toGenerateResult } from './text.ts';
import { createVerifier } from './verify.ts';
import type { Generated, GenerateTask, ModelFiles, TextFiles } from './wire.ts';

export interface EmbeddedOptions {
  /** The built-in models; default is the repository's `models/`. */
  modelsDir?: string;
  /** Makes files of what the picture model paints. */
  tools: MediaTools;
  /** Where models from the hub are kept. */
  cacheDir: string;
  /** A folder of the user's own models: transformers.js folders and GGUF files. */
  localDir?: string;
  /** Default https://huggingface.co. */
  hubUrl?: string;
  /** Without it, nothing is fetched. */
  downloads?: Downloads;
  /** Fetch a known hub model when it is first asked for. */
  download: boolean;
  /** `auto` takes onnxruntime-node where it is installed, else WebAssembly. */
  engine?: 'auto' | 'wasm' | 'native';
  /** Threads per model worker; default 1, which leaves the rest of the machine to others. */
  threads?: number;
  /** Milliseconds until an unused worker ends and its memory is free. */
  idleMs: number;
  /** Requests that may wait per worker before `overloaded`. */
  queue: number;
}

const BUILTIN = fileURLToPath(new URL('../../../models', import.meta.url));

export function createEmbedded(options: EmbeddedOptions): RuntimeAdapter {
  const modelsDir = options.modelsDir ?? BUILTIN;
  const { cacheDir, localDir } = options;
  const places = { modelsDir, cacheDir, localDir };
  const verify = createVerifier(modelsDir);
  const { downloads } = options;
  const hub = downloads && createHub({ cacheDir, url: options.hubUrl ?? 'https://huggingface.co', downloads });
  const settings = { engine: options.engine ?? 'auto', threads: options.threads ?? 1 };
  const lane = () => createLane({ settings, idleMs: options.idleMs, queue: options.queue });
  // A worker each, so that a long story does not hold up an embedding.
  const lanes = { generate: lane(), embed: lane(), paint: lane() };
  let embedder: Promise<TinyEmbedder> | undefined;
  const tiny = {
    id: 'tiny-embed',
    dir: join(modelsDir, 'tiny-embed'),
    loaded: () => embedder !== undefined,
    load: () => (embedder ??= loadTinyEmbedder(tiny.dir)),
    drop: () => {
      embedder = undefined;
    },
  };
  const memory = createMemory({ lanes, tiny, find, verify });
  const puller =
    hub && downloads && createPuller({ hub, downloads, cacheDir, list: () => findModels(places), evict: memory.evict });

  async function find(id: string): Promise<Found> {
    const found = (await findModels(places)).find(({ entry }) => entry.id === id || entry.alias === id);
    if (found) return found;
    throw new GatewayError('model_not_found', `The embedded runtime has no model ${id}.`, {
      source: 'embedded',
      hint: pullHint(id),
    });
  }

  /** Brings a model to disk if it is not there, telling how far it is. */
  async function* ensure(found: Found, signal: AbortSignal): AsyncGenerator<StatusEvent | ProgressEvent, ModelFiles> {
    const { entry, files } = found;
    if (entry.origin === 'builtin') await verify(entry.id);
    if (files) return files;
    if (entry.origin !== 'hub') throw missing(entry);
    if (!options.download || !hub) throw notDownloaded(entry, cacheDir);
    yield { type: 'status', state: 'loading', message: `Downloading ${entry.id}` };
    yield* hub.fetchModel(entry, signal);
    const now = (await find(entry.id)).files;
    if (!now) throw missing(entry);
    return now;
  }

  /** What text.generate and text.chat have in common: everything but the words of their results. */
  async function* runText<R>(
    call: Call,
    prepare: (entry: Entry, files: TextFiles) => Prepared,
    toResult: (generated: Generated, task: GenerateTask) => R,
  ) {
    checkOpen(call.signal);
    const found = await find(call.model.id);
    const { kind } = found.entry;
    if (kind === 'embed' || kind === 'picture') throw cannot(found.entry, 'generate text');
    const files = yield* mapAbort(ensure(found, call.signal), call.signal);
    if (files.format === 'flow') throw missing(found.entry);
    const { task, warnings } = prepare(found.entry, files);
    for (const warning of warnings) yield { type: 'warning', warning } as const;
    for await (const event of lanes.generate.run(task, call.signal, call.keep)) {
      if (event.type === 'generated') yield { type: 'result', result: toResult(event.result, task) } as const;
      else if (event.type === 'chunk') {
        const { text, logprobs } = event;
        yield { type: 'chunk', chunk: { text, ...(logprobs && { logprobs }) } } as const;
      } else if (event.type === 'status' || event.type === 'warning') yield event;
    }
  }

  const handles: Handlers = {
    'text.generate': (input, call) =>
      runText(call, (entry, files) => prepareGenerate(input, entry, files), toGenerateResult),
    'text.chat': (input, call) =>
      runText(
        call,
        (entry, files) => {
          if (entry.kind === 'base') throw cannot(entry, 'chat');
          return prepareChat(input, entry, files);
        },
        toChatResult,
      ),
    'text.embed': embed,
    'image.generate': async function* (input, call) {
      checkOpen(call.signal);
      const found = await find(call.model.id);
      if (found.entry.kind !== 'picture') throw cannot(found.entry, 'make pictures');
      const files = yield* mapAbort(ensure(found, call.signal), call.signal);
      if (files.format !== 'flow') throw missing(found.entry);
      yield* paint(input, files, { lane: lanes.paint, tools: options.tools, signal: call.signal });
    },
  };

  async function* embed(input: Input<'text.embed'>, call: Call) {
    checkOpen(call.signal);
    const found = await find(call.model.id);
    const { entry } = found;
    if (entry.kind !== 'embed') throw cannot(entry, 'make embeddings');
    checkDimensions(input.dimensions, entry);
    const texts = [input.input].flat();
    if (entry.id === tiny.id) {
      await verify(entry.id);
      const rows = texts.map((await tiny.load()).embed);
      const cut = rows.filter((row) => row.cut).length;
      if (cut) yield { type: 'warning', warning: `${cut} texts were cut: tiny-embed reads 40 words.` } as const;
      yield toEmbedResult(
        rows.map(({ vector }) => vector),
        rows.reduce((sum, { tokens }) => sum + tokens, 0),
      );
      return;
    }
    const model = yield* mapAbort(ensure(found, call.signal), call.signal);
    if (model.format === 'flow') throw missing(entry);
    for await (const event of lanes.embed.run({ kind: 'embed', model, input: texts }, call.signal, call.keep)) {
      if (event.type === 'embedded') {
        const { embeddings, promptTokens } = event.result;
        checkDimensions(input.dimensions, { ...entry, dimensions: embeddings[0]!.length });
        yield toEmbedResult(embeddings, promptTokens);
      } else if (event.type === 'status' || event.type === 'warning') yield event;
    }
  }

  function pullHint(model: string): string {
    const folder = localDir
      ? showPath(join(localDir, model))
      : `a folder ${model} below the one that HONO_AI_MODELS_DIR names`;
    return `Copy its config.json, tokenizer.json, tokenizer_config.json and onnx/ to ${folder}.`;
  }

  return {
    name: 'embedded',
    priority: 0,
    async models() {
      const loaded = new Set(Object.values(lanes).flatMap((each: Lane) => each.loaded()));
      return (await findModels(places)).map((found) =>
        toModel(found, loaded.has(found.entry.id) || (found.entry.id === tiny.id && tiny.loaded())),
      );
    },
    handles,
    memory,
    ...(puller && { puller }),
    async health() {
      if (await stat(join(modelsDir, 'SHA256SUMS')).catch(() => undefined)) return;
      throw new GatewayError('model_unavailable', 'The built-in models are missing.', {
        source: 'embedded',
        hint: 'Restore the models folder of this installation, for example with: git checkout -- models',
      });
    },
    pullHint,
    async close() {
      hub?.close();
      await Promise.all(Object.values(lanes).map((each) => each.close()));
    },
  };
}

function toEmbedResult(embeddings: number[][], tokens: number) {
  return {
    type: 'result',
    result: {
      embeddings,
      dimensions: embeddings[0]!.length,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    },
  } as const;
}

/** An abort has one name for callers, whatever the layer that noticed it calls it. */
async function* mapAbort<T, R>(events: AsyncGenerator<T, R>, signal: AbortSignal): AsyncGenerator<T, R> {
  try {
    return yield* events;
  } catch (error) {
    checkOpen(signal);
    throw error;
  }
}

function checkOpen(signal: AbortSignal): void {
  if (signal.aborted) throw new GatewayError('client_closed', 'The request was cancelled.', { source: 'embedded' });
}

function checkDimensions(asked: number | undefined, { id, dimensions }: Entry): void {
  if (asked === undefined || dimensions === undefined || asked === dimensions) return;
  throw new GatewayError('unsupported_parameter', `${id} makes vectors of ${dimensions} numbers, not of ${asked}.`, {
    source: 'embedded',
    param: 'dimensions',
    hint: `Leave dimensions out, or ask for ${dimensions}.`,
  });
}

function cannot(entry: Entry, what: string): GatewayError {
  return new GatewayError('not_supported', `${entry.id} cannot ${what}.`, {
    source: 'embedded',
    hint: 'Choose a model that lists this capability.',
  });
}

function missing(entry: Entry): GatewayError {
  return new GatewayError('model_unavailable', `The files of ${entry.id} are missing or incomplete.`, {
    source: 'embedded',
    hint: 'Restore the models folder of this installation, for example with: git checkout -- models',
  });
}

function notDownloaded(entry: Entry, cacheDir: string): GatewayError {
  return new GatewayError('model_unavailable', `${entry.id} is not on this machine, and downloads are switched off.`, {
    source: 'embedded',
    hint: `Get it: hono-ai models pull ${entry.id}. Or set HONO_AI_EMBEDDED_DOWNLOAD=1 (and HF_ENDPOINT for a mirror) to fetch it on first use, or copy the model to ${showPath(join(cacheDir, entry.id))}.`,
    retry: false,
  });
}
