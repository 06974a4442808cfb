// What every host must keep about pictures, films and music: made as asked, measured, told of while they are made, stopped when nobody waits.
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readEventStream } from '../support/event-stream.ts';
import type { GatewayOptions, TestGateway } from '../support/gateway.ts';
import { eventually, openMediaGateway, type Answer, type MediaGateway } from '../support/media-gateway.ts';
import { makePicture, probe } from '../support/media/index.ts';
import { testMediaFailures } from './media-failures.ts';
import { testMediaSdk } from './media-sdk.ts';

const FAST = { model: 'sdxl-lightning', prompt: 'a red fox', size: '384x256' };

export function testMedia(name: string, open: (options: GatewayOptions) => Promise<TestGateway>): void {
  describe(`media: ${name}`, { timeout: 30_000 }, () => {
    let subject: MediaGateway;
    beforeAll(async () => {
      subject = await openMediaGateway(open, { HONO_AI_JOB_CONCURRENCY: '3' });
    }, 60_000);
    afterAll(() => subject?.close());
    const get = () => subject;

    testMaking(get);
    testTelling(get);
    testStopping(get);
    testSharing(get);
    testMediaFailures(get);
    testMediaSdk(get);
  });
}

export type Get = () => MediaGateway;

function testMaking(get: Get): void {
  it('makes as many pictures as asked, as large as asked, and says with which seed', async () => {
    const { make, probe: look, comfyui } = get();
    const before = comfyui.executions();
    const answer = await make('/image/gen', { ...FAST, n: 2, seed: 71 });
    expect(answer).toMatchObject({ model: 'sdxl-lightning', runtime: 'comfyui', seed: 71 });
    expect(answer.artifacts).toHaveLength(2);
    for (const made of answer.artifacts) {
      expect(made.media).toEqual(expect.objectContaining({ width: 384, height: 256 }));
      expect(await look(made)).toMatchObject({ type: 'image/png', width: 384, height: 256 });
    }
    expect(comfyui.executions()).toBe(before + 1);
  });

  it('remembers what a seed made, and makes it anew where that is asked', async () => {
    const { ask, make, comfyui } = get();
    await make('/image/gen', { ...FAST, seed: 72 });
    const before = comfyui.executions();
    const again = await ask('/image/gen', { ...FAST, seed: 72 });
    expect(again.headers.get('x-cache')).toBe('hit');
    await again.body?.cancel();
    expect(comfyui.executions()).toBe(before);
    const anew = await make('/image/gen', { ...FAST, seed: 72 }, { 'cache-control': 'no-cache' });
    expect(comfyui.executions()).toBe(before + 1);
    expect(anew.artifacts).toHaveLength(1);
  });

  it.each(['png', 'jpeg', 'webp'])('gives pictures as %s', async (format) => {
    const answer = await get().make('/image/gen', { ...FAST, output_format: format, output_compression: 80 });
    expect(await get().probe(answer.artifacts[0]!)).toMatchObject({ type: `image/${format}`, width: 384, height: 256 });
  });

  it('changes only what a mask marks', async () => {
    const { form, fetch } = get();
    const [image, mask] = await Promise.all([
      makePicture({ width: 384, height: 256, colour: [20, 40, 200] }),
      makeMask(384, 256),
    ]);
    const response = await form('/image/edit', { prompt: 'a hole', model: 'sdxl', seed: '9' }, [
      ['image', image],
      ['mask', mask],
    ]);
    const text = await response.text();
    expect(response.status, text).toBe(200);
    const made = (JSON.parse(text) as Answer).artifacts[0]!;
    const [before, after] = await Promise.all([image, await fetch(made)].map(toPixels));
    expect(after!.info).toMatchObject({ width: 384, height: 256 });
    // Far from the edge of the mask, which the graph softens.
    expect(distance(before!, after!, 10, 10)).toBeLessThan(8);
    expect(distance(before!, after!, 192, 128)).toBeGreaterThan(16);
  });

  it('edits, varies and enlarges pictures that come as data: URLs, ids or links', async () => {
    const { make, probe: look } = get();
    const url = `data:image/png;base64,${Buffer.from(await makePicture({ width: 384, height: 256, colour: [20, 160, 40] })).toString('base64')}`;
    const first = await make('/image/edit', { model: 'sdxl', image: url, prompt: 'snow', strength: 0.5 });
    const second = await make('/image/vary', { model: 'sdxl', image: first.artifacts[0]!.id });
    expect(second.artifacts).toHaveLength(1);
    const small = await make('/image/gen', { ...FAST, size: '256x256' });
    const third = await make('/image/upscale', { image: small.artifacts[0]!.url });
    expect(await look(third.artifacts[0]!)).toMatchObject({ width: 1024, height: 1024 });
  });

  it('makes films with the frames, the size and the pace that were asked for', async () => {
    const body = { model: 'animatediff', prompt: 'waves', frames: 16, fps: 8, size: '256x256' };
    const film = await get().make('/video/gen', body);
    expect(film.artifacts).toHaveLength(1);
    expect(film.artifacts[0]!.media).toMatchObject({ width: 256, height: 256, frames: 16, duration_s: 2 });
    expect(await get().probe(film.artifacts[0]!)).toMatchObject({ type: 'video/mp4', frames: 16, duration_s: 2 });
    const gif = await get().make('/video/gen', { ...body, format: 'gif' });
    expect(await get().probe(gif.artifacts[0]!)).toMatchObject({ type: 'image/gif', frames: 16, width: 256 });
  });

  it('begins a film with a picture', async () => {
    const { form, comfyui, probe: look } = get();
    const before = comfyui.uploads().length;
    const response = await form('/video/gen', { prompt: 'it flies', frames: '17', size: '256x256' }, [
      ['image', await makePicture({ width: 256, height: 256, colour: [200, 30, 30] })],
    ]);
    const answer = (await response.json()) as Answer;
    expect(answer).toMatchObject({ model: 'wan22-5b' });
    expect(comfyui.uploads().length).toBe(before + 1);
    expect(await look(answer.artifacts[0]!)).toMatchObject({ frames: 17, width: 256, height: 256 });
  });

  it.each([
    ['ace-step-1.5', 'mp3', 'audio/mpeg'],
    ['ace-step-1.5', 'flac', 'audio/flac'],
    ['acestep/acestep-v15-turbo', 'wav', 'audio/wav'],
  ])('makes music with %s as %s, as long as asked', async (model, format, type) => {
    const answer = await get().make('/music/gen', { model, prompt: 'lo-fi, piano', seconds: 12, format, seed: 3 });
    const sound = await get().probe(answer.artifacts[0]!);
    expect(sound.type).toBe(type);
    expect(sound.duration_s).toBeGreaterThan(11.5);
    expect(sound.duration_s).toBeLessThan(12.5);
  });

  it('lists its workflows as models with what goes in and what comes out', async () => {
    const { data } = (await (await get().gateway.request('/v1/models')).json()) as {
      data: { id: string; capabilities: string[]; modalities: { input: string[]; output: string[] } }[];
    };
    const find = (id: string) => data.find((model) => model.id === id);
    expect(find('sdxl')?.capabilities).toEqual(expect.arrayContaining(['image.generate', 'image.edit', 'image.vary']));
    expect(find('sdxl')?.modalities).toEqual({ input: ['text', 'image'], output: ['image'] });
    expect(find('ace-step-1.5')?.modalities).toEqual({ input: ['text'], output: ['audio'] });
    expect(find('animatediff')?.modalities).toEqual({ input: ['text'], output: ['video'] });
  });
}

