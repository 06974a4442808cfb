// OpenAI's videos, asked with its own SDK over a socket: taken at once, followed, downloaded, remixed, stopped and forgotten.
import OpenAI, { toFile, type APIError } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { plainText } from '../support/media/hostile.ts';
import { makePicture } from '../support/media/pictures.ts';
import { probe } from '../support/media/probe.ts';
import { openAtelier, type OpenAtelier } from '../support/open-atelier.ts';

type Video = OpenAI.Video;

let gateway: OpenAtelier;
let alice: OpenAI;
beforeAll(async () => {
  gateway = await openAtelier();
  alice = gateway.sdk();
});
afterAll(() => gateway?.close());
beforeEach(() => void gateway.atelier.seen.splice(0));

const last = () => gateway.atelier.seen.at(-1)!;
const toPng = async () => toFile(await makePicture({ width: 48, height: 32 }), 'first.png', { type: 'image/png' });
const dataUrl = async () =>
  `data:image/png;base64,${Buffer.from(await makePicture({ width: 8, height: 8 })).toString('base64')}`;
const toJson = async <T>(response: Response | Promise<Response>) => (await (await response).json()) as T;

async function until(id: string, status: Video['status']): Promise<Video> {
  const end = performance.now() + 15_000;
  for (;;) {
    const video = await alice.videos.retrieve(id);
    if (video.status === status) return video;
    if (performance.now() > end) throw new Error(`the video stays ${JSON.stringify(video)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function refused(asked: Promise<unknown>): Promise<APIError> {
  const error = await asked.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(OpenAI.APIError);
  return error as APIError;
}

describe('a video', () => {
  it('is taken at once, told of while it is made, and downloaded', async () => {
    const made = await alice.videos.create({ model: 'camera', prompt: 'a 猫 hold', seconds: '4', size: '1280x720' });
    expect(made).toEqual({
      id: expect.stringMatching(/^video_[0-9a-f]{32}$/),
      object: 'video',
      model: 'camera',
      status: expect.stringMatching(/^(queued|in_progress)$/),
      progress: expect.any(Number),
      created_at: expect.any(Number),
      completed_at: null,
      expires_at: null,
      size: '1280x720',
      seconds: '4',
      prompt: 'a 猫 hold',
      remixed_from_video_id: null,
      error: null,
    });
    await eventually('it is held', () => gateway.atelier.held > 0);
    expect(await until(made.id, 'in_progress')).toMatchObject({ completed_at: null });
    const early = await refused(alice.videos.downloadContent(made.id));
    expect(early).toBeInstanceOf(OpenAI.ConflictError);
    expect(Number(early.headers!.get('retry-after'))).toBeGreaterThan(0);
    gateway.atelier.release();
    const done = await until(made.id, 'completed');
    expect(done).toMatchObject({
      id: made.id,
      progress: 100,
      size: '1280x720',
      seconds: '4',
      created_at: made.created_at,
    });
    expect(done.completed_at).toBeGreaterThanOrEqual(made.created_at);
    expect(done.expires_at).toBeGreaterThan(Date.now() / 1000);
    const film = await alice.videos.downloadContent(made.id);
    expect(film.headers.get('content-type')).toBe('video/mp4');
    expect(await probe(new Uint8Array(await film.arrayBuffer()))).toMatchObject({
      type: 'video/mp4',
      width: 1280,
      height: 720,
      frames: 16,
      duration_s: 4,
    });
  });

  it('says how long and how large it came out, where the model chose', async () => {
    const { id, seconds, size } = await alice.videos.create({ prompt: 'x' });
    expect([seconds, size]).toEqual(['auto', 'auto']);
    expect(await until(id, 'completed')).toMatchObject({ seconds: '1', size: '96x64', model: 'camera' });
  });

  it('comes in ranges, and once more only where it has changed', async () => {
    const { id } = await alice.videos.create({ prompt: 'x' });
    await until(id, 'completed');
    const path = `/v1/videos/${id}/content`;
    const part = await gateway.ask(path, { headers: { range: 'bytes=4-7' } });
    expect([part.status, await part.text()]).toEqual([206, 'ftyp']);
    const etag = part.headers.get('etag')!;
    expect((await gateway.ask(path, { headers: { 'if-none-match': etag } })).status).toBe(304);
    const head = await gateway.ask(path, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-type')]).toEqual([200, 'video/mp4']);
    for (const variant of ['thumbnail', 'spritesheet'] as const) {
      const error = await refused(alice.videos.downloadContent(id, { variant }));
      expect([error.status, error.code, error.param]).toEqual([501, 'not_supported', 'variant']);
    }
    expect((await gateway.ask(`${path}?variant=poster`)).status).toBe(400);
  });

  it('begins with a picture: a file, or what stands for one', async () => {
    const uploaded = await alice.files.create({ file: await toPng(), purpose: 'vision' });
    const url = await dataUrl();
    const given = [await toPng(), { image_url: url }, { file_id: uploaded.id }];
    for (const [index, width] of [48, 8, 48].entries()) {
      const { id } = await alice.videos.create({ prompt: 'x', input_reference: given[index]! });
      await until(id, 'completed');
      expect(last().files).toMatchObject([{ media_type: 'image/png', media: { width } }]);
    }
    for (const input_reference of [url, { image_url: url }, { file_id: uploaded.id }]) {
      const response = await gateway.ask('/v1/videos', { body: { prompt: 'x', input_reference } });
      await until((await toJson<Video>(response)).id, 'completed');
      expect(last().files).toHaveLength(1);
    }
  });

  it('takes numbers and their digits, knobs, and null for nothing', async () => {
    const knobs = { seed: 5, fps: 8, frames: 12, motion: 0.5, negative_prompt: 'blur', steps: 3, format: 'mp4' };
    const body = { prompt: 'x', seconds: 2, size: null, model: null, input_reference: null, user: 'u', ...knobs };
    const { id, seconds } = await toJson<Video>(gateway.ask('/v1/videos', { body }));
    expect(seconds).toBe('2');
    await until(id, 'completed');
    expect(last().input).toEqual({ prompt: 'x', fit: true, seconds: 2, ...knobs });
    const told = await gateway.ask(`/v1/videos/${id}`);
    expect(told.headers.get('x-warning')).toBe('camera has no negative_prompt.');
    expect(told.headers.get('x-model')).toBe('camera');
  });

  it('takes the names of models that only OpenAI has for the default', async () => {
    const { data, response } = await alice.videos.create({ prompt: 'x hold', model: 'sora-2' }).withResponse();
    expect(response.headers.get('x-warning')).toContain('sora-2');
    expect(data.model).toBe('sora-2');
    await eventually('it is held', () => gateway.atelier.held > 0);
    gateway.atelier.release();
    expect((await until(data.id, 'completed')).model).toBe('camera');
    expect((await gateway.ask(`/v1/videos/${data.id}`)).headers.get('x-warning')).toContain('the default answered');
  });

  it('is taken once per Idempotency-Key', async () => {
    const create = () => alice.videos.create({ prompt: 'x' }, { headers: { 'idempotency-key': 'film-1' } });
    expect((await create()).id).toBe((await create()).id);
  });

  it('is remixed from another prompt', async () => {
    const first = await alice.videos.create({ prompt: 'x', seconds: '4', input_reference: await toPng() });
    await until(first.id, 'completed');
    const remix = await alice.videos.remix(first.id, { prompt: 'at night' });
    expect(remix).toMatchObject({ prompt: 'at night', seconds: '4', remixed_from_video_id: first.id });
    await until(remix.id, 'completed');
    expect(last().input).toMatchObject({ prompt: 'at night', seconds: 4 });
    expect(last().files).toHaveLength(1);
    expect((await refused(alice.videos.remix(first.id, { prompt: '' }))).param).toBe('prompt');
  });

  it('says why it failed', async () => {
    const { id } = await alice.videos.create({ prompt: 'fail' });
    const failed = await until(id, 'failed');
    expect(failed.error).toEqual({ code: 'upstream_error', message: 'The easel fell over.' });
    expect(failed.completed_at).toBeNull();
    const error = await refused(alice.videos.downloadContent(id));
    expect([error.status, error.headers!.get('x-should-retry')]).toEqual([409, 'false']);
    expect(error.message).toContain('The easel fell over.');
  });
});

describe('deleting', () => {
  it('stops what is being made, and forgets it', async () => {
    const before = gateway.atelier.aborts;
    const { id } = await alice.videos.create({ prompt: 'hold' });
    await eventually('it is held', () => gateway.atelier.held > 0);
    expect(await alice.videos.delete(id)).toEqual({ id, object: 'video.deleted', deleted: true });
    expect(gateway.atelier.aborts).toBe(before + 1);
    expect(await refused(alice.videos.retrieve(id))).toBeInstanceOf(OpenAI.NotFoundError);
  });

  it('forgets what was made, its file too', async () => {
    const { id } = await alice.videos.create({ prompt: 'x' });
    await until(id, 'completed');
    const job = await toJson<{ artifacts: { url: string }[] }>(gateway.ask(`/jobs/${id.replace('video_', 'job_')}`));
    const [{ url }] = job.artifacts as [{ url: string }];
    expect((await fetch(gateway.url + url)).status).toBe(200);
    await alice.videos.delete(id);
    expect((await fetch(gateway.url + url)).status).toBe(404);
    expect((await refused(alice.videos.delete(id))).status).toBe(404);
  });
});

describe('listing', () => {
  it('has all of the caller, in both orders, page by page, whichever way they were asked for', async () => {
    const bob = gateway.sdk('bob');
    const ids: string[] = [];
    for (const prompt of ['one', 'two', 'three']) ids.push((await bob.videos.create({ prompt })).id);
    const native = await gateway.ask(
      '/video/gen',
      { body: { prompt: 'four' }, headers: { prefer: 'respond-async' } },
      'bob',
    );
    ids.push((await toJson<{ id: string }>(native)).id.replace('job_', 'video_'));
    await gateway.ask('/v1/images/generations', { body: { prompt: 'a picture' } }, 'bob');
    const gather = async (query: OpenAI.VideoListParams) => {
      const all: string[] = [];
      for await (const { id } of bob.videos.list(query)) all.push(id);
      return all;
    };
    expect(await gather({ limit: 2, order: 'asc' })).toEqual(ids);
    expect(await gather({ limit: 3 })).toEqual(ids.toReversed());
    const page = await bob.videos.list({ limit: 1 });
    expect(page.data).toMatchObject([{ id: ids[3], object: 'video', prompt: 'four' }]);
    expect([page.last_id, page.has_more]).toEqual([ids[3], true]);
    const raw = await toJson(gateway.ask('/v1/videos?limit=1', {}, 'bob'));
    expect(raw).toMatchObject({ object: 'list', first_id: ids[3], last_id: ids[3], has_more: true });
    expect((await refused(alice.videos.retrieve(ids[0]!))).status).toBe(404);
    expect((await refused(bob.videos.list({ after: 'video_0' }).then())).status).toBe(400);
  });
});

describe('POST /v1/videos/generations', () => {
  it('takes what xAI’s clients send', async () => {
    const image = { url: await dataUrl() };
    const body = { model: 'camera', prompt: 'x', duration: 2, aspect_ratio: '9:16', resolution: '360p', image };
    const made = await toJson<Video & { request_id: string }>(gateway.ask('/v1/videos/generations', { body }));
    expect(made).toMatchObject({ request_id: made.id, seconds: '2', size: '368x640', status: expect.any(String) });
    await until(made.request_id, 'completed');
    expect(last().files).toHaveLength(1);
    const lost = await gateway.ask('/v1/videos/generations', { body: { prompt: 'x', aspect_ratio: '1:1' } });
    expect(lost.headers.get('x-warning')).toBe('aspect_ratio does nothing without resolution.');
  });
});

describe('refusals', () => {
  it('say which model can', async () => {
    const error = await refused(alice.videos.create({ prompt: 'x', model: 'brush' }));
    expect([error.status, error.code]).toEqual([501, 'not_supported']);
    expect((error.error as { hint: string }).hint).toBe('Models that do: camera.');
    expect((await refused(alice.videos.create({ prompt: 'x', model: 'camara' }))).code).toBe('model_not_found');
  });

  it.each([
    [{}, 'prompt'],
    [{ prompt: '' }, 'prompt'],
    [{ prompt: 'x', seconds: 'long' }, 'seconds'],
    [{ prompt: 'x', seconds: 0 }, 'seconds'],
    [{ prompt: 'x', seconds: '601' }, 'seconds'],
    [{ prompt: 'x', size: '720p' }, 'size'],
    [{ prompt: 'x', input_reference: 'https://example.com/a.png' }, 'input_reference'],
    [{ prompt: 'x', input_reference: Buffer.from(plainText()).toString('base64') }, 'input_reference'],
  ])('name the field at fault in %j', async (body, param) => {
    const response = await gateway.ask('/v1/videos', { body });
    expect(response.status).toBe(400);
    expect((await toJson<{ error: { param: string } }>(response)).error.param).toBe(param);
  });

  it.each(['video_', 'video_zz', `video_${'0'.repeat(32)}`, 'job_1', '..%2f'])('know nothing of %s', async (id) => {
    for (const path of [`/v1/videos/${id}`, `/v1/videos/${id}/content`]) {
      expect((await gateway.ask(path)).status).toBe(404);
    }
  });

  it('know no film in the job of a picture', async () => {
    const picture = await gateway.ask('/v1/images/generations', { body: { prompt: 'x' } });
    const id = picture.headers.get('x-job-id')!.replace('job_', 'video_');
    expect((await gateway.ask(`/v1/videos/${id}`)).status).toBe(404);
    expect((await gateway.ask(`/v1/videos/${id}`, { method: 'DELETE' })).status).toBe(404);
  });
});
