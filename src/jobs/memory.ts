// Remembers what deterministic requests made: the same capability, model and input with the same explicit seed need not run twice.
import type { DocumentStore, Put } from '../store.ts';
import type { JobNotes } from './options.ts';

export type MemoryScope = 'off' | 'caller' | 'all';

/** What is known of an answer that was given before. */
export interface Remembered {
  result: unknown;
  notes: Pick<JobNotes, 'target' | 'warnings' | 'artifacts'>;
  /** Whose artifacts they are. */
  owner: string;
}

export interface Memory {
  /** Undefined where the request has no explicit seed, or nothing is remembered at all. */
  keyOf(request: { owner: string; capability: string; model: string; input: unknown }): Promise<string | undefined>;
  /** With the documents that give the caller artifacts of their own, where they are another's. */
  recall(key: string, owner: string, job: string): Promise<{ value: Remembered; puts: Put[] } | undefined>;
  toPut(key: string, value: Remembered, due: number): Put;
}

const KIND = 'remembered';

/**
 * Gives files that one caller has to another, or to the same for another job. Undefined where one of them is gone: it
 * cannot be given again, and is made anew.
 */
export type ShareFiles = (
  from: string,
  ids: string[],
  to: { owner: string; job: string },
) => Promise<{ ids: string[]; puts: Put[] } | undefined>;

/** Only what was asked for with a seed of its own comes out the same again. */
export function isDeterministic(input: Record<string, unknown>): boolean {
  return input['seed'] !== undefined && input['seed'] !== null;
}

export function createMemory(documents: DocumentStore, scope: MemoryScope, share: ShareFiles): Memory {
  return {
    async keyOf({ owner, capability, model, input }) {
      const { seed, stream: _, model: _asked, ...rest } = input as Record<string, unknown>;
      if (scope === 'off' || !isDeterministic(input as Record<string, unknown>)) return undefined;
      const text = canonical({ capability, model, seed, ...rest, ...(scope === 'caller' ? { '': owner } : {}) });
      return toHex(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
    },
    async recall(key, owner, job) {
      const known = await documents.get<Remembered>(KIND, key);
      if (!known || (scope === 'caller' && known.owner !== owner)) return undefined;
      const { value } = known;
      const { artifacts = [] } = value.notes;
      if (artifacts.length === 0) return { value, puts: [] };
      const shared = await share(value.owner, artifacts, { owner, job });
      return shared && { value: { ...value, notes: { ...value.notes, artifacts: shared.ids } }, puts: shared.puts };
    },
    toPut: (key, value, due) => ({ kind: KIND, id: key, owner: value.owner, value, due }),
  };
}

/** The same text for the same value, in whatever order its members stand. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'null';
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`;
}

export function toHex(bytes: ArrayBuffer): string {
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
