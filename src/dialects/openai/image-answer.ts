// Pictures that a job made, in OpenAI's words: one answer, or events with first looks on the way.
import { z } from 'zod';
import type { ArtifactView } from '../../capabilities/file.ts';
import type { AppContext } from '../../http/context.ts';
import { withBytes } from '../../http/job.ts';
import { respondJson, toEvent } from '../../http/respond.ts';
import type { Step } from '../../jobs/follow.ts';
import type { JobView } from '../../jobs/view.ts';
import type { Made } from './from-job.ts';
import type { ImageNote } from './image-fields.ts';
import { toAbsolute } from './media-request.ts';

const tokens = z.object({ text_tokens: z.int(), image_tokens: z.int() });

export const imagesResponse = z.object({
  created: z.int(),
  background: z.literal('opaque'),
  output_format: z.string(),
  quality: z.string(),
  size: z.string().describe('As measured.'),
  data: z.array(
    z.object({ b64_json: z.string().optional(), url: z.string().optional(), revised_prompt: z.string().optional() }),
  ),
  usage: z
    .object({
      input_tokens: z.int(),
      input_tokens_details: tokens,
      output_tokens: z.int(),
      output_tokens_details: tokens,
      total_tokens: z.int(),
    })
    .describe('Zeros: models at home count no tokens for pictures.'),
});
type ImagesResponse = z.output<typeof imagesResponse>;

const NONE = { text_tokens: 0, image_tokens: 0 };
const USAGE: ImagesResponse['usage'] = {
  input_tokens: 0,
  input_tokens_details: NONE,
  output_tokens: 0,
  output_tokens_details: NONE,
  total_tokens: 0,
};

export async function respondImages(c: AppContext, { job, note, headers }: Made<ImageNote>): Promise<Response> {
  const { artifacts, result } = note.inline ? await withBytes(c, job) : job;
  const revised = result?.['revised_prompt'];
  const answer: ImagesResponse = {
    created: toSeconds(job),
    ...describe(artifacts[0], note),
    data: artifacts.map((picture) => ({
      ...toPicture(c, picture, note),
      ...(typeof revised === 'string' ? { revised_prompt: revised } : {}),
    })),
    usage: USAGE,
  };
  return respondJson(c, answer, { headers });
}

export interface StreamOptions {
  /** `image_generation` or `image_edit`. */
  event: string;
  note: ImageNote;
  /** First looks to send, at most. */
  partials: number;
  /** As asked for. */
  size: string | undefined;
}

type Preview = Extract<Step, { type: 'preview' }>;

/** Says what each step of a job is as events; first looks are spread over the run as far as it tells how far it is. */
export function createImageTeller(c: AppContext, { event, note, partials, size = 'auto' }: StreamOptions) {
  let sent = 0;
  let percent: number | undefined;
  let held: Preview | undefined;

  /** Looks part the run into even shares; one that does not tell how far it is gives its first ones. */
  const isTime = () => percent === undefined || percent >= (100 * (sent + 1)) / (partials + 1);

  async function* pictures(job: JobView): AsyncGenerator<string> {
    for (const artifact of job.artifacts) {
      // One after the other, so that only one is in memory.
      const one = note.inline ? (await withBytes(c, { ...job, artifacts: [artifact] })).artifacts[0]! : artifact;
      const type = `${event}.completed`;
      const warnings = [...note.warnings, ...job.warnings];
      yield toEvent(type, {
        type,
        ...toPicture(c, one, note),
        created_at: toSeconds(job),
        ...describe(artifact, note),
        usage: USAGE,
        model: job.model,
        ...(warnings.length > 0 ? { warnings } : {}),
      });
    }
  }

  function partial({ media_type, data }: Preview): string {
    held = undefined;
    const type = `${event}.partial_image`;
    return toEvent(type, {
      type,
      b64_json: data,
      partial_image_index: sent++,
      created_at: Math.floor(c.var.app.now() / 1000),
      ...describe(undefined, note),
      size,
      output_format: media_type.replace('image/', ''),
    });
  }

  return async function* tell(step: Step): AsyncGenerator<string> {
    if (step.type === 'ended') {
      // A run that was faster than its progress is told has shown nothing yet.
      if (held && sent === 0) yield partial(held);
      yield* pictures(step.job);
    } else if (step.type === 'status') yield toComment(step.job);
    else if (step.type === 'progress') percent = step.progress.done === undefined ? percent : step.progress.percent;
    else if (sent < partials) {
      held = step;
      if (isTime()) yield partial(step);
    }
  };
}

function describe(picture: ArtifactView | undefined, { quality }: ImageNote) {
  const { width, height } = picture?.media ?? {};
  return {
    background: 'opaque' as const,
    output_format: picture?.media_type.replace('image/', '') ?? 'png',
    quality,
    size: width === undefined || height === undefined ? 'auto' : `${width}x${height}`,
  };
}

function toPicture(c: AppContext, { b64_json, url }: ArtifactView, { inline }: ImageNote) {
  return inline && b64_json !== undefined ? { b64_json } : { url: toAbsolute(c, url) };
}

/** Waiting travels in comments, which every reader of events skips and people see in curl. */
function toComment({ state, position, eta_s }: JobView): string {
  const place = position === null ? '' : `, position ${position}`;
  const eta = eta_s === null ? '' : `, about ${Math.ceil(eta_s)} s`;
  return `: ${state}${place}${eta}\n\n`;
}

function toSeconds({ finished_at }: JobView): number {
  return Math.floor(Date.parse(finished_at ?? '') / 1000);
}
