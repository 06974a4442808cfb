// OpenAI's images, asked with its own SDK over a socket: made, changed, varied and streamed, and every refusal typed.
import OpenAI, { toFile, type APIError } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { activeSvg, plainText, pixelBomb } from '../support/media/hostile.ts';
import { makePicture } from '../support/media/pictures.ts';
import { probe } from '../support/media/probe.ts';
import { openAtelier, type OpenAtelier } from '../support/open-atelier.ts';

type ImagesResponse = OpenAI.ImagesResponse;

let gateway: OpenAtelier;
let alice: OpenAI;
beforeAll(async () => {
  gateway = await openAtelier();
  alice = gateway.sdk();
});
afterAll(() => gateway?.close());
beforeEach(() => void gateway.atelier.seen.splice(0));

const last = () => gateway.atelier.seen.at(-1)!;
const toBytes = (base64: string | undefined) => new Uint8Array(Buffer.from(base64!, 'base64'));
const toPng = async (options: Parameters<typeof makePicture>[0], name = 'in.png') =>
  toFile(await makePicture(options), name, { type: 'image/png' });
const dataUrl = async () =>
  `data:image/png;base64,${Buffer.from(await makePicture({ width: 8, height: 8 })).toString('base64')}`;

async function refused(asked: Promise<unknown>): Promise<APIError> {
  const error = await asked.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(OpenAI.APIError);
  return error as APIError;
}

