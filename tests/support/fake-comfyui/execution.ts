// One execution of a prompt in a fake ComfyUI: its nodes in their order, and the events of each in the order of the recordings.
import { setTimeout as pause } from 'node:timers/promises';
import sharp from 'sharp';
import type { CacheView } from './cache.ts';
import type { Disk } from './disk.ts';
import { runNode } from './nodes.ts';
import type { Inputs, NodeResult } from './nodes.ts';
import { createOrder, isLink } from './order.ts';
import { Interrupted, RaisedError } from './raised.ts';
import type { FakeGraph, FakeObjectInfo, Stage } from './types.ts';
import type { Pictures, Value } from './values.ts';

export interface Item {
  number: number;
  id: string;
  graph: FakeGraph;
  extra: Record<string, unknown>;
  outputs: string[];
}

export type Message = [event: string, data: Record<string, unknown>];

export interface Outcome {
  success: boolean;
  messages: Message[];
  outputs: Record<string, unknown>;
  meta: Record<string, unknown>;
}

export interface ExecutionContext {
  info: FakeObjectInfo;
  cache: CacheView;
  disk: Disk;
  ffmpeg: boolean;
  stepMs(): number;
  /** How previews are made for this prompt. */
  previews: 'jpeg' | 'png' | 'none';
  send(type: string, data: object): void;
  sendPreview(image: Uint8Array, media: 'image/jpeg' | 'image/png', node: object): void;
  /** Only to clients without the flag for previews that name their node. */
  sendPlainPreview(image: Uint8Array, media: 'image/jpeg' | 'image/png'): void;
  interrupted(): boolean;
  /** Stands still where a test wants it to. */
  stage(stage: Stage): Promise<void>;
  /** Throws what a test wants to go wrong in this node. */
  fail(type: string, last: boolean): void;
  /** A node begins; told once per node that runs. */
  began(id: string, type: string): void;
}

/** Between two reports of progress without a picture, in ms; the first and the last are always sent. */
const THROTTLE = 100;

const TENSOR = `tensor([[[[${'0.0000, 0.0000, 0.0196], ['.repeat(20)}...]]]])`;

interface NodeState {
  value: number;
  max: number;
  state: 'running' | 'finished';
}

export async function execute(item: Item, context: ExecutionContext): Promise<Outcome> {
  const { graph, id: prompt_id } = item;
  const messages: Message[] = [];
  const say = (event: string, data: Record<string, unknown>): void => {
    const stamped = { ...data, timestamp: Date.now() };
    messages.push([event, stamped]);
    context.send(event, stamped);
  };
  say('execution_start', { prompt_id });
  const cached = Object.keys(graph).filter((id) => context.cache.get(id));
  say('execution_cached', { nodes: cached, prompt_id });

  const nodes = new Map<string, NodeState>();
  const tell = (): void => context.send('progress_state', { prompt_id, nodes: states(nodes, prompt_id) });
  const executed: string[] = [];
  const outputs: Record<string, unknown> = {};
  const order = createOrder(graph, context.info, item.outputs, (id) => context.cache.get(id) !== undefined);
  const hasSampler = Object.values(graph).some(({ class_type: type }) => isSampler(type));
  let current = Object.keys(graph)[0]!;

  const run = async (id: string): Promise<void> => {
    const type = graph[id]!.class_type;
    const known = context.cache.get(id);
    if (known) {
      context.send('executed', { node: id, display_node: id, output: known.ui ?? null, prompt_id });
      if (known.ui) outputs[id] = known.ui;
      nodes.set(id, { value: 1, max: 1, state: 'finished' });
      return tell();
    }
    if (context.interrupted()) throw new Interrupted();
    nodes.set(id, { value: 0, max: 1, state: 'running' });
    tell();
    context.send('executing', { node: id, display_node: id, prompt_id });
    const isOutput = context.info[type]!.output_node === true;
    const inputs = resolve(graph, id, context.cache);
    context.began(id, type);
    if (isOutput && !hasSampler) await context.stage('sampling');
    if (isOutput) await context.stage('output');
    context.fail(type, isOutput);
    const steps = createSteps({ id, prompt_id, nodes, tell, context });
    const named = context.info[type]!.output ?? [];
    const result = await runNode(type, inputs, named, {
      disk: context.disk,
      ffmpeg: context.ffmpeg,
      prompt: JSON.stringify(graph),
      ...steps,
    });
    context.cache.set(id, result);
    if (result.ui) {
      outputs[id] = result.ui;
      context.send('executed', { node: id, display_node: id, output: result.ui, prompt_id });
    }
    const state = nodes.get(id)!;
    nodes.set(id, { value: state.max, max: state.max, state: 'finished' });
    tell();
    executed.push(id);
  };

  let success = true;
  try {
    if (cached.length < Object.keys(graph).length) await context.stage('start');
    for (let id = order.next(); id !== undefined; id = order.next()) {
      current = id;
      await run(id);
      order.done(id);
    }
    say('execution_success', { prompt_id });
  } catch (error) {
    success = false;
    const base = { prompt_id, node_id: current, node_type: graph[current]!.class_type, executed };
    if (error instanceof Interrupted) say('execution_interrupted', base);
    else say('execution_error', { ...base, ...told(error, graph, current), current_outputs: Object.keys(graph) });
  }
  const meta = Object.fromEntries(
    Object.keys(outputs).map((id) => [id, { node_id: id, display_node: id, parent_node: null, real_node_id: id }]),
  );
  return { success, messages, outputs, meta };
}

