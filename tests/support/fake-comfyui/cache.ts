// What a fake ComfyUI keeps of the last prompt: nodes with the same class, inputs and ancestors are not run again.
import type { Disk } from './disk.ts';
import type { NodeResult } from './nodes.ts';
import { isLink } from './order.ts';
import type { FakeGraph, FakeObjectInfo } from './types.ts';

export interface Cache {
  /** Forgets what this prompt does not use, and says what of it is there. */
  open(graph: FakeGraph, info: FakeObjectInfo, disk: Disk): CacheView;
  clear(): void;
}

export interface CacheView {
  get(id: string): NodeResult | undefined;
  set(id: string, result: NodeResult): void;
}

export function createCache(): Cache {
  const kept = new Map<string, NodeResult>();
  return {
    open(graph, info, disk) {
      const signatures = signaturesOf(graph, info, disk);
      const used = new Set(signatures.values());
      for (const signature of kept.keys()) if (!used.has(signature)) kept.delete(signature);
      return {
        get: (id) => kept.get(signatures.get(id)!),
        set: (id, result) => void kept.set(signatures.get(id)!, result),
      };
    },
    clear: () => kept.clear(),
  };
}

function signaturesOf(graph: FakeGraph, info: FakeObjectInfo, disk: Disk): Map<string, string> {
  const signatures = new Map<string, string>();
  const sign = (id: string): string => {
    const known = signatures.get(id);
    if (known !== undefined) return known;
    const { class_type: type, inputs } = graph[id]!;
    const parts = Object.entries(inputs)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => [name, isLink(value) ? [sign(String(value[0])), value[1]] : value]);
    // A class that is told its own id is run again under another one, and a loader when the file has changed.
    const own = Object.values(info[type]!.input?.hidden ?? {})
      .flat()
      .includes('UNIQUE_ID')
      ? id
      : '';
    const file = type.startsWith('LoadImage') ? (disk.named(String(inputs['image']))?.etag ?? '') : '';
    const signature = JSON.stringify([type, own, file, parts]);
    signatures.set(id, signature);
    return signature;
  };
  for (const id of Object.keys(graph)) sign(id);
  return signatures;
}
