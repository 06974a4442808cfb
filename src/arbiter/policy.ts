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
  /** Milliseconds, on the arbiter's clock; of the last lease. 0: it came to the card some other way. */
  usedAt: number;
}

export interface Snapshot {
  want: Want;
  held: readonly Held[];
  /** Bytes of VRAM that models may use; undefined where nobody knows, and then the card holds one model at a time. */
  budget: number | undefined;
  /** Nothing larger may come to the card: somebody said so. Else it gets the card for itself, for estimates err and runtimes can put a part elsewhere. */
  isFirm?: boolean;
  /** A swap is under way: memory is neither free nor taken. */
  swapping: boolean;
  /** Never unloaded to make room. */
  isPinned?: (model: Held) => boolean;
}

export type Decision =
  | { do: 'grant' }
  | { do: 'evict'; victims: readonly Held[] }
  | { do: 'wait'; because: string }
  | { do: 'refuse'; because: string; remedy?: string };

/**
 * 1. The model is held            → grant: it costs nothing.
 * 2. It can never fit             → refuse; where the budget is not firm, it takes all of it.
 * 3. Pinned ones leave no room    → refuse: waiting would not end.
 * 4. A swap is under way          → wait: one at a time, or two runtimes would take the same free memory.
 * 5. It fits beside what is held  → grant.
 * 6. It fits without the idle     → evict, least recently used first, as few as possible; never a pinned one.
 * 7. The rest is busy             → wait for a lease to end.
 */
export function decide(snapshot: Snapshot): Decision {
  const { want, held, budget, isFirm = true, swapping, isPinned = () => false } = snapshot;
  // 1
  if (held.some((model) => model.runtime === want.runtime && model.model === want.model)) return { do: 'grant' };
  // 2
  if (budget !== undefined && isFirm && want.footprint > budget) {
    return { do: 'refuse', because: `${want.model} needs ${toGiB(want.footprint)}, the card offers ${toGiB(budget)}` };
  }
  // 3
  const fits = (models: readonly Held[]) =>
    budget === undefined ? models.length === 0 : total(models) + Math.min(want.footprint, budget) <= budget;
  const pinned = held.filter(isPinned);
  if (!fits(pinned)) return toRefusal(want, pinned, budget);
  // 4
  if (swapping) return { do: 'wait', because: 'another model is being swapped' };
  // 5
  if (fits(held)) return { do: 'grant' };
  // 6
  const idle = held
    .filter((model) => model.leases === 0 && !pinned.includes(model))
    .toSorted((a, b) => a.usedAt - b.usedAt);
  const victims: Held[] = [];
  for (const model of idle) {
    victims.push(model);
    if (fits(held.filter((other) => !victims.includes(other)))) return { do: 'evict', victims };
  }
  // 7
  const busy = held.filter((model) => model.leases > 0).map((model) => model.model);
  return { do: 'wait', because: `${busy.join(', ')} ${busy.length === 1 ? 'is' : 'are'} using the card` };
}

function toRefusal(want: Want, pinned: readonly Held[], budget: number | undefined): Decision {
  const names = pinned.map(({ model }) => model);
  const room =
    budget === undefined
      ? 'without a budget the card holds one model at a time'
      : `${want.model} needs ${toGiB(want.footprint)} of ${toGiB(budget)}`;
  return {
    do: 'refuse',
    because: `${names.join(', ')} ${names.length === 1 ? 'is' : 'are'} pinned, and ${room}`,
    remedy: `To make room: ${names.map((name) => `hono-ai models pin ${name} --off`).join(', or ')}${
      budget === undefined ? ', or say in HONO_AI_VRAM how much the card has' : ''
    }.`,
  };
}

function total(models: readonly Held[]): number {
  return models.reduce((sum, model) => sum + model.footprint, 0);
}

function toGiB(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
