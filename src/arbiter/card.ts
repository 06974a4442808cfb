// The card as the policy sees it: what is there, what it is worth, what fits, and what would have to leave.
import type { Group } from './groups.ts';
import { toKey, type Held, type Snapshot, type Want } from './snapshot.ts';

/** A model on the card. */
export interface Entry {
  readonly held: Held;
  /** Those who wait for it. */
  group: Group | undefined;
  /** Milliseconds until its last run is expected to end. */
  readonly leftMs: number;
  /** What is lost when it leaves: seconds of loading, as often as it is asked for, for each byte. */
  readonly worth: number;
  /** It can be sent away, now or once it is idle. */
  readonly isMovable: boolean;
}

export interface Card {
  readonly all: readonly Entry[];
  find(place: Pick<Want, 'runtime' | 'model'>): Entry | undefined;
  /** They wait for it. */
  asked(entry: Entry, group: Group): void;
  /** Quickly: it can be let in some time, whatever is there. */
  canEver(want: Want): boolean;
  /** Why it could never be let in. */
  refusalOf(want: Want): { because: string; remedy?: string } | undefined;
  /** Whether it may be used for that now: what is in use fits, and so does what it grows by. */
  canUse(entry: Entry, want: Want): boolean;
  /** Nothing on it is in use. */
  isIdle(): boolean;
  /** It is used for that from now on. */
  use(entry: Entry, want: Want): void;
  /** How many more may use it now, and how many more runs its runtime takes. */
  slotsOf(entry: Entry): number;
  runtimeSlots(runtime: string): number;
  /** What must leave so that it fits, worth least first, of those that are idle and `may`; undefined where that does not do. */
  room(want: Want, may: (entry: Entry) => boolean): Held[] | undefined;
  /** The same of those that are busy, too: what must be drained. */
  drain(want: Want, may: (entry: Entry) => boolean): Entry[] | undefined;
  /** Why there is no room, for people. */
  inTheWay(want: Want): string;
}

/** What a model that nobody asks for is worth, in requests. */
const FLOOR = 0.3;
const ENDLESS = { model: Infinity, runtime: Infinity };

