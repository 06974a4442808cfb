// A binding for a graph that came without one: what the names of its inputs and the links between its nodes tell.
import type { CapabilityId } from '../../../src/capabilities/index.ts';
import type { WorkflowProblem } from '../../../src/workflows.ts';
import type { Binding, BindingInput, Param, ParamPlace } from './binding.ts';
import { parseBinding } from './binding.ts';
import { toLink } from './graph.ts';
import type { Graph } from './workflow.ts';

type Place = Pick<ParamPlace, 'node' | 'input'> & Partial<ParamPlace>;

const RESULTS: [begins: RegExp, makes: 'image' | 'video' | 'audio'][] = [
  [/^(SaveAudio|PreviewAudio)/, 'audio'],
  [/^(SaveVideo|SaveWEBM|SaveAnimated|VHS_VideoCombine)/, 'video'],
  [/^(SaveImage|PreviewImage)$/, 'image'],
];
/** Inputs that hold what is asked for in words. */
const TEXTS = ['text', 'prompt', 'tags', 'text_g', 'text_l', 'caption', 'clip_l', 't5xxl', 'string', 'value'];
/** Inputs whose names say which part of a request they are, wherever they stand. */
const NAMED: [input: RegExp, param: Param, kind: 'number' | 'string'][] = [
  [/^(noise_)?seed$/, 'seed', 'number'],
  [/^steps$/, 'steps', 'number'],
  [/^cfg$/, 'guidance', 'number'],
  [/^sampler_name$/, 'sampler', 'string'],
  [/^scheduler$/, 'scheduler', 'string'],
  [/^(fps|frame_rate)$/, 'fps', 'number'],
  [/^lyrics$/, 'lyrics', 'string'],
  [/^bpm$/, 'bpm', 'number'],
  [/^keyscale$/, 'key', 'string'],
  [/^timesignature$/, 'time_signature', 'string'],
  [/^language$/, 'language', 'string'],
];
/** Video models count frames in steps of their own, and one more. */
const FRAME_STEPS: [className: RegExp, step: number][] = [
  [/LTX|Cosmos/, 8],
  [/Mochi/, 6],
  [/Wan|Hunyuan/, 4],
];

/** The capability is found by what comes out, where the caller does not say. */
export function inferBinding(
  graph: Graph,
  capability?: string,
): { binding: Binding; problems: [] } | { binding: undefined; problems: WorkflowProblem[] } {
  const outputs = findOutputs(graph);
  const found = capability ?? toCapability(graph, outputs.makes);
  if (found === undefined) {
    const message = 'It cannot be seen what comes out: no node saves pictures, films or sounds.';
    return { binding: undefined, problems: [{ kind: 'binding', message, hint: 'Add SaveImage, or write a binding.' }] };
  }
  const images = nodesOf(graph, /^LoadImage$/).map((node) => ({ node, input: 'image' }));
  const masks = nodesOf(graph, /^LoadImageMask$/).map((node) => ({ node, input: 'image' }));
  const params = findParams(graph, found as CapabilityId, images.length > 0);
  if (!params.prompt && found !== 'image.upscale' && found !== 'image.vary') {
    const message = 'No text was found that the prompt could go to.';
    return {
      binding: undefined,
      problems: [{ kind: 'binding', message, hint: 'Say where in a binding: params.prompt.' }],
    };
  }
  const loras = findLoras(graph);
  const binding: BindingInput = {
    capability: found as BindingInput['capability'],
    params,
    files: { ...(images.length > 0 ? { image: images } : {}), ...(masks.length > 0 ? { mask: masks } : {}) },
    ...(loras ? { loras } : {}),
    formats: findFormats(graph, outputs.nodes),
    outputs: outputs.nodes,
  };
  return parseBinding(binding);
}

function findParams(graph: Graph, capability: CapabilityId, fromImage: boolean): Partial<Record<Param, Place[]>> {
  const params: Partial<Record<Param, Place[]>> = {};
  const put = (param: Param, place: Place) => (params[param] ??= []).push(place);
  const video = capability === 'video.generate';
  const music = capability === 'music.generate';
  for (const [node, { class_type, inputs }] of Object.entries(graph)) {
    for (const [input, value] of Object.entries(inputs)) {
      for (const [name, param, kind] of NAMED) {
        if (name.test(input) && typeof value === kind) put(param, { node, input });
      }
      if (music && /^(seconds|duration)$/.test(input) && typeof value === 'number') put('seconds', { node, input });
      if (fromImage && input === 'denoise' && typeof value === 'number')
        put('strength', { node, input, min: 0, max: 1 });
    }
    if (!isCanvas(class_type, inputs)) continue;
    const multiple = /LTX|Wan|Hunyuan/.test(class_type) ? 32 : 8;
    for (const side of ['width', 'height'] as const) {
      put(side, { node, input: side, min: 64, max: 4096, step: multiple });
    }
    if (typeof inputs['length'] === 'number') {
      const step = FRAME_STEPS.find(([name]) => name.test(class_type))?.[1];
      put('frames', { node, input: 'length', min: 1, max: 1000, ...(step ? { step, offset: 1 } : {}) });
    } else if (video && typeof inputs['batch_size'] === 'number') {
      put('frames', { node, input: 'batch_size', min: 1, max: 1000 });
    } else if (typeof inputs['batch_size'] === 'number') put('n', { node, input: 'batch_size', min: 1, max: 16 });
  }
  const positive = findText(graph, /^(positive|conditioning)$/);
  const negative = findText(graph, /^negative$/);
  for (const place of positive) put('prompt', place);
  for (const place of negative) {
    if (!positive.some(({ node, input }) => node === place.node && input === place.input)) {
      put('negative_prompt', place);
    }
  }
  if (!music) for (const param of ['lyrics', 'bpm', 'key', 'time_signature', 'language'] as const) delete params[param];
  if (!video) delete params.fps;
  return params;
}

