// node bench/arbiter/decide.ts [--json]: what one decision costs, by how many wait and for how many models.
import { decide, type Class, type Held, type Snapshot, type Waiting } from '../../src/arbiter/policy.ts';

const WAITERS = [100, 300, 1000, 3000, 10_000];
const MODELS = [10, 30, 100];
/** After one to warm up in. */
const ROUNDS = 5;
const ROUND_MS = 80;
const GB = 1e9;

const cells = MODELS.map((models) => {
  const medians = WAITERS.map((waiters) => ({ waiters, us: measure(toSnapshot(waiters, models)) }));
  return { models, medians, exponent: toExponent(medians) };
});
if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify({ decide: cells }, undefined, 2)}\n`);
else process.stdout.write(toTable());

function toTable(): string {
  const rows = [
    ['waiters', ...MODELS.map((models) => `${models} models`)],
    ...WAITERS.map((waiters, row) => [
      String(waiters),
      ...cells.map(({ medians }) => `${medians[row]!.us.toFixed(0)} us`),
    ]),
    ['n to the', ...cells.map(({ exponent }) => exponent.toFixed(2))],
  ];
  return rows.map((row) => `${row.map((cell) => cell.padStart(12)).join('')}\n`).join('');
}

/** Microseconds of one decision: the median of rounds, each a mean. */
function measure(snapshot: Snapshot): number {
  const round = () => {
    const began = readUs();
    for (let runs = 1; ; runs++) {
      decide(snapshot);
      const us = readUs() - began;
      if (us >= ROUND_MS * 1000) return us / runs;
    }
  };
  round();
  return Array.from({ length: ROUNDS }, round).toSorted((a, b) => a - b)[ROUNDS >> 1]!;
}

/** Of the processor, where the engine can tell: what else the machine does is not in it. Some clocks tick every few milliseconds only. */
function readUs(): number {
  if (!process.threadCpuUsage) return performance.now() * 1000;
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

/** Of the straight line through the logarithms: the cost grows as the number of waiters to this power. */
function toExponent(medians: readonly { waiters: number; us: number }[]): number {
  const points = medians.map(({ waiters, us }) => [Math.log(waiters), Math.log(us)] as const);
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const slope = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0);
  return slope / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0);
}

/** A card with room for half a dozen models, some of them busy; a queue of every class and of many callers, a part of it due. */
function toSnapshot(waiters: number, models: number): Snapshot {
  const random = createRandom();
  const now = 10_000_000;
  const classes: Class[] = ['interactive', 'normal', 'background'];
  const sizes = Array.from({ length: models }, () => Math.round((0.5 + 9 * random()) * GB));
  const budget = 24 * GB;
  const held: Held[] = [];
  let free = budget;
  for (const [index, footprint] of sizes.entries()) {
    if (footprint > free || held.length >= 8) continue;
    free -= footprint;
    const state = { loading: false, leaving: false, stuck: false, loadMs: 1000 + footprint / 2e6 };
    const leases = random() < 0.5 ? 1 : 0;
    held.push({
      runtime: 'r',
      model: `m${index}`,
      footprint,
      leases,
      usedAt: now - 60_000 * random(),
      since: now - 90_000,
      ...state,
    });
  }
  const waiting = Array.from({ length: waiters }, (_, id): Waiting => {
    const model = Math.floor(models * random());
    const since = now - Math.round((600_000 * (waiters - id)) / waiters);
    const of = classes[Math.floor(3 * random())]!;
    const place = { runtime: 'r', model: `m${model}`, line: model, footprint: sizes[model]! };
    const loadMs = held.some((entry) => entry.model === place.model) ? 0 : 1000 + place.footprint / 2e6;
    const times = { since, dueAt: since + 60_000 + 540_000 * random(), loadMs, runMs: 500 + 20_000 * random() };
    return { ...place, id, caller: `c${Math.floor(200 * random())}`, class: of, ...times };
  });
  const running = held.flatMap(({ runtime, model, leases }) =>
    leases > 0 ? [{ runtime, model, endsAt: now + 4000 }] : [],
  );
  const demand = new Map(sizes.map((_, index) => [`m${index}`, 20 * random()]));
  const usage = new Map(waiting.map(({ caller }) => [caller, 1e5 * random()]));
  return {
    now,
    waiting,
    held,
    running,
    budget,
    swapping: false,
    slots: () => ({ model: 1, runtime: Infinity }),
    usage: (caller) => usage.get(caller) ?? 0,
    demand: ({ model }) => demand.get(model)!,
  };
}

function createRandom(): () => number {
  let state = 42;
  return () => (state = (state * 16_807) % 2_147_483_647) / 2_147_483_647;
}
