// The binding of a workflow: which inputs of its graph each part of a request feeds, what it needs, and what it makes.
import { z } from 'zod';
import { capabilities, type CapabilityId } from '../../../src/capabilities/index.ts';
import { workflowId, type WorkflowProblem } from '../../../src/workflows.ts';
import type { Graph } from './workflow.ts';

/** What of a request can be bound, by the names that requests use. */
export const params = [
  'prompt',
  'negative_prompt',
  'width',
  'height',
  'n',
  'steps',
  'guidance',
  'seed',
  'sampler',
  'scheduler',
  'strength',
  'frames',
  'fps',
  'seconds',
  'motion',
  'lyrics',
  'bpm',
  'key',
  'time_signature',
  'language',
  'scale',
] as const;
export type Param = (typeof params)[number];

const nodeId = z.string().min(1).max(64);
const literal = z.union([z.string().max(32_000), z.number(), z.boolean()]);

/** Changes to a graph: a node with a class is put in whole, of one without only the inputs that are named change. */
const patch = z.record(
  nodeId,
  z.strictObject({ class_type: z.string().min(1).max(200).optional(), inputs: z.record(z.string(), z.unknown()) }),
);
export type Patch = z.output<typeof patch>;

const place = z.strictObject({
  node: nodeId,
  input: z.string().min(1).max(100),
  /** Changes that the value needs; made only where a request has one. */
  with: patch.optional(),
});

const paramPlace = place.extend({
  default: literal.optional(),
  min: z.number().optional(),
  max: z.number().optional(),
  /** Values are brought to offset + a multiple of it. */
  step: z.number().positive().optional(),
  offset: z.number().optional(),
  enum: z.array(literal).min(1).optional(),
  /** What the value is multiplied by on its way into the graph. */
  scale: z.number().optional(),
  /** Value in a request → value in the graph. */
  map: z.record(z.string(), literal).optional(),
  /** The value, in place of $, is added to the text that is there. */
  append: z.string().max(200).optional(),
  /** Used only for values greater than this. */
  above: z.number().optional(),
  /** What is put there instead of the value. */
  value: literal.optional(),
});
export type ParamPlace = z.output<typeof paramPlace>;

/** One, or a list of them; always a list once it is read. */
const many = <T extends z.ZodType>(one: T) =>
  z.union([z.array(one).min(1).max(16), one]).transform((value) => [value].flat() as z.output<T>[]);

const source = z.strictObject({ node: nodeId, output: z.int().min(0).max(64) });

const makers = Object.values(capabilities).flatMap(({ id, makes }) => (makes ? [id] : []));

export const bindingSchema = z.strictObject({
  title: z.string().max(200).optional(),
  description: z.string().max(2000).optional(),
  model: workflowId.optional(),
  capability: z.enum(makers as [CapabilityId, ...CapabilityId[]]),
  /** Fields that a request must have for this workflow to be chosen; those of files that the graph always reads are implied. */
  needs: z.array(z.string().max(64)).optional(),
  /** Among the models of the server the one with the highest rank is the default. */
  rank: z.number().min(0).max(1000).optional(),
  params: z.partialRecord(z.enum(params), many(paramPlace)).default({}),
  /** Field of the request → where its files are named, one place for each file. */
  files: z.partialRecord(z.enum(['image', 'mask']), many(place)).default({}),
  /** Pictures that are larger are made smaller before they are sent, and masks with them. */
  megapixels: z.number().min(0.1).max(64).optional(),
  /** Where LoRAs are put in: after these outputs. */
  loras: z.strictObject({ model: source, clip: source.optional() }).optional(),
  /** Format that a request asks for → what changes in the graph; of several the first whose classes the server has. */
  formats: z.record(z.string().max(16), many(patch)).default({}),
  requires: z
    .strictObject({
      /** Files on the server; those of loaders are found in the graph. */
      files: z
        .array(
          z.strictObject({
            node: nodeId,
            input: z.string().min(1).max(100),
            folder: z.string().max(100).optional(),
            url: z.url({ protocol: /^https$/ }).optional(),
          }),
        )
        .default([]),
      /** Class → the extension that brings it: a name or an address. */
      classes: z.record(z.string(), z.string().max(300)).default({}),
    })
    .default({ files: [], classes: {} }),
  /** Memory of the card while it runs. */
  vram: z
    .string()
    .regex(/^\d+(\.\d+)?\s*[GM]i?B$/i, 'a size such as 9GB')
    .optional(),
  outputs: z.array(nodeId).default([]),
  license: z.string().max(200).optional(),
  source: z.string().max(500).optional(),
});
export type Binding = z.output<typeof bindingSchema>;
export type BindingInput = z.input<typeof bindingSchema>;

/** Bytes that a workflow is taken to need on the card where its binding does not say. */
const USUAL_VRAM = 8 * 1024 ** 3;

/** What is wrong is told by field. */
export function parseBinding(
  value: unknown,
): { binding: Binding; problems: [] } | { binding: undefined; problems: WorkflowProblem[] } {
  const parsed = bindingSchema.safeParse(value);
  if (parsed.success) return { binding: parsed.data, problems: [] };
  const problems = parsed.error.issues.slice(0, 20).map((issue): WorkflowProblem => {
    const { path, message } = deepest(issue);
    const field = path.map(String).join('.');
    return { kind: 'binding', message: field ? `${field}: ${message}` : message };
  });
  return { binding: undefined, problems };
}

