// How far a whole graph is, from what the server says of its nodes one by one.
import type { ProgressEvent } from '../../../src/event.ts';
import type { Graph, ObjectInfo } from './workflow.ts';
import type { Message } from './wire.ts';

export interface Progress {
  /** Undefined where the message brings it no further. */
  hear(message: Message): ProgressEvent | undefined;
  /** All of it, whatever was heard. */
  end(): ProgressEvent;
}

const MAX_STEPS = 1000;

/**
 * A node counts one step, a sampler as many as it takes, so that most of the way is where most of the time goes. What has begun
 * needs what it is made from: that is finished, whether it ran or was remembered.
 */
export function createProgress(graph: Graph, info: ObjectInfo): Progress {
  const weights = new Map([...toNeeded(graph, info)].map((id) => [id, toWeight(graph, id)]));
  const total = [...weights.values()].reduce((sum, weight) => sum + weight, 0);
  const finished = new Set<string>();
  /** Of the nodes that run: how much of them is done, 0 to 1. */
  const running = new Map<string, number>();
  let told = 0;
  /** Servers that tell of all nodes at once are believed rather than their older messages. */
  let exact = false;

  function finish(id: string): void {
    if (finished.has(id)) return;
    running.delete(id);
    finished.add(id);
    for (const source of sourcesOf(graph, id)) finish(source);
  }

  function begin(id: string, fraction: number): void {
    if (finished.has(id) || !(id in graph)) return;
    running.set(id, Math.max(running.get(id) ?? 0, Math.min(1, Math.max(0, fraction))));
    for (const source of sourcesOf(graph, id)) finish(source);
  }

  function take(message: Message): void {
    if (message.type === 'cached') for (const id of message.nodes) finish(id);
    else if (message.type === 'executed') finish(message.node);
    else if (message.type === 'state') {
      exact = true;
      for (const [id, { value, max, state }] of Object.entries(message.nodes)) {
        if (state === 'finished') finish(id);
        else if (state === 'running') begin(id, max > 0 ? value / max : 0);
      }
    } else if (message.type === 'step') {
      begin(message.node, message.max > 0 ? message.value / message.max : 0);
    } else if (message.type === 'node' && message.node !== null && !exact) {
      for (const id of running.keys()) if (id !== message.node) finish(id);
      begin(message.node, 0);
    }
  }

  function tell(done: number): ProgressEvent {
    told = done;
    return { type: 'progress', done, total, unit: 'steps' };
  }

  return {
    hear(message) {
      take(message);
      let done = 0;
      for (const [id, weight] of weights) done += weight * (finished.has(id) ? 1 : (running.get(id) ?? 0));
      const rounded = Math.min(total, Math.round(done * 100) / 100);
      return rounded > told ? tell(rounded) : undefined;
    },
    end: () => tell(total),
  };
}

/** Nodes that end in something; others are never run. */
function toNeeded(graph: Graph, info: ObjectInfo): Set<string> {
  const ids = Object.keys(graph);
  const used = new Set(ids.flatMap((id) => sourcesOf(graph, id)));
  const saves = ids.filter((id) => info[graph[id]!.class_type]?.output_node === true);
  const needed = new Set<string>();
  const visit = (id: string) => {
    if (needed.has(id)) return;
    needed.add(id);
    sourcesOf(graph, id).forEach(visit);
  };
  (saves.length > 0 ? saves : ids.filter((id) => !used.has(id))).forEach(visit);
  return needed;
}

function toWeight(graph: Graph, id: string): number {
  const { class_type, inputs } = graph[id]!;
  if (!/sampler/i.test(class_type) || /select/i.test(class_type)) return 1;
  const schedule = linkOf(graph, inputs['sigmas']);
  const steps = inputs['steps'] ?? (schedule === undefined ? undefined : graph[schedule]!.inputs['steps']);
  return typeof steps === 'number' && steps >= 1 ? Math.min(MAX_STEPS, Math.floor(steps)) : 1;
}

function sourcesOf(graph: Graph, id: string): string[] {
  return Object.values(graph[id]?.inputs ?? {}).flatMap((value) => linkOf(graph, value) ?? []);
}

function linkOf(graph: Graph, value: unknown): string | undefined {
  if (!Array.isArray(value) || value.length !== 2 || typeof value[1] !== 'number') return undefined;
  const id = String(value[0]);
  return id in graph ? id : undefined;
}