describe('POST /v1/images/generations', () => {
  it('gives the bytes of a picture, and says what it is', async () => {
    const { data, response } = await alice.images
      .generate({ model: 'brush', prompt: 'a cat revise', size: '1024x1024', quality: 'high' })
      .withResponse();
    expect(data).toEqual({
      created: expect.any(Number),
      background: 'opaque',
      output_format: 'png',
      quality: 'high',
      size: '1024x1024',
      data: [{ b64_json: expect.any(String), revised_prompt: 'A better one.' }],
      usage: {
        input_tokens: 0,
        input_tokens_details: { text_tokens: 0, image_tokens: 0 },
        output_tokens: 0,
        output_tokens_details: { text_tokens: 0, image_tokens: 0 },
        total_tokens: 0,
      },
    });
    expect(await probe(toBytes(data.data![0]!.b64_json))).toMatchObject({
      type: 'image/png',
      width: 1024,
      height: 1024,
    });
    expect(Math.abs(data.created - Date.now() / 1000)).toBeLessThan(60);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'x-model': 'brush',
      'x-runtime': 'atelier',
      'x-cache': 'miss',
      'x-job-id': expect.stringMatching(/^job_/),
      'x-request-id': expect.stringMatching(/^req_/),
    });
    expect(response.headers.get('x-warning')).toBeNull();
  });

  it('gives links that open without a key', async () => {
    const { data } = await alice.images.generate({ prompt: 'a cat', n: 2, response_format: 'url' });
    const urls = data!.map(({ url }) => url!);
    expect(urls.every((url) => url.startsWith(`${gateway.url}/artifacts/`))).toBe(true);
    const files = await Promise.all(urls.map(async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer())));
    expect(Buffer.compare(files[0]!, files[1]!)).not.toBe(0);
    expect(await probe(files[0]!)).toMatchObject({ type: 'image/png', width: 96, height: 64 });
  });

  it('measures what was made, whatever was asked for', async () => {
    const auto = await alice.images.generate({
      prompt: 'a cat',
      size: 'auto',
      output_format: 'jpeg',
      output_compression: 50,
    });
    expect([auto.size, auto.output_format, auto.quality]).toEqual(['96x64', 'jpeg', 'auto']);
    expect(await probe(toBytes(auto.data![0]!.b64_json))).toMatchObject({ type: 'image/jpeg' });
    expect(last().input).toMatchObject({ size: 'auto', output_format: 'jpeg', output_compression: 50, n: 1 });
  });

  it('passes the knobs of diffusion, ignores what it does not know, and takes null for nothing', async () => {
    const knobs = {
      negative_prompt: 'dogs',
      num_inference_steps: 4,
      guidance_scale: 1.5,
      true_cfg_scale: 2,
      seed: 3,
      sampler: 'euler',
      scheduler: 'karras',
      loras: ['style.safetensors', { name: 'x.safetensors', strength: 0.5 }],
    };
    const body = {
      prompt: 'a cat',
      model: null,
      size: null,
      n: null,
      stream: null,
      user: 'u',
      moderation: 'low',
      ...knobs,
    };
    const response = await gateway.ask('/v1/images/generations', {
      body: { ...body, response_format: null, nonsense: {} },
    });
    expect(response.status).toBe(200);
    expect(last().input).toEqual({
      prompt: 'a cat',
      fit: true,
      n: 1,
      ...knobs,
      loras: ['style.safetensors', { name: 'x.safetensors', strength: 0.5 }],
    });
    expect(response.headers.get('x-warning')).toBe('brush has no negative_prompt.');
  });

  it.each(['a 猫 🐈‍⬛ in Кот', 'שלום \u202e مرحبا', '\u0000 \ud83d\ude00 "quotes" \\ \n', '𝔞'.repeat(16_000)])(
    'keeps %j as it is',
    async (prompt) => {
      await alice.images.generate({ prompt });
      expect(last().input['prompt']).toBe(prompt);
    },
  );

  it.each(['gpt-image-1', 'dall-e-3', 'chatgpt-image-latest'])(
    'takes %s for the default, and says so',
    async (model) => {
      const { data, response } = await alice.images.generate({ model, prompt: 'a cat' }).withResponse();
      expect(response.headers.get('x-model')).toBe('brush');
      expect(response.headers.get('x-warning')).toBe(`There is no model "${model}" here: the default answered.`);
      expect(Object.keys(data.data![0]!)).toEqual([model === 'dall-e-3' ? 'url' : 'b64_json']);
    },
  );

  it('says what it does not do', async () => {
    const asked = { prompt: 'x', background: 'transparent', style: 'vivid' } as const;
    const { response, data } = await alice.images.generate(asked).withResponse();
    expect(response.headers.get('x-warning')).toMatch(/^background: .*; style does nothing here/);
    expect(data.background).toBe('opaque');
  });

  it('is a job like any other', async () => {
    const body = { prompt: 'a cat hold' };
    const taken = await gateway.ask('/v1/images/generations', { body, headers: { prefer: 'respond-async' } });
    expect(taken.status).toBe(202);
    const { id } = (await taken.json()) as { id: string };
    expect(taken.headers.get('location')).toBe(`/jobs/${id}`);
    await eventually('it is held', () => gateway.atelier.held > 0);
    gateway.atelier.release();
    const done = async () => ((await (await gateway.ask(`/jobs/${id}`)).json()) as { state: string }).state === 'done';
    while (!(await done())) await new Promise((resolve) => setTimeout(resolve, 20));
    const waited = await gateway.ask('/v1/images/generations', {
      body: { prompt: 'x' },
      headers: { prefer: 'wait=20' },
    });
    expect(((await waited.json()) as ImagesResponse).data).toHaveLength(1);
  });

  it('stops the runtime when its caller leaves', async () => {
    const before = gateway.atelier.aborts;
    const leave = new AbortController();
    const asked = refused(alice.images.generate({ prompt: 'a cat hold' }, { signal: leave.signal }));
    await eventually('it is held', () => gateway.atelier.held > 0);
    leave.abort();
    expect(await asked).toBeInstanceOf(OpenAI.APIUserAbortError);
    await eventually('the runtime stopped', () => gateway.atelier.aborts === before + 1);
  });

  it('runs once per Idempotency-Key, and gives the same bytes again', async () => {
    const body = { prompt: 'once', n: 2 };
    const headers = { 'idempotency-key': 'picture-1' };
    const ask = async (other = {}) => gateway.ask('/v1/images/generations', { body: { ...body, ...other }, headers });
    const first = await ask();
    const again = await ask();
    expect([first.status, again.status]).toEqual([200, 200]);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(first.headers.get('idempotent-replayed')).toBeNull();
    expect(await again.text()).toBe(await first.text());
    expect(gateway.atelier.seen).toHaveLength(1);
    expect((await ask({ n: 1 })).status).toBe(422);
  });

  it('keeps of an answer which job it was, and not its bytes', async () => {
    const headers = { 'idempotency-key': 'picture-2' };
    await gateway.ask('/v1/images/generations', { body: { prompt: 'x' }, headers });
    const { documents } = gateway.work.store;
    const kept = await documents.list<{ answer: { body: string } }>('idempotency', { limit: 100 });
    expect(kept.documents.map(({ value }) => value.answer.body.length < 100)).toContain(true);
    expect(kept.documents.every(({ value }) => value.answer.body.length < 100)).toBe(true);
  });

  it('fails with the type that the SDK has for it', async () => {
    const unknown = await refused(alice.images.generate({ model: 'brosh', prompt: 'x' }));
    expect(unknown).toBeInstanceOf(OpenAI.NotFoundError);
    expect([unknown.code, unknown.param, unknown.type]).toEqual(['model_not_found', 'model', 'invalid_request_error']);
    expect((unknown.error as { hint: string }).hint).toContain('brush');
    const cannot = await refused(alice.images.generate({ model: 'lute', prompt: 'x' }));
    expect([cannot.status, cannot.code]).toEqual([501, 'not_supported']);
    expect((cannot.error as { hint: string }).hint).toBe('Models that do: brush, pencil.');
    const broken = await refused(alice.images.generate({ prompt: 'fail' }));
    expect(broken).toBeInstanceOf(OpenAI.InternalServerError);
    expect([broken.status, broken.code, broken.headers!.get('x-should-retry')]).toEqual([
      502,
      'upstream_error',
      'false',
    ]);
    const bad = await refused(alice.images.generate({ prompt: 'bad' }));
    expect([bad.status, bad.param]).toEqual([400, 'sampler']);
  });

  it.each([
    [{}, 'prompt'],
    [{ prompt: '' }, 'prompt'],
    [{ prompt: null }, 'prompt'],
    [{ prompt: 'x'.repeat(32_001) }, 'prompt'],
    [{ prompt: 'x', n: 0 }, 'n'],
    [{ prompt: 'x', n: 11 }, 'n'],
    [{ prompt: 'x', n: 1.5 }, 'n'],
    [{ prompt: 'x', size: 'large' }, 'size'],
    [{ prompt: 'x', size: '0x64' }, 'size'],
    [{ prompt: 'x', size: '50000x50000' }, 'size'],
    [{ prompt: 'x', output_format: 'svg' }, 'output_format'],
    [{ prompt: 'x', output_compression: 101 }, 'output_compression'],
    [{ prompt: 'x', partial_images: 4 }, 'partial_images'],
    [{ prompt: 'x', response_format: 'file' }, 'response_format'],
    [{ prompt: 'x', seed: -1 }, 'seed'],
    [{ prompt: 'x', loras: ['../../etc/passwd'] }, 'loras.0'],
    [['x'], null],
  ])('refuses %j', async (body, param) => {
    const response = await gateway.ask('/v1/images/generations', { body });
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: { param: string } }).error.param).toBe(param);
  });
});

