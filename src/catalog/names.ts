// Names → models: ids, the names that runtimes have for them beside, and what looks like a name that is none.
import { distance } from '../distance.ts';
import type { Model } from '../runtime.ts';
import type { Shelf } from './shelves.ts';

/** Where a model stands. */
export interface Place {
  shelf: Shelf;
  model: Model;
}

export interface Names {
  /** By id: plain ones go to the first runtime that has them; with `runtime/` before them they always work. */
  own: ReadonlyMap<string, Place>;
  /** By what its runtime calls it beside; never a name in `own`. */
  also: ReadonlyMap<string, Place>;
}

export function toNames(shelves: readonly Shelf[]): Names {
  const own = new Map<string, Place>();
  const also = new Map<string, Place>();
  const places = shelves.flatMap((shelf) => shelf.models.map((model): Place => ({ shelf, model })));
  for (const place of places) own.set(`${place.shelf.runtime.name}/${place.model.id}`, place);
  for (const place of places) if (!own.has(place.model.id)) own.set(place.model.id, place);
  for (const place of places) {
    for (const alias of place.model.aliases ?? []) {
      for (const name of [`${place.shelf.runtime.name}/${alias}`, alias]) {
        if (!own.has(name) && !also.has(name)) also.set(name, place);
      }
    }
  }
  return { own, also };
}

/** Letters that are compared of a name; a hostile one costs no more. */
const MAX_LENGTH = 64;
/** Comparisons of letters that one question may cost, whatever the number of names. */
const MAX_COST = 1_000_000;

/** Up to three known names that look like this one. */
export function nearest(name: string, known: Iterable<string>): string[] {
  const wanted = name.toLowerCase().slice(0, MAX_LENGTH);
  const most = Math.max(2, wanted.length / 3);
  const found = new Map<string, number>();
  let cost = 0;
  for (const id of known) {
    const text = id.toLowerCase().slice(0, MAX_LENGTH);
    if (text.includes(wanted)) found.set(id, 0);
    else if (cost < MAX_COST && Math.abs(text.length - wanted.length) <= most) {
      cost += text.length * wanted.length;
      const away = distance(wanted, text);
      if (away <= most) found.set(id, away);
    }
  }
  return [...found]
    .toSorted(([, a], [, b]) => a - b)
    .slice(0, 3)
    .map(([id]) => id);
}
