// What a workflow needs of its server: node classes and files, which of them are missing, and how they are got.
import { GatewayError } from '../../../src/error.ts';
import type { WorkflowProblem } from '../../../src/workflows.ts';
import type { Bindable } from './bind.ts';
import { findClass, findInput, toInputs } from './info.ts';
import { isModelFile, sameFile } from './names.ts';
import { missing, validateGraph } from './validate.ts';
import type { Graph, ObjectInfo } from './workflow.ts';

/** Extensions whose classes people meet most, by how the names of those begin. */
const EXTENSIONS: [begins: RegExp, extension: string][] = [
  [/^ADE_/, 'comfyui-animatediff-evolved'],
  [/^VHS_/, 'comfyui-videohelpersuite'],
  [/GGUF$/, 'comfyui-gguf'],
];

/** Input that names a file → the folder of `models` that its loader looks into. */
const FOLDERS: Record<string, string> = {
  ckpt_name: 'checkpoints',
  unet_name: 'diffusion_models',
  clip_name: 'text_encoders',
  clip_name1: 'text_encoders',
  clip_name2: 'text_encoders',
  clip_name3: 'text_encoders',
  vae_name: 'vae',
  lora_name: 'loras',
  control_net_name: 'controlnet',
  style_model_name: 'style_models',
  gligen_name: 'gligen',
};

export interface NeededFile {
  node: string;
  input: string;
  name: string;
  folder: string | undefined;
  url: string | undefined;
}

/** Those that the graph names where a loader takes them, with what the binding knows of each. */
export function neededFiles({ graph, binding }: Pick<Bindable, 'graph' | 'binding'>): NeededFile[] {
  return Object.entries(graph).flatMap(([node, { class_type, inputs }]) =>
    Object.entries(inputs).flatMap(([input, name]): NeededFile[] => {
      if (typeof name !== 'string') return [];
      const told = binding.requires.files.find((file) => file.node === node && file.input === input);
      if (!told && !isModelFile(name)) return [];
      return [{ node, input, name, folder: told?.folder ?? toFolder(class_type, input), url: told?.url }];
    }),
  );
}

/** Everything that stands between the workflow and its server; what can be installed first. */
export function findProblems(workflow: Bindable, info: ObjectInfo): WorkflowProblem[] {
  const files = neededFiles(workflow);
  const found = validateGraph(complete(workflow.graph, info), info, { bound: boundPlaces(workflow) });
  return found.map((problem): WorkflowProblem => {
    if (problem.kind === 'class') {
      return { ...problem, hint: `Install it: ${toInstall(problem.class_type!, workflow)}` };
    }
    if (problem.kind !== 'file') return problem;
    const file = files.find(({ node, input }) => node === problem.node && input === problem.input);
    return file ? { ...problem, hint: toDownload(file) } : problem;
  });
}

/** Throws model_not_found, not_supported: with the one line that mends it. */
export function expectComplete(workflow: Bindable, info: ObjectInfo, source: string): void {
  const problems = findProblems(workflow, info);
  const [problem] = problems;
  if (!problem) return;
  const { id, model } = workflow;
  const classes = problems.filter(({ kind }) => kind === 'class');
  if (classes.length > 0) {
    const names = [...new Set(classes.map(({ class_type }) => class_type))];
    throw new GatewayError(
      'not_supported',
      `${id} needs node classes that ComfyUI does not have: ${names.join(', ')}.`,
      {
        param: 'model',
        source,
        hint: toRemedies(classes),
      },
    );
  }
  const files = problems.filter(({ kind }) => kind === 'file');
  if (files.length > 0) {
    const lacks = new Set(files.map(({ node, input }) => `“${String(workflow.graph[node!]!.inputs[input!])}”`));
    const known = neededFiles(workflow).every(({ url, folder }) => url !== undefined && folder !== undefined);
    throw new GatewayError('model_not_found', `ComfyUI lacks files of ${model}: ${[...lacks].join(', ')}.`, {
      param: 'model',
      source,
      hint: known ? `To get it: hono-ai models pull ${model} (POST /models/pull)` : toRemedies(files),
    });
  }
  throw new GatewayError('not_supported', `${id} does not fit this ComfyUI: ${toText(problem)}`, {
    param: 'model',
    source,
    hint: problem.hint ?? `hono-ai workflows show ${id} tells every problem.`,
  });
}

/** One line that gets all of it: commands where there are some for all, else what to do. */
export function toRemedies(problems: WorkflowProblem[]): string {
  const hints = [...new Set(problems.flatMap(({ hint }) => hint ?? []))];
  const commands = hints.flatMap((hint) => /comfy (?:model download|node install) .*$/.exec(hint)?.[0] ?? []);
  return commands.length === hints.length ? `To get it: ${commands.join(' && ')}` : hints.join(' ');
}

/** `sample (KSampler) scheduler: …`, for people. */
export function toText({ node, class_type, input, message }: WorkflowProblem): string {
  const where = [node, class_type ? `(${class_type})` : '', input ?? ''].filter(Boolean).join(' ');
  return where ? `${where}: ${message}` : message;
}

/**
 * The graph as this server takes it: inputs that it needs and an older export does not have get the server's own default, and files
 * are called as the server lists them.
 */
export function complete(graph: Graph, info: ObjectInfo): Graph {
  const whole: Graph = {};
  for (const [id, node] of Object.entries(graph)) {
    const known = findClass(info, node.class_type);
    const inputs = { ...node.inputs };
    whole[id] = { ...node, inputs };
    if (!known) continue;
    const declared = toInputs(known);
    for (const name of missing(declared, inputs)) {
      const spec = findInput(declared, name);
      if (spec && spec.kind !== 'link' && spec.fallback !== undefined) inputs[name] = spec.fallback;
    }
    for (const [name, value] of Object.entries(inputs)) {
      const spec = typeof value === 'string' && isModelFile(value) ? findInput(declared, name) : undefined;
      if (spec?.kind === 'choice') inputs[name] = sameFile(value as string, spec.options) ?? value;
    }
  }
  return whole;
}

/** `node.input` of every file that requests bring: what the graph names there is only a placeholder. */
export function boundPlaces({ binding }: Pick<Bindable, 'binding'>): Set<string> {
  const places = Object.values(binding.files).flat();
  return new Set(places.map(({ node, input }) => `${node}.${input}`));
}

function toDownload({ name, folder, url }: NeededFile): string {
  if (url !== undefined && folder !== undefined) {
    return `To get it: comfy model download --url ${url} --relative-path models/${folder} --filename ${name}`;
  }
  return `Put ${name} into models/${folder ?? '…'} of ComfyUI.`;
}

function toInstall(name: string, { binding }: Bindable): string {
  const told = Object.hasOwn(binding.requires.classes, name) ? binding.requires.classes[name] : undefined;
  const extension = told ?? EXTENSIONS.find(([begins]) => begins.test(name))?.[1];
  if (extension === undefined) return 'ComfyUI-Manager finds which extension brings it, or ComfyUI is too old.';
  return `comfy node install ${extension}`;
}

function toFolder(className: string, input: string): string | undefined {
  if (/upscale/i.test(className)) return 'upscale_models';
  if (className.startsWith('ADE_')) return 'animatediff_models';
  if (/clipvision/i.test(className)) return 'clip_vision';
  return Object.hasOwn(FOLDERS, input) ? FOLDERS[input] : undefined;
}
