// Which artifacts leave, and when: those that nobody used for long, and the longest unused where there is too little room.
import type { DocumentStore } from '../store.ts';
import { ARTIFACT, EXPIRED, toRemoval, type ArtifactRecord, type ArtifactValue } from './record.ts';
import { HOUR_MS, type Shelf } from './shelf.ts';

export interface Sweeper {
  /** Deletes some of the longest unused artifacts; false where none may leave: all are young, or being read. */
  evict(): Promise<boolean>;
  /** Counts what is kept, in the background. */
  count(): void;
  /** Never throws. */
  sweep(now: number): Promise<void>;
}

const BATCH = 100;
/** Looks at every file, so not often; in milliseconds. */
const CLEAR_EVERY_MS = 1_800_000;

export function createSweeper(options: {
  documents: DocumentStore;
  shelf: Shelf;
  now: () => number;
  warn: (message: string, cause: unknown) => void;
}): Sweeper {
  const { documents, shelf, now, warn } = options;
  let clearedAt = -Infinity;
  let clearing: Promise<void> | undefined;

  /** False where somebody used or deleted it meanwhile. */
  async function expire(record: ArtifactRecord, at: number): Promise<boolean> {
    if (await documents.put(toRemoval(record, at))) return false;
    await shelf.drop(record.id, record.value.hash, record.value.size);
    return true;
  }

  async function evict(): Promise<boolean> {
    // By due time: every use moves it by the same, so the first was not used for longest.
    const candidates = await documents.due<ArtifactValue>(ARTIFACT, Number.MAX_SAFE_INTEGER, BATCH);
    for (const record of candidates) {
      if (record.createdAt > now() - HOUR_MS || shelf.isRead(record.value.hash)) continue;
      if (await expire(record, now())) return true;
    }
    return false;
  }

  async function expireDue(at: number): Promise<void> {
    for (;;) {
      const due = await documents.due<ArtifactValue>(ARTIFACT, at, BATCH);
      let gone = 0;
      for (const record of due) if (await expire(record, at)) gone++;
      if (due.length < BATCH || gone === 0) break;
    }
    for (;;) {
      const due = await documents.due(EXPIRED, at, BATCH);
      if (due.length > 0) await documents.put(due.map(({ kind, id }) => ({ kind, id, delete: true as const })));
      if (due.length < BATCH) break;
    }
  }

  async function clear(at: number): Promise<void> {
    clearing ??= shelf.clear(at).finally(() => (clearing = undefined));
    return clearing;
  }

  async function attempt(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      warn(`${what} failed; the next sweep tries again`, error);
    }
  }

  return {
    evict,
    // Nothing waits for it: a start must not take longer the more there is.
    count: () => void attempt('counting the artifacts', () => clear(now())),
    async sweep(at) {
      await attempt('deleting artifacts that nobody used', () => expireDue(at));
      if (clearing || performance.now() - clearedAt > CLEAR_EVERY_MS) {
        await attempt('deleting files that belong to nothing', async () => {
          await clear(at);
          clearedAt = performance.now();
        });
      }
      await attempt('making room for artifacts', async () => shelf.room(0));
    },
  };
}
