// Pictures and films of xAI: shapes for sizes, prices, moderation, both shapes of its errors, and films that are watched until they can be fetched.
import { afterEach, describe, expect, it } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createOpenAI } from '../../adapters/runtimes/openai/index.ts';
import { GatewayError } from '../../src/error.ts';
import { fetchTransport } from '../../src/upstream.ts';
import type { Transport } from '../../src/upstream.ts';
import { openFakeXai } from '../support/fake-xai-media.ts';
import type { FakeXaiOptions } from '../support/fake-xai-media.ts';
import { eventually, openInProcess, post } from '../support/gateway.ts';
import { makePicture, probe } from '../support/media/index.ts';
import { runMedia } from '../support/run-media.ts';
import type { MediaCall } from '../support/run-media.ts';

const limits = { firstByteMs: 5000, idleMs: 2000, controlMs: 2000, maxReplyBytes: 8_000_000 };
const tools = openMediaTools({ maxPixels: 20_000_000 });
const PICTURES = 'grok-imagine-image';
const FILMS = 'grok-imagine-video';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function open(options: FakeXaiOptions = {}, transport: Transport = fetchTransport, bytes = limits.maxReplyBytes) {
  const fake = await openFakeXai(options);
  closers.push(fake.close);
  const runtime = createOpenAI({
    name: 'xai',
    flavour: 'xai',
    baseUrl: fake.url,
    apiKey: 'secret',
    transport,
    limits: { ...limits, maxReplyBytes: bytes },
    tools,
    pauseMs: 10,
  });
  const make = (input: object, call: Partial<MediaCall> = {}) =>
    runMedia(runtime, 'image.generate', { prompt: 'a cat', ...input }, { model: PICTURES, ...call });
  const edit = (input: object, call: Partial<MediaCall> = {}) =>
    runMedia(runtime, 'image.edit', { prompt: 'a hat', ...input }, { model: PICTURES, ...call });
  const film = (input: object, call: Partial<MediaCall> = {}) =>
    runMedia(runtime, 'video.generate', { prompt: 'a wave', ...input }, { model: FILMS, ...call });
  const asked = () => fake.requests.filter(({ method }) => method === 'POST').map(({ body }) => body);
  return { fake, runtime, make, edit, film, asked };
}

describe('models of xAI', () => {
  it('are offered for what they do', async () => {
    const { runtime } = await open();
    const models = Object.fromEntries(
      (await runtime.models(AbortSignal.timeout(2000))).map((model) => [model.id, model]),
    );
    expect(models[PICTURES]).toMatchObject({ capabilities: ['image.generate', 'image.edit'], mask: false });
    expect(models[FILMS]).toMatchObject({ capabilities: ['video.generate'], animate: true });
    expect(models['grok-4.6']).toMatchObject({ capabilities: ['text.generate', 'text.chat'], vision: true });
    expect(models['grok-3']!.vision).toBe(false);
    expect(models['grok-code-fast-1']!.vision).toBe(false);
    for (const { capabilities } of Object.values(models)) {
      for (const id of capabilities) expect(runtime.handles[id]).toBeTypeOf('function');
    }
  });
});

