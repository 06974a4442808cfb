// A graph as somebody gives it: whether it is one, in which format, and whether it may be run at all.
import type { WorkflowProblem } from '../../../src/workflows.ts';
import type { Graph, GraphNode } from './workflow.ts';

export const MAX_NODES = 2000;
/** Bytes of its JSON. */
export const MAX_BYTES = 1_000_000;
/** How deep values may be nested. */
const MAX_DEPTH = 24;
const MAX_INPUTS = 1000;

/** What node ids look like, those in subgraphs included; no name that objects have of themselves. */
const NODE_ID = /^(?!__proto__$|constructor$|prototype$)[\w:.-]{1,64}$/;

export type Parsed = { graph: Graph; problems: [] } | { graph: undefined; problems: WorkflowProblem[] };

/** Anything → a graph in the API format. */
export function parseGraph(value: unknown): Parsed {
  if (!isRecord(value)) return refuse('A graph is a JSON object of nodes.');
  if (Array.isArray(value['nodes'])) {
    return refuse('This is what ComfyUI’s editor saves, not what its server runs.', EXPORT);
  }
  // What is posted to /prompt holds the graph beside other things.
  const graph = isRecord(value['prompt']) && !isNode(value['prompt']) ? value['prompt'] : value;
  const entries = Object.entries(graph);
  if (entries.length === 0) return refuse('There is no node in the graph.', EXPORT);
  if (entries.length > MAX_NODES) {
    return refuse(`The graph has ${entries.length} nodes; at most ${MAX_NODES} are taken.`);
  }
  if (!isShallow(graph, MAX_DEPTH)) return refuse(`Values in the graph are nested more than ${MAX_DEPTH} deep.`);
  if (JSON.stringify(graph).length > MAX_BYTES) return refuse(`The graph is larger than ${MAX_BYTES} bytes.`);
  const problems: WorkflowProblem[] = [];
  const nodes: Graph = {};
  for (const [id, node] of entries) {
    const wrong = (message: string, more: Partial<WorkflowProblem> = {}) =>
      problems.push({ kind: 'graph', node: id.slice(0, 64), ...more, message });
    if (!NODE_ID.test(id)) wrong('A node’s id is 1 to 64 letters, digits, : . _ and -.');
    else if (!isNode(node)) wrong('A node has a class_type and inputs.', { hint: EXPORT });
    else if (Object.keys(node.inputs).length > MAX_INPUTS) wrong(`More than ${MAX_INPUTS} inputs.`);
    else nodes[id] = toNode(node);
  }
  return problems.length > 0 ? { graph: undefined, problems: problems.slice(0, 100) } : { graph: nodes, problems: [] };
}

const EXPORT =
  'In ComfyUI choose Workflow → Export (API); older versions: Settings → Dev mode, then Save (API Format).';

/** A link to an output of another node; anything else is a value. */
export function toLink(value: unknown): [node: string, output: number] | undefined {
  if (!Array.isArray(value) || value.length !== 2) return undefined;
  const [node, output] = value as [unknown, unknown];
  if ((typeof node !== 'string' && typeof node !== 'number') || !Number.isInteger(output)) return undefined;
  return [String(node), output as number];
}

/** Nodes that feed each other in a circle; empty where there are none. */
export function findCycle(graph: Graph): string[] {
  const feeds = new Map<string, string[]>();
  const waits = new Map<string, number>();
  for (const [id, { inputs }] of Object.entries(graph)) {
    const from = Object.values(inputs).flatMap((value) => {
      const link = toLink(value);
      return link && Object.hasOwn(graph, link[0]) ? [link[0]] : [];
    });
    waits.set(id, from.length);
    for (const each of from) feeds.set(each, [...(feeds.get(each) ?? []), id]);
  }
  const free = [...waits].flatMap(([id, count]) => (count === 0 ? [id] : []));
  for (let id = free.pop(); id !== undefined; id = free.pop()) {
    waits.delete(id);
    for (const next of feeds.get(id) ?? []) {
      const left = (waits.get(next) ?? 0) - 1;
      waits.set(next, left);
      if (left === 0) free.push(next);
    }
  }
  return [...waits.keys()];
}

