// How long whole jobs take, learned from those that ended: what ETAs are made of where the card does not tell.
import { createLearned } from '../arbiter/learned.ts';
import type { DocumentStore } from '../store.ts';

export interface Estimates {
  /** A job ended well. In milliseconds: what its work took, and how long it was in hand for that, waiting for the card included. */
  learn(job: Kind, took: { workMs: number; heldMs: number }): void;
  /** Milliseconds that the work of one takes, or else that of any; undefined where none was seen. */
  workOf(job: Kind): number | undefined;
  /** Milliseconds that any is in hand, and what of that is waiting for others. */
  any(): { heldMs: number; idleMs: number } | undefined;
  load(): Promise<void>;
  /** Writes what has changed; nothing where nothing has. */
  save(): Promise<void>;
}

/** What tells apart what takes differently long. */
export interface Kind {
  capability: string;
  model?: string | undefined;
}

const HELD = toKey('held');
const WORK = toKey('work');

export function createEstimates(documents: DocumentStore | undefined): Estimates {
  const learned = createLearned(documents, 'timing-job', 1000);
  return {
    learn({ capability, model }, { workMs, heldMs }) {
      if (model !== undefined) learned.learn(toKey('work', capability, model), workMs);
      learned.learn(toKey('work', capability), workMs);
      learned.learn(WORK, workMs);
      // A clock that was set may tell less than the work took.
      learned.learn(HELD, Math.max(workMs, heldMs));
    },
    workOf({ capability, model = '' }) {
      const known = learned.of(toKey('work', capability, model)) ?? learned.of(toKey('work', capability));
      return (known ?? learned.of(WORK))?.mean;
    },
    any() {
      const held = learned.of(HELD)?.mean;
      return held === undefined
        ? undefined
        : { heldMs: held, idleMs: Math.max(0, held - (learned.of(WORK)?.mean ?? held)) };
    },
    load: learned.load,
    save: learned.save,
  };
}

function toKey(...parts: string[]): string {
  return JSON.stringify(parts);
}

/** Seconds left of what has been worked on for `elapsed` milliseconds: by how far it is, or by how long such work takes. */
export function remaining(elapsed: number | undefined, percent = 0, mean?: number): number | undefined {
  if (elapsed === undefined) return undefined;
  if (percent >= SOME) return Math.ceil((elapsed * (100 - percent)) / percent / 1000);
  return mean === undefined ? undefined : Math.max(1, Math.ceil((mean - elapsed) / 1000));
}

/** Percent from which on how far it is says how long it takes. */
export const SOME = 5;