describe('pictures of xAI', () => {
  it.each([
    ['1024x1024', '1:1', '1k', false],
    ['2048x2048', '1:1', '2k', false],
    ['512x512', '1:1', '1k', true],
    ['1536x1024', '3:2', '1k', true],
    ['1024x1536', '2:3', '1k', true],
    ['1536x1536', '1:1', '1.5k', false],
    ['1920x1080', '16:9', '1.5k', true],
    ['3840x2160', '16:9', '2k', true],
    ['1080x2340', '9:19.5', '1.5k', true],
    ['2560x1080', '21:9', '1.5k', true],
    ['100x1000', '9:20', '1k', true],
    ['1000x100', '5:2', '1k', true],
  ])('takes %s for %s at %s', async (size, aspect_ratio, resolution, told) => {
    const { make, asked } = await open();
    const { files, warnings } = await make({ size });
    expect(asked()).toEqual([
      { model: PICTURES, prompt: 'a cat', n: 1, aspect_ratio, resolution, response_format: 'b64_json' },
    ]);
    if (told)
      expect(warnings).toEqual([
        `xai has shapes, not sizes: ${size} was asked for as ${aspect_ratio} at ${resolution}.`,
      ]);
    else expect(warnings).toEqual([]);
    expect((await probe(files[0]!)).type).toBe('image/jpeg');
  });

  it('tells the price and what was made of the prompt', async () => {
    const { make, asked } = await open();
    const { files, result } = await make({ n: 3 });
    expect(files).toHaveLength(3);
    expect(result).toEqual({ cost_usd: 0.06, revised_prompt: 'a cat, in detail' });
    expect(asked()[0]).not.toHaveProperty('aspect_ratio');
    expect((await make({ prompt: 'bare' })).files).toHaveLength(1);
    expect((await make({ prompt: 'address' })).files).toHaveLength(1);
  });

  it('asks twice for more than ten', async () => {
    const { make, asked } = await open();
    const { files, result, progress } = await make({ n: 16 });
    expect(files).toHaveLength(16);
    expect(asked().map(({ n }) => n)).toEqual([10, 6]);
    expect(result.cost_usd).toBeCloseTo(0.32, 10);
    expect(progress).toEqual([10, 16]);
  });

  it('gives what was made, and paid for, where the rest fails', async () => {
    const { make } = await open();
    const { files, result, warnings } = await make({ prompt: 'tired', n: 12 });
    expect(files).toHaveLength(10);
    expect(result.cost_usd).toBe(0.2);
    expect(warnings).toEqual(['Only 10 of 12 pictures were made: Come back later']);
  });

  it('warns of every knob that it does not have', async () => {
    const { make, asked } = await open();
    const knobs = {
      seed: 1,
      steps: 2,
      guidance_scale: 3,
      negative_prompt: 'dogs',
      sampler: 'a',
      scheduler: 'b',
      loras: ['c'],
    };
    const { warnings } = await make(knobs);
    expect(asked()[0]).toEqual({ model: PICTURES, prompt: 'a cat', n: 1, response_format: 'b64_json' });
    expect(warnings).toHaveLength(7);
    for (const knob of Object.keys(knobs)) expect(warnings.join()).toContain(`${knob} cannot be chosen`);
  });

  it('does without what it refuses', async () => {
    const { make, asked } = await open();
    const { warnings } = await make({ prompt: 'no resolution', size: '1024x1024' });
    expect(asked()).toHaveLength(2);
    expect(asked()[1]).toMatchObject({ aspect_ratio: '1:1' });
    expect(asked()[1]).not.toHaveProperty('resolution');
    expect(warnings).toEqual(['xai refuses resolution; it was left out.']);
  });

  it('edits one picture, or up to three, inside JSON', async () => {
    const { edit, asked, fake } = await open();
    const files = {
      one: await makePicture({ width: 30, height: 20, type: 'webp' }),
      two: await makePicture({ width: 10, height: 40 }),
    };
    const made = await edit({ image: ['one'], n: 2, strength: 0.5 }, { files });
    expect(made.files).toHaveLength(2);
    expect(made.warnings).toEqual([expect.stringContaining('strength')]);
    const [first] = asked();
    expect(first).toMatchObject({ model: PICTURES, prompt: 'a hat', n: 2, image: { type: 'image_url' } });
    expect(await probe(fromDataUrl(first!['image'].url))).toMatchObject({ type: 'image/png', width: 30, height: 20 });
    await edit({ image: ['one', 'two', 'one'], size: '1024x1024' }, { files });
    const second = asked()[1]!;
    expect(second['images']).toHaveLength(3);
    expect(second).not.toHaveProperty('image');
    expect(await probe(fromDataUrl(second['images'][1].url))).toMatchObject({ width: 10, height: 40 });
    const four = await fail(edit({ image: ['one', 'two', 'one', 'two'] }, { files }));
    expect(four).toMatchObject({ code: 'invalid_request', param: 'image' });
    expect((await fail(edit({ image: ['one'], mask: 'two' }, { files }))).code).toBe('unsupported_parameter');
    expect(fake.executions()).toBe(2);
  });

  it('sends a large picture as JPEG', async () => {
    const { edit, asked } = await open();
    const noise = new Uint8Array(2400 * 1600 * 3);
    for (let at = 0; at < noise.length; at += 65_536) crypto.getRandomValues(noise.subarray(at, at + 65_536));
    const one = await tools.fromPixels(noise, 2400, 1600);
    expect(one.byteLength).toBeGreaterThan(8_000_000);
    await edit({ image: ['one'] }, { files: { one } });
    expect(await probe(fromDataUrl(asked()[0]!['image'].url))).toMatchObject({ type: 'image/jpeg', width: 2400 });
  });

  it('says what its moderation did', async () => {
    const { make } = await open();
    const all = await fail(make({ prompt: 'withheld', n: 2 }));
    expect(all).toMatchObject({ code: 'invalid_request', param: 'prompt', retry: false, source: 'xai' });
    expect(all.message).toContain('moderation');
    const half = await make({ prompt: 'half', n: 4 });
    expect(half.files).toHaveLength(2);
    expect(half.result.cost_usd).toBe(0.08);
    expect(half.warnings).toEqual([expect.stringMatching(/withheld 2 pictures.*moderation/)]);
    expect(await fail(make({ prompt: 'nested' }))).toMatchObject({
      code: 'invalid_request',
      message: 'Generated image rejected by content moderation.',
    });
    expect(await fail(make({ prompt: 'policy' }))).toMatchObject({ code: 'invalid_request', param: 'prompt' });
  });

  it('understands both shapes of its errors, and those under 200', async () => {
    const { make, fake, runtime } = await open();
    const lost = { model: 'grok-imagine-films' };
    expect(await fail(make({}, lost))).toMatchObject({ code: 'model_not_found' });
    expect(await fail(make({ prompt: 'limited' }))).toMatchObject({
      code: 'rate_limited',
      message: 'Too many requests',
    });
    expect(await fail(make({ prompt: 'busy' }))).toMatchObject({
      code: 'upstream_error',
      message: 'The service is currently unavailable',
    });
    expect(fake.executions()).toBe(1);
    const stranger = createOpenAI({
      name: 'xai',
      flavour: 'xai',
      baseUrl: fake.url,
      apiKey: 'wrong',
      transport: fetchTransport,
      limits,
      tools,
    });
    const error = await fail(runMedia(stranger, 'image.generate', { prompt: 'x' }, { model: PICTURES }));
    expect(error.message).toContain('API key');
    expect(runtime.priority).toBeLessThan(50);
  });

  it('fetches from hosts of x.ai without the key, and from nowhere else', async () => {
    const away = 'https://imgen.x.ai/xai-imgen/cat.jpeg?sig=1';
    const sent: Parameters<Transport>[0][] = [];
    const picture = await makePicture({ width: 20, height: 10, type: 'jpeg' });
    const transport: Transport = async (request) => {
      if (request.url.startsWith('http://127.0.0.1')) return fetchTransport(request);
      sent.push(request);
      return { status: 200, header: () => undefined, body: once(picture) };
    };
    const { make } = await open({ away }, transport);
    expect(await probe((await make({ prompt: 'away' })).files[0]!)).toMatchObject({ width: 20, height: 10 });
    expect(sent).toMatchObject([{ url: away, method: 'GET' }]);
    expect(JSON.stringify(sent)).not.toMatch(/secret|authorization/i);
    for (const bad of [
      'http://imgen.x.ai/a',
      'https://x.ai.evil.example/a',
      'https://evilx.ai/a',
      'https://imgen.x.ai:8443/a',
      'https://169.254.169.254/a',
    ]) {
      const other = await open({ away: bad }, transport);
      expect(await fail(other.make({ prompt: 'away' })), bad).toMatchObject({ code: 'upstream_invalid', retry: false });
    }
    expect(sent).toHaveLength(1);
  });

  it('ends a request that nobody waits for', async () => {
    const { make, fake } = await open();
    const abort = new AbortController();
    const failed = fail(make({ prompt: 'slow' }, { signal: abort.signal }));
    await eventually('a picture is begun', () => fake.executions() === 1);
    abort.abort();
    expect((await failed).code).toBe('client_closed');
    await eventually('it is left', () => fake.aborts() === 1);
  });
});

