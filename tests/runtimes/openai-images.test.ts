// Pictures and films over the OpenAI-compatible adapter: the words of each kind of server, what comes back, where from, and what is never sent there.
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createOpenAI } from '../../adapters/runtimes/openai/index.ts';
import { GatewayError } from '../../src/error.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { openFakeMedia } from '../support/fake-openai-media.ts';
import type { FakeMedia, FakeMediaOptions } from '../support/fake-openai-media.ts';
import { openFakeOllama } from '../support/fake-ollama.ts';
import { openFakeOpenAI } from '../support/fake-openai.ts';
import { eventually, openInProcess, post } from '../support/gateway.ts';
import { makePicture, probe } from '../support/media/index.ts';
import { colourAt, toColour } from '../support/paint.ts';
import { runMedia } from '../support/run-media.ts';

const limits = { firstByteMs: 5000, idleMs: 2000, controlMs: 2000, maxReplyBytes: 4_000_000 };
const tools = openMediaTools({ maxPixels: 4_000_000 });
const RED = [255, 0, 0];
const BLUE = [40, 120, 200];

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function open(options: FakeMediaOptions) {
  const fake = await openFakeMedia(options);
  closers.push(fake.close);
  const runtime = createOpenAI({
    name: 'pictures',
    baseUrl: fake.url,
    transport: fetchTransport,
    limits,
    tools,
    pauseMs: 10,
    ...(options.apiKey ? { apiKey: options.apiKey } : {}),
  });
  const models = await runtime.models(AbortSignal.timeout(2000));
  const model = (id: string) => models.find((each) => each.id === id)!;
  return { fake, runtime, model, asked: () => fake.requests.filter(({ method }) => method === 'POST') };
}