describe('POST /v1/images/edits', () => {
  it('takes two files and a mask', async () => {
    const image = await Promise.all([toPng({ width: 40, height: 30 }), toPng({ width: 20, height: 20 }, 'b.png')]);
    const hole = { left: 5, top: 5, width: 10, height: 10 };
    const mask = await toPng({ width: 40, height: 30, alpha: 0, hole });
    const answer = await alice.images.edit({ model: 'brush', image, mask, prompt: 'a 猫', n: 2, size: '256x256' });
    expect(answer.data).toHaveLength(2);
    expect(answer.size).toBe('256x256');
    const { capability, files, input } = last();
    expect(capability).toBe('image.edit');
    expect(files.map(({ media }) => [media.width, media.height])).toEqual([
      [40, 30],
      [20, 20],
      [40, 30],
    ]);
    expect(input).toMatchObject({ prompt: 'a 猫', n: 2, size: '256x256', mask: expect.stringMatching(/^art_/) });
  });

  it('takes one file, and numbers as the text that forms have', async () => {
    const form = new FormData();
    form.append(
      'image',
      new Blob([(await makePicture({ width: 16, height: 16 })) as Uint8Array<ArrayBuffer>]),
      'a.png',
    );
    const fields = {
      prompt: 'x',
      strength: '0.4',
      num_inference_steps: '6',
      seed: '12',
      n: '1',
      size: '',
      quality: '',
    };
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    const response = await gateway.ask('/v1/images/edits', { body: form });
    expect(response.status).toBe(200);
    expect(last().input).toMatchObject({ strength: 0.4, num_inference_steps: 6, seed: 12 });
    expect(last().input['size']).toBeUndefined();
  });

  it('takes references in JSON', async () => {
    const uploaded = await alice.files.create({ file: await toPng({ width: 9, height: 9 }), purpose: 'vision' });
    const url = await dataUrl();
    const images = [{ image_url: url }, { file_id: uploaded.id }];
    const body = { prompt: 'x', images, mask: { image_url: { url } } };
    expect((await gateway.ask('/v1/images/edits', { body })).status).toBe(200);
    expect(last().files.map(({ media }) => media.width)).toEqual([8, 9, 8]);
    const one = { prompt: 'x', image: uploaded.id.replace('file-', 'art_') };
    expect((await gateway.ask('/v1/images/edits', { body: one })).status).toBe(200);
    expect(last().files.map(({ media }) => media.width)).toEqual([9]);
    expect((await gateway.ask('/v1/images/edits', { body: { prompt: 'x', image: [uploaded.id] } }, 'bob')).status).toBe(
      404,
    );
  });

  it('runs once per key, whatever the boundary of the form is', async () => {
    const ask = async () => {
      const image = await toPng({ width: 16, height: 16 });
      return alice.images.edit({ image, prompt: 'once' }, { headers: { 'idempotency-key': 'edit-1' } }).withResponse();
    };
    const first = await ask();
    const again = await ask();
    expect(again.response.headers.get('idempotent-replayed')).toBe('true');
    expect(again.data).toEqual(first.data);
    expect(gateway.atelier.seen).toHaveLength(1);
  });

  it('says which model can where the one that is named cannot', async () => {
    const image = await toPng({ width: 16, height: 16 });
    const error = await refused(alice.images.edit({ model: 'pencil', image, prompt: 'x' }));
    expect([error.status, error.code]).toEqual([501, 'not_supported']);
    expect((error.error as { hint: string }).hint).toBe('Models that do: brush.');
  });

  it.each([
    ['no picture', async () => [], 'image'],
    ['text as PNG', async () => [await toFile(plainText(), 'a.png')], 'image'],
    ['an SVG', async () => [await toFile(activeSvg(), 'a.svg')], 'image'],
    ['50 000²', async () => [await toFile(pixelBomb(), 'a.png')], 'image'],
  ])('refuses %s', async (_, files, param) => {
    const form = new FormData();
    form.append('prompt', 'x');
    for (const file of await files()) form.append('image[]', file);
    const response = await gateway.ask('/v1/images/edits', { body: form });
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: { param: string } }).error.param).toBe(param);
    expect(gateway.atelier.seen).toHaveLength(0);
  });

  it.each([
    [{ prompt: 'x' }, 'image', 400],
    [{ prompt: 'x', image: 'https://example.com/cat.png' }, 'image', 400],
    [{ prompt: 'x', image: { image_url: 'http://169.254.169.254/' } }, 'image', 400],
    [{ prompt: 'x', image: [{}] }, 'image.0', 400],
    [{ prompt: 'x', image: [], mask: 'x' }, 'image', 400],
    [{ prompt: 'x', image: { file_id: `file-${'0'.repeat(32)}` } }, 'image', 404],
    [{ image: 'data:image/png;base64,AAAA' }, 'prompt', 400],
  ])('refuses %j', async (body, param, status) => {
    const response = await gateway.ask('/v1/images/edits', { body });
    expect(response.status).toBe(status);
    expect(((await response.json()) as { error: { param: string } }).error.param).toBe(param);
  });
});

