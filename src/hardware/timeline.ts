// Who held how much of the card, at each sample of it: what the books said then, and what was in use beyond that.
import type { View } from '../arbiter/arbiter.ts';
import type { Hardware, Sample, SwapView, Timeline } from '../hardware.ts';

export interface TimelineLog {
  /** Of the samples that the history still has. */
  view(swaps: readonly SwapView[]): Timeline;
}

interface Row {
  at: string;
  used: number;
  /** Bytes by owner. */
  held: Map<string, number>;
}

/** Owners beyond this many in a quarter of an hour are told among the others; the largest are named. */
const MAX_OWNERS = 64;

export function createTimeline(hardware: Hardware, held: () => View['held']): TimelineLog {
  let rows: Row[] = [];
  const owners = new Map<string, Timeline['owners'][number]>();

  function note({ at, used }: Sample): void {
    const mine = new Map<string, number>();
    for (const { runtime, model, footprint, loading } of held()) {
      // What is on its way is not there yet.
      if (loading) continue;
      const key = JSON.stringify([runtime, model]);
      owners.set(key, { runtime, model });
      mine.set(key, footprint);
    }
    rows.push({ at, used, held: mine });
    // The history leaves samples out as they grow old; nobody looks at the rows of those.
    if (rows.length % 100 === 0) forget();
  }

  function forget(): void {
    const oldest = hardware.history()[0]?.at;
    rows = oldest === undefined ? [] : rows.filter(({ at }) => at >= oldest);
    const named = new Set(rows.flatMap((row) => [...row.held.keys()]));
    for (const key of owners.keys()) if (!named.has(key)) owners.delete(key);
  }

  hardware.onSample?.(note);
  return {
    view(swaps) {
      // The first sample may have been taken before anybody listened.
      const latest = hardware.history().at(-1);
      if (latest && latest.at > (rows.at(-1)?.at ?? '')) note(latest);
      forget();
      const most = new Map<string, number>();
      for (const row of rows) {
        for (const [key, bytes] of row.held) most.set(key, Math.max(most.get(key) ?? 0, bytes));
      }
      const keys = [...most].toSorted(([, a], [, b]) => b - a).map(([key]) => key);
      const shown = keys.slice(0, MAX_OWNERS);
      const table = rows.map((row) => shown.map((key) => row.held.get(key) ?? 0));
      const first = rows[0]?.at ?? '';
      return {
        at: rows.map(({ at }) => at),
        owners: shown.map((key) => owners.get(key)!),
        rows: table,
        others: rows.map(({ used }, index) => Math.max(0, used - table[index]!.reduce((sum, one) => sum + one, 0))),
        swaps: rows.length === 0 ? [] : swaps.filter(({ at }) => at >= first),
      };
    },
  };
}
