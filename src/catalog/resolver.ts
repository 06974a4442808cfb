// What a request names → the models to try in turn, each able to do it and each with the reason why it is that one.
import type { Ability } from '../capabilities/define.ts';
import type { CapabilityId } from '../capabilities/index.ts';
import type { Route } from '../catalog.ts';
import { mayOffer, offers, withNeeds } from '../offers.ts';
import { toList } from '../models/choices.ts';
import type { Choice } from '../models/views.ts';
import type { Model } from '../runtime.ts';
import type { Explain } from './explain.ts';
import type { Names, Place } from './names.ts';
import type { Shelf } from './shelves.ts';

export interface ResolverOptions {
  shelves: readonly Shelf[];
  names: Names;
  aliases: ReadonlyMap<string, Choice>;
  defaults: ReadonlyMap<CapabilityId, Choice>;
  explain: Explain;
}

export interface Resolver {
  /** Whether anything that this name stands for is there. */
  knows(id: CapabilityId, model: string | undefined): boolean;
  /** Never empty. Throws model_not_found, not_supported, or why the runtime of the one that was named is down. */
  routes(id: CapabilityId, model: string | undefined, needs: Ability[]): Route[];
  /** The models that a name stands for, the first choice first. */
  places(name: string): Place[];
}

/** A model that may answer, by the name that led to it. */
interface Candidate {
  name: string;
  place?: Place;
  /** It goes first because it is in memory. */
  warm?: boolean;
}

const DEFAULT = new Set<string | undefined>([undefined, 'default', 'auto']);
const WARM = 'warm';
/** Names that stand for no model and no alias. */
export const reservedNames: ReadonlySet<string> = new Set(['default', 'auto', WARM]);