describe('films of xAI', () => {
  it('are asked for in its shapes, watched and fetched, with their price', async () => {
    const { film, asked, fake } = await open();
    const made = await film({ seconds: 4, size: '1280x720' });
    expect(asked()).toEqual([
      { model: FILMS, prompt: 'a wave', duration: 4, aspect_ratio: '16:9', resolution: '720p' },
    ]);
    expect(made.result).toEqual({ cost_usd: 0.4 });
    expect(made.warnings).toEqual([]);
    expect(made.progress).toEqual([40]);
    expect([fake.executions(), fake.looks(), fake.fetches()]).toEqual([1, 3, 1]);
    expect(await probe(made.files[0]!)).toMatchObject({ type: 'video/mp4', width: 128, height: 72, duration_s: 4 });
  });

  it.each([
    [{ frames: 72 }, { duration: 3 }, ''],
    [{ frames: 60, fps: 12 }, { duration: 5 }, 'fps'],
    [{ seconds: 0.2 }, { duration: 1 }, 'whole seconds'],
    [{ seconds: 40 }, { duration: 15 }, '1 to 15'],
    [{ seconds: 2.6, seed: 4, motion: 1 }, { duration: 3 }, 'seed.*motion.*whole seconds'],
    [{ size: '480x480' }, { aspect_ratio: '1:1', resolution: '480p' }, ''],
    [{ size: '1080x1920' }, { aspect_ratio: '9:16', resolution: '720p' }, '9:16 at 720p'],
    [{ width: 700, height: 500 }, { aspect_ratio: '4:3', resolution: '480p' }, '4:3 at 480p'],
  ])('%o is %o', async (input, wanted, told) => {
    const { film, asked } = await open();
    const { warnings } = await film(input);
    expect(asked()[0]).toEqual({ model: FILMS, prompt: 'a wave', ...wanted });
    if (told === '') expect(warnings).toEqual([]);
    else expect(warnings.join(' ')).toMatch(new RegExp(told));
  });

  it('have more lines since 1.5', async () => {
    const { film, asked } = await open();
    await film({ size: '1920x1080' }, { model: 'grok-imagine-video-1.5' });
    expect(asked()[0]).toMatchObject({ resolution: '1080p' });
  });

  it('begin with a picture', async () => {
    const { film, asked } = await open();
    await film({ image: 'one' }, { files: { one: await makePicture({ width: 40, height: 30 }) } });
    expect(await probe(fromDataUrl(asked()[0]!['image'].url))).toMatchObject({ width: 40, height: 30 });
  });

  it.each(['old', 'flaky', 'cut'])('come in spite of what went wrong on the way: %s', async (prompt) => {
    const { film, fake } = await open();
    const made = await film({ prompt, seconds: 1 });
    expect(await probe(made.files[0]!)).toMatchObject({ type: 'video/mp4', duration_s: 1 });
    // Nothing was made, and paid for, twice.
    expect(fake.executions()).toBe(1);
  });

  it.each([
    ['fails', 'upstream_error', /renderer failed/],
    ['expires', 'upstream_error', /expired/],
    ['withheld', 'invalid_request', /moderation/],
    ['gone', 'upstream_error', /could not be fetched/],
    ['away', 'upstream_invalid', /not its own/],
  ])('fail for good where there is none: %s', async (prompt, code, message) => {
    const { film, fake } = await open();
    const error = await fail(film({ prompt, seconds: 1 }));
    expect(error).toMatchObject({ code, retry: false, source: 'xai' });
    expect(error.message).toMatch(message);
    expect(fake.executions()).toBe(1);
  });

  it('are not held beyond the limit', async () => {
    const { film } = await open({}, fetchTransport, 10_000);
    expect(await fail(film({ seconds: 15, size: '1280x720' }))).toMatchObject({
      code: 'upstream_invalid',
      retry: false,
    });
  });

  it('are not asked about any more once nobody waits', async () => {
    const { film, fake } = await open();
    const abort = new AbortController();
    const onEvent: MediaCall['onEvent'] = ({ type }) => type === 'progress' && abort.abort();
    expect((await fail(film({ prompt: 'hang' }, { signal: abort.signal, onEvent }))).code).toBe('client_closed');
    const looks = fake.looks();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(fake.looks()).toBe(looks);
  });
});

