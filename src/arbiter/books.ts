// What is on the card as far as the gateway knows: entered when a model is let in, corrected by every look at the runtimes.
import type { GpuTenant, Resident } from '../runtime.ts';
import type { Held, Want } from './policy.ts';

/** Which model of which runtime. */
export type Place = Pick<Want, 'runtime' | 'model'>;

export interface Books {
  readonly held: readonly Held[];
  find(place: Place): Held | undefined;
  /** One that is not written here, and may be there all the same. */
  unknown(place: Place): Held;
  /** One more uses it; it is entered, as loading, where it was not there. */
  enter(want: Want): Held;
  /** It is there and works. */
  arrived(entry: Held): void;
  /** One less uses it. */
  leave(entry: Held): void;
  /** It has left the card. */
  strike(entry: Held): void;
  /** What a runtime holds now; what is written here follows. Throws what the runtime throws. */
  look(runtime: string, signal: AbortSignal): Promise<Resident[]>;
}

export interface BooksOptions {
  tenants: Record<string, GpuTenant>;
  now: () => number;
  /** Milliseconds that bringing it to the card takes. */
  loadMs: (want: Want) => number;
  onResidents: (runtime: string, residents: readonly Resident[]) => void;
}

export function createBooks({ tenants, now, loadMs, onResidents }: BooksOptions): Books {
  const held: Held[] = [];
  /** Counts what happens: an answer is old news of whatever has happened since it was asked for. */
  let moment = 0;
  let struckIn = 0;
  const usedIn = new WeakMap<Held, number>();

  const find = ({ runtime, model }: Place) => held.find((entry) => entry.runtime === runtime && entry.model === model);

  function toHeld({ runtime, model, footprint, extent }: Want, loading: boolean): Held {
    const want = { runtime, model, footprint, ...(extent === undefined ? {} : { extent }) };
    const idle = { leases: 0, usedAt: 0, leaving: false, stuck: false };
    return { ...want, ...idle, since: now(), loading, loadMs: loadMs(want) };
  }

  function add(want: Want, loading: boolean): Held {
    const entry = toHeld(want, loading);
    held.push(entry);
    return entry;
  }

  function touch(entry: Held, leases: number): void {
    entry.leases += leases;
    entry.usedAt = now();
    usedIn.set(entry, ++moment);
  }

  function note(runtime: string, residents: readonly Resident[], askedIn: number): void {
    for (let index = held.length - 1; index >= 0; index--) {
      const entry = held[index]!;
      if (entry.runtime !== runtime || entry.leases > 0 || (usedIn.get(entry) ?? 0) > askedIn) continue;
      if (!residents.some(({ model }) => model === entry.model)) held.splice(index, 1);
    }
    for (const resident of residents) {
      const { model, vram } = resident;
      const entry = find({ runtime, model });
      if (entry) entry.footprint = toFootprint(entry, resident);
      else if (vram > 0 && struckIn < askedIn) add({ runtime, model, footprint: vram }, false);
    }
  }

  /** What runtimes that tell no size were let in with is what was measured. */
  function measured(runtime: string, resident: Resident): Resident {
    const extent = find({ runtime, model: resident.model })?.extent;
    return resident.contextWindow !== undefined || extent === undefined
      ? resident
      : { ...resident, contextWindow: extent };
  }

  return {
    held,
    find,
    unknown: (place) => toHeld({ ...place, footprint: 0 }, false),
    enter(want) {
      const entry = find(want) ?? add(want, true);
      // What asks for more than it was let in with has grown: its context, its pictures.
      entry.footprint = Math.max(entry.footprint, want.footprint);
      if (want.extent !== undefined) entry.extent = Math.max(entry.extent ?? 0, want.extent);
      touch(entry, 1);
      return entry;
    },
    arrived(entry) {
      entry.loading = false;
      entry.since = now();
      entry.loadMs = loadMs(entry);
    },
    leave(entry) {
      touch(entry, -1);
      // Whether it is there is told by the next look; nobody waits for it to come any more.
      if (entry.leases === 0) entry.loading = false;
    },
    strike(entry) {
      const index = held.indexOf(entry);
      if (index >= 0) held.splice(index, 1);
      struckIn = ++moment;
    },
    async look(runtime, signal) {
      const askedIn = ++moment;
      const told = (await tenants[runtime]?.residents(signal)) ?? [];
      // One figure that is none would make none of all sums.
      const residents = told.map((one) => (one.vram >= 0 && one.vram < Infinity ? one : { ...one, vram: 0 }));
      onResidents(
        runtime,
        residents.map((one) => measured(runtime, one)),
      );
      note(runtime, residents, askedIn);
      return residents;
    },
  };
}

/** So many times as much as was measured is not what it may grow to, but what it was let in with when nobody knew. */
const TOO_MUCH = 1.5;
const SPARE = 1.25;

function toFootprint({ footprint, leases, loading }: Held, { vram, shared, estimated }: Resident): number {
  const isMeasured = leases === 0 && !loading && !shared && !estimated && vram > 0;
  return isMeasured && footprint > vram * TOO_MUCH ? vram * SPARE : Math.max(footprint, vram);
}
