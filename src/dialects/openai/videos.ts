// OpenAI videos ⇄ jobs of video.generate: taken at once, looked at, downloaded, remixed and forgotten.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { videoGenerate } from '../../capabilities/video/generate.ts';
import { prompt } from '../../capabilities/image/fields.ts';
import { GatewayError } from '../../error.ts';
import { readJson, toInput } from '../../http/body.ts';
import { respondContent } from '../../http/content.ts';
import { clientSignal, type AppContext, type AppEnv } from '../../http/context.ts';
import { idempotent } from '../../http/idempotency.ts';
import { readPrint } from '../../http/inputs.ts';
import { submitJob, toRunHeaders } from '../../http/job.ts';
import { describeRoute } from '../../http/openapi.ts';
import { respondJson } from '../../http/respond.ts';
import { isEnded, type JobView } from '../../jobs/view.ts';
import { toNote, warn } from './from-job.ts';
import { listOf, listQuery, toPage } from './list.ts';
import { toModel } from './media-request.ts';
import { generationsRequest, readGenerations, readVideo, videoForm, videoRequest } from './video-fields.ts';
import {
  findVideo,
  toFilm,
  toVideoId,
  toVideoObject,
  videoObject,
  type Video,
  type VideoNote,
} from './video-object.ts';

const videosQuery = listQuery.extend({ order: z.enum(['asc', 'desc']).default('desc') });
const contentQuery = z.object({ variant: z.enum(['video', 'thumbnail', 'spritesheet']).default('video') });
const remixRequest = z.object({ prompt: prompt.min(1).describe('Instead of the one the other was made from.') });
const videoDeleted = z.object({ id: z.string(), object: z.literal('video.deleted'), deleted: z.literal(true) });
const generationsAnswer = videoObject.extend({ request_id: z.string().describe('The same as id.') });

/** How long a film that is being made may take to stop before it is forgotten, in milliseconds. */
const STOP_MS = 15_000;
/** Longest advice on when to ask again, in seconds: SDKs heed none that is longer. */
const MAX_WAIT_S = 60;

export function serveVideos(app: OpenAPIHono<AppEnv>): void {
  describeVideos(app);
  const create = async (c: AppContext) => respondVideo(c, await submit(c, await readVideo(c)));
  app.post(
    '/v1/videos',
    idempotent(create, (c) => readPrint(c, videoForm)),
  );
  const generate = async (c: AppContext) => {
    const video = await submit(c, await readGenerations(c));
    return respondVideo(c, video, { request_id: toVideoId(video.job.id) });
  };
  app.post(
    '/v1/videos/generations',
    idempotent(generate, (c) => readPrint(c, generationsRequest)),
  );
  app.get('/v1/videos', async (c) => {
    const page = await toPage(newest(c), toInput(videosQuery, c.req.query()));
    const found = await Promise.all(page.data.map(({ id }) => findVideo(c, id).catch(unlessMissing)));
    const data = await Promise.all(found.flatMap((video) => (video ? [toVideoObject(c, video)] : [])));
    return respondJson(c, { ...page, data });
  });
  app.get('/v1/videos/:id', async (c) => respondVideo(c, await findVideo(c, c.req.param('id'))));
  app.get('/v1/videos/:id/content', async (c) => content(c, await findVideo(c, c.req.param('id'))));
  app.delete('/v1/videos/:id', async (c) => {
    const id = c.req.param('id');
    await forget(c, await findVideo(c, id));
    return respondJson(c, { id, object: 'video.deleted', deleted: true } satisfies z.output<typeof videoDeleted>);
  });
  app.post(
    '/v1/videos/:id/remix',
    idempotent(async (c) => respondVideo(c, await remix(c, await findVideo(c, c.req.param('id')!)))),
  );
}

async function submit(c: AppContext, { input, model: name, warnings }: Awaited<ReturnType<typeof readVideo>>) {
  const { model, warnings: other } = await toModel(c, name);
  const note: VideoNote = {
    warnings: [...warnings, ...other],
    ...(name !== undefined && model === undefined ? { model: name } : {}),
  };
  return take(c, { ...input, ...(model === undefined ? {} : { model }) }, note);
}

async function remix(c: AppContext, { record }: Video): Promise<Video> {
  const given = await readJson(c, remixRequest);
  const before = record.input as Record<string, unknown>;
  // The picture it began with may be gone by now: better said here than by the job.
  const { input } = await c.var.app.inputs.settle(c.var.caller, videoGenerate.input, { ...before, ...given });
  const { remixed_from: _, warnings = [], ...note } = toNote<VideoNote>(record.notes) ?? {};
  return take(c, input, { ...note, warnings, remixed_from: toVideoId(record.id) });
}

async function take(c: AppContext, input: Record<string, unknown>, note: VideoNote): Promise<Video> {
  const { id } = await submitJob(c, {
    capability: 'video.generate',
    input,
    options: undefined,
    preference: undefined,
    dialect: { openai: note },
  });
  return findVideo(c, toVideoId(id));
}

