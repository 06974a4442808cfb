// The ComfyUI runtime: its workflows as models, over its queue, its history and its websocket.
import type { MediaTools } from '../../../src/media.ts';
import type { Handlers, RuntimeAdapter } from '../../../src/runtime.ts';
import type { Transport, UpstreamLimits } from '../../../src/upstream.ts';
import { createHub } from '../../downloads/hub.ts';
import type { Downloads } from '../../downloads/index.ts';
import { createClasses } from './classes.ts';
import { createClient } from './client.ts';
import { createFolders } from './folders.ts';
import type { JobTimings } from './follow.ts';
import { make, type MakerParts } from './maker.ts';
import { createMemory, type MemoryTimings } from './memory.ts';
import { createPuller } from './puller.ts';
import { createSizes } from './sizes.ts';
import { openWorkflows } from './shelf.ts';
import { createSocket } from './socket.ts';

export interface ComfyUIOptions {
  name: string;
  /** e.g. `http://127.0.0.1:8188`. */
  baseUrl: string;
  transport: Transport;
  limits: UpstreamLimits;
  /** Default 50. */
  priority?: number;
  /** For a proxy before it that wants one; ComfyUI itself knows no keys. */
  apiKey?: string;
  headers?: Record<string, string>;
  tools: MediaTools;
  /** Folder of the user's own workflows. */
  workflowsDir?: string;
  /** Folder on this machine that it reads its models from; found out if absent, where it runs here. */
  modelsDir?: string;
  /** What brings models; without it none can be got. */
  downloads?: Downloads;
  /** The Hugging Face hub or its mirror. */
  hubUrl?: string;
  /** How many prompts it is sent at the same time; default 1, as it works on one after the other. */
  slots?: number;
  timings?: Partial<ComfyUITimings>;
}

export interface ComfyUITimings extends JobTimings, MemoryTimings {
  /** Milliseconds without jobs until the websocket is closed. */
  idleMs: number;
  /** How old the list of node classes may be, in milliseconds, before what is missing in it is looked for again. */
  staleMs: number;
}

const TIMINGS: ComfyUITimings = {
  pollMs: 3000,
  lostMs: 20_000,
  idleMs: 60_000,
  evictMs: 25_000,
  peakMs: 1000,
  staleMs: 2000,
};
const HUB_URL = 'https://huggingface.co';
/** How old a list of models may be, in milliseconds: whoever installs a file wants to see it soon. */
const LIST_MS = 120_000;
/** Longest wait at the end for cancels that the server has not acknowledged. */
const CLOSE_MS = 1000;

export function createComfyUI(options: ComfyUIOptions): RuntimeAdapter {
  const { name, baseUrl, priority = 50, slots = 1, limits, tools, apiKey, downloads } = options;
  const timings = { ...TIMINGS, ...options.timings };
  const headers = { ...options.headers, ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}) };
  const hint = `Start ComfyUI (python main.py --listen), or correct the address of ${name} in the configuration.`;
  const client = createClient({ ...options, headers, hint });
  const workflows = openWorkflows({ dir: options.workflowsDir, source: name });
  const classes = createClasses(client);
  const socket = createSocket({ baseUrl, headers, idleMs: timings.idleMs, onReopen: classes.forget });
  const memory = createMemory(client, workflows, timings);
  const folders = createFolders({ dir: options.modelsDir, baseUrl, client, source: name });
  const sizes = createSizes(workflows, folders);
  const pending = new Set<Promise<void>>();
  const background = (work: Promise<void>) => {
    pending.add(work);
    void work.finally(() => pending.delete(work));
  };
  const room = limits.maxReplyBytes;
  const hubUrl = options.hubUrl ?? HUB_URL;
  const loaded = async (signal: AbortSignal) => memory.loaded(await memory.read(signal).catch(() => 0));
  const parts = { client, socket, classes, memory, workflows, tools, timings, background, room };

  return {
    name,
    priority,
    async models(signal) {
      const taken = await memory.read(signal);
      const info = await classes.get(signal, LIST_MS);
      const models = await sizes.add(await workflows.models(info), info, signal);
      const loaded = memory.loaded(taken);
      return models.map((model) =>
        model.id === loaded && model.state === 'ready' ? { ...model, state: 'loaded' as const } : model,
      );
    },
    handles: toHandlers({ ...parts, staleMs: timings.staleMs }),
    gpu: { ...memory.gpu, slots: { runtime: slots } },
    ...(downloads
      ? {
          puller: createPuller({
            source: name,
            workflows,
            classes,
            folders,
            downloads,
            hub: createHub(downloads, { url: hubUrl }),
            loaded,
          }),
        }
      : {}),
    async health(signal) {
      const version = (await client.stats(signal)).system?.comfyui_version;
      return typeof version === 'string' ? { version: version.slice(0, 40) } : {};
    },
    pullHint: (model) => workflows.pullHint(model) ?? '',
    workflows: workflows.desk((signal) => classes.get(signal, LIST_MS)),
    async close() {
      socket.close();
      if (pending.size === 0) return;
      await Promise.race([Promise.allSettled(pending), new Promise((resolve) => setTimeout(resolve, CLOSE_MS))]);
    },
  };
}

function toHandlers(parts: MakerParts): Handlers {
  return {
    'image.generate': (input, call) => make(parts, 'image.generate', input, call),
    'image.edit': (input, call) => make(parts, 'image.edit', input, call),
    'image.vary': (input, call) => make(parts, 'image.vary', input, call),
    'image.upscale': (input, call) => make(parts, 'image.upscale', input, call),
    'video.generate': (input, call) => make(parts, 'video.generate', input, call),
    'music.generate': (input, call) => make(parts, 'music.generate', input, call),
  };
}
