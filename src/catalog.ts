// Which model of which runtime answers: default → alias → id → runtime/id, from lists that are kept and never waited for twice.
import type { CapabilityId } from './capabilities/index.ts';
import { createExplain } from './catalog/explain.ts';
import { toListings, type Listings } from './catalog/listings.ts';
import { toNames, type Names } from './catalog/names.ts';
import { createResolver, type Resolver } from './catalog/resolver.ts';
import { createShelves } from './catalog/shelves.ts';
import type { GatewayError } from './error.ts';
import { needsOf } from './offers.ts';
import type { Routing } from './models/routing.ts';
import type { Choice, Fit, ModelState, Vram } from './models/views.ts';
import type { Model, RuntimeAdapter } from './runtime.ts';
import { within } from './timers.ts';
import type { WorkflowDesk } from './workflows.ts';

export interface Route {
  runtime: RuntimeAdapter;
  model: Model;
  /** Why it is this one: `asked for`, `default of text.chat`, `alias gpt-4o`. */
  reason: string;
  /** What was passed over for it, each with why: `qwen3:8b cannot be reached`. On the first route only. */
  passed?: string[];
  /** It stands in a list that somebody made: the next one may answer for whatever goes wrong with it. */
  listed?: boolean;
}

/** A model as callers see it. */
export interface Listing {
  /** Unique: `runtime/id` where another runtime has the same id and comes first. */
  id: string;
  runtime: string;
  model: Model;
  /** With those derived from what the runtime offers. */
  capabilities: CapabilityId[];
  /** As its runtime tells it, unless the gateway knows better: `pulling`, `loading`, or `unavailable` where its runtime is down. */
  state: ModelState;
  vram?: Vram;
  fit?: Fit;
  pinned: boolean;
}

/** What the gateway knows of models beyond what their runtimes tell. */
export interface Overlay {
  /** Grows whenever `of` or `coming` would tell something else. */
  version(): number;
  of(runtime: RuntimeAdapter, model: Model): { state?: ModelState; vram?: Vram; fit?: Fit; pinned?: boolean };
  /** Models on their way to a runtime that are not in its list yet. */
  coming(runtime: RuntimeAdapter): Iterable<string>;
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
  /** The same array until something changes. */
  list(): Promise<readonly Listing[]>;
  /** By any of its names, an alias included. Throws model_not_found. */
  find(name: string): Promise<Listing>;
  /** Aliases that lead to something, with the model that each stands for now. Changes with `list`. */
  aliases(): Promise<ReadonlyMap<string, Listing>>;
  /** What answers where no model is named; capabilities that nothing offers are absent. Changes with `list`. */
  defaults(): Promise<ReadonlyMap<CapabilityId, Listing>>;
  runtimes(): Promise<RuntimeStatus[]>;
  /** Where runtimes keep their workflows, reached or not. */
  desks(): { runtime: string; desk: WorkflowDesk }[];
  /** Asks every runtime now. Never throws; a runtime that fails is marked as down. */
  refresh(): Promise<void>;
  /** The same for one. What it told before this was called does not count. */
  refreshOf(runtime: string): Promise<void>;
  /** A call found a runtime unreachable: its models stop being defaults until it answers again. */
  markDown(runtime: RuntimeAdapter, error: GatewayError): void;
}

export interface CatalogOptions {
  /** Any order; the higher priority answers first. */
  runtimes: RuntimeAdapter[];
  /** Where there is no `routing`. */
  aliases?: Record<string, Choice>;
  defaults?: Partial<Record<CapabilityId, Choice>>;
  /** What names stand for, as it is set now. */
  routing?: Pick<Routing, 'aliases' | 'defaults' | 'version' | 'fresh'>;
  /** What only the gateway knows of a model. */
  overlay?: Overlay;
  /** How long a list is good for, in milliseconds; older ones are used once more while they are renewed. */
  ttlMs: number;
  /** Longest wait for one runtime's list, in milliseconds. */
  deadlineMs: number;
}

/** Worked out of the lists and of what names stand for; good for one state of both. */
interface Order {
  shelves: number;
  routing: number;
  names: Names;
  resolver: Resolver;
}

/** Worked out of an order and of what the gateway knows beside. */
interface Shown extends Listings {
  order: Order;
  overlay: number;
  aliases: ReadonlyMap<string, Listing>;
  defaults: ReadonlyMap<CapabilityId, Listing>;
}

/** A list is shown without runtimes that have not told anything after so long, in milliseconds: clients give up soon after. */
const FIRST_LIST_MS = 2000;

