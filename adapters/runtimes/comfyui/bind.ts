// A request put into its workflow's graph: values into their places, files by their names on the server, LoRAs after the model.
import { GatewayError } from '../../../src/error.ts';
import { applyPatch, requiredFields, type Binding, type Param, type ParamPlace, type Patch } from './binding.ts';
import { fit, type Limits } from './fit.ts';
import { climbs, toLink } from './graph.ts';
import { findClass, findInput, toInputs, type InputSpec } from './info.ts';
import { nearNames, sameFile, sameWord } from './names.ts';
import { complete, expectComplete } from './needs.ts';
import { toRequest, type Asked, type Request } from './request.ts';
import { bringInto, toRange } from './values.ts';
import type { BoundGraph, Graph, ObjectInfo, UploadedFiles, Workflow } from './workflow.ts';

export interface Bindable extends Workflow {
  binding: Binding;
}

/** One request on its way into the graph. */
interface Work {
  workflow: Bindable;
  graph: Graph;
  info: ObjectInfo;
  warnings: string[];
  /** Changes that were made: each once, however many values need it. */
  changed: Set<string>;
  /** Name of the runtime, for errors. */
  source: string;
}

/** Throws as `Workflows.bind` says. */
export function bindRequest(
  workflow: Bindable,
  input: object,
  files: UploadedFiles,
  info: ObjectInfo,
  { prefix, source }: { prefix: string; source: string },
): BoundGraph {
  expectComplete(workflow, info, source);
  const work: Work = {
    workflow,
    graph: structuredClone(workflow.graph),
    info,
    warnings: [],
    changed: new Set(),
    source,
  };
  const request = toRequest(workflow.capability, input);
  putFiles(work, files);
  putFormat(work, request.format);
  putFrames(work, request);
  if (request.fits) work.warnings.push(...fit(request, (param) => limitsOf(work, param), workflow.id));
  const seed = chooseSeed(work, request);
  putValues(work, request);
  putLoras(work, request);
  const graph = complete(work.graph, info);
  for (const node of Object.values(graph)) {
    if (typeof node.inputs['filename_prefix'] === 'string') node.inputs['filename_prefix'] = prefix;
  }
  return { graph, warnings: [...new Set(work.warnings)], seed, outputs: workflow.binding.outputs };
}

/** Several files of a field take its places in their order. */
function putFiles(work: Work, files: UploadedFiles): void {
  const { id, binding } = work.workflow;
  for (const field of requiredFields(binding)) {
    if (Object.hasOwn(binding.files, field) && (files[field]?.length ?? 0) === 0) {
      throw refuse(work, field, `${field}: ${id} needs one.`);
    }
  }
  for (const [field, names] of Object.entries(files)) {
    const places = (Object.hasOwn(binding.files, field) && binding.files[field as 'image']) || [];
    if (names.length > places.length) {
      const taken =
        places.length === 0 ? `has no ${field}` : `takes ${places.length} of ${names.length} files in ${field}`;
      work.warnings.push(`${id} ${taken}: the rest was left out.`);
    }
    for (const [index, name] of names.slice(0, places.length).entries()) {
      const { node, input, with: changes } = places[index]!;
      if (changes && !change(work, changes, field)) continue;
      setInput(work, node, input, name);
    }
  }
}

/** A format that the graph cannot make is made of what it does make, later. */
function putFormat(work: Work, format: string | undefined): void {
  const { formats } = work.workflow.binding;
  if (format === undefined || !Object.hasOwn(formats, format)) return;
  const possible = formats[format]!.find((changes) => lacking(changes, work.info) === undefined);
  if (possible) work.graph = applyPatch(work.graph, possible);
}

/** Seconds are frames where a graph counts those. */
function putFrames({ workflow: { id, binding }, graph, warnings }: Work, { values }: Request): void {
  const seconds = values.get('seconds');
  if (!seconds || binding.params.seconds || !binding.params.frames) return;
  values.delete('seconds');
  if (values.has('frames')) {
    warnings.push(`${id} was told frames and seconds; frames counted.`);
    return;
  }
  const [place] = binding.params.fps ?? [];
  const fps = values.get('fps')?.value ?? place?.default ?? (place && graph[place.node]?.inputs[place.input]);
  if (typeof fps !== 'number') {
    warnings.push(`${id} has no seconds: nobody says how many frames those are.`);
    return;
  }
  values.set('frames', { value: Math.max(1, Math.round(Number(seconds.value) * fps)), field: 'seconds' });
}

