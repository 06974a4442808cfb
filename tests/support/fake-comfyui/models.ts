// Which model files a fake ComfyUI has, and what its node classes say of themselves with these files in their lists.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FakeObjectInfo } from './types.ts';

const ROOT = join(import.meta.dirname, '../../..');
const RECORDING = join(ROOT, 'tests/recordings/comfyui-object_info.json');
/** Where this repository may keep graphs whose files the fake must have. */
const GRAPHS = ['workflows', 'adapters/runtimes/comfyui'];

const FOLDERS = [
  'checkpoints configs loras vae text_encoders diffusion_models clip_vision style_models embeddings diffusers vae_approx',
  'controlnet gligen upscale_models latent_upscale_models custom_nodes datasets hypernetworks photomaker classifiers',
  'model_patches audio_encoders background_removal frame_interpolation geometry_estimation optical_flow detection',
  'animatediff_models animatediff_motion_lora animatediff_video_formats VHS_video_formats',
].flatMap((line) => line.split(' '));

/** Names that are in a list without being files. */
const BUILT_IN = new Set(['pixel_space']);

/** Classes that the recording lacks and every server has. */
const COMMON: FakeObjectInfo = {
  SaveAudioOpus: saver('SaveAudioOpus', 'AUDIO', {
    audio: ['AUDIO', {}],
    filename_prefix: ['STRING', { default: 'audio/ComfyUI', multiline: false }],
    quality: ['COMBO', { default: '128k', multiselect: false, options: ['64k', '96k', '128k', '192k', '320k'] }],
  }),
};

export interface Models {
  /** The classes with the lists as they are now; `inputs` are the files of the input folder. */
  info(inputs: string[]): FakeObjectInfo;
  folders(): string[];
  files(folder: string): string[] | undefined;
  /** Folder → where it lies, as /internal/folder_paths tells. */
  paths(): Record<string, string[]>;
  add(folder: string, name: string): void;
  remove(name: string): void;
}

/** What the server takes for weights. */
const LISTED = /\.(ckpt|pt2?|bin|pth|safetensors|pkl|sft|gguf)$/;

export function createModels(options: {
  objectInfo?: FakeObjectInfo;
  files?: 'all' | 'none';
  modelsDir?: string | undefined;
}): Models {
  const { modelsDir } = options;
  const base = options.objectInfo ?? { ...(readJson(RECORDING) as FakeObjectInfo), ...COMMON };
  const files = new Map(FOLDERS.map((folder) => [folder, new Set<string>()]));
  const add = (folder: string, name: string) => files.set(folder, (files.get(folder) ?? new Set()).add(name));
  if (options.files !== 'none' && modelsDir === undefined) {
    const names = [...listed(base), ...(options.objectInfo ? [] : named(base))];
    for (const [folder, name] of names) add(folder, name);
    if (!options.objectInfo) add('upscale_models', 'RealESRGAN_x4plus.pth');
  }

  /** The server looks into its folders whenever it is asked. */
  const list = (folder: string) => (modelsDir === undefined ? [...(files.get(folder) ?? [])] : read(modelsDir, folder));

  return {
    info(inputs) {
      return Object.fromEntries(
        Object.entries(base).map(([type, node]) => {
          const required = Object.entries(node.input?.required ?? {}).map(([name, config]) => {
            const folder = folderOf(type, name);
            if (folder) return [name, withList(config, [...builtIn(config), ...list(folder)])];
            if (name === 'image' && type.startsWith('LoadImage')) return [name, withList(config, inputs)];
            return [name, config];
          });
          return [type, { ...node, input: { ...node.input, required: Object.fromEntries(required) } }];
        }),
      );
    },
    folders: () => [...files.keys()],
    files: (folder) => (files.has(folder) ? list(folder).toSorted() : undefined),
    paths: () =>
      Object.fromEntries([...files.keys()].map((folder) => [folder, toPaths(modelsDir ?? '/ComfyUI/models', folder)])),
    add(folder, name) {
      if (modelsDir === undefined) return void add(folder, name);
      mkdirSync(join(modelsDir, folder), { recursive: true });
      writeFileSync(join(modelsDir, folder, name), 'weights');
    },
    remove(name) {
      for (const set of files.values()) set.delete(name);
      if (modelsDir === undefined) return;
      for (const folder of files.keys()) rmSync(join(modelsDir, folder, name), { force: true });
    },
  };
}