/** Words in the names of classes that run programs, talk to other machines or choose their own place on the disk. */
const DENIED_WORDS = new Set(
  (
    'exec execute executor eval evaluate python py javascript lua shell bash cmd powershell terminal command subprocess ' +
    'url uri http https webhook request requests fetch websocket ftp ssh smtp email path paths directory dir folder disk'
  ).split(' '),
);
/** Pairs of words that mean the same only together. */
const DENIED_PAIRS = [
  /\bweb socket\b/,
  /\b(load|read|save|write|open|delete|remove|append) (text |json |csv |any )?files?\b/,
];
/** Inputs that name a place on the disk or in the network. */
const DENIED_INPUT = /(^|_)(paths?|dir|directory|folder|url|uri|filepath|command|script)$|^code$/i;

/**
 * Nodes that a graph from outside may not have. A graph is a program for the machine that runs ComfyUI: nodes that run code, fetch
 * addresses, or read and write wherever they are told would open that machine to whoever may ask the gateway.
 */
export function findDenied(graph: Graph): WorkflowProblem[] {
  const problems: WorkflowProblem[] = [];
  for (const [node, { class_type, inputs }] of Object.entries(graph)) {
    const words = toWords(class_type);
    const word = words.find((each) => DENIED_WORDS.has(each));
    if (word ?? DENIED_PAIRS.some((pair) => pair.test(words.join(' ')))) {
      problems.push({
        kind: 'denied',
        node,
        class_type,
        message: 'Nodes of this class may run programs, reach other machines or choose files of their own.',
        hint: 'Take the node out; pictures come in through LoadImage and leave through SaveImage.',
      });
    }
    for (const [input, value] of Object.entries(inputs)) {
      if (typeof value !== 'string' || value === '') continue;
      if (DENIED_INPUT.test(input)) {
        problems.push({
          kind: 'denied',
          node,
          class_type,
          input,
          message: 'names a place that the gateway cannot check.',
        });
      } else if (input === 'filename_prefix' ? climbs(value) : isFileInput(input) && climbs(value)) {
        problems.push({ kind: 'denied', node, class_type, input, message: 'leads out of the folders of ComfyUI.' });
      }
    }
  }
  return problems;
}

/** Inputs whose text is the name of a file. */
function isFileInput(input: string): boolean {
  return /(^|_)(name\d?|image|mask|audio|video|file|filename)$/.test(input);
}

/** Absolute, of another drive or share, or on the way up. */
export function climbs(name: string): boolean {
  return /^[/\\~]|^[a-z]:|(^|[/\\])\.\.([/\\]|$)|[\0-\x1f]|^\w+:\/\//i.test(name);
}

/** `VHS_LoadImagesPath` → vhs, load, images, path. */
function toWords(name: string): string[] {
  return name
    .slice(0, 200)
    .replaceAll(/([a-z\d])([A-Z])/g, '$1 $2')
    .replaceAll(/([A-Z]+)([A-Z][a-z])/g, '$1 $2')
    .toLowerCase()
    .split(/[^a-z]+/)
    .filter(Boolean);
}

function toNode({ class_type, inputs, _meta }: GraphNode): GraphNode {
  const title = isRecord(_meta) && typeof _meta['title'] === 'string' ? _meta['title'].slice(0, 500) : undefined;
  return { class_type, inputs, ...(title === undefined ? {} : { _meta: { title } }) };
}

function isNode(value: unknown): value is GraphNode {
  if (!isRecord(value)) return false;
  const { class_type, inputs } = value;
  return typeof class_type === 'string' && class_type !== '' && class_type.length <= 200 && isRecord(inputs);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isShallow(value: unknown, left: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return left > 0 && Object.values(value).every((inner) => isShallow(inner, left - 1));
}

function refuse(message: string, hint?: string): Parsed {
  return { graph: undefined, problems: [{ kind: 'graph', message, ...(hint ? { hint } : {}) }] };
}