function testTelling(get: Get): void {
  it('streams how far it is and first looks, then the result once', async () => {
    const response = await get().ask('/image/gen', { ...FAST, model: 'sdxl', steps: 12, stream: true });
    const events = await readEventStream(response);
    const of = (type: string) => events.filter(({ event }) => event === type).map(({ data }) => JSON.parse(data));
    const percents = of('progress').map(({ percent }) => percent as number);
    expect(percents.length).toBeGreaterThan(2);
    expect(percents).toEqual(percents.toSorted((a, b) => a - b));
    expect(percents.at(-1)).toBeGreaterThan(80);
    const [look] = of('preview');
    expect(look.media_type).toBe('image/jpeg');
    expect(await probe(Uint8Array.from(Buffer.from(look.data, 'base64')))).toMatchObject({ type: 'image/jpeg' });
    expect(of('result')).toHaveLength(1);
    expect(events.at(-1)?.event).toBe('result');
    expect(of('result')[0].artifacts).toHaveLength(1);
  });

  it('takes it as a job that can be asked for later', async () => {
    const { ask, gateway, probe: look } = get();
    const response = await ask('/image/gen', FAST, { prefer: 'respond-async' });
    expect(response.status).toBe(202);
    const { id } = (await response.json()) as { id: string };
    const job = await eventually(async () => {
      const view = (await (await gateway.request(`/jobs/${id}`)).json()) as Answer & { state: string };
      expect(view.state).toBe('done');
      return view;
    });
    expect(await look(job.artifacts[0]!)).toMatchObject({ width: 384, height: 256 });
  });

  it('holds bytes in the answer where they are asked for', async () => {
    const answer = await get().make('/image/gen', { ...FAST, job: { response_format: 'b64_json' } });
    const [made] = answer.artifacts as (Answer['artifacts'][0] & { b64_json: string })[];
    expect(await probe(Uint8Array.from(Buffer.from(made!.b64_json, 'base64')))).toMatchObject({ width: 384 });
  });
}

