// A submission → the job that is taken: its id, its limits, and what is noted beside it.
import { capabilities, type CapabilityId } from '../capabilities/index.ts';
import type { JobHead, JobLimits, NewJob } from '../store.ts';
import type { JobNotes, JobOptions } from './options.ts';
import { toEnded } from './perform.ts';

export interface Submission {
  owner: string;
  capability: CapabilityId;
  /** Checked by the capability's schema. */
  input: Record<string, unknown>;
  options?: JobOptions;
  /** May be answered from what the same request made before, and be remembered. */
  reuse?: boolean;
  batch?: { id: string; index: number };
  dialect?: Record<string, unknown>;
  /** Somebody waits for the answer: where its runtime cannot be reached it fails, and does not wait until that is back. */
  awaited?: boolean;
}

export function createDrafter(defaults: { limits: JobLimits; attempts: number; now: () => number }) {
  const { limits, attempts, now } = defaults;
  return (submission: Submission): NewJob => {
    const { owner, capability, batch, dialect, awaited, options: asked = {} } = submission;
    const { stream: _, ...input } = submission.input;
    const createdAt = now();
    const delay = Math.round((asked.delay_s ?? 0) * 1000);
    const { own } = capabilities[capability];
    const run = asked.timeout_s === undefined ? (own?.runMs ?? limits.run) : Math.round(asked.timeout_s * 1000);
    // What the gateway does itself takes no place from others, and may take longer than they may in all.
    const total = own ? Math.max(limits.total, limits.queue + run) : limits.total;
    const notes: JobNotes = {
      ...(asked.webhook === undefined ? {} : { webhook: asked.webhook }),
      ...(asked.metadata === undefined ? {} : { metadata: asked.metadata }),
      ...(dialect === undefined ? {} : { dialect }),
      ...(awaited ? { awaited } : {}),
    };
    return {
      id: `job_${crypto.randomUUID().replaceAll('-', '')}`,
      owner,
      capability,
      ...(typeof input['model'] === 'string' ? { model: input['model'] } : {}),
      priority: asked.priority ?? (own ? 'interactive' : 'normal'),
      ...(batch ? { batch: batch.id, index: batch.index } : {}),
      createdAt,
      runAt: createdAt + delay,
      maxAttempts: asked.max_attempts ?? own?.attempts ?? attempts,
      // A wait that was asked for is not held against the job.
      limits: { queue: limits.queue, run, total: total + delay },
      notes: { ...notes },
      input,
    };
  };
}

export function toHead(draft: NewJob): JobHead {
  const { input: _, ended, ...rest } = draft;
  const head: JobHead = { ...rest, state: 'queued', since: draft.createdAt, attempts: 0, fence: 0, beat: 0 };
  return ended ? toEnded(head, ended) : head;
}
