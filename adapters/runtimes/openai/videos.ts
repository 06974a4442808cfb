// video.generate over OpenAI's /videos, for servers whose models are Sora's or go by its name.
import type { Input, Result } from '../../../src/capabilities/index.ts';
import { toSize } from '../../../src/capabilities/image/fields.ts';
import type { RunEvent } from '../../../src/event.ts';
import type { Call, Handler } from '../../../src/runtime.ts';
import type { FormFile } from './ask.ts';
import { notOpenAI, toObject, toRefusal } from './failure.ts';
import { fetchFilm, filmFailed, toFilm, watchFilm } from './films.ts';
import type { Standing } from './films.ts';
import { readBytes } from './fetch.ts';
import type { Maker } from './made.ts';
import type { Body } from './quirks.ts';
import { nearest } from './shape.ts';
import type { WireFilm } from './wire.ts';
import { unknownKnobs } from './xai-images.ts';

type FilmEvent = RunEvent<never, Result<'video.generate'>>;
type Wanted = Input<'video.generate'>;

const SECONDS = ['4', '8', '12'];
const SIZES = ['1280x720', '720x1280', '1792x1024', '1024x1792'];
const FPS = 24;
const CANCEL_MS = 5000;

export function createVideos(maker: Maker, maxBytes: number): Handler<'video.generate'> {
  const { upstream, ask, tools, pauseMs } = maker;
  const { name: source } = upstream;

  async function* make(input: Wanted, call: Call): AsyncGenerator<FilmEvent> {
    const { signal } = call;
    const watch = { source, signal, pauseMs };
    const { body, warnings } = toRequest(input, call.model.id, source);
    const files = input.image === undefined ? undefined : [await readFirst(input.image, body, call, warnings)];
    const request = { path: '/videos', body, ...(files ? { files } : {}), warnings };
    const reply = await ask(request, { optional: ['size', 'seconds'] }, signal);
    for (const warning of warnings) yield { type: 'warning', warning };
    const { id } = toObject<WireFilm>(await reply.text(), upstream);
    if (typeof id !== 'string' || id === '') throw notOpenAI(source);
    const path = `/videos/${encodeURIComponent(id)}`;
    let made = false;
    try {
      yield { type: 'status', state: 'running' };
      yield* watchFilm((soon) => look(path, soon), watch);
      made = true;
      const bytes = await fetchFilm((soon) => read(`${path}/content`, soon), watch);
      yield { type: 'result', result: {}, files: [{ bytes }] };
    } finally {
      if (!made) await cancel(path);
    }
  }

  async function look(path: string, signal: AbortSignal): Promise<Standing<true>> {
    const reply = await upstream.send(path, { method: 'GET', signal });
    if (reply.status !== 200) {
      const refusal = await toRefusal(upstream, reply);
      throw reply.status === 404 ? filmFailed(source, `${source} no longer knows the film.`) : refusal;
    }
    const { status, progress, error } = toFilm<WireFilm>(await reply.text(), upstream);
    if (status === 'failed') throw filmFailed(source, error?.message);
    return status === 'completed' ? { film: true } : { percent: progress };
  }

  async function read(path: string, signal: AbortSignal) {
    const reply = await upstream.send(path, { method: 'GET', signal });
    if (reply.status !== 200) throw await toRefusal(upstream, reply);
    return readBytes(reply.body, maxBytes, source);
  }

  /** To delete a film that is not done is how the contract stops it. */
  async function cancel(path: string): Promise<void> {
    try {
      await (await upstream.send(path, { method: 'DELETE', signal: AbortSignal.timeout(CANCEL_MS) })).text();
    } catch {
      // Nobody is left to be told.
    }
  }

  async function readFirst(image: string, body: Body, call: Call, warnings: string[]): Promise<FormFile> {
    const file = await call.file(image);
    const picture = await tools.toPng(await file.bytes());
    // The first picture has to be as large as the film.
    const size = (body['size'] as string | undefined) ?? nearest(SIZES, ratioOf, picture.width / picture.height);
    const [width, height] = size.split('x').map(Number) as [number, number];
    if (Math.abs(width / height / (picture.width / picture.height) - 1) > 0.01) {
      warnings.push(`The picture was stretched from ${picture.width}x${picture.height} to ${size}.`);
    }
    body['size'] = size;
    const { bytes } = await tools.toPng(picture.bytes, { width, height });
    return { field: 'input_reference', name: 'first.png', type: 'image/png', bytes };
  }

  return make;
}

function toRequest(input: Wanted, model: string, source: string): { body: Body; warnings: string[] } {
  const warnings = unknownKnobs(input, model);
  const body: Body = { model, prompt: input.prompt };
  const { seconds, frames, fps } = input;
  if (fps !== undefined && fps !== FPS) warnings.push(`fps cannot be chosen for ${model}; it was left out.`);
  const wanted = seconds ?? (frames === undefined ? undefined : frames / (fps ?? FPS));
  if (wanted !== undefined) {
    const chosen = nearest(SECONDS, Number, wanted);
    if (Number(chosen) !== wanted)
      warnings.push(`${model} makes ${SECONDS.join(', ')} seconds: ${chosen} was asked for.`);
    body['seconds'] = chosen;
  }
  const size = toSize(input);
  if (size) {
    const asked = `${size.width}x${size.height}`;
    const chosen = SIZES.includes(asked) ? asked : nearest(SIZES, ratioOf, size.width / size.height);
    if (chosen !== asked)
      warnings.push(`${source} makes ${SIZES.join(', ')}: ${chosen} was asked for instead of ${asked}.`);
    body['size'] = chosen;
  }
  return { body, warnings };
}

function ratioOf(size: string): number {
  const [width, height] = size.split('x').map(Number) as [number, number];
  return width / height;
}
