// Which model of which runtime answers: default → alias → id → runtime/id, from lists that are kept and never waited for twice.
import type { Ability } from './capabilities/define.ts';
import { capabilityIds, type CapabilityId } from './capabilities/index.ts';
import { distance } from './distance.ts';
import { GatewayError, toGatewayError } from './error.ts';
import { mayOffer, needsOf, offers, START_TEXT, TEXT_MODELS, toStart, withNeeds } from './offers.ts';
import type { Model, RuntimeAdapter } from './runtime.ts';
import type { WorkflowDesk } from './workflows.ts';

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
  /** The routes to try in turn, for models that can do what `input` needs. One where a model is named; for a default, every runtime that could do it. */
  resolve(id: CapabilityId, model: string | undefined, input?: object): Route[] | Promise<Route[]>;
  list(): Promise<Listing[]>;
  find(id: string): Promise<Listing>;
  runtimes(): Promise<RuntimeStatus[]>;
  /** Where runtimes keep their workflows, reached or not. */
  desks(): { runtime: string; desk: WorkflowDesk }[];
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

  function resolve(id: CapabilityId, model: string | undefined, input?: object): Route[] | Promise<Route[]> {
    const needs = needsOf(id, input);
    const waiting = current();
    if (waiting) return waiting.then(() => lookUp(id, model, needs));
    const name = model === undefined ? defaults[id] : model;
    if (name !== undefined && !index.has(aliases[name] ?? name)) {
      return refresh(MISS_MS).then(() => lookUp(id, model, needs));
    }
    return lookUp(id, model, needs);
  }

  function lookUp(id: CapabilityId, model: string | undefined, needs: Ability[]): Route[] {
    const asked = model === 'default' || model === 'auto' ? undefined : model;
    const name = asked ?? defaults[id];
    if (name === undefined) return defaultRoutes(id, needs);
    const known = aliases[name] ?? name;
    const route = index.get(known);
    if (!route) {
      const down = shelves.find(({ runtime, error }) => error && known.startsWith(`${runtime.name}/`));
      throw down?.error ?? unknownModel(name, asked === undefined ? id : undefined);
    }
    if (!mayOffer(route.model, id, needs)) throw cannot(id, route, needs);
    return [route];
  }

  /** The best model of each runtime: one that is loaded, else the runtime's highest rank. Runtimes that are down come last. */
  function defaultRoutes(id: CapabilityId, needs: Ability[]): Route[] {
    const routes: (Route & { down: boolean })[] = [];
    for (const { runtime, models, error } of shelves) {
      const able = models.filter((model) => model.state !== 'available' && offers(model, id, needs));
      const [best] = able.toSorted((a, b) => warmth(b) - warmth(a) || (b.rank ?? 0) - (a.rank ?? 0));
      if (best) routes.push({ runtime, model: best, down: error !== undefined });
    }
    if (routes.length === 0) throw notOffered(id, needs);
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

  function cannot(id: CapabilityId, route: Route, needs: Ability[]): GatewayError {
    const able = shelves.flatMap((shelf) =>
      shelf.models.filter((model) => offers(model, id, needs)).map((model) => model.id),
    );
    const what = withNeeds(id, mayOffer(route.model, id, []) ? needs : []);
    return new GatewayError('not_supported', `${route.model.id} on ${route.runtime.name} does not offer ${what}.`, {
      param: 'model',
      source: route.runtime.name,
      hint: able.length > 0 ? `Models that do: ${able.slice(0, 5).join(', ')}.` : notOffered(id, needs).hint!,
    });
  }

  function notOffered(id: CapabilityId, needs: Ability[]): GatewayError {
    const down = shelves.find((shelf) => shelf.error);
    const pull = (name: string) => shelves.map((shelf) => shelf.runtime.pullHint?.(name)).find(Boolean);
    return new GatewayError('not_supported', `No runtime offers ${withNeeds(id, needs)} now.`, {
      hint: toStart(id, needs) ?? down?.error?.hint ?? pull(TEXT_MODELS[id] ?? 'llama3.2') ?? START_TEXT,
      ...(down ? { retryAfter: DOWN_S } : {}),
    });
  }

  function list(): Listing[] {
    return shelves.flatMap(({ runtime, models }) =>
      models.map((model) => ({
        id: index.get(model.id)?.runtime === runtime ? model.id : `${runtime.name}/${model.id}`,
        runtime: runtime.name,
        model,
        capabilities: capabilityIds.filter((id) => offers(model, id, needsOf(id))),
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
    desks: () =>
      shelves.flatMap(({ runtime }) => (runtime.workflows ? [{ runtime: runtime.name, desk: runtime.workflows }] : [])),
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
  // Cut, so that a hostile name costs little.
  const away = (id: string) => (id.includes(wanted) ? 0 : distance(wanted.slice(0, 64), id.slice(0, 64)));
  return [...new Set(known)]
    .map((id) => ({ id, away: away(id.toLowerCase()) }))
    .filter((one) => one.away <= Math.max(2, wanted.length / 3))
    .toSorted((a, b) => a.away - b.away)
    .slice(0, 3)
    .map(({ id }) => id);
}
