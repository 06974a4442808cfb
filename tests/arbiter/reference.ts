// What an arbiter is, in its simplest form: one thing after another, no time, no policy. Throws where something happens that may not.

export interface Ask {
  id: number;
  model: string;
  bytes: number;
}

export type Fate = 'granted' | 'refused' | 'cancelled';

export interface Reference {
  /** What must become of it unless its client leaves first: it never depends on the order. */
  fate(ask: Ask): Fate;
  ask(ask: Ask): void;
  grant(id: number): void;
  refuse(id: number): void;
  /** The client leaves; what it has already it gives back by `release`. */
  leave(id: number): void;
  release(id: number): void;
  /** A model is being sent away; what it returns is called when it is gone. */
  evict(model: string): () => void;
  close(): void;
  open(): void;
  /** The models on the card, by name. */
  held(): string[];
  fates: ReadonlyMap<number, Fate>;
  /** Those who wait, and those who have a lease. */
  waiting(): number[];
  running(): number[];
}

/** The card holds `pinned` from the start. Undefined: a budget that nobody knows, and one model at a time. */
export function createReference(budget: number | undefined, pinned: ReadonlyMap<string, number>): Reference {
  const card = new Map(pinned);
  const waiting = new Map<number, Ask>();
  const running = new Map<number, Ask>();
  const fates = new Map<number, Fate>();
  const leaving = new Set<string>();
  let closed = false;

  const bytesOf = (models: Iterable<number>) => [...models].reduce((sum, bytes) => sum + bytes, 0);
  const isUsed = (model: string) => [...running.values()].some((ask) => ask.model === model);

  function fits(others: ReadonlyMap<string, number>, { model, bytes }: Ask): boolean {
    if (others.has(model)) return true;
    return budget === undefined ? others.size === 0 : bytesOf(others.values()) + bytes <= budget;
  }

  function take(from: Map<number, Ask>, id: number, what: string): Ask {
    const ask = from.get(id);
    if (!ask) throw new Error(`${what}: ${id} is not one of ${[...from.keys()].join(', ')}.`);
    from.delete(id);
    return ask;
  }

  const reference: Reference = {
    fates,
    fate: (ask) => (fits(pinned, ask) ? 'granted' : 'refused'),
    ask: (ask) => void waiting.set(ask.id, ask),
    grant(id) {
      const ask = take(waiting, id, 'grant');
      if (closed) throw new Error(`${id} has the card while it is closed.`);
      if (!fits(card, ask))
        throw new Error(`${ask.model} (${ask.bytes}) does not fit beside ${JSON.stringify([...card])}.`);
      if (leaving.has(ask.model)) throw new Error(`${ask.model} is given to ${id} while it is sent away.`);
      card.set(ask.model, ask.bytes);
      running.set(id, ask);
      fates.set(id, 'granted');
    },
    refuse(id) {
      const ask = take(waiting, id, 'refuse');
      if (reference.fate(ask) !== 'refused') throw new Error(`${id} is refused, and would have its turn.`);
      fates.set(id, 'refused');
    },
    leave(id) {
      if (waiting.delete(id)) fates.set(id, 'cancelled');
    },
    release: (id) => void take(running, id, 'release'),
    evict(model) {
      if (!card.has(model)) throw new Error(`${model} is sent away and is not there.`);
      if (pinned.has(model)) throw new Error(`${model} is sent away and is pinned.`);
      if (isUsed(model)) throw new Error(`${model} is sent away and is in use.`);
      leaving.add(model);
      return () => {
        leaving.delete(model);
        card.delete(model);
      };
    },
    close: () => void (closed = true),
    open: () => void (closed = false),
    held: () => [...card.keys()].toSorted(),
    waiting: () => [...waiting.keys()],
    running: () => [...running.keys()],
  };
  return reference;
}
