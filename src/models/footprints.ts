// How much memory models took of the card when they were measured: remembered, so that a guess is needed only once.
import type { Resident } from '../runtime.ts';
import type { Document, DocumentStore, Put } from '../store.ts';

export interface Footprint {
  /** Bytes of VRAM: the most that was seen for this context. */
  bytes: number;
  context: number | undefined;
  /** Measurements so far. */
  count: number;
}

export interface Footprints {
  /** What it holds on the card, and what of it found no room there. One that holds nothing of the card teaches nothing, nor do figures that are shared or guessed. */
  learn(runtime: string, resident: Resident): void;
  /** For the context nearest to `context`; for the one that was measured last if absent. */
  of(runtime: string, model: string, context?: number): Footprint | undefined;
  /** Grows whenever `of` would tell something else. */
  version(): number;
  load(): Promise<void>;
  /** Writes what has changed; nothing where nothing has. */
  save(now: number): Promise<void>;
}

interface Entry extends Footprint {
  /** Less was measured so often in a row, and at most so much; since when, in milliseconds. */
  lower: { times: number; bytes: number; at: number };
}

/** What is kept of a model: the context measured last stands last. */
type Kept = [bytes: number, context: number | null, count: number][];

const KIND = 'footprint';
const OWNER = 'gateway';
const PAGE = 500;
const MAX_NAME = 400;
/** Models that are remembered; the one not measured for longest is forgotten first. */
const MAX_MODELS = 5000;
const MAX_CONTEXTS = 4;
/** So much less, so many times in a row, and so far apart that it was not one load on its way: the model was made smaller. */
const LOWER = { share: 0.9, times: 3, apartMs: 60_000 };

export interface FootprintOptions {
  /** Milliseconds. */
  clock?: () => number;
  /** Bytes of VRAM that models may use; undefined: nobody knows. */
  budget?: () => number | undefined;
}

export function createFootprints(documents: DocumentStore, options: FootprintOptions = {}): Footprints {
  const { clock = Date.now, budget = () => undefined } = options;
  /** Models in the order of their last measurement; contexts as well. */
  const models = new Map<string, Map<number | undefined, Entry>>();
  const changed = new Set<string>();
  let version = 0;

  function learn(runtime: string, resident: Resident): void {
    const { model, vram, ram, contextWindow: context, shared, estimated } = resident;
    // What sat wholly on the card fits there: caches that fill the room there is are no need.
    const bytes = Math.round(ram ? vram + (Number.isFinite(ram) ? ram : 0) : Math.min(vram, budget() ?? vram));
    if (shared || estimated || !(vram > 0) || !Number.isSafeInteger(bytes) || bytes < 0) return;
    const key = toKey(runtime, model);
    if (key.length > MAX_NAME) return;
    const contexts = models.get(key) ?? new Map<number | undefined, Entry>();
    const entry = contexts.get(context) ?? { bytes: 0, context, count: 0, lower: none() };
    const latest = [...contexts.keys()].at(-1);
    entry.count++;
    if (follow(entry, bytes, clock()) || latest !== context || contexts.size === 0) {
      version++;
      changed.add(key);
    }
    moveLast(contexts, context, entry, MAX_CONTEXTS);
    for (const forgotten of moveLast(models, key, contexts, MAX_MODELS)) changed.add(forgotten);
  }

  return {
    learn,
    of(runtime, model, context) {
      const contexts = models.get(toKey(runtime, model));
      const entries = [...(contexts?.values() ?? [])];
      const away = (entry: Entry) => Math.abs((entry.context ?? Infinity) - context!);
      const entry = context === undefined ? entries.at(-1) : entries.toSorted((a, b) => away(a) - away(b)).at(0);
      return entry && { bytes: entry.bytes, context: entry.context, count: entry.count };
    },
    version: () => version,
    async load() {
      const kept: Document<Kept>[] = [];
      let cursor: string | undefined;
      do {
        const page = await documents.list<Kept>(KIND, { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) });
        kept.push(...page.documents);
        cursor = page.next;
      } while (cursor !== undefined && kept.length < MAX_MODELS);
      // Newest first: the oldest is to be the first that is forgotten.
      for (const { id, value } of kept.toReversed()) if (!models.has(id)) models.set(id, toEntries(value));
      version++;
    },
    async save() {
      const puts = [...changed].map((key): Put => {
        const contexts = models.get(key);
        if (!contexts) return { kind: KIND, id: key, delete: true };
        return { kind: KIND, id: key, owner: OWNER, value: toKept(contexts) };
      });
      const written = [...changed];
      changed.clear();
      if (puts.length === 0) return;
      await documents.put(puts).catch((error: unknown) => {
        for (const key of written) changed.add(key);
        throw error;
      });
    },
  };
}

/** The most that was seen counts, until less is seen again and again. Whether the entry has changed. */
function follow(entry: Entry, bytes: number, at: number): boolean {
  if (bytes > entry.bytes) {
    Object.assign(entry, { bytes, lower: none() });
    return true;
  }
  const { lower } = entry;
  if (bytes >= entry.bytes * LOWER.share) lower.times = 0;
  else if (lower.times === 0 || at - lower.at >= LOWER.apartMs) {
    entry.lower = { times: lower.times + 1, bytes: lower.times === 0 ? bytes : Math.max(lower.bytes, bytes), at };
  }
  if (entry.lower.times < LOWER.times) return false;
  Object.assign(entry, { bytes: entry.lower.bytes, lower: none() });
  return true;
}

function none(): Entry['lower'] {
  return { times: 0, bytes: 0, at: 0 };
}

/** Puts an entry at the end, and drops what is too many from the beginning; what was dropped. */
function moveLast<Key, Value>(map: Map<Key, Value>, key: Key, value: Value, most: number): Key[] {
  map.delete(key);
  map.set(key, value);
  const dropped: Key[] = [];
  for (const first of map.keys()) {
    if (map.size <= most) break;
    map.delete(first);
    dropped.push(first);
  }
  return dropped;
}

function toKey(runtime: string, model: string): string {
  return `${runtime} ${model}`;
}

function toKept(contexts: Map<number | undefined, Entry>): Kept {
  return [...contexts.values()].map(({ bytes, context, count }) => [bytes, context ?? null, count]);
}

function toEntries(kept: Kept): Map<number | undefined, Entry> {
  const entries = kept.map(([bytes, told, count]): Entry => {
    return { bytes, context: told ?? undefined, count, lower: none() };
  });
  return new Map(entries.map((entry) => [entry.context, entry]));
}