/** What every place of a parameter can take. */
function limitsOf(work: Work, param: Param): Limits | undefined {
  const ranges = work.workflow.binding.params[param]?.map((place) =>
    toRange(place, specOf(work, place.node, place.input)),
  );
  return (
    ranges && {
      min: Math.max(...ranges.map(({ min }) => min)),
      max: Math.min(...ranges.map(({ max }) => max)),
    }
  );
}

/** The same graph with the same seed runs only once on a server: every request gets a seed of its own. */
function chooseSeed(work: Work, { values }: Request): number | undefined {
  const places = work.workflow.binding.params.seed;
  const asked = values.get('seed');
  if (!places) return undefined;
  if (asked) return asked.value as number;
  const most = Math.min(Number.MAX_SAFE_INTEGER, limitsOf(work, 'seed')!.max);
  const [high, low] = crypto.getRandomValues(new Uint32Array(2)) as unknown as [number, number];
  const value = ((high % 2 ** 21) * 2 ** 32 + low) % (most + 1);
  values.set('seed', { value, field: 'seed' });
  return value;
}

/** What is put in whole would undo values that are there already: all changes come before all values. */
function putValues(work: Work, { values }: Request): void {
  const { id, binding } = work.workflow;
  const put: (() => void)[] = [];
  for (const [param, asked] of values) {
    if (!Object.hasOwn(binding.params, param)) work.warnings.push(`${id} has no ${toName(param)}: it was left out.`);
    else {
      for (const place of binding.params[param]!) {
        if (prepare(work, param, place, asked)) put.push(() => putValue(work, param, place, asked));
      }
    }
  }
  for (const [param, places] of Object.entries(binding.params)) {
    if (values.has(param as Param)) continue;
    for (const { node, input, default: value } of places) {
      if (value !== undefined) setInput(work, node, input, value);
    }
  }
  for (const each of put) each();
}

/** false where a place is not for this value, or cannot be had on this server. */
function prepare(work: Work, param: Param, { above, with: changes }: ParamPlace, { value }: Asked): boolean {
  if (above !== undefined && !(Number(value) > above)) return false;
  return !changes || change(work, changes, toName(param));
}

function putValue(work: Work, param: Param, place: ParamPlace, asked: Asked): void {
  const { node, input, append, scale, map, value: fixed } = place;
  if (fixed !== undefined) return setInput(work, node, input, fixed);
  if (append !== undefined) {
    const text = work.graph[node]!.inputs[input];
    return setInput(work, node, input, `${String(text)}${append.replace('$', () => String(asked.value))}`);
  }
  const spec = specOf(work, node, input);
  if (map) {
    if (Object.hasOwn(map, String(asked.value))) return setInput(work, node, input, map[String(asked.value)]!);
    throw refuse(work, asked.field, `${asked.field}: ${work.workflow.id} takes ${Object.keys(map).join(', ')}.`);
  }
  if (typeof asked.value === 'number') {
    const { value, warning } = bringInto(asked.value, place, spec, {
      what: toName(param),
      field: asked.field,
      who: work.workflow.id,
      source: work.source,
    });
    if (warning) work.warnings.push(warning);
    return setInput(work, node, input, scale === undefined ? value : value * scale);
  }
  setInput(work, node, input, toWord(work, asked, place, spec));
}

function toWord(work: Work, { value, field }: Asked, place: ParamPlace, spec: InputSpec | undefined): string | number {
  const word = String(value);
  const listed = place.enum?.map(String) ?? (spec?.kind === 'choice' ? spec.options : undefined);
  if (!listed)
    return spec?.kind === 'number' && word.trim() !== '' && !Number.isNaN(Number(word)) ? Number(word) : word;
  const known = sameWord(word, listed);
  if (known !== undefined && (spec?.kind !== 'choice' || spec.options.includes(known))) return known;
  const near = nearNames(word, listed);
  throw refuse(
    work,
    field,
    `${field}: there is no “${word.slice(0, 64)}”.`,
    near.length > 0 ? `Near it: ${near.join(', ')}.` : `There are: ${listed.slice(0, 50).join(', ')}.`,
  );
}

