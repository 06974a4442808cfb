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
  /** When the next of them may start, in milliseconds since 1970; undefined where none waits for that. */
  nextAt(now: number): number | undefined;
}

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
      const later = [...waiting.values()].filter((runAt) => runAt > now);
      return later.length === 0 ? undefined : Math.min(...later);
    },
  };
}
