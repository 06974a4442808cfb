// Which model of which runtime answers: default → alias → id → runtime/id, from lists that are kept and never waited for twice.
import { capabilities, capabilityIds, type CapabilityId } from './capabilities/index.ts';
import { GatewayError, toGatewayError } from './error.ts';
import type { Model, RuntimeAdapter } from './runtime.ts';

export interface Route {
  runtime: RuntimeAdapter;
  model: Model;
}

/** A model as callers see it. */
export interface Listing {
  /** Unique: `runtime/id` where another runtime has the same id and comes first. */
  id: string;
  runtime: string;
  model: Model;
  /** With those derived from what the runtime offers. */
  capabilities: CapabilityId[];
}

export interface RuntimeStatus {
  name: string;
  ok: boolean;
  models: number;
  /** Why it is down, and what to do. */
  error?: string;
  hint?: string;
}

export interface Catalog {
  /** The routes to try in turn. One where a model is named; for a default, every runtime that could do it. */
  resolve(id: CapabilityId, model: string | undefined): Route[] | Promise<Route[]>;
  list(): Promise<Listing[]>;
  find(id: string): Promise<Listing>;
  runtimes(): Promise<RuntimeStatus[]>;
  /** Asks every runtime now. Never throws; a runtime that fails is marked as down. */
  refresh(): Promise<void>;
  /** A call found a runtime unreachable: its models stop being defaults until it answers again. */
  markDown(runtime: RuntimeAdapter, error: GatewayError): void;
}

export interface CatalogOptions {
  /** Any order; the higher priority answers first. */
  runtimes: RuntimeAdapter[];
  aliases: Record<string, string>;
  defaults: Partial<Record<CapabilityId, string>>;
  /** How long a list is good for, in milliseconds; older ones are used once more while they are renewed. */
  ttlMs: number;
  /** Longest wait for one runtime's list, in milliseconds. */
  deadlineMs: number;
}

interface Shelf {
  runtime: RuntimeAdapter;
  models: Model[];
  error?: GatewayError;
  readAt: number;
  reading?: Promise<void>;
}

/** An unknown name makes the lists be read again, but not more often than this. */
const MISS_MS = 1000;
/** What is missing may be on a runtime that is down: another try makes sense after this many seconds. */
const DOWN_S = 30;

