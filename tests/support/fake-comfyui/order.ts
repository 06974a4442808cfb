// In which order the nodes of a graph run: from the outputs back over everything that is not cached, outputs as early as can be.
import type { FakeGraph, FakeObjectInfo } from './types.ts';

export interface Order {
  /** The next node that nothing holds up, or undefined at the end. */
  next(): string | undefined;
  done(id: string): void;
}

export function createOrder(
  graph: FakeGraph,
  info: FakeObjectInfo,
  outputs: string[],
  isCached: (id: string) => boolean,
): Order {
  const pending = new Set<string>();
  const blockers = new Map<string, Set<string>>();
  const blocking = (id: string) => [...blockers].filter(([, by]) => by.has(id)).map(([blocked]) => blocked);
  const isOutput = (id: string) => info[graph[id]!.class_type]!.output_node === true;

  for (const output of outputs) {
    const stack = [output];
    for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
      if (pending.has(id)) continue;
      pending.add(id);
      const sources = linksOf(graph, id).filter((source) => !isCached(source));
      blockers.set(id, new Set(sources));
      stack.push(...sources);
    }
  }

  return {
    next() {
      const ready = [...pending].filter((id) => blockers.get(id)!.size === 0);
      return (
        ready.find(isOutput) ??
        ready.find((id) => blocking(id).some(isOutput)) ??
        ready.find((id) => blocking(id).some((next) => blocking(next).some(isOutput))) ??
        ready[0]
      );
    },
    done(id) {
      pending.delete(id);
      blockers.delete(id);
      for (const by of blockers.values()) by.delete(id);
    },
  };
}

/** Ids of the nodes whose outputs this one takes. */
export function linksOf(graph: FakeGraph, id: string): string[] {
  return Object.values(graph[id]!.inputs).flatMap((value) => (isLink(value) ? [String(value[0])] : []));
}

export function isLink(value: unknown): value is [id: unknown, output: number] {
  return Array.isArray(value) && value.length === 2 && typeof value[1] === 'number';
}
