// What is written down of pulls that were paused, so that they are after a restart, too.
import type { PullWant } from '../../puller.ts';
import type { DocumentStore } from '../../store.ts';
import type { Pull } from './pull.ts';

export interface PausedPull {
  id: string;
  runtime: string;
  want: PullWant;
  done: number;
  total: number | undefined;
  tries: number;
}

export interface Notes {
  /** Throws storage errors, as `remove` does. */
  add(pull: Pull): Promise<void>;
  remove(id: string): Promise<void>;
  all(): Promise<PausedPull[]>;
}

const KIND = 'pull';
const OWNER = 'gateway';
const MOST = 200;
/** A pull that nobody came back for. */
const KEEP_MS = 30 * 86_400_000;

export function createNotes(documents: DocumentStore, now: () => number): Notes {
  const remove = async (ids: string[]) => {
    if (ids.length > 0) await documents.put(ids.map((id) => ({ kind: KIND, id, delete: true as const })));
  };
  return {
    async add(pull) {
      const { done, total, tries } = pull.view();
      const value = { runtime: pull.puller.runtime, want: pull.want, done, total: total ?? undefined, tries };
      const { id } = pull;
      await documents.put([{ kind: KIND, id, owner: OWNER, value, due: now() + KEEP_MS }]);
    },
    remove: (id) => remove([id]),
    async all() {
      const due = await documents.due(KIND, now(), MOST);
      await remove(due.map(({ id }) => id));
      const { documents: known } = await documents.list<Omit<PausedPull, 'id'>>(KIND, { limit: MOST });
      return known.map(({ id, value }) => ({ id, ...value }));
    },
  };
}
