// Drives the arbiter as it is through a trace: every row is a client that waits, loads what is missing, runs and leaves.
import { createArbiter, type Lease } from '../../src/arbiter/arbiter.ts';
import type { Policy } from '../../src/arbiter/policy.ts';
import { createTimings, type Timings } from '../../src/arbiter/timings.ts';
import type { Row } from './trace.ts';
import { createVirtualClock } from './virtual-time.ts';
import { createWorld, type Tally } from './world.ts';

/** Seconds, from the first arrival on where it is a moment. */
export interface Served {
  row: Row;
  /** From arrival until it runs: the queue, the swap and the load. */
  wait: number;
  endedAt: number;
  /** Longest wait that the arbiter promised when it came. */
  promised: number;
}

export interface Outcome extends Tally {
  served: readonly Served[];
  refused: readonly { row: Row; because: string }[];
  /** Seconds. */
  makespan: number;
}

export interface SimulateOptions {
  policy: Policy;
  /** GB that models may use. */
  vram: number;
  /** Somebody has told how long loads take, as in a configuration by hand; else that is learned on the way. */
  knowsLoads?: boolean;
}

const GB = 1e9;
/** Nobody is sent away, and nobody is thought dead. */
const FOREVER_MS = 1e12;

export async function simulate(
  rows: readonly Row[],
  { policy, vram, knowsLoads = false }: SimulateOptions,
): Promise<Outcome> {
  const clock = createVirtualClock();
  const models = toModels(rows);
  const budget = toBytes(vram);
  const slots = Object.fromEntries(rows.map(({ runtime, slots: most = 1 }) => [runtime, most]));
  const world = createWorld({ clock, vram: budget, slots });
  /** By the number of the lease, of which the first is 1. */
  const promises: number[] = [];
  const arbiter = createArbiter({
    tenants: world.tenants,
    budget: () => budget,
    queueMs: FOREVER_MS,
    leaseMs: FOREVER_MS,
    clock,
    policy,
    // Nobody reads it here, and it would take most of the time.
    foresee: false,
    ...(knowsLoads ? { timings: toKnown(models) } : {}),
    onGrant: (_, { promisedMs }) => void promises.push(promisedMs),
  });
  const served: Served[] = [];
  const refused: { row: Row; because: string }[] = [];

  async function serve(row: Row): Promise<void> {
    const { runtime, model, caller, capability } = row;
    const place = { runtime, model };
    const { bytes, loadMs } = models.get(toName(row))!;
    const arrivedAt = clock.now();
    const waiting = arbiter.acquire({
      ...place,
      footprint: bytes,
      tenant: world.tenants[runtime]!,
      signal: new AbortController().signal,
      caller,
      class: row.class,
      work: capability,
    });
    let lease: Lease | undefined;
    try {
      for (let next = await waiting.next(); ; next = await waiting.next()) {
        if (!next.done) continue;
        lease = next.value;
        break;
      }
    } catch (error) {
      refused.push({ row, because: error instanceof Error ? error.message : String(error) });
      return;
    }
    const promised = promises[lease.id - 1]! / 1000;
    await world.load(place, { bytes, ms: loadMs });
    lease.running();
    const wait = (clock.now() - arrivedAt) / 1000;
    await world.run(place, row.run * 1000);
    lease.release();
    served.push({ row, wait, endedAt: clock.now() / 1000, promised });
  }

  // Whoever comes at the same instant is there when the first of them is decided on.
  const first = rows[0]?.at ?? 0;
  const clients: Promise<void>[] = [];
  for (const together of byArrival(rows)) {
    clock.after((together[0]!.at - first) * 1000, () => void clients.push(...together.map(serve)));
  }
  await clock.run();
  if (served.length + refused.length < rows.length) {
    throw new Error(`${rows.length - served.length - refused.length} of ${rows.length} requests were never answered.`);
  }
  await Promise.all(clients);
  return { ...world.tally(), served, refused, makespan: Math.max(0, ...served.map(({ endedAt }) => endedAt)) };
}

/** What each model takes: where rows of one differ, the most. */
export function toModels(rows: readonly Row[]): Map<string, { bytes: number; loadMs: number }> {
  const models = new Map<string, { bytes: number; loadMs: number }>();
  for (const row of rows) {
    const { bytes = 0, loadMs = 0 } = models.get(toName(row)) ?? {};
    models.set(toName(row), { bytes: Math.max(bytes, toBytes(row.vram)), loadMs: Math.max(loadMs, row.load * 1000) });
  }
  return models;
}

export function toName({ runtime, model }: Pick<Row, 'runtime' | 'model'>): string {
  return `${runtime} ${model}`;
}

function toBytes(gb: number): number {
  return Math.round(gb * GB);
}

function toKnown(models: ReturnType<typeof toModels>): Timings {
  return { ...createTimings(), loadMs: (want) => models.get(toName(want))?.loadMs ?? 0 };
}

function byArrival(rows: readonly Row[]): Row[][] {
  const groups: Row[][] = [];
  for (const row of rows) {
    const last = groups.at(-1);
    if (last?.[0]!.at === row.at) last.push(row);
    else groups.push([row]);
  }
  return groups;
}
