// A graph against what its server has: every problem with its node and input, all of them at once, before anything is sent.
import type { WorkflowProblem } from '../../../src/workflows.ts';
import { findCycle, toLink } from './graph.ts';
import { findClass, findInput, fits, linkType, outputType, toInputs, type Inputs, type InputSpec } from './info.ts';
import { isModelFile, nearNames, sameFile } from './names.ts';
import type { Graph, GraphNode, ObjectInfo } from './workflow.ts';

const MAX_PROBLEMS = 100;
const MAX_PIXELS = 64_000_000;
/** Names of a list that are told. */
const MAX_TOLD = 5;

export interface ValidateOptions {
  /** `node.input` whose value a request brings: what stands there now does not matter. */
  bound?: ReadonlySet<string>;
}

export function validateGraph(
  graph: Graph,
  info: ObjectInfo,
  { bound = new Set() }: ValidateOptions = {},
): WorkflowProblem[] {
  const problems: WorkflowProblem[] = [];
  const cycle = findCycle(graph);
  if (cycle.length > 0) {
    const message = `Nodes feed each other in a circle: ${cycle.slice(0, 8).join(', ')}.`;
    problems.push({ kind: 'link', node: cycle[0]!, message });
  }
  for (const [id, node] of Object.entries(graph)) problems.push(...validateNode(id, node, graph, info, bound));
  const known = Object.values(graph).every((node) => findClass(info, node.class_type));
  if (known && !Object.values(graph).some((node) => findClass(info, node.class_type)!.output_node === true)) {
    problems.push({
      kind: 'graph',
      message: 'No node of the graph gives a result.',
      hint: 'Add one such as SaveImage.',
    });
  }
  return problems.slice(0, MAX_PROBLEMS);
}

function validateNode(
  id: string,
  node: GraphNode,
  graph: Graph,
  info: ObjectInfo,
  bound: ReadonlySet<string>,
): WorkflowProblem[] {
  const { class_type, inputs } = node;
  const known = findClass(info, class_type);
  if (!known) {
    return [{ kind: 'class', node: id, class_type, message: 'The server has no such node class.' }];
  }
  const problems: WorkflowProblem[] = [];
  const wrong = (kind: WorkflowProblem['kind'], input: string, message: string, hint?: string) =>
    problems.push({ kind, node: id, class_type, input, message, ...(hint ? { hint } : {}) });
  const declared = toInputs(known);
  for (const name of missing(declared, inputs)) wrong('input', name, 'is needed and not there.');
  for (const [name, value] of Object.entries(inputs)) {
    const spec = findNested(declared, inputs, name);
    // Extensions read inputs that they do not declare; the server passes over those.
    if (!spec) continue;
    const link = toLink(value);
    if (link) {
      const message = checkLink(link, spec, graph, info);
      if (message) wrong('link', name, message);
    } else if (!bound.has(`${id}.${name}`)) {
      const found = checkValue(value, spec);
      if (found) wrong(found.kind, name, found.message, found.hint);
    }
  }
  const { width, height } = inputs as { width?: unknown; height?: unknown };
  if (typeof width === 'number' && typeof height === 'number' && width * height > MAX_PIXELS) {
    wrong('value', 'width', `${width}x${height} is more than ${MAX_PIXELS / 1e6} megapixels.`);
  }
  return problems;
}

/** Required inputs that are not there, those of the chosen options of dynamic inputs included. */
export function missing({ required }: Inputs, given: Record<string, unknown>, prefix = ''): string[] {
  return Object.keys(required).flatMap((name) => {
    const full = prefix + name;
    const spec = findInput({ required, optional: {} }, name)!;
    // What grows with its inputs is named by them.
    if (spec.kind === 'link' && spec.type.startsWith('COMFY_')) return [];
    // An option's own inputs are also taken at the top, where older servers had them.
    const at = Object.hasOwn(given, full) ? full : name;
    if (!Object.hasOwn(given, at)) return [full];
    if (spec.kind !== 'dynamic') return [];
    const chosen = spec.options.get(String(given[at]));
    return chosen ? missing(chosen, given, `${full}.`) : [];
  });
}

/** `format.quality` is an input of the option that `format` has chosen. */
function findNested(declared: Inputs, given: Record<string, unknown>, name: string): InputSpec | undefined {
  const own = findInput(declared, name);
  if (own) return own;
  const dot = name.lastIndexOf('.');
  if (dot < 0) return undefined;
  const outer = name.slice(0, dot);
  const spec = findNested(declared, given, outer);
  if (spec?.kind !== 'dynamic') return undefined;
  const chosen = spec.options.get(String(given[outer]));
  return chosen && findInput(chosen, name.slice(dot + 1));
}

function checkLink(
  [from, output]: [string, number],
  spec: InputSpec,
  graph: Graph,
  info: ObjectInfo,
): string | undefined {
  const source = Object.hasOwn(graph, from) ? graph[from] : undefined;
  if (!source) return `comes from node ${from}, which is not in the graph.`;
  const known = findClass(info, source.class_type);
  if (!known) return undefined;
  const given = outputType(known, output);
  if (given === undefined) return `comes from output ${output} of node ${from}, which has no such output.`;
  const wanted = linkType(spec);
  return fits(given, wanted) ? undefined : `takes ${wanted}; output ${output} of node ${from} is ${given}.`;
}

type Found = { kind: 'value' | 'file'; message: string; hint?: string } | undefined;

export function checkValue(value: unknown, spec: InputSpec): Found {
  const wrong = (message: string, hint?: string): Found => ({ kind: 'value', message, ...(hint ? { hint } : {}) });
  if (spec.kind === 'link') return wrong(`must come from a node that gives ${spec.type}.`);
  if (spec.kind === 'choice') return checkChoice(value, spec);
  if (spec.kind === 'dynamic') {
    if (spec.options.has(String(value))) return undefined;
    return wrong(`“${short(value)}” is not among ${[...spec.options.keys()].join(', ')}.`);
  }
  if (spec.kind === 'flag') return typeof value === 'boolean' ? undefined : wrong('must be true or false.');
  if (spec.kind === 'text') return typeof value === 'object' ? wrong('must be text.') : undefined;
  if (typeof value !== 'number' || !Number.isFinite(value)) return wrong('must be a number.');
  if (spec.whole && !Number.isInteger(value)) return wrong('must be a whole number.');
  if (value < spec.min || value > spec.max) return wrong(`${value} is not within ${spec.min} to ${spec.max}.`);
  return undefined;
}

function checkChoice(value: unknown, { options, upload }: Extract<InputSpec, { kind: 'choice' }>): Found {
  const name = String(value);
  if (typeof value === 'object' || options.includes(name)) return undefined;
  if (isModelFile(name)) {
    if (sameFile(name, options) !== undefined) return undefined;
    return { kind: 'file', message: `The server has no file “${short(name)}”.` };
  }
  if (upload) return { kind: 'file', message: `Nothing named “${short(name)}” was uploaded.` };
  const near = nearNames(name, options);
  const told = near.length > 0 ? near : options.slice(0, MAX_TOLD);
  return {
    kind: 'value',
    message: `“${short(name)}” is not among the ${options.length} that the server has.`,
    hint: `${near.length > 0 ? 'Near it' : 'Among them'}: ${told.join(', ')}.`,
  };
}

const short = (value: unknown) => String(value).slice(0, 100);