/** Somewhere else: nobody should ever ask here. */
async function openStranger() {
  const seen: unknown[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers);
    response.end('secret');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(async () => void server.close());
  return { seen, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/x.png` };
}

describe('pictures of OpenAI itself', () => {
  it('asks gpt-image for nothing that it refuses, and warns of what it has not', async () => {
    const { runtime, model, asked } = await open({ kind: 'openai', apiKey: 'secret' });
    const input = {
      prompt: 'a cat',
      size: '1536x1024',
      n: 2,
      seed: 7,
      steps: 20,
      guidance_scale: 3,
      negative_prompt: 'dogs',
      sampler: 'euler',
      output_format: 'webp',
      output_compression: 60,
    };
    const { files, warnings, result, progress } = await runMedia(runtime, 'image.generate', input, {
      model: model('gpt-image-1'),
    });
    expect(asked()).toHaveLength(1);
    expect(asked()[0]!.body).toEqual({
      model: 'gpt-image-1',
      prompt: 'a cat',
      size: '1536x1024',
      n: 2,
      output_format: 'webp',
      output_compression: 60,
    });
    for (const knob of ['seed', 'steps', 'guidance_scale', 'negative_prompt', 'sampler']) {
      expect(
        warnings.filter((text) => text.startsWith(`${knob} `)),
        knob,
      ).toHaveLength(1);
    }
    expect(warnings).toHaveLength(5);
    expect(result).toEqual({});
    expect(progress).toEqual([2]);
    expect(await Promise.all(files.map(probe))).toMatchObject([
      { type: 'image/webp', width: 1536, height: 1024 },
      { type: 'image/webp', width: 1536, height: 1024 },
    ]);
  });

  it('asks dall-e-3 once for each picture, and says what it made of the prompt', async () => {
    const { runtime, model, asked, fake } = await open({ kind: 'openai' });
    const input = { prompt: 'a cat', n: 3, size: '1024x1024', output_format: 'jpeg' };
    const { files, result, warnings } = await runMedia(runtime, 'image.generate', input, { model: model('dall-e-3') });
    expect(files).toHaveLength(3);
    expect(fake.executions()).toBe(3);
    expect(asked().map(({ body }) => body['n'])).toEqual([1, 1, 1]);
    expect(asked()[0]!.body['response_format']).toBe('b64_json');
    expect(result).toEqual({ revised_prompt: 'a cat, told at length' });
    expect(warnings).toEqual([]);
  });

  it('edits two pictures with a mask that is transparent where they may change', async () => {
    const { runtime, model, asked } = await open({ kind: 'openai' });
    const hole = { left: 8, top: 8, width: 16, height: 16 };
    const files = {
      one: await makePicture({ width: 32, height: 32, type: 'jpeg' }),
      two: await makePicture({ width: 20, height: 30, colour: [1, 2, 3] }),
      mask: await makePicture({ width: 32, height: 32, colour: [0, 0, 0], hole: { ...hole, colour: [255, 255, 255] } }),
    };
    const input = { prompt: 'a hat', image: ['one', 'two'], mask: 'mask', strength: 0.5 };
    const made = await runMedia(runtime, 'image.edit', input, { model: model('gpt-image-1'), files });
    const [request] = asked();
    expect(request!.path).toBe('/v1/images/edits');
    expect(request!.body).toEqual({ model: 'gpt-image-1', prompt: 'a hat', n: '1' });
    expect(request!.files.map(({ field, type }) => [field, type])).toEqual([
      ['image[]', 'image/png'],
      ['image[]', 'image/png'],
      ['mask', 'image/png'],
    ]);
    const [one, two, mask] = request!.files;
    expect(await probe(one!.bytes)).toMatchObject({ type: 'image/png', width: 32, height: 32 });
    expect(await probe(two!.bytes)).toMatchObject({ width: 20, height: 30 });
    expect((await colourAt(mask!.bytes, 12, 12))[3]).toBe(0);
    expect((await colourAt(mask!.bytes, 2, 2))[3]).toBe(255);
    // What came back was really changed there, and only there.
    expect((await colourAt(made.files[0]!, 12, 12)).slice(0, 3)).toEqual(RED);
    expect(near(await colourAt(made.files[0]!, 2, 2), BLUE)).toBe(true);
    expect(made.warnings).toEqual([expect.stringContaining('strength')]);
  });

  it('takes what a camera wrote out of pictures that it sends, and turns them upright', async () => {
    const { runtime, model, asked } = await open({ kind: 'openai' });
    const photo = await sharp(await makePicture({ width: 40, height: 20 }))
      .withExif({ IFD0: { Copyright: 'somebody' } })
      .withMetadata({ orientation: 6 })
      .jpeg()
      .toBuffer();
    await runMedia(
      runtime,
      'image.edit',
      { prompt: 'x', image: ['photo'] },
      { model: model('gpt-image-1'), files: { photo } },
    );
    const [sent] = asked()[0]!.files;
    expect(sent!.field).toBe('image');
    expect(photo.includes('somebody')).toBe(true);
    expect(sent!.bytes.includes('somebody')).toBe(false);
    expect(await probe(sent!.bytes)).toMatchObject({ type: 'image/png', width: 20, height: 40 });
    expect((await sharp(sent!.bytes).metadata()).exif).toBeUndefined();
  });

  it('varies with dall-e-2 only, which takes one picture', async () => {
    const { runtime, model, asked } = await open({ kind: 'openai' });
    const files = { one: await makePicture({ width: 32, height: 32 }) };
    const input = { image: 'one', prompt: 'like this', n: 2, steps: 5 };
    const made = await runMedia(runtime, 'image.vary', input, { model: model('dall-e-2'), files });
    expect(made.files).toHaveLength(2);
    expect(asked()[0]).toMatchObject({ path: '/v1/images/variations', body: { n: '2', response_format: 'b64_json' } });
    expect(asked()[0]!.body).not.toHaveProperty('prompt');
    expect(made.warnings.join()).toMatch(/without a prompt.*steps/);
    const two = runMedia(
      runtime,
      'image.edit',
      { prompt: 'x', image: ['one', 'one'] },
      { model: model('dall-e-2'), files },
    );
    expect(await fail(two)).toMatchObject({ code: 'invalid_request', param: 'image' });
    expect(model('dall-e-3').capabilities).toEqual(['image.generate']);
  });

  it('passes on what was refused', async () => {
    const { runtime, model, fake } = await open({ kind: 'openai' });
    const ask = (input: object) =>
      runMedia(runtime, 'image.generate', { prompt: 'x', ...input }, { model: model('gpt-image-1') });
    expect(await fail(ask({ size: '500x500' }))).toMatchObject({
      code: 'invalid_request',
      message: "Invalid size '500x500'.",
    });
    expect((await fail(ask({ prompt: 'forbidden' }))).message).toContain('safety system');
    expect(await fail(ask({ prompt: 'oom' }))).toMatchObject({ code: 'insufficient_vram', retry: false });
    expect(await fail(ask({ width: 100 }))).toMatchObject({ code: 'invalid_request', param: 'height' });
    expect(fake.executions()).toBe(1);
    const lost = runMedia(runtime, 'image.generate', { prompt: 'x' }, { model: 'gpt-image-9' });
    expect((await fail(lost)).code).toBe('model_not_found');
  });
});

describe('pictures of an older sd-server', () => {
  it('puts what OpenAI has no words for into the prompt’s block, which no caller can', async () => {
    const { runtime, model, asked, fake } = await open({ kind: 'sd-server', sdcpp: 'none' });
    const sd = model('sd-cpp-local');
    expect(sd).toMatchObject({ capabilities: ['image.generate', 'image.edit'], mask: true });
    const input = {
      prompt: 'a cat',
      size: '96x64',
      seed: 4242,
      steps: 8,
      guidance_scale: 2.5,
      sampler: 'euler_a',
      scheduler: 'karras',
      negative_prompt: 'dogs </sd_cpp_extra_args> "and" more',
      loras: [{ name: 'ink.safetensors', strength: 0.5 }],
    };
    const { files, result, warnings } = await runMedia(runtime, 'image.generate', input, { model: sd });
    expect(asked()[0]!.body).toMatchObject({ prompt: 'a cat ', size: '96x64', n: 1 });
    expect(asked()[0]!.block).toEqual({
      seed: 4242,
      negative_prompt: 'dogs </sd_cpp_extra_args> "and" more',
      sample_params: { sample_steps: 8, sample_method: 'euler_a', scheduler: 'karras', guidance: { txt_cfg: 2.5 } },
      lora: [{ path: 'ink.safetensors', multiplier: 0.5 }],
      embed_image_metadata: false,
    });
    expect(warnings).toEqual([]);
    expect(result).toEqual({ seed: 4242 });
    expect(await probe(files[0]!)).toMatchObject({ type: 'image/png', width: 96, height: 64 });
    expect((await colourAt(files[0]!, 1, 1)).slice(0, 3)).toEqual(toColour(4242));

    for (const prompt of [
      'x <sd_cpp_extra_args>{"seed":1}</sd_cpp_extra_args>',
      'x </SD_CPP_EXTRA_ARGS>',
      '< sd_cpp_extra_args >',
    ]) {
      const error = await fail(runMedia(runtime, 'image.generate', { prompt }, { model: sd }));
      expect(error).toMatchObject({ code: 'invalid_request', param: 'prompt' });
    }
    expect(fake.executions()).toBe(1);
  });

  it('chooses a seed and tells it', async () => {
    const { runtime, model, asked } = await open({ kind: 'sd-server', sdcpp: 'none' });
    const { result } = await runMedia(runtime, 'image.generate', { prompt: 'x' }, { model: model('sd-cpp-local') });
    expect(result.seed).toBeGreaterThanOrEqual(0);
    expect(asked()[0]!.block!['seed']).toBe(result.seed);
  });

  it('sends a mask as it reads it: white where it may change, whatever the caller’s said', async () => {
    const { runtime, model, asked } = await open({ kind: 'sd-server', sdcpp: 'none' });
    const hole = { left: 8, top: 8, width: 16, height: 16 };
    const files = {
      one: await makePicture({ width: 32, height: 32 }),
      // Transparent where it may change, as OpenAI's are.
      mask: await makePicture({ width: 32, height: 32, alpha: 0, hole }),
    };
    const input = { prompt: 'a hat', image: ['one'], mask: 'mask', strength: 0.6, seed: 1 };
    const made = await runMedia(runtime, 'image.edit', input, { model: model('sd-cpp-local'), files });
    expect(asked()[0]!.block).toMatchObject({ strength: 0.6, seed: 1 });
    expect((await colourAt(made.files[0]!, 12, 12)).slice(0, 3)).toEqual(RED);
    expect((await colourAt(made.files[0]!, 2, 2)).slice(0, 3)).toEqual(BLUE);
  });
});

describe('pictures of vLLM-Omni', () => {
  it('uses its own names, a seed for each request, and tells when pictures are not varied', async () => {
    const { runtime, model, asked } = await open({ kind: 'vllm' });
    const input = {
      prompt: 'x',
      n: 12,
      size: '32x32',
      steps: 9,
      true_cfg_scale: 4,
      guidance_scale: 1,
      seed: 5,
      scheduler: 'simple',
    };
    const { files, result, warnings, progress } = await runMedia(runtime, 'image.generate', input, {
      model: model('Qwen/Qwen-Image'),
    });
    expect(files).toHaveLength(12);
    expect(asked().map(({ body }) => [body['n'], body['seed']])).toEqual([
      [10, 5],
      [2, 15],
    ]);
    expect(asked()[0]!.body).toMatchObject({ num_inference_steps: 9, true_cfg_scale: 4, guidance_scale: 1 });
    expect(asked()[0]!.body).not.toHaveProperty('step');
    expect(result.seed).toBe(5);
    expect(progress).toEqual([10, 12]);
    expect(warnings).toEqual([expect.stringContaining('scheduler')]);
  });

  it('edits with the mask in its own field', async () => {
    const { runtime, model, asked } = await open({ kind: 'vllm' });
    const picture = await makePicture({ width: 32, height: 32 });
    const white = await makePicture({ width: 32, height: 32, colour: [255, 255, 255] });
    const files = { picture, white };
    const edit = model('Qwen/Qwen-Image-Edit');
    expect(edit.capabilities).toEqual(['image.generate', 'image.edit']);
    const input = { prompt: 'x', image: ['picture'], mask: 'white', strength: 1 };
    const made = await runMedia(runtime, 'image.edit', input, { model: edit, files });
    expect(asked()[0]!.files.map(({ field }) => field)).toEqual(['image', 'mask_image']);
    expect(asked()[0]!.body['strength']).toBe('1');
    expect((await colourAt(made.files[0]!, 0, 0)).slice(0, 3)).toEqual(RED);
  });
});

describe('pictures of a server that answers with addresses', () => {
  const input = { prompt: 'x', size: '48x48' };

  it('fetches them from the server, with its key, until there are as many as were asked for', async () => {
    const { runtime, model, fake } = await open({ kind: 'localai', apiKey: 'secret' });
    const made = await runMedia(
      runtime,
      'image.generate',
      { ...input, n: 5, steps: 3 },
      { model: model('stablediffusion') },
    );
    expect(made.files).toHaveLength(5);
    expect(fake.executions()).toBe(3);
    for (const file of made.files) expect(await probe(file)).toMatchObject({ width: 48, height: 48 });
    const fetched = fake.requests.filter(({ path }) => path.startsWith('/generated/'));
    expect(fetched).toHaveLength(5);
    expect(fetched[0]!.headers['authorization']).toBe('Bearer secret');
    expect(made.warnings).toEqual([expect.stringMatching(/not known.*steps/)]);
  });

  it.each(['elsewhere', 'redirect', 'x.ai', 'file', 'credentials'])('never follows them elsewhere: %s', async (how) => {
    const stranger = await openStranger();
    const address: Record<string, (own: string) => string> = {
      elsewhere: () => stranger.url,
      redirect: (own) => own,
      'x.ai': () => 'https://imgen.x.ai/x.jpeg',
      file: () => 'file:///etc/hostname',
      credentials: (own) => own.replace('//', '//user:word@'),
    };
    const redirect = how === 'redirect' ? { redirect: stranger.url } : {};
    const { runtime, model } = await open({ kind: 'localai', apiKey: 'secret', address: address[how]!, ...redirect });
    const error = await fail(runMedia(runtime, 'image.generate', input, { model: model('stablediffusion') }));
    expect(error).toMatchObject({ code: 'upstream_invalid', source: 'pictures', retry: false });
    expect(error.message).not.toMatch(/127\.0|http/);
    expect(stranger.seen).toEqual([]);
  });

  it('takes a data: URL for what it is', async () => {
    const url = `data:image/png;base64,${Buffer.from(await makePicture({ width: 8, height: 9 })).toString('base64')}`;
    const { runtime, model } = await open({ kind: 'localai', address: () => url });
    const made = await runMedia(runtime, 'image.generate', input, { model: model('stablediffusion') });
    expect(await probe(made.files[0]!)).toMatchObject({ width: 8, height: 9 });
  });

  it('believes nothing to be a picture that is none', async () => {
    const text = `data:image/png;base64,${Buffer.from('<html>').toString('base64')}`;
    const { runtime, model } = await open({ kind: 'localai', address: () => text });
    const error = await fail(runMedia(runtime, 'image.generate', input, { model: model('stablediffusion') }));
    expect(error).toMatchObject({ code: 'upstream_invalid', retry: false });
  });

  it('says that there is no route, where there is none', async () => {
    const { runtime } = await open({ kind: 'localai' });
    const files = { one: await makePicture({ width: 32, height: 32 }) };
    const error = await fail(runMedia(runtime, 'image.vary', { image: 'one' }, { model: 'dall-e-2', files }));
    expect(error).toMatchObject({ code: 'not_supported', message: 'pictures has no /images/variations.' });
  });
});

describe('a caller who leaves', () => {
  it('ends the request at once', async () => {
    const { runtime, model, fake } = await open({ kind: 'sd-server', sdcpp: 'none', delayMs: 60_000 });
    const abort = new AbortController();
    const work = runMedia(
      runtime,
      'image.generate',
      { prompt: 'x' },
      { model: model('sd-cpp-local'), signal: abort.signal },
    );
    const failed = fail(work);
    await eventually('a picture is begun', () => fake.executions() === 1);
    abort.abort();
    expect((await failed).code).toBe('client_closed');
    await eventually('it is stopped', () => fake.aborts() === 1);
  });
});

describe('films of OpenAI', () => {
  it('asks in its lengths and sizes, follows, and fetches', async () => {
    const { runtime, model, asked } = await open({ kind: 'openai' });
    const sora = model('sora-2');
    expect(sora).toMatchObject({ capabilities: ['video.generate'], animate: true });
    const input = { prompt: 'a wave', seconds: 5, size: '640x360', seed: 3 };
    const made = await runMedia(runtime, 'video.generate', input, { model: sora });
    expect(asked()[0]!.body).toEqual({ model: 'sora-2', prompt: 'a wave', seconds: '4', size: '1280x720' });
    expect(made.progress).toEqual([30, 60]);
    expect(await probe(made.files[0]!)).toMatchObject({ type: 'video/mp4', width: 1280, height: 720, duration_s: 4 });
    expect(made.warnings.join()).toMatch(/seed.*4 was asked for.*1280x720/);
  });

  it('begins with a picture that is as large as the film', async () => {
    const { runtime, model, asked } = await open({ kind: 'openai' });
    const files = { one: await makePicture({ width: 90, height: 160 }) };
    const made = await runMedia(
      runtime,
      'video.generate',
      { prompt: 'a wave', image: 'one' },
      { model: model('sora-2'), files },
    );
    const [request] = asked();
    expect(request!.body).toMatchObject({ size: '720x1280' });
    expect(request!.files.map(({ field }) => field)).toEqual(['input_reference']);
    expect(await probe(request!.files[0]!.bytes)).toMatchObject({ width: 720, height: 1280 });
    expect(made.warnings).toEqual([]);
  });

  it('deletes a film that nobody waits for, and says why there is none', async () => {
    const { runtime, model, fake } = await open({ kind: 'openai' });
    const abort = new AbortController();
    const work = runMedia(
      runtime,
      'video.generate',
      { prompt: 'hang' },
      {
        model: model('sora-2'),
        signal: abort.signal,
        onEvent: (event) => event.type === 'progress' && abort.abort(),
      },
    );
    expect((await fail(work)).code).toBe('client_closed');
    expect(fake.deleted).toEqual(['video_1']);
    const failed = await fail(runMedia(runtime, 'video.generate', { prompt: 'fails' }, { model: model('sora-2') }));
    expect(failed).toMatchObject({ code: 'invalid_request', param: 'prompt', retry: false });
  });
});

describe('through a gateway', () => {
  let media: FakeMedia;
  let gateway: Awaited<ReturnType<typeof openInProcess>>;
  let texts: Awaited<ReturnType<typeof openFakeOpenAI>>;
  let ollama: Awaited<ReturnType<typeof openFakeOllama>>;
  beforeAll(async () => {
    media = await openFakeMedia({ kind: 'sd-server' });
    texts = await openFakeOpenAI();
    ollama = await openFakeOllama();
    gateway = await openInProcess({
      env: { HONO_AI_EMBEDDED: 'false' },
      runtimes: [
        { name: 'sd', kind: 'openai', url: media.url },
        { name: 'texts', kind: 'openai', url: texts.url },
        { name: 'ollama', kind: 'ollama', url: ollama.url },
      ],
    });
  });
  afterAll(async () => {
    await gateway?.close();
    await Promise.all([media?.close(), texts?.close(), ollama?.close()]);
  });
  const inline = async (width: number, height: number) =>
    `data:image/png;base64,${Buffer.from(await makePicture({ width, height })).toString('base64')}`;
  const ask = async (path: string, body: object) => {
    const answer = await gateway.request(path, post(body));
    const text = await answer.text();
    expect(answer.status, text).toBe(200);
    return JSON.parse(text) as Record<string, any>;
  };

  it('makes a picture and gives it as it was asked for', async () => {
    const answer = await ask('/image/gen', { prompt: 'a cat', size: '64x32', seed: 9, output_format: 'jpeg' });
    expect(answer).toMatchObject({ model: 'sd-cpp-local', runtime: 'sd', seed: 9, warnings: [] });
    expect(answer['artifacts']).toMatchObject([{ media_type: 'image/jpeg', media: { width: 64, height: 32 } }]);
  });

  it('describes pictures with a model that sees, on an OpenAI-compatible server', async () => {
    const image = [await inline(21, 12), await inline(30, 40)];
    const answer = await ask('/image/describe', { image, prompt: 'How large?', model: 'seer-vl' });
    expect(answer).toMatchObject({ text: 'saw 21x12 and 30x40', model: 'seer-vl', runtime: 'texts' });
    const { messages } = texts.requests.at(-1)!.body!;
    expect(messages[0].content[0]).toEqual({ type: 'text', text: 'How large?' });
  });

  it('describes pictures with a model that sees, on Ollama', async () => {
    const answer = await ask('/image/describe', { image: await inline(21, 12), model: 'vision' });
    expect(answer).toMatchObject({ text: 'saw 1 pictures', model: 'vision:latest', runtime: 'ollama' });
    const { messages } = ollama.requests.findLast(({ path }) => path === '/api/chat')!.body!;
    expect(messages[0].content).toBe('Describe this picture.');
    expect(await probe(Buffer.from(messages[0].images[0], 'base64'))).toMatchObject({ width: 21, height: 12 });
  });

  it.each(['webp', 'gif'] as const)('shows %s as PNG, which every model reads', async (type) => {
    const bytes = await makePicture({ width: 18, height: 12, type });
    const image = `data:image/${type};base64,${Buffer.from(bytes).toString('base64')}`;
    await ask('/image/describe', { image, model: 'vision' });
    const { messages } = ollama.requests.findLast(({ path }) => path === '/api/chat')!.body!;
    const seen = await probe(Buffer.from(messages[0].images[0], 'base64'));
    expect(seen).toMatchObject({ type: 'image/png', width: 18, height: 12 });
  });

  it('never asks a model that is known to be blind, and finds one that is not', async () => {
    const blind = await gateway.request('/image/describe', post({ image: await inline(9, 9), model: 'ollama/echo' }));
    expect(blind.status).toBe(501);
    const { error } = (await blind.json()) as { error: { hint: string } };
    expect(error.hint).toMatch(/vision:latest|seer-vl/);
    const answer = await ask('/image/describe', { image: await inline(9, 9) });
    expect(answer['model']).toMatch(/^(vision:latest|seer-vl)$/);
  });
});

function near(colour: number[], wanted: number[]): boolean {
  return wanted.every((value, at) => Math.abs(value - colour[at]!) < 8);
}

async function fail(work: Promise<unknown>): Promise<GatewayError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}
