// What is measured again and again: means that follow a change and not an outlier, and are remembered.
import type { Document, DocumentStore, Put } from '../store.ts';

export interface Figure {
  mean: number;
  /** How far from the mean one usually is. */
  spread: number;
  /** Measurements so far. */
  count: number;
}

export interface Learned {
  /** What is not finite or less than nothing teaches nothing. */
  learn(key: string, value: number): void;
  of(key: string): Figure | undefined;
  load(): Promise<void>;
  /** Writes what has changed; nothing where nothing has. */
  save(): Promise<void>;
}

/** The weight of the newest: high enough to follow a change, low enough not to jump with every one. The first few count alike. */
const WEIGHT = 0.2;
/** So many times as far from the mean as usual, one counts no more than that: a disk that was asleep, a machine that was busy. */
const FAR = 4;
/** The least that is usual, as a share of the mean. */
const USUAL = 0.1;
const OWNER = 'gateway';
const PAGE = 500;
const MAX_KEY = 600;

/** `kind` is that of its documents; `most` keys are remembered, and the one not measured for longest is forgotten first. */
export function createLearned(documents: DocumentStore | undefined, kind: string, most = 2000): Learned {
  /** In the order of their last measurement. */
  const figures = new Map<string, Figure>();
  const changed = new Set<string>();

  function forgetOldest(): void {
    for (const key of figures.keys()) {
      if (figures.size <= most) return;
      figures.delete(key);
      changed.add(key);
    }
  }

  return {
    learn(key, value) {
      if (!Number.isFinite(value) || value < 0 || key.length > MAX_KEY) return;
      const figure = follow(figures.get(key), value);
      figures.delete(key);
      figures.set(key, figure);
      changed.add(key);
      forgetOldest();
    },
    of: (key) => figures.get(key),
    async load() {
      if (!documents) return;
      const kept: Document[] = [];
      let cursor: string | undefined;
      do {
        const page = await documents.list(kind, { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) });
        kept.push(...page.documents);
        cursor = page.next;
      } while (cursor !== undefined && kept.length < most);
      // Newest first: the oldest is to be the first that is forgotten.
      for (const { id, value } of kept.slice(0, most).toReversed()) {
        const figure = toFigure(value);
        if (figure && !figures.has(id)) figures.set(id, figure);
      }
    },
    async save() {
      const written = [...changed];
      changed.clear();
      if (!documents || written.length === 0) return;
      const puts = written.map((id): Put => {
        const figure = figures.get(id);
        return figure ? { kind, id, owner: OWNER, value: toKept(figure) } : { kind, id, delete: true };
      });
      await documents.put(puts).catch((error: unknown) => {
        for (const key of written) changed.add(key);
        throw error;
      });
    },
  };
}

function follow(before: Figure | undefined, value: number): Figure {
  // One measurement alone tells nothing of how far the next may be.
  if (!before) return { mean: value, spread: value, count: 1 };
  const { mean, spread, count } = before;
  const weight = Math.max(WEIGHT, 1 / (count + 1));
  const far = FAR * Math.max(spread, USUAL * mean, 1);
  const away = Math.min(far, Math.max(-far, value - mean));
  return {
    mean: mean + weight * away,
    spread: spread + weight * (Math.abs(away) - spread),
    count: count + 1,
  };
}

type Kept = [mean: number, spread: number, count: number];

function toKept({ mean, spread, count }: Figure): Kept {
  return [Math.round(mean * 1000) / 1000, Math.round(spread * 1000) / 1000, count];
}

function toFigure(value: unknown): Figure | undefined {
  if (!Array.isArray(value) || value.length !== 3) return undefined;
  if (!value.every((part) => typeof part === 'number' && Number.isFinite(part) && part >= 0)) return undefined;
  const [mean, spread, count] = value as Kept;
  return { mean, spread, count: Math.max(1, count) };
}
