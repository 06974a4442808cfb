// How much memory models took of the card when they were measured, by how large what they made was: so that a guess is needed only once.
import type { Resident } from '../runtime.ts';
import type { Document, DocumentStore, Put } from '../store.ts';

/** `guess`: seen only while it worked, or too small when it ran out of memory; `sure`: seen at rest again and again, and about the same. */
export type Confidence = 'guess' | 'seen' | 'sure';

export interface Footprint {
  /** Bytes of VRAM: the most that was seen for this extent. */
  bytes: number;
  /** Tokens of context, or pixels of all frames at once, as `extentOf` counts; undefined where nobody told. */
  extent: number | undefined;
  /** Measurements at rest so far. */
  count: number;
  confidence: Confidence;
  /** Bytes that each unit of extent beyond this one took, where several were measured. */
  perUnit?: number;
}

export interface Footprints {
  /** What it holds on the card, at its peak where that is told, and what of it found no room there; its `contextWindow` is the extent. One that holds nothing of the card teaches nothing, nor do figures that are shared or guessed. */
  learn(runtime: string, resident: Resident): void;
  /** It ran out of memory with `footprint` bytes let in: it needs more, though nobody knows how much. */
  outgrew(runtime: string, model: string, extent: number | undefined, footprint: number): void;
  /**
   * For an extent that was measured, or lies between two that were; else for the nearest, and never for less than what a smaller
   * one took. For the one that was measured last if `extent` is absent.
   */
  of(runtime: string, model: string, extent?: number): Footprint | undefined;
  /** Grows whenever `of` would tell something else. */
  version(): number;
  load(): Promise<void>;
  /** Writes what has changed; nothing where nothing has. */
  save(now: number): Promise<void>;
}

interface Entry {
  bytes: number;
  extent: number | undefined;
  count: number;
  /** About the least that was seen at rest, in bytes. */
  least: number;
  /** Less was measured so often in a row, and at most so much; since when, in milliseconds. */
  lower: { times: number; bytes: number; at: number };
}

type Entries = Map<number | undefined, Entry>;

/** What is kept of a model: the extent measured last stands last. Before there were other extents, `least` was not kept. */
type Kept = [bytes: number, extent: number | null, count: number, least?: number][];

const KIND = 'footprint';
const OWNER = 'gateway';
const PAGE = 500;
const MAX_NAME = 400;
/** Models that are remembered; the one not measured for longest is forgotten first. */
const MAX_MODELS = 5000;
const MAX_EXTENTS = 8;
/** So much less, so many times in a row, and so far apart that it was not one load on its way: the model was made smaller. */
const LOWER = { share: 0.9, times: 3, apartMs: 60_000 };
/** So often, and so alike: then it is what it takes. */
const SURE = { count: 3, share: 0.9 };
/** How fast an odd reading is forgotten when others agree. */
const FORGIVING = 0.2;
/** What ran out of memory needs at least so many times of what it was let in with. */
const OUTGREW = 1.25;

export interface FootprintOptions {
  /** Milliseconds. */
  clock?: () => number;
  /** Bytes of VRAM that models may use; undefined: nobody knows. */
  budget?: () => number | undefined;
}