describe('through a gateway', () => {
  it('makes pictures and films as jobs, refuses masks before anything is sent, and never tells the key', async () => {
    const fake = await openFakeXai();
    closers.push(fake.close);
    const gateway = await openInProcess({
      env: { HONO_AI_EMBEDDED: 'false' },
      runtimes: [{ name: 'xai', kind: 'xai', url: fake.url, api_key: 'secret' }],
    });
    closers.push(gateway.close);
    const ask = async (path: string, body: object) => {
      const answer = await gateway.request(path, post(body));
      const text = await answer.text();
      expect(text).not.toContain('secret');
      return { status: answer.status, body: JSON.parse(text) as Record<string, any> };
    };
    const picture = await ask('/image/gen', { prompt: 'a cat', size: '1024x1024', output_format: 'png' });
    expect(picture).toMatchObject({
      status: 200,
      body: { model: PICTURES, runtime: 'xai', cost_usd: 0.02, warnings: [] },
    });
    expect(picture.body['artifacts']).toMatchObject([{ media_type: 'image/png', media: { width: 64, height: 64 } }]);
    const film = await ask('/video/gen', { prompt: 'a wave', seconds: 2, size: '854x480', model: FILMS });
    expect(film.body['artifacts']).toMatchObject([{ media_type: 'video/mp4', media: { height: 48, duration_s: 2 } }]);
    const image = toDataUrl(await makePicture({ width: 32, height: 32 }));
    const masked = await ask('/image/edit', { prompt: 'a hat', image: [image], mask: image, model: PICTURES });
    expect(masked).toMatchObject({ status: 501, body: { error: { code: 'not_supported' } } });
    expect(fake.executions()).toBe(2);
  });
});

function toDataUrl(bytes: Uint8Array): string {
  return `data:image/png;base64,${Buffer.from(bytes).toString('base64')}`;
}

function fromDataUrl(url: string): Uint8Array {
  return Buffer.from(url.slice(url.indexOf(',') + 1), 'base64');
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function fail(work: Promise<unknown>): Promise<GatewayError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}