/** Places that are not in the graph, and fields that the capability does not have. */
export function checkBinding(binding: Binding, graph: Graph): WorkflowProblem[] {
  const problems: WorkflowProblem[] = [];
  const fields = capabilities[binding.capability].input.shape;
  const wrong = (field: string, message: string, node?: string) =>
    problems.push({ kind: 'binding', ...(node === undefined ? {} : { node }), message: `${field}: ${message}` });
  function known(field: string, node: string, input?: string, added: Patch = {}): void {
    const patched = Object.hasOwn(added, node) ? added[node] : undefined;
    const own = Object.hasOwn(graph, node) ? graph[node] : undefined;
    if (!patched && !own) return void wrong(field, `there is no node ${node} in the graph`, node);
    if (input === undefined) return;
    const inputs = { ...(patched?.class_type ? {} : own?.inputs), ...patched?.inputs };
    if (!Object.hasOwn(inputs, input)) wrong(field, `node ${node} has no input ${input} in the graph`, node);
    else if (Array.isArray(inputs[input])) wrong(field, `input ${input} of node ${node} comes from another node`, node);
  }
  for (const [param, places] of Object.entries(binding.params)) {
    for (const each of places) {
      known(`params.${param}`, each.node, each.input, each.with);
      checkPatch(`params.${param}.with`, each.with ?? {}, graph, wrong);
    }
  }
  for (const [field, places] of Object.entries(binding.files)) {
    if (!Object.hasOwn(fields, field)) wrong(`files.${field}`, `${binding.capability} has no ${field}`);
    for (const each of places) {
      known(`files.${field}`, each.node, each.input, each.with);
      checkPatch(`files.${field}.with`, each.with ?? {}, graph, wrong);
    }
  }
  for (const [format, patches] of Object.entries(binding.formats)) {
    for (const each of patches) checkPatch(`formats.${format}`, each, graph, wrong);
  }
  for (const need of binding.needs ?? []) {
    if (!Object.hasOwn(fields, need)) wrong('needs', `${binding.capability} has no ${need}`);
  }
  for (const [name, from] of Object.entries(binding.loras ?? {})) known(`loras.${name}`, from.node);
  for (const node of binding.outputs) known('outputs', node);
  for (const { node, input } of binding.requires.files) known('requires.files', node, input);
  return problems;
}

function checkPatch(
  field: string,
  changes: Patch,
  graph: Graph,
  wrong: (field: string, message: string, node?: string) => void,
): void {
  for (const [id, { class_type }] of Object.entries(changes)) {
    if (!class_type && !Object.hasOwn(graph, id)) wrong(field, `a new node ${id} needs a class_type`, id);
  }
}

/** The graph with changes made; the one that is given stays as it is. */
export function applyPatch(graph: Graph, changes: Patch): Graph {
  const next: Graph = { ...graph };
  for (const [id, { class_type, inputs }] of Object.entries(changes)) {
    const own = Object.hasOwn(next, id) ? next[id] : undefined;
    if (class_type)
      next[id] = { ...(own?._meta ? { _meta: own._meta } : {}), class_type, inputs: structuredClone(inputs) };
    else if (own) next[id] = { ...own, inputs: { ...own.inputs, ...structuredClone(inputs) } };
  }
  return next;
}

/** Every graph that changes of the binding can make of this one, the graph itself first. */
export function toVariants(graph: Graph, binding: Binding): { name: string; graph: Graph }[] {
  const changed = (name: string, changes: Patch | undefined) =>
    changes ? [{ name, graph: applyPatch(graph, changes) }] : [];
  return [
    { name: 'graph', graph },
    ...Object.entries(binding.params).flatMap(([name, places]) => places.flatMap((each) => changed(name, each.with))),
    ...Object.entries(binding.files).flatMap(([name, places]) => places.flatMap((each) => changed(name, each.with))),
    ...Object.entries(binding.formats).flatMap(([name, patches]) => patches.flatMap((each) => changed(name, each))),
  ];
}

/** Fields without which it cannot run: the first file of a field that the graph reads as it stands. */
export function requiredFields({ needs = [], files }: Binding): string[] {
  const always = Object.entries(files).flatMap(([field, [first]]) => (first!.with ? [] : [field]));
  return [...new Set([...needs, ...always])];
}

/** Bytes. */
export function toVram({ vram }: Binding): number {
  const match = /^(\d+(?:\.\d+)?)\s*([GM])/i.exec(vram ?? '');
  if (!match) return USUAL_VRAM;
  return Math.round(Number(match[1]) * 1024 ** (match[2]!.toUpperCase() === 'G' ? 3 : 2));
}

/** One line for each thing that is bound, for people. */
export function describeBinding({ params: bound, files, loras, formats, outputs }: Binding): string[] {
  const at = (places: { node: string; input: string }[]) =>
    places.map(({ node, input }) => `${node}.${input}`).join(', ');
  return [
    ...Object.entries(bound).map(([name, places]) => `${name} → ${at(places)}`),
    ...Object.entries(files).map(([name, places]) => `${name} (file) → ${at(places)}`),
    ...(loras ? [`loras → after ${loras.model.node}`] : []),
    ...(Object.keys(formats).length > 0 ? [`format → ${Object.keys(formats).join(', ')}`] : []),
    ...(outputs.length > 0 ? [`result ← ${outputs.join(', ')}`] : []),
  ];
}

interface Issue {
  path: PropertyKey[];
  message: string;
}

/** A union reports only that nothing fitted; the branch that came furthest says what is wrong. */
function deepest(issue: z.core.$ZodIssue): Issue {
  if (issue.code !== 'invalid_union') return issue;
  const branches = issue.errors.flatMap((issues) => (issues[0] ? [deepest(issues[0])] : []));
  const best = branches.toSorted((a, b) => b.path.length - a.path.length)[0];
  return best && best.path.length > 0 ? { ...best, path: [...issue.path, ...best.path] } : issue;
}
