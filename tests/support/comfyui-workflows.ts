// Parts of tests of ComfyUI workflows: the recorded node classes, with the files that the shipped graphs need.
import { readFileSync } from 'node:fs';
import { openWorkflows } from '../../adapters/runtimes/comfyui/shelf.ts';
import type { BoundGraph, Graph, ObjectInfo, UploadedFiles } from '../../adapters/runtimes/comfyui/workflow.ts';
import { capabilities, type CapabilityId } from '../../src/capabilities/index.ts';

export const SHIPPED = new URL('../../adapters/runtimes/comfyui/workflows/', import.meta.url);

const recorded = readFileSync(new URL('../recordings/comfyui-object_info.json', import.meta.url), 'utf8');

/** What the recorded server has, and the upscaler that it had not; `also` adds classes that it was not asked for. */
export function toInfo(also: ObjectInfo = {}): ObjectInfo {
  const info = JSON.parse(recorded) as ObjectInfo;
  info['UpscaleModelLoader']!.input!.required!['model_name'] = ['COMBO', { options: ['RealESRGAN_x4plus.pth'] }];
  return { ...info, ...also };
}

/** Classes of ComfyUI and AnimateDiff-Evolved that only some requests need; the recording leaves them out. */
export const MORE: ObjectInfo = {
  RepeatLatentBatch: {
    input: { required: { samples: ['LATENT'], amount: ['INT', { default: 1, min: 1, max: 64 }] } },
    output: ['LATENT'],
  },
  RepeatImageBatch: {
    input: { required: { image: ['IMAGE'], amount: ['INT', { default: 1, min: 1, max: 4096 }] } },
    output: ['IMAGE'],
  },
  ImageScaleBy: {
    input: {
      required: {
        image: ['IMAGE'],
        upscale_method: [['nearest-exact', 'lanczos']],
        scale_by: ['FLOAT', { default: 1, min: 0.01, max: 8, step: 0.01 }],
      },
    },
    output: ['IMAGE'],
  },
  ADE_MultivalDynamic: {
    input: { required: { float_val: ['FLOAT', { default: 1, min: 0, step: 0.001 }] } },
    output: ['MULTIVAL'],
  },
  SaveAudioOpus: {
    input: { required: { audio: ['AUDIO'], filename_prefix: ['STRING'], quality: ['COMBO', { options: ['128k'] }] } },
    output: [],
    output_node: true,
  },
};

export function readGraph(id: string): Graph {
  return JSON.parse(readFileSync(new URL(`${id}.json`, SHIPPED), 'utf8')) as Graph;
}

export interface BindOptions {
  files?: UploadedFiles;
  info?: ObjectInfo;
  dir?: string;
}

/** A request as a caller sends it, chosen and bound. */
export async function bind(
  model: string,
  capability: CapabilityId,
  input: Record<string, unknown>,
  { files, info = toInfo(MORE), dir }: BindOptions = {},
): Promise<BoundGraph & { id: string }> {
  const workflows = openWorkflows({ source: 'comfyui', dir });
  const parsed = capabilities[capability].input.parse(input);
  const workflow = await workflows.choose(model, capability, parsed);
  return { id: workflow.id, ...workflows.bind(workflow, parsed, files ?? toFiles(input), info, 'hono-ai/test') };
}

/** What the server would call the files of a request. */
function toFiles(input: Record<string, unknown>): UploadedFiles {
  const files: UploadedFiles = {};
  for (const field of ['image', 'mask']) {
    const given = input[field];
    if (given !== undefined) files[field] = [given].flat().map((_, index) => `hono-ai/${field}${index}.png`);
  }
  return files;
}