/** Texts that feed inputs of samplers and guiders with such a name, by the way of the links; one per node. */
function findText(graph: Graph, inputName: RegExp): Place[] {
  const waiting = Object.values(graph).flatMap(({ class_type, inputs }) =>
    Object.entries(inputs).flatMap(([name, value]) => {
      const link = /sampl|guider/i.test(class_type) && inputName.test(name) ? toLink(value) : undefined;
      return link ? [link[0]] : [];
    }),
  );
  const seen = new Set<string>();
  const found: Place[] = [];
  for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
    if (seen.has(id) || !Object.hasOwn(graph, id)) continue;
    seen.add(id);
    const { class_type, inputs } = graph[id]!;
    // What is made nothing of says nothing.
    if (/ZeroOut/i.test(class_type)) continue;
    const texts = TEXTS.filter((name) => typeof inputs[name] === 'string');
    if (texts.length > 0) {
      found.push(...texts.map((input) => ({ node: id, input })));
      continue;
    }
    for (const [name, value] of Object.entries(inputs)) {
      const link = toLink(value);
      if (link && (inputName.test(name) || !/^(positive|negative|model|vae|clip)$/.test(name))) waiting.push(link[0]);
    }
  }
  return found;
}

function findOutputs(graph: Graph): { nodes: string[]; makes: 'image' | 'video' | 'audio' | undefined } {
  for (const [begins, makes] of RESULTS) {
    const nodes = nodesOf(graph, begins);
    const saved = nodes.filter((node) => !graph[node]!.class_type.startsWith('Preview'));
    if (nodes.length > 0) return { nodes: saved.length > 0 ? saved : nodes, makes };
  }
  return { nodes: [], makes: undefined };
}

function toCapability(graph: Graph, makes: 'image' | 'video' | 'audio' | undefined): CapabilityId | undefined {
  if (makes === 'audio') return 'music.generate';
  if (makes === 'video') return 'video.generate';
  if (makes === undefined) return undefined;
  const samples = nodesOf(graph, /sampl/i).length > 0;
  if (!samples && nodesOf(graph, /^ImageUpscaleWithModel$/).length > 0) return 'image.upscale';
  return nodesOf(graph, /^LoadImage$/).length > 0 ? 'image.edit' : 'image.generate';
}

/** LoRAs change what the first loader of a model gives; LoRAs of the graph's own stay behind them. */
function findLoras(graph: Graph): BindingInput['loras'] {
  const [checkpoint, ...others] = nodesOf(graph, /^CheckpointLoader(Simple)?$/);
  if (checkpoint !== undefined && others.length === 0) {
    return { model: { node: checkpoint, output: 0 }, clip: { node: checkpoint, output: 1 } };
  }
  const [unet, ...more] = nodesOf(graph, /^(UNETLoader|UnetLoaderGGUF)$/);
  return unet !== undefined && more.length === 0 ? { model: { node: unet, output: 0 } } : undefined;
}

/** What else the node that saves can write, or another class in its place. */
function findFormats(graph: Graph, outputs: string[]): NonNullable<BindingInput['formats']> {
  const [id] = outputs;
  if (id === undefined || outputs.length > 1) return {};
  const { class_type, inputs } = graph[id]!;
  if (class_type === 'VHS_VideoCombine') return toVideoFormats(id);
  if (!/^SaveAudio(MP3|Opus)?$/.test(class_type)) return {};
  return toAudioFormats(id, { audio: inputs['audio'], filename_prefix: inputs['filename_prefix'] ?? 'audio' });
}

function toVideoFormats(node: string): NonNullable<BindingInput['formats']> {
  const write = (inputs: Record<string, unknown>) => ({ [node]: { inputs } });
  return {
    mp4: write({ format: 'video/h264-mp4', pix_fmt: 'yuv420p', crf: 19, save_metadata: true, trim_to_audio: false }),
    webm: write({ format: 'video/webm', pix_fmt: 'yuv420p', crf: 20, save_metadata: true, trim_to_audio: false }),
    gif: write({ format: 'image/gif' }),
    webp: write({ format: 'image/webp', lossless: false }),
  };
}

/** WAV is made of FLAC, which loses nothing. */
function toAudioFormats(node: string, inputs: Record<string, unknown>): NonNullable<BindingInput['formats']> {
  const mp3 = { [node]: { class_type: 'SaveAudioMP3', inputs: { ...inputs, quality: 'V0' } } };
  const flac = { [node]: { class_type: 'SaveAudio', inputs } };
  const opus = { [node]: { class_type: 'SaveAudioOpus', inputs: { ...inputs, quality: '128k' } } };
  return { mp3, flac, wav: flac, ogg: [opus, flac] };
}

function nodesOf(graph: Graph, className: RegExp): string[] {
  return Object.entries(graph).flatMap(([id, { class_type }]) => (className.test(class_type) ? [id] : []));
}

/** An empty picture, film or latent to begin with: it has sides, and how many. */
function isCanvas(className: string, inputs: Record<string, unknown>): boolean {
  const { width, height, batch_size, length } = inputs;
  if (typeof width !== 'number' || typeof height !== 'number') return false;
  return /latent/i.test(className) || typeof batch_size === 'number' || typeof length === 'number';
}
