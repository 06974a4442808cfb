// video.generate over xAI: asked for, watched, and fetched as soon as it is there, because its address does not last.
import type { Input, Result } from '../../../src/capabilities/index.ts';
import { toSize } from '../../../src/capabilities/image/fields.ts';
import type { GatewayError } from '../../../src/error.ts';
import type { RunEvent } from '../../../src/event.ts';
import { errorText } from '../../../src/upstream.ts';
import type { Call, Handler } from '../../../src/runtime.ts';
import { notOpenAI, toObject, toRefusal } from './failure.ts';
import { fetchFilm, filmFailed, toFilm, watchFilm } from './films.ts';
import type { Standing } from './films.ts';
import { readPictures } from './images.ts';
import { invalid, toCost, withheld } from './made.ts';
import type { Maker } from './made.ts';
import type { Body } from './quirks.ts';
import { toShape } from './shape.ts';
import type { Shapes } from './shape.ts';
import { toInline, unknownKnobs } from './xai-images.ts';
import type { WireXaiFilm } from './wire.ts';

type FilmEvent = RunEvent<never, Result<'video.generate'>>;
type Wanted = Input<'video.generate'>;

const MIN_SECONDS = 1;
const MAX_SECONDS = 15;
/** What its films have; it cannot be asked for another rate. */
const FPS = 24;
const RATIOS = '16:9 9:16 1:1 4:3 3:4 3:2 2:3'.split(' ');
const RESOLUTIONS = { '480p': 480, '720p': 720 };
const LEEWAY = { optional: ['aspect_ratio', 'resolution'] };

export function createXaiVideos(maker: Maker): Handler<'video.generate'> {
  const { upstream, ask, fetch, pauseMs } = maker;
  const { name: source } = upstream;

  async function* make(input: Wanted, call: Call): AsyncGenerator<FilmEvent> {
    const { signal } = call;
    const watch = { source, signal, pauseMs };
    const { body, warnings } = toRequest(input, call.model.id, source);
    if (input.image !== undefined) {
      const [picture] = await readPictures([input.image], call, maker);
      body['image'] = { url: await toInline(picture!, maker.tools, signal) };
    }
    const reply = await ask({ path: '/videos/generations', body, warnings }, LEEWAY, signal);
    for (const warning of warnings) yield { type: 'warning', warning };
    const { request_id: id } = toObject<{ request_id?: unknown }>(await reply.text(), upstream);
    if (typeof id !== 'string' || id === '') throw notOpenAI(source);
    yield { type: 'status', state: 'running' };
    const path = `/videos/${encodeURIComponent(id)}`;
    const film = yield* watchFilm((soon) => look(path, soon), watch);
    const bytes = await fetchFilm((soon) => fetch(film.url, soon), watch);
    yield {
      type: 'result',
      result: film.cost === undefined ? {} : { cost_usd: film.cost },
      files: [{ bytes }],
    };
  }

  async function look(path: string, signal: AbortSignal): Promise<Standing<{ url: string; cost?: number }>> {
    const reply = await upstream.send(path, { method: 'GET', signal });
    if (reply.status !== 200 && reply.status !== 202) throw toGone(reply.status, await toRefusal(upstream, reply));
    const text = await reply.text();
    if (reply.status === 202 && text.trim() === '') return { percent: undefined };
    const { status, progress, video, usage, error } = toFilm<WireXaiFilm>(text, upstream);
    if (status === 'failed' || (error && !video?.url))
      throw filmFailed(source, errorText(JSON.stringify({ error })) || undefined);
    if (status === 'expired') throw filmFailed(source, `The film expired at ${source} before it was fetched.`);
    if (video?.respect_moderation === false) throw withheld(source, 'film');
    if (video?.url) {
      const cost = toCost(usage);
      return { film: { url: video.url, ...(cost === undefined ? {} : { cost }) } };
    }
    if (status === 'done') throw invalid(source, 'a film without an address');
    return { percent: typeof progress === 'number' ? progress : undefined };
  }

  function toGone(status: number, refusal: GatewayError): GatewayError {
    return status === 404 || status === 410 ? filmFailed(source, `${source} no longer knows the film.`) : refusal;
  }

  return make;
}

/** What xAI has no word for is said in the warnings. */
function toRequest(input: Wanted, model: string, source: string): { body: Body; warnings: string[] } {
  const warnings = unknownKnobs(input, model);
  const body: Body = { model, prompt: input.prompt };
  const { seconds, frames, fps } = input;
  if (fps !== undefined && fps !== FPS) {
    warnings.push(`fps cannot be chosen for ${model}; it makes ${FPS} pictures a second.`);
  }
  const wanted = seconds ?? (frames === undefined ? undefined : frames / (fps ?? FPS));
  if (wanted !== undefined) {
    const duration = Math.min(MAX_SECONDS, Math.max(MIN_SECONDS, Math.round(wanted)));
    if (duration !== wanted)
      warnings.push(`${model} makes whole seconds, ${MIN_SECONDS} to ${MAX_SECONDS}: ${duration} was asked for.`);
    body['duration'] = duration;
  }
  const size = toSize(input);
  if (size) {
    // Only since 1.5 is there the largest.
    const resolutions = { ...RESOLUTIONS, ...(/1\.5/.test(model) ? { '1080p': 1080 } : {}) };
    const shapes: Shapes = { ratios: RATIOS, resolutions, side: 'short' };
    const { aspect_ratio, resolution } = toShape(size, shapes);
    const asked = `${size.width}x${size.height}`;
    const exact = Math.min(size.width, size.height) === shapes.resolutions[resolution] && isExact(size, aspect_ratio);
    if (!exact)
      warnings.push(`${source} has shapes, not sizes: ${asked} was asked for as ${aspect_ratio} at ${resolution}.`);
    Object.assign(body, { aspect_ratio, resolution });
  }
  return { body, warnings };
}

function isExact({ width, height }: { width: number; height: number }, ratio: string): boolean {
  const [wide, high] = ratio.split(':').map(Number) as [number, number];
  return width * high === height * wide;
}