export function createFootprints(documents: DocumentStore, options: FootprintOptions = {}): Footprints {
  const { clock = Date.now, budget = () => undefined } = options;
  /** Models in the order of their last measurement; extents as well. */
  const models = new Map<string, Entries>();
  const changed = new Set<string>();
  let version = 0;

  /** `change` returns whether something else is to be told of the entry now. */
  function update(runtime: string, model: string, extent: number | undefined, change: (entry: Entry) => boolean): void {
    const key = toKey(runtime, model);
    if (key.length > MAX_NAME) return;
    const entries: Entries = models.get(key) ?? new Map();
    const entry = entries.get(extent) ?? { bytes: 0, extent, count: 0, least: Infinity, lower: none() };
    const latest = [...entries.keys()].at(-1);
    const before = toConfidence(entry);
    if (change(entry) || latest !== extent || entries.size === 0 || toConfidence(entry) !== before) {
      version++;
      changed.add(key);
    }
    moveLast(entries, extent, entry, MAX_EXTENTS);
    for (const forgotten of moveLast(models, key, entries, MAX_MODELS)) changed.add(forgotten);
  }

  function learn(runtime: string, resident: Resident): void {
    const { model, vram, peak = 0, ram, busy, shared, estimated } = resident;
    const extent = toExtent(resident.contextWindow);
    // What sat wholly on the card fits there: caches that fill the room there is are no need.
    const most = Math.max(vram, peak);
    const bytes = Math.round(ram ? vram + (Number.isFinite(ram) ? ram : 0) : Math.min(most, budget() ?? most));
    if (shared || estimated || !(vram > 0) || !Number.isSafeInteger(bytes) || bytes < 0) return;
    update(runtime, model, extent, (entry) => {
      // What works may still be on its way to the card: then less says nothing.
      if (busy) return raise(entry, bytes);
      entry.count++;
      entry.least = bytes < entry.least ? bytes : entry.least + (bytes - entry.least) * FORGIVING;
      return follow(entry, bytes, clock());
    });
  }

  function outgrew(runtime: string, model: string, extent: number | undefined, footprint: number): void {
    const needed = Math.round(footprint * OUTGREW);
    const bytes = Math.max(footprint, Math.min(needed, budget() ?? needed));
    if (!Number.isSafeInteger(bytes) || bytes <= 0) return;
    update(runtime, model, toExtent(extent), (entry) => {
      entry.count = 0;
      return raise(entry, bytes);
    });
  }

  return {
    learn,
    outgrew,
    of: (runtime, model, extent) => {
      const entries = [...(models.get(toKey(runtime, model))?.values() ?? [])];
      return entries.length === 0 ? undefined : find(entries, toExtent(extent));
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
        const entries = models.get(key);
        if (!entries) return { kind: KIND, id: key, delete: true };
        return { kind: KIND, id: key, owner: OWNER, value: toKept(entries) };
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

/** Of several extents the larger one never takes less, whatever was measured of it. */
function find(entries: readonly Entry[], extent: number | undefined): Footprint {
  const latest = entries.at(-1)!;
  if (extent === undefined) return toFootprint(entries.find((entry) => entry.extent === undefined) ?? latest);
  const sized = entries.filter((entry) => entry.extent !== undefined).toSorted((a, b) => a.extent! - b.extent!);
  if (sized.length === 0) return toFootprint(latest);
  let most = 0;
  const rising = sized
    .map((entry) => toFootprint(entry, (most = Math.max(most, entry.bytes))))
    // What a larger one really took is a better measure than a guess.
    .filter(({ count }, index, all) => count > 0 || !all.slice(index + 1).some((larger) => larger.count > 0));
  const above = rising.find((one) => one.extent! >= extent);
  const below = rising.findLast((one) => one.extent! <= extent);
  if (!above) return { ...below!, ...toSlope(rising) };
  if (!below || above.extent === extent) return above;
  const share = (extent - below.extent!) / (above.extent! - below.extent!);
  return {
    bytes: Math.round(below.bytes + share * (above.bytes - below.bytes)),
    extent,
    count: Math.min(below.count, above.count),
    confidence: below.count === 0 || above.count === 0 ? 'guess' : 'seen',
  };
}

function toSlope(rising: readonly Footprint[]): { perUnit?: number } {
  const [first, last] = [rising[0]!, rising.at(-1)!];
  if (first === last) return {};
  return { perUnit: (last.bytes - first.bytes) / (last.extent! - first.extent!) };
}

function toFootprint(entry: Entry, bytes = entry.bytes): Footprint {
  return { bytes, extent: entry.extent, count: entry.count, confidence: toConfidence(entry) };
}

function toConfidence({ bytes, count, least }: Entry): Confidence {
  if (count === 0) return 'guess';
  return count >= SURE.count && least >= bytes * SURE.share ? 'sure' : 'seen';
}

function raise(entry: Entry, bytes: number): boolean {
  if (bytes <= entry.bytes) return false;
  Object.assign(entry, { bytes, lower: none() });
  return true;
}

/** The most that was seen counts, until less is seen again and again. Whether the entry has changed. */
function follow(entry: Entry, bytes: number, at: number): boolean {
  if (raise(entry, bytes)) return true;
  const { lower } = entry;
  if (bytes >= entry.bytes * LOWER.share) lower.times = 0;
  else if (lower.times === 0 || at - lower.at >= LOWER.apartMs) {
    entry.lower = { times: lower.times + 1, bytes: lower.times === 0 ? bytes : Math.max(lower.bytes, bytes), at };
  }
  if (entry.lower.times < LOWER.times) return false;
  Object.assign(entry, { bytes: entry.lower.bytes, least: entry.lower.bytes, lower: none() });
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

function toExtent(extent: number | undefined): number | undefined {
  return extent !== undefined && Number.isFinite(extent) && extent > 0 ? extent : undefined;
}

function toKept(entries: Entries): Kept {
  return [...entries.values()].map(({ bytes, extent, count, least }) => {
    return [bytes, extent ?? null, count, ...(Number.isFinite(least) ? [Math.round(least)] : [])] as Kept[number];
  });
}

function toEntries(kept: Kept): Entries {
  const entries = kept.map(([bytes, told, count, least]): Entry => {
    return { bytes, extent: told ?? undefined, count, least: least ?? (count > 0 ? bytes : Infinity), lower: none() };
  });
  return new Map(entries.map((entry) => [entry.extent, entry]));
}
