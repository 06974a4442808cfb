// When those who wait will have their turn: the policy itself, run ahead of time with what is expected of loads and runs.
import { toKey, type Policy, type Snapshot, type Waiting } from './policy.ts';
import { rehearse, toMs, type Expected, type Rehearsal } from './rehearsal.ts';

export type { Expected } from './rehearsal.ts';

export interface ForecastOptions {
  /** Milliseconds that a model takes to leave the card. */
  evictMs?: number;
}

/** Of a queue that is longer, so many are looked at at once. */
const WINDOW = 150;
/** What is looked at in all, in waiters times decisions: some milliseconds of work. */
const EFFORT = 25_000;
const EVICT_MS = 1000;

/**
 * By the id of those who wait, in the order of their turns. Who waits for something without an end, or will be refused, is
 * missing. Of those far back it is told by how fast those before them went. Never throws.
 */
export function forecast(
  snapshot: Snapshot,
  policy: Policy,
  { evictMs = EVICT_MS }: ForecastOptions = {},
): Map<number, Expected> {
  const line = toLine(snapshot);
  const seen = rehearse(snapshot, policy, { line, window: WINDOW, effort: EFFORT, evictMs });
  if (seen.cut && seen.expected.size > 0) goOn(snapshot, line, seen);
  return seen.expected;
}

/** Those whom the rehearsal did not come to: as fast as it went on before them. */
function goOn({ now, quiet }: Snapshot, line: readonly Waiting[], { expected, refused, ranMs }: Rehearsal): void {
  let ran = 0;
  for (const { id, runMs } of line) if (expected.has(id)) ran += toMs(runMs);
  const pace = ran > 0 ? ranMs / ran : 0;
  const quietMs = quiet?.until === undefined ? 0 : Math.max(0, quiet.until - now);
  let at = ranMs;
  for (const waiter of line) {
    if (expected.has(waiter.id) || refused.has(waiter.id)) continue;
    const startMs = waiter.class === 'background' ? Math.max(at, quietMs) : at;
    expected.set(waiter.id, { grantMs: startMs, startMs, swapMs: 0, endMs: startMs + toMs(waiter.runMs), evicts: [] });
    at += toMs(waiter.runMs) * pace;
  }
}

/**
 * A long queue, roughly in the order of its turns: who is due, then by class, callers and models of each in turn. A short one as
 * it came, for all of it is looked at. Without those who wait for a quiet that has no end.
 */
function toLine({ now, waiting, quiet }: Snapshot): readonly Waiting[] {
  const isHeld = quiet && quiet.until === undefined;
  const able = isHeld ? waiting.filter(({ class: of }) => of !== 'background') : waiting;
  if (able.length <= WINDOW) return able;
  const ranks: Waiting[][] = [[], [], [], []];
  for (const waiter of able) ranks[waiter.dueAt <= now ? 0 : RANKS[waiter.class]]!.push(waiter);
  return ranks.flatMap(takeTurns);
}

const RANKS = { interactive: 1, normal: 2, background: 3 };

/** Who asks for much does not hide who asks for little. */
function takeTurns(waiters: readonly Waiting[]): Waiting[] {
  const groups = new Map<string, Waiting[]>();
  for (const waiter of waiters) {
    const key = `${waiter.caller} ${toKey(waiter)}`;
    const group = groups.get(key);
    if (group) group.push(waiter);
    else groups.set(key, [waiter]);
  }
  let lists = [...groups.values()];
  const turns: Waiting[] = [];
  for (let round = 0; lists.length > 0; round++) {
    for (const list of lists) turns.push(list[round]!);
    lists = lists.filter((list) => list.length > round + 1);
  }
  return turns;
}