/** Answers for the lists as they stand: made anew when those change. */
export function createResolver({ shelves, names, aliases, defaults, explain }: ResolverOptions): Resolver {
  const kept = new Map<string, Route[]>();

  /** What looks at every model is worked out once. */
  function once(key: string, make: () => Route[]): Route[] {
    const known = kept.get(key);
    if (known) return known;
    const routes = make();
    kept.set(key, routes);
    return routes;
  }

  const choiceOf = (id: CapabilityId, model: string | undefined) =>
    DEFAULT.has(model) ? defaults.get(id) : names.own.has(model!) ? undefined : aliases.get(model!);

  function routes(id: CapabilityId, model: string | undefined, needs: Ability[]): Route[] {
    if (model === WARM) return once(`warm ${id} ${needs.join()}`, () => warmRoutes(id, needs));
    const choice = choiceOf(id, model);
    if (choice !== undefined) return chosen(id, model, choice, needs);
    if (DEFAULT.has(model)) return once(`default ${id} ${needs.join()}`, () => defaultRoutes(id, needs));
    return [named(id, { name: model!, place: placeOf(model!) }, needs, 'asked for')];
  }

  function placeOf(name: string): Place | undefined {
    return names.own.get(name) ?? names.also.get(name);
  }

  function named(
    id: CapabilityId,
    { name, place }: { name: string; place: Place | undefined },
    needs: Ability[],
    reason: string,
    because?: string,
  ): Route {
    if (!place) throw downOf(name)?.error ?? explain.unknown(name, because);
    if (!mayOffer(place.model, id, needs)) throw explain.cannot(id, place, needs);
    return toRoute(place, reason);
  }

  function defaultRoutes(id: CapabilityId, needs: Ability[]): Route[] {
    const places = defaultPlaces(id, needs);
    if (places.length === 0) throw explain.nobody(id, needs);
    return places.map((place) => toRoute(place, `default of ${id}`));
  }

  /** The best model of each runtime: one that is loaded, else the runtime's highest rank. Runtimes that are down come last. */
  function defaultPlaces(id: CapabilityId, needs: Ability[]): Place[] {
    const places: Place[] = [];
    for (const shelf of shelves) {
      const able = shelf.models.filter((model) => model.state !== 'available' && offers(model, id, needs));
      const [best] = able.toSorted(byWarmthAndRank);
      if (best) places.push({ shelf, model: best });
    }
    return downLast(places);
  }

  /** What is in memory, then the default. */
  function warmRoutes(id: CapabilityId, needs: Ability[]): Route[] {
    const warm = warmPlaces(id, needs).map((place) => toRoute(place, 'in memory'));
    try {
      const others = routes(id, undefined, needs).filter((route) => !warm.some(({ model }) => model === route.model));
      if (warm.length > 0) return [...warm, ...others];
      return others.map((route) => ({ ...route, reason: `${route.reason}, as nothing that can is in memory` }));
    } catch (error) {
      if (warm.length === 0) throw error;
      return warm;
    }
  }

  function warmPlaces(id: CapabilityId, needs: Ability[]): Place[] {
    return shelves.flatMap((shelf) =>
      shelf.error
        ? []
        : shelf.models
            .filter((model) => model.state === 'loaded' && offers(model, id, needs))
            .toSorted(byWarmthAndRank)
            .map((model): Place => ({ shelf, model })),
    );
  }

  function chosen(id: CapabilityId, asked: string | undefined, choice: Choice, needs: Ability[]): Route[] {
    const isDefault = DEFAULT.has(asked);
    const label = isDefault ? `default of ${id}` : `alias ${asked}`;
    const because = isDefault ? `It is configured as the default of ${id}.` : `“${asked}” stands for it.`;
    const candidates = toDistinct(expand(choice, new Set([isDefault ? 'default' : asked!]), id, needs));
    if (candidates.length === 0)
      throw explain.unknown(asked ?? id, `What “${asked ?? id}” stands for leads back to it.`);
    const [only] = candidates;
    if (candidates.length === 1) return [named(id, { place: undefined, ...only! }, needs, label, because)];
    const able = candidates.filter(({ place }) => place && mayOffer(place.model, id, needs));
    if (able.length === 0) throw whyNone(id, candidates, needs, because);
    const order = [...able.filter(isUp), ...able.filter((candidate) => !isUp(candidate))];
    const before = candidates.slice(0, candidates.indexOf(order[0]!));
    const passed = before.map((candidate) => toPassed(id, candidate, needs)).filter((text) => text !== undefined);
    return order.map(({ place, warm }, index) => ({
      ...toRoute(place!, warm ? `${label}, in memory` : label),
      listed: true,
      ...(index === 0 && passed.length > 0 ? { passed } : {}),
    }));
  }

  /** The one that could be fixed says most: a model that is there and cannot says less than one that is not. */
  function whyNone(id: CapabilityId, candidates: Candidate[], needs: Ability[], because: string): unknown {
    const missing = candidates.find(({ place }) => !place) ?? candidates[0]!;
    try {
      return named(id, { place: undefined, ...missing }, needs, '', because);
    } catch (error) {
      return error;
    }
  }

  function toPassed(id: CapabilityId, { name, place }: Candidate, needs: Ability[]): string | undefined {
    if (!place) return downOf(name) ? `${name} cannot be reached` : `${name} is not here`;
    if (!mayOffer(place.model, id, needs)) return `${name} does not offer ${withNeeds(id, needs)}`;
    return place.shelf.error ? `${name} cannot be reached` : undefined;
  }

  /** Each name once: a circle ends where it closes, and no nesting makes the list long. */
  function expand(choice: Choice, seen: Set<string>, id: CapabilityId, needs: Ability[]): Candidate[] {
    const { models, prefer } = toList(choice);
    const candidates = models.flatMap((name) => candidatesOf(name, seen, id, needs));
    if (prefer === 'order') return candidates;
    const isWarm = ({ place }: Candidate) => place?.model.state === 'loaded';
    return [
      ...candidates.filter(isWarm).map((candidate) => ({ ...candidate, warm: true })),
      ...candidates.filter((candidate) => !isWarm(candidate)),
    ];
  }

  function candidatesOf(given: string, seen: Set<string>, id: CapabilityId, needs: Ability[]): Candidate[] {
    const name = given === 'auto' ? 'default' : given;
    if (seen.has(name)) return [];
    seen.add(name);
    const choice = choiceOf(id, name);
    if (choice !== undefined) return expand(choice, seen, id, needs);
    if (reservedNames.has(name)) return standing(id, name, needs);
    const place = placeOf(name);
    return [{ name, ...(place ? { place } : {}) }];
  }

  /** What `default` and `warm` stand for now; nothing where that is nobody. */
  function standing(id: CapabilityId, name: string, needs: Ability[]): Candidate[] {
    const places = name === WARM ? warmPlaces(id, needs) : defaultPlaces(id, needs);
    return places.map((place) => ({ name: place.model.id, place }));
  }

  /** The runtime that a name with `runtime/` before it speaks of, where that is down. */
  function downOf(name: string): Shelf | undefined {
    return shelves.find(({ runtime, error }) => error && name.startsWith(`${runtime.name}/`));
  }

  function places(name: string, seen = new Set<string>()): Place[] {
    if (seen.has(name)) return [];
    seen.add(name);
    const choice = names.own.has(name) ? undefined : aliases.get(name);
    if (choice === undefined) return [placeOf(name)].filter((place) => place !== undefined);
    const found = toList(choice).models.flatMap((member) => places(member, seen));
    return downLast(found);
  }

  return {
    routes,
    places,
    knows(id, model) {
      const choice = model === WARM ? undefined : choiceOf(id, model);
      if (choice !== undefined)
        return toList(choice).models.some((name) => reservedNames.has(name) || places(name).length > 0);
      return reservedNames.has(model ?? 'default') || placeOf(model!) !== undefined;
    },
  };
}

/** Several names may lead to one model; it is tried once. */
function toDistinct(candidates: Candidate[]): Candidate[] {
  const seen = new Set<Model>();
  return candidates.filter(({ place }) => !place || (!seen.has(place.model) && seen.add(place.model)));
}

function toRoute({ shelf, model }: Place, reason: string): Route {
  return { runtime: shelf.runtime, model, reason };
}

function isUp({ place }: { place?: Place }): boolean {
  return place?.shelf.error === undefined;
}

function downLast(places: Place[]): Place[] {
  return [...places.filter(({ shelf }) => !shelf.error), ...places.filter(({ shelf }) => shelf.error)];
}

function byWarmthAndRank(a: Model, b: Model): number {
  return warmth(b) - warmth(a) || (b.rank ?? 0) - (a.rank ?? 0);
}

function warmth({ state }: Model): number {
  return state === 'loaded' ? 1 : 0;
}
