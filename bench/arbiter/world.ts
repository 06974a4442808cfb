// The machine that the benchmark runs on: a card with so much memory, one load at a time, compute shared equally by all runs.
import type { Clock } from '../../src/arbiter/clock.ts';
import type { GpuTenant } from '../../src/runtime.ts';

export interface World {
  tenants: Record<string, GpuTenant>;
  /** Resolves when the model is on the card; at once where it is. Loads wait for each other. */
  load(place: Place, how: { bytes: number; ms: number }): Promise<void>;
  /** Resolves when so many milliseconds of the whole card's compute have gone into it. */
  run(place: Place, ms: number): Promise<void>;
  tally(): Tally;
}

export interface Place {
  runtime: string;
  model: string;
}

export interface Tally {
  loads: number;
  evictions: number;
  /** Bytes. */
  peak: number;
  /** Milliseconds during which something ran, and during which something loaded. */
  busyMs: number;
  loadingMs: number;
  /** What no scheduler may do, and did. */
  violations: readonly string[];
}

export interface WorldOptions {
  clock: Clock;
  /** Bytes of VRAM. */
  vram: number;
  /** Runs of one model at the same time, for each runtime that there is. */
  slots: Readonly<Record<string, number>>;
}

interface Resident {
  model: string;
  runtime: string;
  bytes: number;
  runs: number;
  loading: Promise<void> | undefined;
}

export function createWorld({ clock, vram, slots }: WorldOptions): World {
  const residents = new Map<string, Resident>();
  const processor = createProcessor(clock);
  const violations: string[] = [];
  let loads = 0;
  let evictions = 0;
  let peak = 0;
  let loadingMs = 0;
  let lastLoad = Promise.resolve();

  async function load(place: Place, { bytes, ms }: { bytes: number; ms: number }): Promise<void> {
    const there = residents.get(toKey(place));
    if (there) return there.loading;
    const resident: Resident = { ...place, bytes, runs: 0, loading: undefined };
    residents.set(toKey(place), resident);
    loads++;
    const used = [...residents.values()].reduce((sum, one) => sum + one.bytes, 0);
    peak = Math.max(peak, used);
    if (used > vram) violations.push(`${place.model} was loaded with ${used - vram} bytes too few`);
    const before = lastLoad;
    resident.loading = (async () => {
      await before;
      await new Promise<void>((resolve) => void clock.after(ms, resolve));
      loadingMs += ms;
      resident.loading = undefined;
    })();
    lastLoad = resident.loading;
    return resident.loading;
  }

  async function run(place: Place, ms: number): Promise<void> {
    const resident = residents.get(toKey(place));
    if (!resident || resident.loading) violations.push(`${place.model} ran without being there`);
    if (resident && ++resident.runs > (slots[place.runtime] ?? 1))
      violations.push(`${place.model} ran too often at once`);
    await processor.run(ms);
    if (resident) resident.runs--;
  }

  function evict(place: Place): void {
    const resident = residents.get(toKey(place));
    if (!resident) return;
    if (resident.runs > 0 || resident.loading) violations.push(`${place.model} was evicted while it was busy`);
    residents.delete(toKey(place));
    evictions++;
  }

  const toTenant = (runtime: string): GpuTenant => ({
    footprint: (model) => model.size ?? 0,
    slots: { model: slots[runtime]! },
    residents: async () =>
      [...residents.values()]
        .filter((one) => one.runtime === runtime)
        .map(({ model, bytes, runs, loading }) => ({ model, vram: bytes, busy: runs > 0 || loading !== undefined })),
    evict: async (model) => evict({ runtime, model }),
  });

  return {
    tenants: Object.fromEntries(Object.keys(slots).map((runtime) => [runtime, toTenant(runtime)])),
    load,
    run,
    tally: () => ({ loads, evictions, peak, busyMs: processor.busyMs(), loadingMs, violations }),
  };
}

interface Task {
  /** What the meter shows when it has had its part. */
  until: number;
  done: () => void;
}

/** The meter counts the milliseconds that each of those who run has had so far: it runs slower the more they are. */
function createProcessor(clock: Clock) {
  const tasks: Task[] = [];
  let meter = 0;
  let readAt = clock.now();
  let busyMs = 0;
  let cancel = () => {};

  function read(): void {
    const passed = clock.now() - readAt;
    readAt += passed;
    if (tasks.length === 0) return;
    busyMs += passed;
    meter += passed / tasks.length;
  }

  function arm(): void {
    cancel();
    if (tasks.length === 0) return;
    const next = tasks.reduce((least, { until }) => Math.min(least, until), Infinity);
    cancel = clock.after((next - meter) * tasks.length, () => {
      read();
      meter = Math.max(meter, next);
      const ended = tasks.filter(({ until }) => until <= meter);
      for (const task of ended) tasks.splice(tasks.indexOf(task), 1);
      arm();
      for (const task of ended) task.done();
    });
  }

  return {
    busyMs: () => busyMs,
    run: (ms: number) =>
      new Promise<void>((done) => {
        read();
        tasks.push({ until: meter + ms, done });
        arm();
      }),
  };
}

function toKey({ runtime, model }: Place): string {
  return `${runtime} ${model}`;
}
