// What a caller may say about a job beside what is to be made: the `job` member of a native request, and its record's notes.
import { z } from 'zod';
import type { RunTimings } from './timings.ts';
import { priorities } from '../store.ts';

export const jobOptions = z.strictObject({
  priority: z.enum(priorities).optional().describe('Its class; a waiting interactive job always goes first.'),
  delay_s: z.number().min(0).max(31_536_000).optional().describe('Do not start before this many seconds have passed.'),
  max_attempts: z.int().min(1).max(100).optional().describe('How often it may be started before it counts as failed.'),
  timeout_s: z.number().positive().max(31_536_000).optional().describe('How long one attempt may take.'),
  webhook: z.url().max(2000).optional().describe('Called once the job has ended.'),
  response_format: z
    .enum(['url', 'b64_json'])
    .optional()
    .describe('How files come in the answer of a request that waits for it: as links, or with their bytes.'),
  metadata: z
    .record(z.string().max(64), z.string().max(512))
    .refine((value) => Object.keys(value).length <= 16, 'at most 16 entries')
    .optional()
    .describe('Kept with the job and given back.'),
});
export type JobOptions = z.output<typeof jobOptions>;

/** What the engine keeps in a record's notes. */
export interface JobNotes {
  webhook?: string;
  metadata?: Record<string, string>;
  /** What ran it. */
  target?: { model: string; runtime: string; reason?: string };
  timings?: RunTimings;
  warnings?: string[];
  /** Ids of what it made. */
  artifacts?: string[];
  /** Under which its result is remembered. */
  memory?: string;
  /** It was answered from memory. */
  cached?: boolean;
  /** Somebody waits for the answer. */
  awaited?: boolean;
  /** Starts in a row that came to nothing because the runtime could not be reached. */
  misses?: number;
  /** The dialect whose words the answer is to be given in, and what that needs. */
  dialect?: Record<string, unknown>;
}