function testStopping(get: Get): void {
  /** Begins one that stands still, and one behind it. */
  async function begin(stage: 'start' | 'sampling' | 'output') {
    const { ask, comfyui } = get();
    comfyui.hold(stage);
    const submit = async () => {
      const response = await ask('/image/gen', { ...FAST, model: 'sdxl' }, { prefer: 'respond-async' });
      return ((await response.json()) as { id: string }).id;
    };
    const first = await submit();
    await comfyui.held();
    return { first, submit };
  }
  const state = async (id: string) =>
    ((await (await get().gateway.request(`/jobs/${id}`)).json()) as { state: string }).state;
  const until = (id: string, wanted: string) => eventually(async () => expect(await state(id)).toBe(wanted));

  it.each(['start', 'sampling', 'output'] as const)(
    'stops exactly what is cancelled (%s), and not the other',
    async (stage) => {
      const { gateway, comfyui } = get();
      const { first, submit } = await begin(stage);
      const second = await submit();
      const started = comfyui.executions();
      expect((await gateway.request(`/jobs/${first}`, { method: 'DELETE' })).status).toBe(200);
      await until(first, 'cancelled');
      comfyui.release();
      await until(second, 'done');
      expect(comfyui.executions()).toBe(started + 1);
      await eventually(() => expect(comfyui.running()).toBeUndefined());
    },
  );

  it('takes what waits out of the queue and leaves alone what runs', async () => {
    const { gateway, comfyui } = get();
    const { first, submit } = await begin('sampling');
    const started = comfyui.executions();
    const second = await submit();
    expect((await gateway.request(`/jobs/${second}`, { method: 'DELETE' })).status).toBe(200);
    await until(second, 'cancelled');
    comfyui.release();
    await until(first, 'done');
    expect(comfyui.executions()).toBe(started);
    expect(comfyui.pending()).toEqual([]);
  });

  it('stops when whoever waited for the answer leaves', async () => {
    const { gateway, comfyui } = get();
    comfyui.hold('sampling');
    const leave = new AbortController();
    const asked = gateway.request('/image/gen', {
      method: 'POST',
      body: JSON.stringify({ ...FAST, model: 'sdxl' }),
      headers: { 'content-type': 'application/json' },
      signal: leave.signal,
    });
    // In process an answer still comes; over a socket the request ends with its signal.
    asked.catch(() => {});
    const id = await comfyui.held();
    leave.abort();
    await eventually(() => expect(comfyui.running()).not.toBe(id));
    comfyui.release();
    await eventually(() => expect(comfyui.pending()).toEqual([]));
  });
}

function testSharing(get: Get): void {
  it('never has two runtimes on the card: who is asked next waits until the other has left', async () => {
    const { make, ask, comfyui, ollama } = get();
    const chat = async () => {
      const messages = [{ role: 'user', content: 'Hello' }];
      const response = await ask('/text/chat', { model: 'ollama/echo', messages });
      expect(response.status, await response.text()).toBe(200);
    };
    await make('/image/gen', { ...FAST, seed: 81 });
    expect(comfyui.loadedVram).toBeGreaterThan(0);
    await chat();
    expect(comfyui.loadedVram).toBe(0);
    expect([...ollama.loaded]).toEqual(['echo:latest']);
    comfyui.hold('start');
    const made = make('/image/gen', { ...FAST, seed: 82 });
    await comfyui.held();
    expect([...ollama.loaded]).toEqual([]);
    comfyui.release();
    await made;
  });

  it('describes what it made', async () => {
    const { make, ask } = get();
    const { artifacts } = await make('/image/gen', { ...FAST, output_format: 'webp' });
    const response = await ask('/image/describe', { model: 'vision', image: artifacts[0]!.id });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ text: 'saw 1 pictures', runtime: 'ollama' });
  });
}

/** Transparent, which says “may change”, in the middle. */
async function makeMask(width: number, height: number): Promise<Uint8Array<ArrayBuffer>> {
  const pixels = new Uint8Array(width * height * 4).fill(255);
  for (let y = height / 4; y < (height * 3) / 4; y++) {
    for (let x = width / 4; x < (width * 3) / 4; x++) pixels[(y * width + x) * 4 + 3] = 0;
  }
  return new Uint8Array(
    await sharp(pixels, { raw: { width, height, channels: 4 } })
      .png()
      .toBuffer(),
  );
}

type Pixels = Awaited<ReturnType<typeof toPixels>>;

async function toPixels(bytes: Uint8Array) {
  return sharp(bytes).removeAlpha().raw().toBuffer({ resolveWithObject: true });
}

function distance(a: Pixels, b: Pixels, x: number, y: number): number {
  const at = (y * a.info.width + x) * 3;
  return Math.max(...[0, 1, 2].map((channel) => Math.abs(a.data[at + channel]! - b.data[at + channel]!)));
}
