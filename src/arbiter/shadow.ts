// What a plain scheduler would have made of the same arrivals: a small model of the card, run beside the real one, to be measured against.
import { toKey, type Waiting, type Want } from './snapshot.ts';

/** `strict`: whoever came first goes first. `grouped`: what is there is served first, and only what nobody waits for leaves. */
export type Order = 'strict' | 'grouped';

/** Who came, as far as the model needs to know. Times are in milliseconds. */
export interface Arrival extends Want {
  since: number;
  /** Loading it would take so long. */
  loadMs: number;
  /** It runs so long, as far as anybody knows; told better while it waits here, it is believed. */
  runMs: number;
  /** It left without running. */
  gone?: boolean;
}

export interface Shadow {
  arrive(arrival: Arrival, now: number): void;
  /** The longest wait of the last hour, those who wait still included, in milliseconds. */
  worst(now: number): number;
}

export interface ShadowOptions {
  /** Bytes of VRAM that models may use; undefined: one model at a time. */
  budget: () => number | undefined;
  /** Runs of one model at the same time. */
  slots: (runtime: string) => number;
}

interface Resident {
  key: string;
  want: Want;
  loadMs: number;
  at: number;
  /** Milliseconds of the whole card that each run takes still. */
  left: number[];
}

/** Longest waits are kept by the five minutes in which they ended. */
const SLICE_MS = 300_000;
const SLICES = 12;
/** More than this waiting tells nothing new: the oldest are let go. */
const MAX_WAITING = 5000;
/** A run with less than this left has ended, in milliseconds: beside the time of day nothing smaller adds up. */
const ENDED_MS = 0.01;

export function createShadow(order: Order, { budget, slots }: ShadowOptions): Shadow {
  /** By model; those that wait, oldest first. */
  const waiting = new Map<string, Arrival[]>();
  const residents = new Map<string, Resident>();
  const peaks = new Map<number, number>();
  let loading: { resident: Resident; until: number } | undefined;
  let now = 0;
  let count = 0;

  const oldest = (): Arrival[] | undefined => {
    let first: Arrival[] | undefined;
    for (const line of waiting.values()) if (!first || line[0]!.since < first[0]!.since) first = line;
    return first;
  };
  const toWant = (arrival: Arrival) => arrival as Pick<Waiting, 'runtime' | 'model'> & Arrival;

  function take(key: string, line: Arrival[]): Arrival {
    const arrival = line.shift()!;
    count--;
    if (line.length === 0) waiting.delete(key);
    return arrival;
  }

  /** Whether one of them has begun. */
  function begin(key: string, line: Arrival[]): boolean {
    const resident = residents.get(key);
    if (!resident) return false;
    while (line.length > 0 && line[0]!.gone) take(key, line);
    if (line.length === 0 || resident.left.length >= slots(resident.want.runtime)) return false;
    const { since, runMs } = take(key, line);
    resident.left.push(runMs);
    const slice = Math.floor(now / SLICE_MS);
    peaks.set(slice, Math.max(peaks.get(slice) ?? 0, now - since));
    return true;
  }

  /** Whether it is loaded now, what is idle making room in the order of `by`. */
  function load(first: Arrival, by: (resident: Resident) => number, keep: (resident: Resident) => boolean): boolean {
    const idle = [...residents.values()].filter((one) => one.left.length === 0 && !keep(one));
    idle.sort((a, b) => by(a) - by(b));
    const most = budget();
    const fits = () => {
      if (most === undefined) return residents.size === 0;
      let sum = Math.min(first.footprint, most);
      for (const { want } of residents.values()) sum += want.footprint;
      return sum <= most;
    };
    const sent: Resident[] = [];
    while (!fits() && idle.length > 0) {
      const victim = idle.shift()!;
      sent.push(victim);
      residents.delete(victim.key);
    }
    if (!fits()) {
      for (const victim of sent) residents.set(victim.key, victim);
      return false;
    }
    const { runtime, model, footprint, loadMs } = first;
    const want = { runtime, model, footprint: Math.min(footprint, most ?? footprint) };
    loading = { resident: { key: toKey(want), want, loadMs, at: 0, left: [] }, until: now + loadMs };
    return true;
  }

  function dispatch(): void {
    for (const [key, line] of waiting) while (line[0]?.gone) take(key, line);
    if (order === 'strict') {
      for (let line = oldest(); line; line = oldest()) {
        const first = line[0]!;
        const key = toKey(toWant(first));
        if (!begin(key, line) && !first.gone) {
          if (!loading && !residents.has(key))
            load(
              first,
              ({ at }) => at,
              () => false,
            );
          return;
        }
      }
      return;
    }
    for (const [key, line] of waiting) while (begin(key, line));
    if (loading) return;
    const missing = [...waiting].filter(([key]) => !residents.has(key)).map(([, line]) => line[0]!);
    for (const first of missing.toSorted((a, b) => a.since - b.since)) {
      if (
        load(
          first,
          ({ loadMs }) => loadMs,
          ({ key }) => waiting.has(key),
        )
      )
        return;
    }
  }

  /** All that happens until then. */
  function advance(to: number): void {
    for (;;) {
      let runs = 0;
      for (const { left } of residents.values()) runs += left.length;
      let next = Math.min(to, loading?.until ?? Infinity);
      for (const { left } of residents.values()) for (const ms of left) next = Math.min(next, now + ms * runs);
      const each = runs > 0 ? Math.max(0, next - now) / runs : 0;
      now = Math.max(now, next);
      let happened = false;
      for (const resident of residents.values()) {
        const before = resident.left.length;
        if (before > 0) resident.left = resident.left.map((ms) => ms - each).filter((ms) => ms > ENDED_MS);
        happened ||= resident.left.length < before;
      }
      if (loading && loading.until <= now) {
        loading.resident.at = now;
        residents.set(loading.resident.key, loading.resident);
        loading = undefined;
        happened = true;
      }
      if (happened) dispatch();
      else if (now >= to) return;
    }
  }

  return {
    arrive(arrival, at) {
      advance(at);
      const key = toKey(toWant(arrival));
      const line = waiting.get(key);
      if (line) line.push(arrival);
      else waiting.set(key, [arrival]);
      count++;
      const first = count > MAX_WAITING ? oldest() : undefined;
      if (first) take(toKey(toWant(first[0]!)), first);
      dispatch();
    },
    worst(at) {
      advance(at);
      const slice = Math.floor(now / SLICE_MS);
      let worst = 0;
      for (const [when, ms] of peaks) {
        if (when < slice - SLICES) peaks.delete(when);
        else worst = Math.max(worst, ms);
      }
      dispatch();
      const first = oldest()?.[0];
      return first ? Math.max(worst, now - first.since) : worst;
    },
  };
}
