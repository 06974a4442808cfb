// What no scheduler can do better, computed from a trace: flow time, swaps, makespan.
import { toModels, toName } from './simulate.ts';
import type { Row } from './trace.ts';

export interface LowerBound {
  /** Seconds from arrival to end, on average. */
  meanFlow: number;
  /** Loads. */
  swaps: number;
  /** Seconds from the first arrival to the last end. */
  makespan: number;
}

/** `longestWait`, in seconds: the swaps hold for whoever lets nobody wait longer than that. */
export function toLowerBound(
  rows: readonly Row[],
  { vram, longestWait }: { vram: number; longestWait: number },
): LowerBound {
  return { meanFlow: toFlow(rows), swaps: toSwaps(rows, vram * 1e9, longestWait), makespan: toMakespan(rows) };
}

/** Shortest remaining time first on one processor, with everything on the card for nothing: nobody has a lower mean. */
function toFlow(rows: readonly Row[]): number {
  /** The least left last. */
  const open: { left: number; at: number }[] = [];
  let now = 0;
  let sum = 0;
  const put = (task: { left: number; at: number }) => {
    let low = 0;
    for (let high = open.length; low < high;) {
      const middle = (low + high) >> 1;
      if (open[middle]!.left > task.left) low = middle + 1;
      else high = middle;
    }
    open.splice(low, 0, task);
  };
  for (let index = 0; index < rows.length || open.length > 0;) {
    const next = rows[index]?.at ?? Infinity;
    if (open.length === 0) now = Math.max(now, next);
    const task = open.at(-1);
    if (task && now + task.left <= next) {
      now += task.left;
      sum += now - task.at;
      open.pop();
      continue;
    }
    if (task) {
      task.left -= next - now;
      open.pop();
      put(task);
    }
    now = next;
    put({ left: rows[index]!.run, at: next });
    index++;
  }
  return Math.round((sum / rows.length) * 1000) / 1000;
}

/** All work in the order of arrival, with everything on the card for nothing; and each model's first, with its load. */
function toMakespan(rows: readonly Row[]): number {
  const first = rows[0]!.at;
  const models = toModels(rows);
  const seen = new Set<string>();
  let end = 0;
  let alone = 0;
  for (const row of rows) {
    const at = row.at - first;
    end = Math.max(end, at) + row.run;
    const isCold = !seen.has(toName(row));
    seen.add(toName(row));
    alone = Math.max(alone, at + row.run + (isCold ? models.get(toName(row))!.loadMs / 1000 : 0));
  }
  return Math.round(Math.max(end, alone) * 1000) / 1000;
}

/**
 * A model and all that cannot sit beside it take turns. Each side is brought back as late as it may be, and then all that came
 * until then is served in no time: nobody changes sides less often, and each change is a load. Any other model is loaded once.
 */
function toSwaps(rows: readonly Row[], vram: number, longestWait: number): number {
  const models = toModels(rows);
  let best = models.size;
  for (const [name, { bytes }] of models) {
    const rivals = new Set(
      [...models].filter(([other, { bytes: size }]) => other !== name && bytes + size > vram).map(([other]) => other),
    );
    if (rivals.size === 0) continue;
    const times = (isSide: (row: Row) => boolean) => rows.filter(isSide).map(({ at }) => at);
    const sides = [times((row) => toName(row) === name), times((row) => rivals.has(toName(row)))];
    const turns = Math.min(...[0, 1].map((side) => toTurns(sides, side, longestWait)));
    best = Math.max(best, turns + models.size - 1 - rivals.size);
  }
  return best;
}

function toTurns(sides: readonly (readonly number[])[], begins: number, longestWait: number): number {
  const served = sides.map(() => 0);
  let other = 1 - begins;
  for (let turns = 1; ; turns++) {
    const next = sides[other]![served[other]!];
    if (next === undefined) return turns;
    // The last moment at which the other side must come on; who is there by then is served.
    for (const [side, times] of sides.entries()) {
      while (served[side]! < times.length && times[served[side]!]! <= next + longestWait) served[side]!++;
    }
    other = 1 - other;
  }
}
