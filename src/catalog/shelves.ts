// The lists of models, one for each runtime: read within a deadline, kept while nothing changes, asked for more rarely where a runtime is down.
import { GatewayError, toGatewayError } from '../error.ts';
import type { Model, RuntimeAdapter } from '../runtime.ts';

export interface Shelf {
  readonly runtime: RuntimeAdapter;
  /** What it last told; each model stays the same object while nothing about it changes. */
  readonly models: readonly Model[];
  /** Why it is down. */
  readonly error: GatewayError | undefined;
}

export interface Shelves {
  /** The higher priority first. */
  readonly all: readonly Shelf[];
  /** Grows when a list, or whether a runtime is up, has really changed. */
  version(): number;
  /** Undefined where every list was read once; old ones are renewed behind the caller's back. */
  current(): Promise<void> | undefined;
  /** Reads lists that are older than a moment, because something was not in them. */
  lookAgain(): Promise<void>;
  /** Asks one runtime, or all of them, from now on: a reading that is under way does not count. Never throws. */
  refresh(runtime?: string): Promise<void>;
  markDown(runtime: RuntimeAdapter, error: GatewayError): void;
}

export interface ShelvesOptions {
  runtimes: RuntimeAdapter[];
  /** How long a list is good for, in milliseconds. */
  ttlMs: number;
  /** Longest wait for one list, in milliseconds, whether or not the runtime heeds its signal. */
  deadlineMs: number;
}

interface Kept extends Shelf {
  models: readonly Model[];
  error: GatewayError | undefined;
  /** When it was last read, when it is to be read again, and how long that took. */
  readAt: number;
  dueAt: number;
  tookMs: number;
  /** Readings in a row that failed. */
  failures: number;
  reading?: Promise<void>;
  /** A reading that begins when the one under way has ended. */
  next?: Promise<void>;
}

/** What is not in the lists makes them be read again, but not more often than this. */
const MISS_MS = 1000;
/** A runtime that is down for long is asked this often, or as often as lists are renewed where that is less. */
const LONGEST_MS = 60_000;

export function createShelves({ runtimes, ttlMs, deadlineMs }: ShelvesOptions): Shelves {
  const all: Kept[] = runtimes
    .toSorted((a, b) => b.priority - a.priority)
    .map((runtime) => ({
      runtime,
      models: [],
      error: silent(runtime),
      readAt: -Infinity,
      dueAt: -Infinity,
      tookMs: 0,
      failures: 0,
    }));
  let version = 0;

  function read(shelf: Kept): Promise<void> {
    shelf.reading ??= (async () => {
      const begun = performance.now();
      try {
        put(shelf, await listOf(shelf.runtime, deadlineMs));
        say(shelf, undefined);
        shelf.failures = 0;
      } catch (thrown) {
        // The models it last had stay listed and can be asked for by name: the answer then says what is wrong.
        say(shelf, toGatewayError(thrown));
        shelf.failures++;
      }
      shelf.readAt = performance.now();
      shelf.tookMs = shelf.readAt - begun;
      const patience = Math.max(ttlMs, Math.min(LONGEST_MS, ttlMs * 2 ** Math.min(16, shelf.failures - 1)));
      shelf.dueAt = shelf.readAt + (shelf.failures === 0 ? ttlMs : patience);
      delete shelf.reading;
    })();
    return shelf.reading;
  }

  function put(shelf: Kept, list: readonly Model[]): void {
    const known = new Map(shelf.models.map((model) => [model.id, model]));
    const models = list.map((model) => {
      const before = known.get(model.id);
      // A copy: a runtime may change its own objects in place, and nobody would notice.
      return before && isSame(before, model) ? before : copy(model);
    });
    if (models.length === shelf.models.length && models.every((model, place) => model === shelf.models[place])) return;
    shelf.models = models;
    version++;
  }

  function say(shelf: Kept, error: GatewayError | undefined): void {
    if (shelf.error?.code !== error?.code || shelf.error?.message !== error?.message) version++;
    shelf.error = error;
  }

  function readAnew(shelf: Kept): Promise<void> {
    if (!shelf.reading) return read(shelf);
    shelf.next ??= shelf.reading.then(() => {
      delete shelf.next;
      return read(shelf);
    });
    return shelf.next;
  }

  const together = async (readings: Promise<void>[]) => void (await Promise.all(readings));

  return {
    all,
    version: () => version,
    current() {
      const never = all.filter(({ readAt }) => readAt === -Infinity);
      if (never.length > 0) return together(never.map(read));
      const now = performance.now();
      for (const shelf of all) if (now >= shelf.dueAt) void read(shelf);
      return undefined;
    },
    lookAgain() {
      const now = performance.now();
      // A runtime that was slow to answer is not waited for by every miss.
      return together(all.filter(({ readAt, tookMs }) => now - readAt > Math.max(MISS_MS, 2 * tookMs)).map(read));
    },
    refresh: (name) => together(all.filter(({ runtime }) => name === undefined || runtime.name === name).map(readAnew)),
    markDown(runtime, error) {
      const shelf = all.find((each) => each.runtime === runtime);
      if (shelf) say(shelf, error);
    },
  };
}

async function listOf(runtime: RuntimeAdapter, deadlineMs: number): Promise<readonly Model[]> {
  const signal = AbortSignal.timeout(deadlineMs);
  const late = Promise.withResolvers<never>();
  const onLate = () =>
    late.reject(
      new GatewayError('upstream_timeout', `${runtime.name} did not list its models within ${deadlineMs / 1000} s.`, {
        source: runtime.name,
        hint: `Look whether ${runtime.name} hangs, or raise HONO_AI_CONTROL_MS.`,
      }),
    );
  signal.addEventListener('abort', onLate, { once: true });
  try {
    return await Promise.race([late.promise, runtime.models(signal)]);
  } finally {
    signal.removeEventListener('abort', onLate);
  }
}

/** Before its first list has come. */
function silent({ name }: RuntimeAdapter): GatewayError {
  return new GatewayError('upstream_unavailable', `${name} has not answered yet.`, {
    source: name,
    hint: 'Ask again in a moment.',
  });
}

function copy(model: Model): Model {
  const { capabilities, aliases } = model;
  return { ...model, capabilities: [...capabilities], ...(aliases ? { aliases: [...aliases] } : {}) };
}

/** Of plain data. */
function isSame(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => isSame(item, b[index]));
  }
  const names = Object.keys(a) as (keyof typeof a)[];
  if (names.length !== Object.keys(b).length) return false;
  return names.every((name) => Object.hasOwn(b, name) && isSame(a[name], b[name]));
}