export function createCatalog(options: CatalogOptions): Catalog {
  const { overlay, routing = toFixed(options) } = options;
  const shelves = createShelves(options);
  const explain = createExplain({
    shelves: shelves.all,
    aliases: () => routing.aliases().keys(),
    isComing: (name) => shelves.all.some(({ runtime }) => isComing(runtime, name, overlay)),
  });
  let kept: Order | undefined;
  let shown: Shown | undefined;

  function order(): Order {
    const now = { shelves: shelves.version(), routing: routing.version() };
    if (kept?.shelves === now.shelves && kept.routing === now.routing) return kept;
    const names = kept?.shelves === now.shelves ? kept.names : toNames(shelves.all);
    const resolver = createResolver({
      shelves: shelves.all,
      names,
      aliases: routing.aliases(),
      defaults: routing.defaults(),
      explain,
    });
    return (kept = { ...now, names, resolver });
  }

  function show(): Shown {
    const now = order();
    const version = overlay?.version() ?? 0;
    if (shown?.order === now && shown.overlay === version) return shown;
    const listings = toListings(shelves.all, now.names, overlay, shown);
    // Whoever keeps something made of a list knows by the list itself whether it still holds.
    if (shown?.order === now && shown.all === listings.all) {
      return (shown = { ...shown, ...listings, overlay: version });
    }
    const all = shown?.all === listings.all ? [...listings.all] : listings.all;
    return (shown = { ...listings, all, order: now, overlay: version, ...toStanding(now, listings) });
  }

  /** Which models aliases and defaults lead to. */
  function toStanding({ resolver }: Order, { all, byModel }: Listings): Pick<Shown, 'aliases' | 'defaults'> {
    const aliases = new Map<string, Listing>();
    for (const name of routing.aliases().keys()) {
      const [place] = resolver.places(name);
      const listing = place && byModel.get(place.model);
      // A model of that name is listed as itself.
      if (listing && !order().names.own.has(name)) aliases.set(name, listing);
    }
    const defaults = new Map<CapabilityId, Listing>();
    for (const id of new Set(all.flatMap(({ capabilities }) => capabilities))) {
      const listing = byModel.get(defaultOf(resolver, id)!);
      if (listing) defaults.set(id, listing);
    }
    return { aliases, defaults };
  }

  /** Waits only where that is needed: for lists that were never read, and for news of other gateways. */
  function current(): Promise<unknown> | undefined {
    const waiting = [shelves.current(), routing.fresh()].filter((one) => one !== undefined);
    return waiting.length > 0 ? Promise.all(waiting) : undefined;
  }

  async function currentList(): Promise<Shown> {
    const waiting = current();
    if (waiting) await within(FIRST_LIST_MS, waiting);
    return show();
  }

  function locate({ order: { names, resolver }, byModel, coming }: Shown, name: string): Listing | undefined {
    const place = names.own.get(name) ?? resolver.places(name)[0] ?? names.also.get(name);
    return (place && byModel.get(place.model)) ?? coming.get(name);
  }

  return {
    resolve(id, model, input) {
      const needs = needsOf(id, input);
      const lookUp = () => order().resolver.routes(id, model, needs);
      const look = () => (order().resolver.knows(id, model) ? lookUp() : shelves.lookAgain().then(lookUp));
      const waiting = current();
      return waiting ? waiting.then(look) : look();
    },
    list: async () => (await currentList()).all,
    aliases: async () => (await currentList()).aliases,
    defaults: async () => (await currentList()).defaults,
    async find(name) {
      await current();
      const known = locate(show(), name);
      if (known) return known;
      await shelves.lookAgain();
      const found = locate(show(), name);
      if (!found) throw explain.unknown(name);
      return found;
    },
    desks: () =>
      shelves.all.flatMap(({ runtime }) =>
        runtime.workflows ? [{ runtime: runtime.name, desk: runtime.workflows }] : [],
      ),
    async runtimes() {
      await within(FIRST_LIST_MS, shelves.current());
      return shelves.all.map(({ runtime, models, error }) => ({
        name: runtime.name,
        ok: error === undefined,
        models: models.length,
        ...(error ? { error: error.message } : {}),
        ...(error?.hint ? { hint: error.hint } : {}),
      }));
    },
    refresh: () => shelves.refresh(),
    refreshOf: (runtime) => shelves.refresh(runtime),
    markDown: shelves.markDown,
  };
}

function toFixed({ aliases = {}, defaults = {} }: CatalogOptions): NonNullable<CatalogOptions['routing']> {
  const names = new Map(Object.entries(aliases));
  const byCapability = new Map(Object.entries(defaults)) as Map<CapabilityId, Choice>;
  return { aliases: () => names, defaults: () => byCapability, version: () => 0, fresh: () => undefined };
}

/** A default that is not there hides nothing else; asking for it says what is wrong. */
function defaultOf(resolver: Resolver, id: CapabilityId): Model | undefined {
  try {
    return resolver.routes(id, undefined, needsOf(id))[0]?.model;
  } catch {
    return undefined;
  }
}

function isComing(runtime: RuntimeAdapter, name: string, overlay: Overlay | undefined): boolean {
  for (const id of overlay?.coming(runtime) ?? []) if (name === id || name === `${runtime.name}/${id}`) return true;
  return false;
}