describe('POST /v1/images/variations', () => {
  it('takes a file', async () => {
    const image = await toPng({ width: 32, height: 32 });
    const answer = await alice.images.createVariation({ image, n: 2, response_format: 'b64_json', size: '256x256' });
    expect(answer.data).toHaveLength(2);
    expect(await probe(toBytes(answer.data![1]!.b64_json))).toMatchObject({ width: 256, height: 256 });
    expect(last().capability).toBe('image.vary');
    const old = await alice.images.createVariation({ image, model: 'dall-e-2' });
    expect((await fetch(old.data![0]!.url!)).headers.get('content-type')).toBe('image/png');
  });
});

describe('stream', () => {
  const gather = async <T>(stream: AsyncIterable<T>): Promise<T[]> => {
    const all: T[] = [];
    for await (const event of stream) all.push(event);
    return all;
  };

  it('gives first looks spread over the run, then every picture', async () => {
    const asked = { prompt: 'slow', n: 2, size: '256x256', stream: true, partial_images: 3 } as const;
    const events = await gather(await alice.images.generate(asked));
    expect(events.map(({ type }) => type)).toEqual([
      ...Array.from({ length: 3 }, () => 'image_generation.partial_image'),
      ...Array.from({ length: 2 }, () => 'image_generation.completed'),
    ]);
    expect(events.map((event) => 'partial_image_index' in event && event.partial_image_index).slice(0, 3)).toEqual([
      0, 1, 2,
    ]);
    const [partial, , , done] = events;
    expect(partial).toMatchObject({ size: '256x256', quality: 'auto', background: 'opaque', output_format: 'jpeg' });
    expect(await probe(toBytes(partial!.b64_json))).toMatchObject({ type: 'image/jpeg', width: 24 });
    expect(done).toMatchObject({ size: '256x256', output_format: 'png', usage: { total_tokens: 0 }, model: 'brush' });
    expect(await probe(toBytes(done!.b64_json))).toMatchObject({ type: 'image/png', width: 256 });
  });

  it.each([
    [0, 0],
    [1, 1],
    [2, 2],
  ])('gives %d first looks where so many are asked for', async (partial_images, count) => {
    const events = await gather(await alice.images.generate({ prompt: 'slow', stream: true, partial_images }));
    expect(events.filter(({ type }) => type === 'image_generation.partial_image')).toHaveLength(count);
    expect(events.at(-1)!.type).toBe('image_generation.completed');
  });

  it('gives one where the run is over before its progress is told', async () => {
    const events = await gather(await alice.images.generate({ prompt: 'x', stream: true, partial_images: 1 }));
    expect(events.map(({ type }) => type.split('.')[1])).toEqual(['partial_image', 'completed']);
  });

  it('streams edits', async () => {
    const image = await toPng({ width: 16, height: 16 });
    const asked = { image, prompt: 'x', negative_prompt: 'y', stream: true, partial_images: 1 } as const;
    const events = await gather(await alice.images.edit(asked));
    expect(events.map(({ type }) => type)).toEqual(['image_edit.partial_image', 'image_edit.completed']);
    expect(events[1]).toMatchObject({ warnings: ['brush has no negative_prompt.'] });
  });

  it('names its events, tells the wait in comments, and ends without a word more', async () => {
    const response = await gateway.ask('/v1/images/generations', {
      body: { prompt: 'x', stream: true, model: 'gpt-image-1' },
    });
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/);
    expect(response.headers.get('x-job-id')).toMatch(/^job_/);
    expect(response.headers.get('x-warning')).toContain('gpt-image-1');
    const text = await response.text();
    expect(text).toMatch(/^: (queued|running)/);
    expect(text.match(/^event: .*$/gm)).toEqual(['event: image_generation.completed']);
    expect(text).not.toContain('[DONE]');
  });

  it('reports a failure on the way as the SDK wants it', async () => {
    const events: string[] = [];
    const broken = async () => {
      const stream = await alice.images.generate({ prompt: 'slow fail', stream: true, partial_images: 3 });
      for await (const { type } of stream) events.push(type);
    };
    expect(await refused(broken())).toMatchObject({
      code: 'upstream_error',
      message: expect.stringContaining('easel'),
    });
    expect(events.length).toBeGreaterThan(0);
    expect(new Set(events)).toEqual(new Set(['image_generation.partial_image']));
  });

  it('stops the runtime when its reader leaves', async () => {
    const before = gateway.atelier.aborts;
    const stream = await alice.images.generate({ prompt: 'hold', stream: true });
    await eventually('it is held', () => gateway.atelier.held > 0);
    stream.controller.abort();
    await eventually('the runtime stopped', () => gateway.atelier.aborts === before + 1);
  });
});
