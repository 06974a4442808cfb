// A job of video.generate ⇄ OpenAI's Video, whichever way it was asked for.
import { z } from 'zod';
import { GatewayError } from '../../error.ts';
import type { AppContext } from '../../http/context.ts';
import type { JobNotes } from '../../jobs/options.ts';
import type { JobView } from '../../jobs/view.ts';
import type { JobRecord } from '../../store.ts';
import { toNote, type AskedNote } from './from-job.ts';

/** What a job remembers of a request for a video. */
export interface VideoNote extends AskedNote {
  /** The name that was sent, where the default answers in its place. */
  model?: string;
  remixed_from?: string;
}

const time = z.int().nullable().describe('Seconds since 1970.');

export const videoObject = z.object({
  id: z.string(),
  object: z.literal('video'),
  model: z.string().describe('What ran; before that, what was asked for.'),
  status: z.enum(['queued', 'in_progress', 'completed', 'failed']),
  progress: z.int().describe('0 to 100.'),
  created_at: z.int(),
  completed_at: time,
  expires_at: time.describe('It is deleted then unless somebody downloads it before.'),
  size: z.string().describe('As measured; before that, as asked for.'),
  seconds: z.string().describe('As measured; before that, as asked for.'),
  prompt: z.string().nullable(),
  remixed_from_video_id: z.string().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
});
export type VideoObject = z.output<typeof videoObject>;

const ID = /^video_([0-9a-f]{32})$/;
const STATUS = {
  queued: 'queued',
  running: 'in_progress',
  done: 'completed',
  failed: 'failed',
  cancelled: 'failed',
} as const satisfies Record<JobView['state'], VideoObject['status']>;

export interface Video {
  job: JobView;
  record: JobRecord;
}

/** Throws not_found, the same for what is not there, what is another's, and what is no film. */
export async function findVideo(c: AppContext, id: string): Promise<Video> {
  const { jobs } = c.var.app;
  const hex = ID.exec(id)?.[1];
  if (hex === undefined) throw noVideo();
  try {
    const record = await jobs.record(c.var.caller, `job_${hex}`);
    if (record.capability !== 'video.generate') throw noVideo();
    return { record, job: await jobs.get(c.var.caller, record.id) };
  } catch (error) {
    throw error instanceof GatewayError && error.code === 'not_found' ? noVideo() : error;
  }
}

export function toVideoId(jobId: string): string {
  return jobId.replace(/^job_/, 'video_');
}

export async function toVideoObject(c: AppContext, { job, record }: Video): Promise<VideoObject> {
  const input = record.input as Record<string, unknown>;
  const note = toNote<VideoNote>(record.notes);
  const status = STATUS[job.state];
  const { media } = job.artifacts[0] ?? {};
  return {
    id: toVideoId(job.id),
    object: 'video',
    model: job.model ?? note?.model ?? 'default',
    status,
    progress: status === 'completed' ? 100 : Math.floor(job.progress?.percent ?? 0),
    created_at: toSeconds(job.created_at)!,
    completed_at: status === 'completed' ? toSeconds(job.finished_at) : null,
    expires_at: await toExpiry(c, record),
    size: media?.width === undefined ? toAskedSize(input) : `${media.width}x${media.height}`,
    seconds: media?.duration_s === undefined ? toAskedSeconds(input) : String(Number(media.duration_s.toFixed(2))),
    prompt: (input['prompt'] as string | undefined) ?? null,
    remixed_from_video_id: note?.remixed_from ?? null,
    error: job.error && { code: job.error.code, message: job.error.message },
  };
}

/** The id of the film itself. */
export function toFilm({ notes }: JobRecord): string | undefined {
  return (notes as JobNotes).artifacts?.[0];
}

async function toExpiry(c: AppContext, record: JobRecord): Promise<number | null> {
  const id = toFilm(record);
  const film = id && (await c.var.app.artifacts.get(c.var.caller, id).catch(() => undefined));
  return film && film.due !== undefined ? Math.floor(film.due / 1000) : null;
}

function toAskedSize({ size, width, height }: Record<string, unknown>): string {
  return typeof size === 'string' ? size : width === undefined ? 'auto' : `${String(width)}x${String(height)}`;
}

function toAskedSeconds({ seconds, frames, fps }: Record<string, unknown>): string {
  if (typeof seconds === 'number') return String(seconds);
  return typeof frames === 'number' && typeof fps === 'number' ? String(Number((frames / fps).toFixed(2))) : 'auto';
}

function toSeconds(iso: string | null): number | null {
  return iso === null ? null : Math.floor(Date.parse(iso) / 1000);
}

function noVideo(): GatewayError {
  return new GatewayError('not_found', 'There is no such video.');
}
