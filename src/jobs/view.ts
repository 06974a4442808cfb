// A job as its owner sees it.
import { z } from 'zod';
import { artifactView, type ArtifactView } from '../capabilities/file.ts';
import { priorities, type JobHead, type JobRecord } from '../store.ts';
import type { JobNotes } from './options.ts';

const progressView = z.object({
  percent: z.number().describe('0 to 100; never goes back.'),
  done: z.number().optional(),
  total: z.number().optional(),
  unit: z.string().optional(),
  rate: z.number().optional().describe('Units per second.'),
  label: z.string().optional().describe('What is at work: the name of a file.'),
  message: z.string().optional(),
});
export type JobProgress = z.output<typeof progressView>;

const time = z.string().nullable().describe('ISO 8601.');

export const jobView = z.object({
  id: z.string(),
  object: z.literal('job'),
  capability: z.string(),
  state: z.enum(['queued', 'running', 'done', 'failed', 'cancelled']),
  priority: z.enum(priorities),
  model: z.string().nullable().describe('What ran; before that, what was asked for.'),
  runtime: z.string().nullable(),
  reason: z.string().nullable().describe('Why it was this model: asked for, alias gpt-4o, …'),
  created_at: z.string(),
  run_at: z.string().describe('It does not start before.'),
  started_at: time,
  finished_at: time,
  position: z.int().nullable().describe('Its place among all that wait, from 1; 10001 stands for more.'),
  eta_s: z.number().nullable().describe('Seconds until it is done, as far as anybody can say.'),
  progress: progressView.nullable(),
  attempts: z.int(),
  max_attempts: z.int(),
  timings: z
    .object({
      queue_ms: z.number(),
      swap_ms: z.number(),
      run_ms: z.number(),
      evicted: z
        .array(z.string())
        .optional()
        .describe('Models that left the card for it; only where it used the card.'),
    })
    .nullable(),
  batch: z.string().nullable(),
  index: z.int().nullable(),
  metadata: z.record(z.string(), z.string()),
  cached: z.boolean().describe('It was answered from what the same request made before.'),
  warnings: z.array(z.string()),
  artifacts: z.array(artifactView),
  result: z.record(z.string(), z.unknown()).optional().describe('Only where one job is asked for, and it is done.'),
  error: z
    .object({
      code: z.string(),
      message: z.string(),
      source: z.string(),
      param: z.string().optional(),
      hint: z.string().optional(),
    })
    .nullable(),
});
export type JobView = z.output<typeof jobView>;

export const jobList = z.object({
  object: z.literal('list'),
  data: z.array(jobView),
  has_more: z.boolean(),
  next_cursor: z.string().nullable(),
});

/** What only the engine knows. */
export interface Live {
  target?: { model: string; runtime: string; reason?: string } | undefined;
  position?: number | undefined;
  /** Seconds. */
  eta?: number | undefined;
  progress?: JobProgress | undefined;
  artifacts?: ArtifactView[];
}

export function toJobView(job: JobHead, live: Live = {}): JobView {
  const { timings, warnings, metadata, cached, target = live.target } = job.notes as JobNotes;
  return {
    id: job.id,
    object: 'job',
    capability: job.capability,
    state: job.state,
    priority: job.priority,
    model: target?.model ?? job.model ?? null,
    runtime: target?.runtime ?? null,
    reason: target?.reason ?? null,
    created_at: toIso(job.createdAt)!,
    run_at: toIso(job.runAt)!,
    started_at: toIso(job.startedAt),
    finished_at: toIso(job.finishedAt),
    position: live.position ?? null,
    eta_s: live.eta ?? null,
    progress: live.progress ?? null,
    // A claim that only writes an end down, of a poisoned job for instance, is counted by the store as any other.
    attempts: Math.min(job.attempts, job.maxAttempts),
    max_attempts: job.maxAttempts,
    timings: timings ?? null,
    batch: job.batch ?? null,
    index: job.index ?? null,
    metadata: metadata ?? {},
    cached: cached ?? false,
    warnings: warnings ?? [],
    artifacts: live.artifacts ?? [],
    error: job.error ?? null,
  };
}

export function isEnded({ state }: Pick<JobHead, 'state'>): boolean {
  return state === 'done' || state === 'failed' || state === 'cancelled';
}

export function withResult(view: JobView, job: JobRecord): JobView {
  if (job.state !== 'done') return view;
  const { artifacts } = view;
  const result = (job.result ?? {}) as Record<string, unknown>;
  return { ...view, result: artifacts.length > 0 ? { ...result, artifacts } : result };
}

function toIso(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}
