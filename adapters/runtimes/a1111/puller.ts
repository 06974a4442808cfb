// Getting checkpoints, LoRAs and the like for an AUTOMATIC1111 server, where its folder of models is on this machine.
import { realpath } from 'node:fs/promises';
import type { PullKind } from '../../../src/capabilities/model/fields.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Puller, PullEvent, PullWant } from '../../../src/puller.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Hub } from '../../downloads/hub.ts';
import type { Downloads } from '../../downloads/index.ts';
import { fetchAll, findFile, removeFile, weigh, type ModelFile } from '../../shelves/files.ts';
import { isPickle, isWeights } from '../../shelves/kinds.ts';
import { namesSingle, toKind, toSingle, type Single } from '../../shelves/single.ts';
import type { Models } from './models.ts';
import { ifThere } from './wire.ts';

export interface PullerParts {
  upstream: Upstream;
  models: Models;
  /** Its folder `models`; without it nothing can be got. */
  dir: string | undefined;
  downloads: Downloads;
  hub: Hub;
}

/** Kind of a file → its folder, and what has the server look there again; it looks for the others only when it starts. */
const FOLDERS: Partial<Record<PullKind, { folder: string; refresh?: string }>> = {
  checkpoint: { folder: 'Stable-diffusion', refresh: 'refresh-checkpoints' },
  diffusion_model: { folder: 'Stable-diffusion', refresh: 'refresh-checkpoints' },
  gguf: { folder: 'Stable-diffusion', refresh: 'refresh-checkpoints' },
  lora: { folder: 'Lora', refresh: 'refresh-loras' },
  vae: { folder: 'VAE', refresh: 'refresh-vae' },
  upscaler: { folder: 'ESRGAN' },
  controlnet: { folder: 'ControlNet' },
  text_encoder: { folder: 'text_encoder' },
};

export function createPuller({ upstream, models, dir, downloads, hub }: PullerParts): Puller {
  const { name: source } = upstream;

  async function toRoot(): Promise<string> {
    if (dir !== undefined) return realpath(dir).catch(() => dir);
    throw new GatewayError('not_supported', `Where ${source} keeps its models is not known.`, {
      source,
      hint: `Set HONO_AI_MODEL_DIRS=${source}:/path/to/models, the folder that holds Stable-diffusion and Lora.`,
    });
  }

  async function toWork(want: PullWant, signal: AbortSignal) {
    const root = await toRoot();
    if (namesSingle(want, hub) === undefined) throw nowhere(want.model, source);
    const common = { hub, downloads, signal, source };
    const single = await toSingle(want, common);
    const kind = await toKind(single, want, common);
    const place = FOLDERS[kind];
    if (!place) {
      throw new GatewayError('invalid_request', `${source} has no folder of models for a ${kind}.`, {
        param: 'kind',
        source,
        hint: `It takes ${Object.keys(FOLDERS).join(', ')}.`,
      });
    }
    const { folder, refresh } = place;
    return { file: toFile(single, root, folder), single, refresh, warnings: toWarnings(single, refresh, source) };
  }

  async function refresh(path: string | undefined, signal: AbortSignal): Promise<void> {
    if (path === undefined) return;
    // It may be down, or not know this one: it looks when it starts.
    await ifThere(upstream.control<unknown>(`/sdapi/v1/${path}`, { json: {}, signal })).catch(() => {});
    await models.list(signal).catch(() => {});
  }

  return {
    runtime: source,
    claims(want) {
      const named = dir === undefined ? undefined : namesSingle(want, hub);
      if (named === undefined) return undefined;
      if (want.kind !== undefined) return FOLDERS[want.kind] ? 40 : undefined;
      return named === 'file' && !/\.gguf([?#]|$)/i.test(want.source ?? want.model) ? 40 : 5;
    },
    async plan(want, signal) {
      const { file, single, warnings } = await toWork(want, signal);
      const weighed = await weigh([file], downloads, signal);
      const { size, bytes, free } = weighed;
      return {
        model: toId(file.name),
        files: weighed.files,
        ...(bytes === undefined ? {} : { bytes }),
        ...(free === undefined ? {} : { free }),
        source: single.source,
        facts: size === undefined ? {} : { size },
        warnings: [...warnings, ...weighed.warnings],
      };
    },
    async *pull(want, signal): AsyncGenerator<PullEvent> {
      const { file, warnings, refresh: path } = await toWork(want, signal);
      for (const warning of warnings) yield { type: 'warning', warning };
      const fetched = yield* fetchAll([file], downloads, { signal, source });
      await refresh(path, signal);
      yield { type: 'pulled', model: toId(file.name), ...fetched };
    },
    async remove(model, signal) {
      const root = await toRoot();
      const names = isWeights(model) ? [model] : ['safetensors', 'ckpt', 'gguf'].map((ending) => `${model}.${ending}`);
      const id = isWeights(model) ? toId(model) : model;
      if ((await models.chosen(signal).catch(() => undefined)) === id) throw inUse(model, source);
      for (const name of names) {
        for (const place of new Set(Object.values(FOLDERS))) {
          const path = `${place.folder}/${name}`;
          if (name.includes('/') || !(await findFile(root, path))) continue;
          const freed = await removeFile(root, path, source);
          await refresh(place.refresh, signal);
          return { freed, files: [{ name, folder: place.folder }] };
        }
      }
      throw new GatewayError('model_not_found', `No file of ${model} is in the folder of ${source}.`, {
        param: 'model',
        source,
      });
    },
  };
}

function toFile({ url, name, size, sha256 }: Single, root: string, folder: string): ModelFile {
  return { url, root, path: `${folder}/${name}`, name, folder, size, sha256, replace: false };
}

/** The server calls a checkpoint by its name without the ending. */
function toId(name: string): string {
  return name.replace(/\.[^.]+$/, '');
}

function toWarnings({ name }: Single, refresh: string | undefined, source: string): string[] {
  return [
    ...(isPickle(name) ? [`${name} is a pickle: what it holds is run when it is loaded.`] : []),
    ...(refresh === undefined ? [`${source} finds ${name} only when it is started again.`] : []),
  ];
}

function nowhere(model: string, source: string): GatewayError {
  return new GatewayError('model_not_found', `No address says where ${model} is.`, {
    param: 'source',
    source,
    hint: 'Give a source: an https address, or hf:org/repo/file.safetensors.',
  });
}

function inUse(model: string, source: string): GatewayError {
  return new GatewayError('conflict', `${model} is the one that ${source} has chosen.`, {
    param: 'model',
    source,
    hint: 'Choose another one first: hono-ai models load OTHER.',
  });
}
