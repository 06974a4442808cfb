// Jobs that are the gateway's own work: they take no slot, so those that wait are known here to be begun when all slots are taken.
import { capabilities, type CapabilityId } from '../capabilities/index.ts';
import type { JobHead, JobStore } from '../store.ts';

/** Also for a capability that an earlier version had. */
export function isOwn({ capability }: Pick<JobHead, 'capability'>): boolean {
  return Object.hasOwn(capabilities, capability) && capabilities[capability as CapabilityId].own !== undefined;
}

export interface OwnQueue {
  /** It waits; others are passed over. */
  add(job: Pick<JobHead, 'id' | 'capability' | 'runAt'>): void;
  /** Whether one of them is the next in the order of all. */
  isNext(now: number): Promise<boolean>;
  /** When to look again, in milliseconds since 1970; undefined where none waits. */
  nextAt(now: number): number | undefined;
}

const AGAIN_MS = 1000;

export function createOwnQueue(store: Pick<JobStore, 'position'>): OwnQueue {
  const waiting = new Map<string, number>();
  return {
    add(job) {
      if (isOwn(job)) waiting.set(job.id, job.runAt);
    },
    async isNext(now) {
      for (const [id, runAt] of waiting) {
        if (runAt > now) continue;
        const position = await store.position(id, 2);
        if (position === 1) return true;
        // Somebody has begun it, or it has ended.
        if (position === undefined) waiting.delete(id);
      }
      return false;
    },
    nextAt(now) {
      let next: number | undefined;
      // Whose time has come, and whose turn has not, is looked at again: what was before it may have gone without a word.
      for (const runAt of waiting.values()) next = Math.min(next ?? Infinity, runAt > now ? runAt : now + AGAIN_MS);
      return next;
    },
  };
}
