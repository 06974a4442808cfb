// Who is sent to next: receivers in turn, so that those who hang cost the others nothing.

export interface Parcel {
  id: string;
  owner: string;
  /** The receiver. */
  ref?: string;
}

/** What a try says about its receiver. */
export type Impression = 'well' | 'unwell' | undefined;

export interface Lanes<T extends Parcel> {
  /** Undefined where it was taken in, or was before; else until when it is to be put aside (milliseconds since 1970). */
  offer(parcel: T, now: number): number | undefined;
  /** The next to send; it counts against its receiver until `done`. */
  next(): T | undefined;
  done(parcel: T, impression: Impression): void;
  /** Nothing goes to the receiver of this one before `until`. What waited here for it is given back, to be put aside. */
  pause(parcel: T, until: number): T[];
  /** How many are waiting here or under way. */
  known(): number;
  /** How many are waiting here. */
  waiting(): number;
  /** Forgets receivers that nothing goes to, where there are many. */
  tidy(now: number): void;
}

/** Tries under way at the same time, of all callers and of one: nobody can take every place. */
const MAX_ACTIVE = 512;
const MAX_ACTIVE_OF_OWNER = 256;
/** Deliveries held in memory for a receiver; the others wait in the store. */
const HELD_UNPROVEN = 4;
/** The same for one that answers, for each that may be under way. */
const HELD = 64;
/** Receivers that are remembered while nothing goes to them. */
const MAX_LANES = 1000;
/** What is put aside comes back in groups, so far apart; the longer a receiver is unwell, the farther. */
const ASIDE_MS = 1000;
const ASIDE_UNWELL_MS = 5000;
/** Longest that a delivery is put aside: the receiver may be well again. */
const MAX_ASIDE_MS = 600_000;

interface Lane<T> {
  waiting: T[];
  active: number;
  /** It has answered, and not been silent or overloaded since. One that is not proven gets one try at a time. */
  proven: boolean;
  /** Tries in a row that found it silent or overloaded. */
  unwell: number;
  pausedUntil: number;
  /** When the last group that was put aside comes back, and how many are in it. */
  asideUntil: number;
  aside: number;
}

export function createLanes<T extends Parcel>(concurrency: number): Lanes<T> {
  // The order of the map is the order of turns.
  const lanes = new Map<string, Lane<T>>();
  const owners = new Map<string, number>();
  const known = new Set<string>();
  let active = 0;

  function laneOf(ref: string): Lane<T> {
    let lane = lanes.get(ref);
    if (!lane) {
      lane = { waiting: [], active: 0, proven: false, unwell: 0, pausedUntil: 0, asideUntil: 0, aside: 0 };
      lanes.set(ref, lane);
    }
    return lane;
  }

  /** Groups of what can be held, one after the other: nothing is written again and again while it has no chance. */
  function putAside(lane: Lane<T>, now: number): number {
    const apart = lane.unwell === 0 ? ASIDE_MS : Math.min(ASIDE_UNWELL_MS * 2 ** (lane.unwell - 1), MAX_ASIDE_MS);
    if (lane.asideUntil < now + apart) {
      lane.asideUntil = now + apart;
      lane.aside = 0;
    } else if (lane.aside >= room(lane)) {
      lane.asideUntil = Math.min(lane.asideUntil + apart, now + MAX_ASIDE_MS);
      lane.aside = 0;
    }
    lane.aside++;
    return lane.asideUntil;
  }

  const limit = (lane: Lane<T>) => (lane.proven ? concurrency : 1);
  const room = (lane: Lane<T>) => (lane.proven ? concurrency * HELD : HELD_UNPROVEN);

  return {
    offer(parcel, now) {
      if (known.has(parcel.id)) return undefined;
      const lane = laneOf(toRef(parcel));
      if (lane.pausedUntil > now) return lane.pausedUntil;
      if (lane.waiting.length >= room(lane)) return putAside(lane, now);
      lane.waiting.push(parcel);
      known.add(parcel.id);
      return undefined;
    },
    next() {
      if (active >= MAX_ACTIVE) return undefined;
      for (const [ref, lane] of lanes) {
        const parcel = lane.waiting[0];
        if (!parcel || lane.active >= limit(lane)) continue;
        const ofOwner = owners.get(parcel.owner) ?? 0;
        if (ofOwner >= MAX_ACTIVE_OF_OWNER) continue;
        lane.waiting.shift();
        lane.active++;
        active++;
        owners.set(parcel.owner, ofOwner + 1);
        lanes.delete(ref);
        lanes.set(ref, lane);
        return parcel;
      }
      return undefined;
    },
    done(parcel, impression) {
      const lane = laneOf(toRef(parcel));
      lane.active--;
      active--;
      known.delete(parcel.id);
      const ofOwner = owners.get(parcel.owner)! - 1;
      if (ofOwner === 0) owners.delete(parcel.owner);
      else owners.set(parcel.owner, ofOwner);
      if (impression === undefined) return;
      lane.proven = impression === 'well';
      lane.unwell = lane.proven ? 0 : lane.unwell + 1;
    },
    pause(parcel, until) {
      const lane = laneOf(toRef(parcel));
      lane.pausedUntil = until;
      const back = lane.waiting;
      lane.waiting = [];
      for (const { id } of back) known.delete(id);
      return back;
    },
    known: () => known.size,
    waiting: () => known.size - active,
    tidy(now) {
      if (lanes.size < MAX_LANES) return;
      for (const [ref, lane] of lanes) {
        if (lane.active === 0 && lane.waiting.length === 0 && lane.pausedUntil <= now) lanes.delete(ref);
      }
    },
  };
}

function toRef({ ref }: Parcel): string {
  return ref ?? '';
}