export function toCard(snapshot: Snapshot): Card {
  const { now, held, running, budget, most = snapshot.budget, isFirm = true } = snapshot;
  const { isPinned = () => false, demand = () => 0, slots = () => ENDLESS } = snapshot;
  const entries = new Map<string, Entry>();
  const grown = new Map<Entry, number>();
  const leases = new Map<string, number>();
  const pinned = held.filter(isPinned);
  for (const one of held) {
    const { footprint, loadMs, leaving, stuck, loading } = one;
    const worth = ((demand(one) + FLOOR) * (loadMs + 1)) / Math.max(1, footprint);
    const isMovable = !leaving && !stuck && !loading && !pinned.includes(one);
    const leftMs = one.leases === 0 ? 0 : toLeft(one, running, now);
    entries.set(toKey(one), { held: one, group: undefined, leftMs, worth, isMovable });
    leases.set(one.runtime, (leases.get(one.runtime) ?? 0) + one.leases);
  }
  const all = [...entries.values()];
  const byWorth = all.toSorted((a, b) => a.worth - b.worth);
  const granted = new Map<Entry, number>();
  const sizeOf = (entry: Entry) => entry.held.footprint + (grown.get(entry) ?? 0);
  const isUsed = (entry: Entry) => entry.held.leases > 0 || entry.held.loading || granted.has(entry);
  const sum = (some: Iterable<Entry>) => {
    let bytes = 0;
    for (const entry of some) bytes += sizeOf(entry);
    return bytes;
  };
  let total = sum(all);
  let inUse = sum(all.filter(isUsed));
  let users = all.filter(isUsed).length;

  const find = (place: Pick<Want, 'runtime' | 'model'>) => entries.get(toKey(place));
  const cut = (bytes: number) => (budget === undefined || isFirm ? bytes : Math.min(bytes, budget));
  const runtimeSlots = (runtime: string) => slots(runtime).runtime - (leases.get(runtime) ?? 0);

  /** Chooses of `some`, in their order, what must leave for it; none of them in vain. */
  function choose(want: Want, some: readonly Entry[]): Entry[] | undefined {
    const own = find(want);
    const size = Math.max(want.footprint, own?.held.footprint ?? 0);
    let count = all.length - (own ? 1 : 0);
    let bytes = total - (own ? sizeOf(own) : 0);
    const fits = () => (budget === undefined ? count === 0 : bytes + cut(size) <= budget || (count === 0 && !isFirm));
    const chosen: Entry[] = [];
    for (const entry of some) {
      if (fits()) break;
      if (entry === own) continue;
      chosen.push(entry);
      bytes -= sizeOf(entry);
      count--;
    }
    if (!fits()) return undefined;
    // The first of them may not be needed any more; what is worth most is spared first.
    for (const entry of chosen.toReversed()) {
      bytes += sizeOf(entry);
      count++;
      if (fits()) chosen.splice(chosen.indexOf(entry), 1);
      else {
        bytes -= sizeOf(entry);
        count--;
      }
    }
    return chosen;
  }

  return {
    all,
    find,
    isIdle: () => users === 0,
    asked: (entry, group) => void (entry.group = group),
    canEver: ({ footprint }) => pinned.length === 0 && (budget === undefined || !isFirm || footprint <= budget),
    refusalOf(want) {
      if (budget !== undefined && isFirm && want.footprint > budget) {
        // What others hold may be less when those who run now have ended.
        if (users > 0 && want.footprint <= (most ?? budget)) return undefined;
        return { because: `${want.model} needs ${toGiB(want.footprint)}, the card offers ${toGiB(budget)}` };
      }
      if (pinned.length === 0) return undefined;
      const own = find(want)?.held;
      const size = Math.max(want.footprint, own?.footprint ?? 0);
      const others = pinned.filter((one) => one !== own);
      const bytes = others.reduce((rest, one) => rest + one.footprint, 0);
      const fits = budget === undefined ? others.length === 0 : bytes + cut(size) <= budget;
      // What is there and does not grow needs no room.
      if (fits || (own && want.footprint <= own.footprint)) return undefined;
      return toPinned(want, others, budget);
    },
    canUse(entry, want) {
      const size = Math.max(sizeOf(entry), want.footprint);
      const growth = size - sizeOf(entry);
      const isMine = isUsed(entry);
      const others = users - (isMine ? 1 : 0);
      if (budget === undefined) return others === 0 || (isMine && growth === 0);
      const isAlone = all.length === 1 && !isFirm;
      if (growth > 0 && total + growth > budget && !isAlone) return false;
      if (isMine && growth === 0) return true;
      const used = inUse - (isMine ? sizeOf(entry) : 0);
      return used + size <= budget || (others === 0 && growth === 0) || (isAlone && others === 0);
    },
    use(entry, want) {
      const growth = Math.max(0, want.footprint - sizeOf(entry));
      if (isUsed(entry)) inUse += growth;
      else {
        inUse += sizeOf(entry) + growth;
        users++;
      }
      total += growth;
      grown.set(entry, (grown.get(entry) ?? 0) + growth);
      granted.set(entry, (granted.get(entry) ?? 0) + 1);
      leases.set(want.runtime, (leases.get(want.runtime) ?? 0) + 1);
    },
    slotsOf(entry) {
      const { runtime, leases: uses } = entry.held;
      return Math.min(slots(runtime).model - uses - (granted.get(entry) ?? 0), runtimeSlots(runtime));
    },
    runtimeSlots,
    room(want, may) {
      const idle = byWorth.filter((entry) => entry.isMovable && !isUsed(entry) && may(entry));
      return choose(want, idle)?.map((entry) => entry.held);
    },
    drain: (want, may) =>
      choose(
        want,
        byWorth.filter((entry) => entry.isMovable && may(entry)),
      ),
    inTheWay(want) {
      const others = all.filter(({ held: one }) => toKey(one) !== toKey(want));
      const name = (some: readonly Entry[]) => some.map((entry) => entry.held.model).join(', ');
      const busy = others.filter(isUsed);
      const stuck = others.filter((entry) => entry.held.stuck);
      if (stuck.length > 0) return `${name(stuck)} did not leave the card when asked to`;
      if (busy.length > 0) return `${name(busy)} ${busy.length === 1 ? 'is' : 'are'} using the card`;
      const asked = others.filter((entry) => entry.group);
      return asked.length > 0 ? `others wait for ${name(asked)}, which is there` : 'the card is being made free';
    },
  };
}

function toLeft(held: Held, running: Snapshot['running'], now: number): number {
  let left = 0;
  for (const one of running) {
    if (one.model === held.model && one.runtime === held.runtime) left = Math.max(left, one.endsAt - now);
  }
  return left;
}

function toPinned(
  want: Want,
  pinned: readonly Held[],
  budget: number | undefined,
): { because: string; remedy: string } {
  const names = pinned.map(({ model }) => model);
  const room =
    budget === undefined
      ? 'without a budget the card holds one model at a time'
      : `${want.model} needs ${toGiB(want.footprint)} of ${toGiB(budget)}`;
  return {
    because: `${names.join(', ')} ${names.length === 1 ? 'is' : 'are'} pinned, and ${room}`,
    remedy: `To make room: ${names.map((name) => `hono-ai models pin ${name} --off`).join(', or ')}${
      budget === undefined ? ', or say in HONO_AI_VRAM how much the card has' : ''
    }.`,
  };
}

function toGiB(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