async function respondVideo(c: AppContext, video: Video, beside: object = {}): Promise<Response> {
  const { job, record } = video;
  const { warnings = [] } = toNote<VideoNote>(record.notes) ?? {};
  warn(c, [...warnings, ...job.warnings]);
  const headers = isEnded(job) ? toRunHeaders({ ...job, warnings: [...warnings, ...job.warnings] }) : {};
  return respondJson(c, { ...(await toVideoObject(c, video)), ...beside }, { headers });
}

async function content(c: AppContext, { job, record }: Video): Promise<Response> {
  const { variant } = toInput(contentQuery, c.req.query());
  if (variant !== 'video') {
    throw new GatewayError('not_supported', `No ${variant} is made of videos here.`, {
      param: 'variant',
      hint: 'Leave variant out to get the video itself.',
    });
  }
  if (job.state !== 'done') throw notReady(job);
  const { artifacts } = c.var.app;
  const film = await artifacts.get(c.var.caller, toFilm(record) ?? '');
  const { name, media_type, size, hash } = film.value;
  return respondContent(c, {
    name,
    mediaType: media_type,
    size,
    etag: `"sha256-${hash}"`,
    headers: toRunHeaders(job),
    open: (range) => artifacts.open(film, range),
  });
}

function notReady({ state, error, eta_s, progress }: JobView): GatewayError {
  if (error) return new GatewayError('conflict', `There is no video: ${error.message}`, { retry: false });
  const far = progress ? ` (${Math.floor(progress.percent)} %)` : '';
  return new GatewayError('conflict', `The video is not ready: it is ${state}${far}.`, {
    retryAfter: Math.min(MAX_WAIT_S, Math.max(1, Math.ceil(eta_s ?? 5))),
    hint: 'Ask for it again when its status is completed.',
  });
}

/** Stops it where it is still being made. Throws conflict where it does not stop in time. */
async function forget(c: AppContext, { job }: Video): Promise<void> {
  const { jobs, artifacts } = c.var.app;
  const { caller } = c.var;
  if (!isEnded(job)) {
    // It may have ended just now.
    await jobs.cancel(caller, job.id).catch(unlessConflict);
    const { state } = await jobs.wait(caller, job.id, STOP_MS, clientSignal(c));
    if (!isEnded({ state })) {
      throw new GatewayError('conflict', 'The video is being stopped.', { retryAfter: 5, hint: 'Delete it again.' });
    }
  }
  const { artifacts: made } = await jobs.get(caller, job.id);
  await jobs.remove(caller, job.id);
  for (const { id } of made) {
    const film = await artifacts.get(caller, id).catch(unlessMissing);
    // What was given again instead of being made anew belongs to the job that made it.
    if (film?.value.job === job.id) await artifacts.remove(caller, id).catch(unlessMissing);
  }
}

/** Newest first, only what it takes to page through them. */
async function* newest(c: AppContext): AsyncGenerator<{ id: string }> {
  const { store } = c.var.app;
  const query = { owner: c.var.caller, capability: videoGenerate.id, limit: 100 };
  let cursor: string | undefined;
  do {
    const page = await store.jobs.list({ ...query, ...(cursor === undefined ? {} : { cursor }) });
    for (const { id } of page.jobs) yield { id: toVideoId(id) };
    cursor = page.next;
  } while (cursor !== undefined);
}

function unlessConflict(error: unknown): undefined {
  if (!(error instanceof GatewayError && error.code === 'conflict')) throw error;
}

function unlessMissing(error: unknown): undefined {
  const { code } = error as Partial<GatewayError>;
  if (code !== 'not_found' && code !== 'expired') throw error;
}

function describeVideos(app: OpenAPIHono<AppEnv>): void {
  const tag = 'openai';
  const path = '/v1/videos/{id}';
  describeRoute(app, {
    method: 'post',
    path: '/v1/videos',
    tag,
    summary: 'Make a video',
    description:
      'Answers at once; GET /v1/videos/{id} tells how far it is. JSON, or multipart/form-data. In JSON input_reference is an artifact’s id, a data: URL, {"image_url"} or {"file_id"}.',
    input: videoRequest,
    output: videoObject,
  });
  describeRoute(app, {
    method: 'post',
    path: '/v1/videos/generations',
    tag,
    summary: 'Make a video, asked as xAI’s clients do',
    description: 'Answers at once. The request_id is the id of a video for all other routes.',
    input: generationsRequest,
    output: generationsAnswer,
  });
  describeRoute(app, {
    method: 'get',
    path: '/v1/videos',
    tag,
    summary: 'Your videos, whichever way they were asked for',
    query: videosQuery,
    output: listOf(videoObject),
  });
  describeRoute(app, { method: 'get', path, tag, summary: 'How far a video is', output: videoObject });
  describeRoute(app, {
    method: 'get',
    path: `${path}/content`,
    tag,
    summary: 'The bytes of a video, or a range of them',
    description: '409 with Retry-After until it is completed.',
    query: contentQuery,
    output: z.string(),
  });
  describeRoute(app, {
    method: 'delete',
    path,
    tag,
    summary: 'Delete a video; one that is being made is stopped',
    output: videoDeleted,
  });
  describeRoute(app, {
    method: 'post',
    path: `${path}/remix`,
    tag,
    summary: 'The same video from another prompt',
    input: remixRequest,
    output: videoObject,
  });
}