/** Loaders in a chain between what loads the model and whatever takes it. */
function putLoras(work: Work, { loras }: Request): void {
  const { id, binding } = work.workflow;
  if (loras.length === 0) return;
  if (!binding.loras) {
    work.warnings.push(`${id} has no loras: they were left out.`);
    return;
  }
  const { model, clip } = binding.loras;
  const class_type = clip ? 'LoraLoader' : 'LoraLoaderModelOnly';
  const known = findClass(work.info, class_type);
  const spec = known && findInput(toInputs(known), 'lora_name');
  const listed = spec?.kind === 'choice' ? spec.options : [];
  let from: { model: unknown; clip: unknown } = {
    model: [model.node, model.output],
    clip: clip && [clip.node, clip.output],
  };
  const chain: Graph = {};
  for (const [index, { name, strength }] of loras.entries()) {
    const file = climbs(name) ? undefined : (sameFile(name, listed) ?? sameFile(`${name}.safetensors`, listed));
    if (file === undefined) {
      const near = nearNames(name, listed);
      const hint = near.length > 0 ? `Near it: ${near.join(', ')}.` : `Put the file into models/loras of ComfyUI.`;
      throw refuse(work, `loras.${index}`, `loras.${index}: the server has no LoRA “${name.slice(0, 100)}”.`, hint);
    }
    const node = freeId(work.graph, `lora-${index + 1}`);
    chain[node] = {
      class_type,
      inputs: {
        model: from.model,
        lora_name: file,
        strength_model: strength,
        ...(clip ? { clip: from.clip, strength_clip: strength } : {}),
      },
    };
    from = { model: [node, 0], clip: [node, 1] };
  }
  redirect(work.graph, [model.node, model.output], from.model);
  if (clip) redirect(work.graph, [clip.node, clip.output], from.clip);
  Object.assign(work.graph, chain);
}

function redirect(graph: Graph, [node, output]: [string, number], to: unknown): void {
  for (const { inputs } of Object.values(graph)) {
    for (const [name, value] of Object.entries(inputs)) {
      const link = toLink(value);
      if (link && link[0] === node && link[1] === output) inputs[name] = to;
    }
  }
}

function freeId(graph: Graph, wanted: string): string {
  let id = wanted;
  for (let count = 2; Object.hasOwn(graph, id); count++) id = `${wanted}-${count}`;
  return id;
}

/** false where the server lacks a class that the change needs; that is told. */
function change(work: Work, changes: Patch, what: string): boolean {
  const key = JSON.stringify(changes);
  if (work.changed.has(key)) return true;
  const lacks = lacking(changes, work.info);
  if (lacks === undefined) {
    work.changed.add(key);
    work.graph = applyPatch(work.graph, changes);
    return true;
  }
  const from = work.workflow.binding.requires.classes[lacks];
  const remedy = from === undefined ? '' : `, which ${from} brings`;
  work.warnings.push(`${work.workflow.id} has no ${what} here: the server has no node class ${lacks}${remedy}.`);
  return false;
}

function lacking(changes: Patch, info: ObjectInfo): string | undefined {
  const classes = Object.values(changes).flatMap(({ class_type }) => class_type ?? []);
  return classes.find((name) => !findClass(info, name));
}

function specOf({ graph, info }: Work, node: string, input: string): InputSpec | undefined {
  const known = Object.hasOwn(graph, node) ? findClass(info, graph[node]!.class_type) : undefined;
  return known && findInput(toInputs(known), input);
}

function setInput({ graph }: Work, node: string, input: string, value: unknown): void {
  graph[node]!.inputs[input] = value;
}

/** As requests call it. */
function toName(param: Param): string {
  if (param === 'width' || param === 'height') return 'size';
  return param === 'guidance' ? 'guidance_scale' : param;
}

function refuse({ source }: Work, param: string, message: string, hint?: string): GatewayError {
  return new GatewayError('invalid_request', message, { param, source, ...(hint ? { hint } : {}) });
}