/** Some folders have another name from earlier times, which is looked into as well. */
function toPaths(modelsDir: string, folder: string): string[] {
  const others: Record<string, string[]> = {
    text_encoders: ['text_encoders', 'clip'],
    diffusion_models: ['unet', 'diffusion_models'],
    controlnet: ['controlnet', 't2i_adapter'],
  };
  return (others[folder] ?? [folder]).map((name) => join(modelsDir, name));
}

function read(modelsDir: string, folder: string): string[] {
  return toPaths(modelsDir, folder).flatMap((path) => {
    if (!existsSync(path)) return [];
    return readdirSync(path, { recursive: true, encoding: 'utf8' }).filter((name) => LISTED.test(name));
  });
}

/** The folder of models that this input chooses from. */
export function folderOf(type: string, input: string): string | undefined {
  if (input === 'ckpt_name') return 'checkpoints';
  if (input === 'unet_name') return 'diffusion_models';
  if (/^clip_name\d*$/.test(input)) return type === 'CLIPVisionLoader' ? 'clip_vision' : 'text_encoders';
  if (input === 'vae_name') return 'vae';
  if (input === 'lora_name') return 'loras';
  if (input === 'control_net_name') return 'controlnet';
  if (input === 'model_name') return type.startsWith('ADE_') ? 'animatediff_models' : 'upscale_models';
  return undefined;
}

/** The values that an input may have, where it is a list: `[["a"], …]` and `["COMBO", {options}]` alike. */
export function choices(config: unknown): unknown[] | undefined {
  if (!Array.isArray(config)) return undefined;
  if (Array.isArray(config[0])) return config[0];
  const options = (config[1] as { options?: unknown } | undefined)?.options;
  return config[0] === 'COMBO' && Array.isArray(options) ? options : undefined;
}

function withList(config: unknown, list: unknown[]): unknown {
  if (!Array.isArray(config)) return config;
  const sorted = [...new Set(list)].toSorted();
  if (config[0] === 'COMBO') return ['COMBO', { ...(config[1] as object), options: sorted }];
  return [sorted, ...config.slice(1)];
}

function builtIn(config: unknown): unknown[] {
  return (choices(config) ?? []).filter((name) => BUILT_IN.has(String(name)));
}

function listed(base: FakeObjectInfo): [string, string][] {
  return Object.entries(base).flatMap(([type, node]) =>
    Object.entries(node.input?.required ?? {}).flatMap(([input, config]) => {
      const folder = folderOf(type, input);
      const names = (choices(config) ?? []).map(String).filter((name) => !BUILT_IN.has(name));
      return folder ? names.map((name): [string, string] => [folder, name]) : [];
    }),
  );
}

/** The model files that graphs of this repository name. */
function named(base: FakeObjectInfo): [string, string][] {
  const found: [string, string][] = [];
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(visit);
    if (typeof value !== 'object' || value === null) return;
    const node = value as { class_type?: unknown; inputs?: Record<string, unknown> };
    if (typeof node.class_type === 'string' && node.class_type in base) {
      for (const [input, name] of Object.entries(node.inputs ?? {})) {
        const folder = folderOf(node.class_type, input);
        if (folder && typeof name === 'string' && !BUILT_IN.has(name)) found.push([folder, name]);
      }
    }
    Object.values(value).forEach(visit);
  };
  for (const file of GRAPHS.flatMap((folder) => jsonFiles(join(ROOT, folder)))) visit(readJson(file));
  return found;
}

function jsonFiles(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.json'))
    .map((name) => join(folder, name));
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, 'utf8'));
}

function saver(name: string, type: string, required: Record<string, unknown>): FakeObjectInfo[string] {
  return {
    input: { required, hidden: { prompt: ['PROMPT'], extra_pnginfo: ['EXTRA_PNGINFO'] } },
    input_order: { required: Object.keys(required), hidden: ['prompt', 'extra_pnginfo'] },
    output: [type],
    output_is_list: [false],
    output_name: [type],
    name,
    display_name: name,
    category: 'audio',
    output_node: true,
  };
}
