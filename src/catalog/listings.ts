// Everything that can be listed, as it stands: what runtimes have, what is on its way to them, and what only the gateway knows of it.
import type { Listing, Overlay } from '../catalog.ts';
import { capabilityIds, type CapabilityId } from '../capabilities/index.ts';
import { needsOf, offers } from '../offers.ts';
import type { Model } from '../runtime.ts';
import type { Names } from './names.ts';
import type { Shelf } from './shelves.ts';

export interface Listings {
  all: readonly Listing[];
  byModel: ReadonlyMap<Model, Listing>;
  /** On their way, by every name that finds them. */
  coming: ReadonlyMap<string, Listing>;
}

/** A listing that would say the same as before is the same object, and so is the list of them. */
export function toListings(
  shelves: readonly Shelf[],
  names: Names,
  overlay: Overlay | undefined,
  before: Listings | undefined,
): Listings {
  const all: Listing[] = [];
  const byModel = new Map<Model, Listing>();
  const coming = new Map<string, Listing>();
  for (const shelf of shelves) {
    const { runtime, models } = shelf;
    const nameOf = (id: string) => (isFirst(names, shelf, id) ? id : `${runtime.name}/${id}`);
    for (const model of models) {
      const more = overlay?.of(runtime, model);
      const listing = settle(before?.byModel.get(model), {
        id: nameOf(model.id),
        runtime: runtime.name,
        model,
        capabilities: offeredBy(model),
        state: more?.state ?? (shelf.error ? 'unavailable' : model.state),
        pinned: more?.pinned ?? false,
        ...(more?.vram ? { vram: more.vram } : {}),
        ...(more?.fit ? { fit: more.fit } : {}),
      });
      byModel.set(model, listing);
      all.push(listing);
    }
    for (const id of overlay?.coming(runtime) ?? []) {
      const whole = `${runtime.name}/${id}`;
      if (names.own.has(whole) || names.also.has(whole)) continue;
      const name = names.own.has(id) || coming.has(id) ? whole : id;
      const listing = settle(before?.coming.get(whole), {
        id: name,
        runtime: runtime.name,
        model: { id, capabilities: [], state: 'available' },
        capabilities: [],
        state: 'pulling',
        pinned: false,
      });
      coming.set(name, listing).set(whole, listing);
      all.push(listing);
    }
  }
  const same = before?.all.length === all.length && all.every((listing, index) => listing === before.all[index]);
  return { all: same ? before.all : all, byModel, coming };
}

function isFirst(names: Names, shelf: Shelf, id: string): boolean {
  return names.own.get(id)?.shelf === shelf;
}

function settle(before: Listing | undefined, now: Listing): Listing {
  const isSame =
    before !== undefined &&
    before.id === now.id &&
    before.state === now.state &&
    before.pinned === now.pinned &&
    before.fit === now.fit &&
    before.vram?.bytes === now.vram?.bytes &&
    before.vram?.basis === now.vram?.basis &&
    before.vram?.context === now.vram?.context;
  return isSame ? before : now;
}

const offered = new WeakMap<Model, CapabilityId[]>();

/** With those derived from what the runtime offers. */
function offeredBy(model: Model): CapabilityId[] {
  const known = offered.get(model);
  if (known) return known;
  const ids = capabilityIds.filter((id) => offers(model, id, needsOf(id)));
  offered.set(model, ids);
  return ids;
}