export function createCatalog(options: CatalogOptions): Catalog {
  const { aliases, defaults, ttlMs, deadlineMs } = options;
  const shelves: Shelf[] = options.runtimes
    .toSorted((a, b) => b.priority - a.priority)
    .map((runtime) => ({ runtime, models: [], readAt: -Infinity }));
  let index = new Map<string, Route>();

  function read(shelf: Shelf): Promise<void> {
    shelf.reading ??= (async () => {
      try {
        shelf.models = await shelf.runtime.models(AbortSignal.timeout(deadlineMs));
        delete shelf.error;
      } catch (error) {
        // The models it last had stay listed and can be asked for by name: the answer then says what is wrong.
        shelf.error = toGatewayError(error);
      } finally {
        shelf.readAt = performance.now();
        delete shelf.reading;
        index = toIndex(shelves);
      }
    })();
    return shelf.reading;
  }

  const stale = (shelf: Shelf, age: number) => performance.now() - shelf.readAt > age;

  async function refresh(age = -1): Promise<void> {
    await Promise.all(shelves.filter((shelf) => stale(shelf, age)).map(read));
  }

  /** The lists as they are; old ones are renewed behind the caller's back. */
  function current(): Promise<void> | undefined {
    const never = shelves.filter((shelf) => shelf.readAt === -Infinity);
    if (never.length > 0) return Promise.all(never.map(read)).then(() => {});
    for (const shelf of shelves) if (stale(shelf, ttlMs)) void read(shelf);
    return undefined;
  }

  function resolve(id: CapabilityId, model: string | undefined): Route[] | Promise<Route[]> {
    const waiting = current();
    if (waiting) return waiting.then(() => lookUp(id, model));
    const name = model === undefined ? defaults[id] : model;
    if (name !== undefined && !index.has(aliases[name] ?? name)) return refresh(MISS_MS).then(() => lookUp(id, model));
    return lookUp(id, model);
  }

  function lookUp(id: CapabilityId, model: string | undefined): Route[] {
    const asked = model === 'default' || model === 'auto' ? undefined : model;
    const name = asked ?? defaults[id];
    if (name === undefined) return defaultRoutes(id);
    const known = aliases[name] ?? name;
    const route = index.get(known);
    if (!route) {
      const down = shelves.find(({ runtime, error }) => error && known.startsWith(`${runtime.name}/`));
      throw down?.error ?? unknownModel(name, asked === undefined ? id : undefined);
    }
    if (!offers(route.model, id)) throw cannot(id, route);
    return [route];
  }

  /** The best model of each runtime: one that is loaded, else the runtime's highest rank. Runtimes that are down come last. */
  function defaultRoutes(id: CapabilityId): Route[] {
    const routes: (Route & { down: boolean })[] = [];
    for (const { runtime, models, error } of shelves) {
      const able = models.filter((model) => model.state !== 'available' && offers(model, id));
      const [best] = able.toSorted((a, b) => warmth(b) - warmth(a) || (b.rank ?? 0) - (a.rank ?? 0));
      if (best) routes.push({ runtime, model: best, down: error !== undefined });
    }
    if (routes.length === 0) throw notOffered(id);
    return [...routes.filter((route) => !route.down), ...routes.filter((route) => route.down)];
  }

  function unknownModel(name: string, configuredFor: CapabilityId | undefined): GatewayError {
    const near = nearest(name, [...index.keys(), ...Object.keys(aliases)]);
    const down = shelves.filter((shelf) => shelf.error);
    const pull = shelves.map((shelf) => shelf.runtime.pullHint?.(name)).find(Boolean);
    const hints = [
      near.length > 0 ? `Did you mean ${near.join(' or ')}?` : '',
      pull ? `To get it: ${pull.replace(/\.$/, '')}.` : '',
      down.length > 0
        ? `${down.map((shelf) => shelf.runtime.name).join(', ')} cannot be reached; its models are missing here.`
        : '',
      configuredFor ? `It is configured as the default of ${configuredFor}.` : '',
    ];
    return new GatewayError('model_not_found', `There is no model “${name}”.`, {
      param: 'model',
      hint: hints.filter(Boolean).join(' ') || 'GET /models lists what there is.',
      ...(down.length > 0 ? { retryAfter: DOWN_S } : {}),
    });
  }

  function cannot(id: CapabilityId, route: Route): GatewayError {
    const able = shelves.flatMap((shelf) => shelf.models.filter((model) => offers(model, id)).map((model) => model.id));
    return new GatewayError('not_supported', `${route.model.id} on ${route.runtime.name} does not offer ${id}.`, {
      param: 'model',
      source: route.runtime.name,
      hint: able.length > 0 ? `Models that do: ${able.slice(0, 5).join(', ')}.` : notOffered(id).hint!,
    });
  }

  function notOffered(id: CapabilityId): GatewayError {
    const down = shelves.find((shelf) => shelf.error);
    const pull = shelves
      .map((shelf) => shelf.runtime.pullHint?.(id === 'text.embed' ? 'nomic-embed-text' : 'llama3.2'))
      .find(Boolean);
    return new GatewayError('not_supported', `No runtime offers ${id} now.`, {
      hint: down?.error?.hint ?? pull ?? 'Start Ollama, or set HONO_AI_EMBEDDED=true for the built-in models.',
      ...(down ? { retryAfter: DOWN_S } : {}),
    });
  }

  function list(): Listing[] {
    return shelves.flatMap(({ runtime, models }) =>
      models.map((model) => ({
        id: index.get(model.id)?.runtime === runtime ? model.id : `${runtime.name}/${model.id}`,
        runtime: runtime.name,
        model,
        capabilities: capabilityIds.filter((id) => offers(model, id)),
      })),
    );
  }

  return {
    resolve,
    refresh,
    async list() {
      await current();
      return list();
    },
    async find(name) {
      await current();
      if (!index.has(aliases[name] ?? name)) await refresh(MISS_MS);
      const route = index.get(aliases[name] ?? name);
      const found = route && list().find((listing) => listing.model === route.model);
      if (!found) throw unknownModel(name, undefined);
      return found;
    },
    async runtimes() {
      await current();
      return shelves.map(({ runtime, models, error }) => ({
        name: runtime.name,
        ok: error === undefined,
        models: models.length,
        ...(error ? { error: error.message } : {}),
        ...(error?.hint ? { hint: error.hint } : {}),
      }));
    },
    markDown(runtime, error) {
      const shelf = shelves.find((shelf) => shelf.runtime === runtime);
      if (shelf) shelf.error = error;
    },
  };
}

/** Offered by the runtime itself, or derived from what it offers. */
export function offers(model: Model, id: CapabilityId): boolean {
  if (model.capabilities.includes(id)) return true;
  return capabilities[id].derive?.from.some((base) => model.capabilities.includes(base as CapabilityId)) ?? false;
}

function warmth(model: Model): number {
  return model.state === 'loaded' ? 1 : 0;
}

/** Plain names go to the first runtime that has them; with `runtime/` before them they always work. */
function toIndex(shelves: Shelf[]): Map<string, Route> {
  const index = new Map<string, Route>();
  for (const { runtime, models } of shelves) {
    for (const model of models) index.set(`${runtime.name}/${model.id}`, { runtime, model });
  }
  for (const { runtime, models } of shelves) {
    for (const model of models) if (!index.has(model.id)) index.set(model.id, { runtime, model });
  }
  // After all ids: an alias never hides a model's own name.
  for (const { runtime, models } of shelves) {
    for (const model of models) {
      for (const alias of model.aliases ?? []) {
        for (const name of [`${runtime.name}/${alias}`, alias])
          if (!index.has(name)) index.set(name, { runtime, model });
      }
    }
  }
  return index;
}

/** Up to three known names that look like this one. */
function nearest(name: string, known: string[]): string[] {
  const wanted = name.toLowerCase();
  return [...new Set(known)]
    .map((id) => ({ id, distance: id.toLowerCase().includes(wanted) ? 0 : distance(wanted, id.toLowerCase()) }))
    .filter(({ distance }) => distance <= Math.max(2, wanted.length / 3))
    .toSorted((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ id }) => id);
}

/** Levenshtein; names are cut, so that a hostile one costs little. */
function distance(a: string, b: string): number {
  const [left, right] = [a.slice(0, 64), b.slice(0, 64)];
  let row = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let i = 1; i <= left.length; i++) {
    const next = [i];
    for (let j = 1; j <= right.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (left[i - 1] === right[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[right.length]!;
}
