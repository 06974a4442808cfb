// A ComfyUI with a folder of models on disk, a hub that has what its workflows need, and a canary that nothing may touch.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createDownloads } from '../../adapters/downloads/index.ts';
import type { ComfyUIOptions } from '../../adapters/runtimes/comfyui/index.ts';
import type { Puller, PullEvent, PullWant } from '../../src/puller.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { openComfyUI } from './comfyui-runtime.ts';
import { openFakeComfyUI, type FakeComfyUI, type FakeComfyUIOptions } from './fake-comfyui/index.ts';
import { openFakeHub, type FakeHub, type FakeRepo } from './fake-hub.ts';

export const { signal } = new AbortController();

/** A file of weights with tensors of these names and nothing in them, filled up to a size. */
export function toSafetensors(names: string[], size = 0): Uint8Array {
  const header = Object.fromEntries(names.map((name) => [name, { dtype: 'F16', shape: [0], data_offsets: [0, 0] }]));
  const json = new TextEncoder().encode(JSON.stringify({ ...header, __metadata__: { filler: 'x'.repeat(size) } }));
  const bytes = new Uint8Array(8 + json.byteLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.byteLength), true);
  bytes.set(json, 8);
  return bytes;
}

const CHECKPOINT = ['model.diffusion_model.input_blocks.0.weight', 'first_stage_model.decoder.conv_in.weight'];

export const BASE = toSafetensors(CHECKPOINT, 1_500_000);

/** As the workflows that are shipped name them. */
export const REPOS: Record<string, FakeRepo> = {
  'stabilityai/stable-diffusion-xl-base-1.0': { 'sd_xl_base_1.0.safetensors': BASE },
  'ByteDance/SDXL-Lightning': {
    'sdxl_lightning_4step.safetensors': toSafetensors(CHECKPOINT, 2000),
    'sdxl_lightning_4step_lora.safetensors': toSafetensors(['lora_unet_down.lora_up.weight'], 1000),
  },
  'stable-diffusion-v1-5/stable-diffusion-v1-5': { 'v1-5-pruned-emaonly.safetensors': toSafetensors(CHECKPOINT, 3000) },
  'guoyww/animatediff': { 'v3_sd15_mm.ckpt': new Uint8Array(5000).fill(7) },
  'someone/things': {
    'split_files/vae/soft.safetensors': toSafetensors(['whatever']),
    'vae/diffusion_pytorch_model.safetensors': toSafetensors(['decoder.conv_in.weight']),
    'plain.safetensors': toSafetensors(['lora_unet_x.lora_down.weight']),
    'riddle.safetensors': toSafetensors(['a', 'b']),
    '4x-Sharp.pth': new Uint8Array(100).fill(1),
    'some-controlnet.safetensors': toSafetensors(['a']),
    'flux-Q4_K_S.gguf': new Uint8Array(64).fill(2),
  },
  'someone/one-lora': { 'README.md': new Uint8Array(3), 'style_lora.safetensors': toSafetensors(['q']) },
};

export interface PullWorld {
  fake: FakeComfyUI;
  hub: FakeHub;
  /** The folder of models, inside a folder that holds a canary beside it. */
  models: string;
  workflows: string;
  open(options?: Partial<ComfyUIOptions>): { runtime: RuntimeAdapter; puller: Puller };
  /** Paths of the files below the folder of models. */
  files(): string[];
  /** Paths and bytes of everything beside it: it must stay as it is. */
  outside(): string;
  /** Downloads that were begun of files whose address holds this. */
  fetched(part: string): number;
  close(): Promise<void>;
}

export async function openPullWorld(options: FakeComfyUIOptions = {}): Promise<PullWorld> {
  const root = mkdtempSync(join(tmpdir(), 'hono-ai-pulls-'));
  const models = join(root, 'ComfyUI', 'models');
  const workflows = join(root, 'workflows');
  const beside = join(root, 'beside');
  for (const folder of [join(models, 'checkpoints'), join(models, 'loras'), workflows, beside]) {
    mkdirSync(folder, { recursive: true });
  }
  writeFileSync(join(beside, 'canary.safetensors'), 'alive');
  writeFileSync(join(root, 'ComfyUI', 'canary.txt'), 'alive');
  const fake = await openFakeComfyUI({ modelsDir: models, ...options });
  const hub = await openFakeHub(REPOS);
  const runtimes: RuntimeAdapter[] = [];
  const downloads = () =>
    createDownloads({ tokens: {}, trusted: hub.origins, allow: [], stallMs: 2000, tries: 2, backoffMs: 20 });
  return {
    fake,
    hub,
    models,
    workflows,
    open(given = {}) {
      const runtime = openComfyUI(fake.url, {
        downloads: downloads(),
        hubUrl: hub.url,
        modelsDir: models,
        workflowsDir: workflows,
        ...given,
      });
      runtimes.push(runtime);
      return { runtime, puller: runtime.puller! };
    },
    files: () => list(models),
    outside() {
      const told = list(root).filter((path) => !path.startsWith('ComfyUI/models/') && !path.startsWith('workflows/'));
      return told.map((path) => `${path}: ${readFileSync(join(root, path), 'utf8')}`).join('\n');
    },
    fetched: (part) => hub.requests.filter((line) => line.startsWith('GET') && line.includes(part)).length,
    async close() {
      await Promise.all(runtimes.map((runtime) => runtime.close?.()));
      await fake.close();
      await hub.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** All that a pull says, and how it ends. */
export async function pull(puller: Puller, want: PullWant) {
  const events: PullEvent[] = [];
  for await (const event of puller.pull(want, signal)) events.push(event);
  const last = events.at(-1);
  if (last?.type !== 'pulled') throw new Error('The pull ended without a word.');
  return {
    events,
    model: last.model,
    files: last.files,
    warnings: events.flatMap((event) => (event.type === 'warning' ? event.warning : [])),
  };
}

function list(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .toSorted();
}
