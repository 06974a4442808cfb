// How long jobs take, learned from those that ended: what an ETA is made of.
import type { DocumentStore } from '../store.ts';

export interface Estimates {
  /** A job of this capability and model took this long, in milliseconds. */
  learn(key: string, ms: number): void;
  /** Milliseconds that one takes; undefined where none was seen. */
  of(key: string): number | undefined;
  /** Milliseconds that any takes. */
  any(): number | undefined;
  load(): Promise<void>;
  save(now: number): Promise<void>;
}

/** The weight of the newest: high enough to follow a change, low enough not to jump with every one. */
const WEIGHT = 0.25;
const KIND = 'timing';
const KEEP_MS = 90 * 86_400_000;

export function createEstimates(documents: DocumentStore): Estimates {
  const means = new Map<string, number>();
  const changed = new Set<string>();
  let overall: number | undefined;

  const mix = (mean: number | undefined, ms: number) => (mean === undefined ? ms : mean + WEIGHT * (ms - mean));

  return {
    learn(key, ms) {
      means.set(key, mix(means.get(key), ms));
      overall = mix(overall, ms);
      changed.add(key);
    },
    of: (key) => means.get(key),
    any: () => overall,
    async load() {
      const { documents: known } = await documents.list<number>(KIND, { limit: 500 });
      for (const { id, value } of known) {
        means.set(id, value);
        overall = mix(overall, value);
      }
    },
    async save(now) {
      const puts = [...changed].map((id) => ({
        kind: KIND,
        id,
        owner: 'gateway',
        value: means.get(id),
        due: now + KEEP_MS,
      }));
      changed.clear();
      if (puts.length > 0) await documents.put(puts);
    },
  };
}

export function toEstimateKey(capability: string, model: string | undefined): string {
  return `${capability} ${model ?? ''}`;
}

/** Seconds left: by how far it is, or by how long such jobs take. */
export function remaining(elapsed: number, percent = 0, mean?: number): number | undefined {
  if (percent >= 5) return Math.ceil((elapsed * (100 - percent)) / percent / 1000);
  return mean === undefined ? undefined : Math.max(1, Math.ceil((mean - elapsed) / 1000));
}