export function isSampler(type: string): boolean {
  return /^K?Sampler(?!.*Select)/.test(type);
}

function createSteps(given: {
  id: string;
  prompt_id: string;
  nodes: Map<string, NodeState>;
  tell(): void;
  context: ExecutionContext;
}) {
  const { id, prompt_id, nodes, tell, context } = given;
  let last = 0;
  const media = context.previews === 'png' ? 'image/png' : 'image/jpeg';
  const where = { node_id: id, prompt_id, display_node_id: id, parent_node_id: null, real_node_id: id };
  const report = (value: number, max: number, picture?: Uint8Array): void => {
    if (context.interrupted()) throw new Interrupted();
    if (value > 1 && value < max && !picture && Date.now() - last < THROTTLE) return;
    last = Date.now();
    nodes.set(id, { value, max, state: 'running' });
    tell();
    if (picture) context.sendPreview(picture, media, where);
    context.send('progress', { value, max, prompt_id, node: id });
    if (picture) context.sendPlainPreview(picture, media);
  };
  return {
    tick: (value: number, max: number) => report(value, max),
    async step(value: number, max: number, preview?: () => Promise<Pictures>) {
      if (value === 2) await context.stage('sampling');
      await pause(context.stepMs());
      const format = context.previews;
      report(value, max, preview && format !== 'none' ? await toPreview(await preview(), format) : undefined);
      if (max === 1) await context.stage('sampling');
    },
  };
}

/** As latents are shown: a pixel for eight. */
async function toPreview(pictures: Pictures, format: 'jpeg' | 'png'): Promise<Uint8Array> {
  const [r, g, b] = await pictures.colour(0);
  const [width, height] = [pictures.width, pictures.height].map((side) => Math.max(1, Math.round(side / 8)));
  const picture = sharp({ create: { width: width!, height: height!, channels: 3, background: { r, g, b } } });
  return new Uint8Array(await picture.toFormat(format).toBuffer());
}

function resolve(graph: FakeGraph, id: string, cache: CacheView): Inputs {
  return Object.fromEntries(
    Object.entries(graph[id]!.inputs).map(([name, value]) => {
      if (!isLink(value)) return [name, value];
      const source: NodeResult | undefined = cache.get(String(value[0]));
      return [name, source?.outputs[value[1]] as Value | undefined];
    }),
  );
}

function states(nodes: Map<string, NodeState>, prompt_id: string): object {
  return Object.fromEntries(
    [...nodes].map(([id, state]) => [
      id,
      { ...state, node_id: id, prompt_id, display_node_id: id, parent_node_id: null, real_node_id: id },
    ]),
  );
}

/** An exception as `execution_error` tells it. */
function told(error: unknown, graph: FakeGraph, id: string): Record<string, unknown> {
  const type = error instanceof RaisedError ? error.type : 'RuntimeError';
  const message = error instanceof Error ? error.message : String(error);
  return {
    exception_message: `${message}\n`,
    exception_type: type,
    traceback: [
      '  File "/ComfyUI/execution.py", line 545, in execute\n    output_data, output_ui, has_subgraph, has_pending_tasks = await get_output_data(prompt_id, unique_id, obj, input_data_all)\n',
      `  File "/ComfyUI/nodes.py", line 636, in run\n    raise ${type}\n`,
    ],
    // Links are told as the values that came through them, which for pictures are long.
    current_inputs: Object.fromEntries(
      Object.entries(graph[id]!.inputs).map(([name, value]) => [name, [isLink(value) ? TENSOR : value]]),
    ),
  };
}
