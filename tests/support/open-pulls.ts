// A pull engine over scripted pullers and documents in memory, with those who follow; a second one can take over the documents.
import { createPulls, type FollowEvent, type Pulls, type PullsOptions, type Wanted } from '../../src/models/pulls.ts';
import type { Puller } from '../../src/puller.ts';
import type { Document, DocumentStore, Put } from '../../src/store.ts';
import { toGatewayError, type GatewayError } from '../../src/error.ts';

export interface Follower {
  events: FollowEvent[];
  leave(): void;
  /** How it ended; undefined: well. */
  end: Promise<GatewayError | undefined>;
}

export function openPulls(pullers: Puller[], options: Partial<PullsOptions> = {}) {
  const published: { type: string; data: Record<string, unknown>; at: number }[] = [];
  const changes: string[] = [];
  const warnings: string[] = [];
  const pulls: Pulls = createPulls({
    pullers,
    documents: options.documents ?? createMemoryDocuments(),
    hub: { publish: ({ type, data }) => void published.push({ type, data, at: performance.now() }) },
    concurrency: 2,
    now: Date.now,
    onChanged: async (runtime, model) => void changes.push(`${runtime}/${model}`),
    warn: (message) => void warnings.push(message),
    backoff: () => 5,
    patience: { stopMs: 200 },
    ...options,
  });
  return { pulls, published, changes, warnings, follow: (wanted: Wanted) => follow(pulls, wanted) };
}

/** Reads all that comes. */
export function follow(pulls: Pulls, wanted: Wanted): Follower {
  const abort = new AbortController();
  const events: FollowEvent[] = [];
  const end = (async () => {
    try {
      for await (const event of pulls.follow(wanted, abort.signal)) events.push(event);
      return undefined;
    } catch (error) {
      return toGatewayError(error);
    }
  })();
  return { events, end, leave: () => abort.abort() };
}

/** As much of the contract as pulls use; tests/conformance/store.ts holds the stores themselves to it. */
export function createMemoryDocuments(): DocumentStore & { size(): number } {
  const all = new Map<string, Document>();
  let version = 0;
  const apply = (put: Put) => {
    const key = `${put.kind} ${put.id}`;
    if ('delete' in put) return void all.delete(key);
    const { kind, id, owner, due } = put;
    const value = JSON.parse(JSON.stringify(put.value)) as unknown;
    all.set(key, { kind, id, owner, value, version: ++version, createdAt: Date.now(), ...(due ? { due } : {}) });
  };
  const of = (kind: string) => [...all.values()].filter((document) => document.kind === kind);
  return {
    size: () => all.size,
    async put(puts) {
      for (const put of puts) apply(put);
      return undefined;
    },
    get: async <T>(kind: string, id: string) => all.get(`${kind} ${id}`) as Document<T> | undefined,
    list: async <T>(kind: string) => ({ documents: of(kind) as Document<T>[] }),
    due: async <T>(kind: string, now: number) => of(kind).filter(({ due = Infinity }) => due <= now) as Document<T>[],
    nextDue: async () => undefined,
    countRef: async () => 0,
  };
}
