// Who may use the card now: a pure decision over a snapshot.

/** A model that somebody wants to run. */
export interface Want {
  runtime: string;
  model: string;
  /** Bytes of VRAM. */
  footprint: number;
}

/** A model on the card, or promised to be there. */
export interface Held extends Want {
  /** Leases that use it now. */
  leases: number;
  /** Milliseconds, monotonic; of the last lease. */
  usedAt: number;
}

export interface Snapshot {
  want: Want;
  held: readonly Held[];
  /** Bytes of VRAM that models may use; undefined where nobody knows, and then the card holds one model at a time. */
  budget: number | undefined;
  /** A swap is under way: memory is neither free nor taken. */
  swapping: boolean;
}

export type Decision =
  | { do: 'grant' }
  | { do: 'evict'; victims: readonly Held[] }
  | { do: 'wait'; because: string }
  | { do: 'refuse'; because: string };

/**
 * 1. The model is held            → grant: it costs nothing.
 * 2. It can never fit             → refuse.
 * 3. A swap is under way          → wait: one at a time, or two runtimes would take the same free memory.
 * 4. It fits beside what is held  → grant.
 * 5. It fits without the idle     → evict, least recently used first, as few as possible.
 * 6. The rest is busy             → wait for a lease to end.
 */
export function decide({ want, held, budget, swapping }: Snapshot): Decision {
  // 1
  if (held.some((model) => model.runtime === want.runtime && model.model === want.model)) return { do: 'grant' };
  // 2
  if (budget !== undefined && want.footprint > budget) {
    return { do: 'refuse', because: `${want.model} needs ${toGiB(want.footprint)}, the card offers ${toGiB(budget)}` };
  }
  // 3
  if (swapping) return { do: 'wait', because: 'another model is being swapped' };
  // 4
  const fits = (models: readonly Held[]) =>
    budget === undefined ? models.length === 0 : total(models) + want.footprint <= budget;
  if (fits(held)) return { do: 'grant' };
  // 5
  const idle = held.filter((model) => model.leases === 0).toSorted((a, b) => a.usedAt - b.usedAt);
  const victims: Held[] = [];
  for (const model of idle) {
    victims.push(model);
    if (fits(held.filter((other) => !victims.includes(other)))) return { do: 'evict', victims };
  }
  // 6
  const busy = held.filter((model) => model.leases > 0).map((model) => model.model);
  return { do: 'wait', because: `${busy.join(', ')} ${busy.length === 1 ? 'is' : 'are'} using the card` };
}

function total(models: readonly Held[]): number {
  return models.reduce((sum, model) => sum + model.footprint, 0);
}

function toGiB(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
