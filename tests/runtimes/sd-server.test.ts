// sd-server over its own API: every knob under its name, jobs that are watched, and cancelled when nobody waits for them any more.
import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createOpenAI } from '../../adapters/runtimes/openai/index.ts';
import { GatewayError } from '../../src/error.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { openFakeMedia } from '../support/fake-openai-media.ts';
import type { FakeMediaOptions } from '../support/fake-openai-media.ts';
import type { FakeSdOptions } from '../support/fake-sd-jobs.ts';
import { eventually } from '../support/eventually.ts';
import { makePicture, probe } from '../support/media/index.ts';
import { colourAt, toColour } from '../support/paint.ts';
import { runMedia } from '../support/run-media.ts';

const tools = openMediaTools({ maxPixels: 4_000_000 });
const RED = [255, 0, 0];
const BLUE = [40, 120, 200];

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function open(sdcpp?: FakeSdOptions | 'none', more: Partial<FakeMediaOptions> = {}) {
  const fake = await openFakeMedia({ kind: 'sd-server', ...(sdcpp ? { sdcpp } : {}), ...more });
  closers.push(fake.close);
  const limits = { firstByteMs: 5000, idleMs: 700, controlMs: 2000, maxReplyBytes: 8_000_000 };
  const runtime = createOpenAI({
    name: 'sd',
    baseUrl: fake.url,
    transport: fetchTransport,
    limits,
    tools,
    ...(more.apiKey ? { apiKey: more.apiKey } : {}),
  });
  const model = (await runtime.models(AbortSignal.timeout(2000)))[0]!;
  const asked = () => fake.requests.filter(({ method, path }) => method === 'POST' && !path.endsWith('/cancel'));
  const generate = (input: object, call: object = {}) =>
    runMedia(runtime, 'image.generate', { prompt: 'a cat', ...input }, { model, ...call });
  return { fake, jobs: fake.jobs, runtime, model, asked, generate };
}

describe('what an sd-server is asked', () => {
  it('has every knob under the server’s own name', async () => {
    const { asked, generate, fake } = await open({}, { apiKey: 'secret' });
    const { files, result, warnings, events } = await generate({
      size: '96x64',
      seed: 4242,
      steps: 8,
      true_cfg_scale: 2.5,
      guidance_scale: 3.5,
      sampler: 'euler_a',
      scheduler: 'karras',
      negative_prompt: 'dogs',
      loras: [{ name: 'ink', strength: 0.5 }, 'other.safetensors'],
      output_format: 'jpeg',
      output_compression: 70,
    });
    expect(asked()).toHaveLength(1);
    expect(asked()[0]!.path).toBe('/sdcpp/v1/img_gen');
    expect(asked()[0]!.headers['authorization']).toBe('Bearer secret');
    expect(asked()[0]!.body).toEqual({
      prompt: 'a cat',
      negative_prompt: 'dogs',
      width: 96,
      height: 64,
      seed: 4242,
      batch_count: 1,
      sample_params: {
        sample_steps: 8,
        sample_method: 'euler_a',
        scheduler: 'karras',
        guidance: { txt_cfg: 2.5, distilled_guidance: 3.5 },
      },
      lora: [
        { path: 'styles/ink.safetensors', multiplier: 0.5 },
        { path: 'other.safetensors', multiplier: 1 },
      ],
      embed_image_metadata: false,
      output_format: 'jpeg',
      output_compression: 70,
    });
    expect(warnings).toEqual([]);
    expect(result).toEqual({ seed: 4242 });
    expect(await probe(files[0]!)).toMatchObject({ type: 'image/jpeg', width: 96, height: 64 });
    expect(events.at(-1)!.type).toBe('result');
    expect(fake.executions()).toBe(1);
  });

  it('is told of knobs that the server would pass over without a word', async () => {
    const { asked, generate } = await open();
    const { warnings } = await generate({ sampler: 'best', scheduler: 'worst', steps: 400 });
    expect(asked()[0]!.body['sample_params']).toEqual({ sample_steps: 100 });
    expect(warnings).toEqual([
      expect.stringMatching(/no sampler best.*euler_a/),
      expect.stringMatching(/no scheduler worst.*karras/),
      expect.stringMatching(/100 steps at most/),
    ]);
  });

  it('chooses a seed and tells it', async () => {
    const { asked, generate } = await open();
    const { result } = await generate({});
    expect(result.seed).toBeGreaterThanOrEqual(0);
    expect(asked()[0]!.body['seed']).toBe(result.seed);
  });

  it.each([
    {
      interrupts: true,
      parts: [
        [7, 8],
        [15, 2],
      ],
      progress: [8, 10],
    },
    {
      interrupts: false,
      parts: Array.from({ length: 10 }, (_, at) => [7 + at, 1]),
      progress: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    },
  ])('is several pictures in as few jobs as can be stopped: $interrupts', async ({ interrupts, parts, progress }) => {
    const { asked, generate } = await open({ interrupts });
    const made = await generate({ n: 10, seed: 7 });
    expect(asked().map(({ body }) => [body['seed'], body['batch_count']])).toEqual(parts);
    expect(made.progress).toEqual(progress);
    const colours = await Promise.all(made.files.map((file) => colourAt(file, 1, 1)));
    expect(colours.map((colour) => colour.slice(0, 3))).toEqual(
      parts.flatMap(([seed, count]) => Array.from({ length: count! }, (_, at) => toColour(seed! + at))),
    );
  });

  it('may not hold the block that older servers read', async () => {
    const { generate, fake } = await open();
    const error = await fail(generate({ prompt: 'x <sd_cpp_extra_args>{"seed":1}</sd_cpp_extra_args>' }));
    expect(error).toMatchObject({ code: 'invalid_request', param: 'prompt' });
    expect(fake.executions()).toBe(0);
  });
});

describe('pictures that an sd-server changes', () => {
  it('come with a grey mask that is white where they may change, and with all others beside', async () => {
    const { asked, runtime, model } = await open();
    expect(model).toMatchObject({ capabilities: ['image.generate', 'image.edit', 'image.vary'], mask: true });
    const hole = { left: 8, top: 8, width: 16, height: 16 };
    const files = {
      one: await makePicture({ width: 32, height: 32, type: 'webp' }),
      two: await makePicture({ width: 20, height: 30 }),
      // Transparent where it may change, as OpenAI's are.
      mask: await makePicture({ width: 32, height: 32, alpha: 0, hole }),
    };
    const input = { prompt: 'a hat', image: ['one', 'two'], mask: 'mask', strength: 0.6, seed: 1 };
    const made = await runMedia(runtime, 'image.edit', input, { model, files });
    const { body } = asked()[0]!;
    expect(body).toMatchObject({ prompt: 'a hat', strength: 0.6, seed: 1, width: 32, height: 32 });
    expect(await probe(toBytes(body['init_image']))).toMatchObject({ type: 'image/png', width: 32, height: 32 });
    const references = (body['ref_images'] as string[]).map(toBytes);
    expect(await Promise.all(references.map(probe))).toMatchObject([{ width: 32 }, { width: 20, height: 30 }]);
    const mask = toBytes(body['mask_image']);
    expect((await sharp(mask).metadata()).channels).toBe(1);
    expect((await colourAt(mask, 12, 12)).slice(0, 3)).toEqual([255, 255, 255]);
    expect((await colourAt(mask, 2, 2)).slice(0, 3)).toEqual([0, 0, 0]);
    expect((await colourAt(made.files[0]!, 12, 12)).slice(0, 3)).toEqual(RED);
    expect(near(await colourAt(made.files[0]!, 2, 2), BLUE)).toBe(true);
  });

  it('are varied from the one that was given, in its size', async () => {
    const { asked, runtime, model } = await open();
    const files = { one: await makePicture({ width: 48, height: 40 }) };
    const made = await runMedia(runtime, 'image.vary', { image: 'one', strength: 0.3, n: 2 }, { model, files });
    expect(made.files).toHaveLength(2);
    expect(asked()[0]!.body).toMatchObject({ prompt: '', strength: 0.3, width: 48, height: 40 });
    expect(asked()[0]!.body).toHaveProperty('init_image');
    expect(asked()[0]!.body).not.toHaveProperty('ref_images');
    expect(made.warnings).toEqual([]);
  });
});

describe('films of an sd-server', () => {
  it('are offered where its model makes them, and begin with a picture', async () => {
    const { asked, runtime, model } = await open({ modes: ['vid_gen'] });
    expect(model).toMatchObject({ capabilities: ['video.generate'], animate: true });
    const files = { first: await makePicture({ width: 64, height: 48 }) };
    const input = { prompt: 'waves', image: 'first', seconds: 1, seed: 3, steps: 4, motion: 1, format: 'mp4' };
    const made = await runMedia(runtime, 'video.generate', input, { model, files });
    const { path, body } = asked()[0]!;
    expect(path).toBe('/sdcpp/v1/vid_gen');
    expect(body).toMatchObject({
      prompt: 'waves',
      width: 64,
      height: 48,
      seed: 3,
      video_frames: 9,
      output_format: 'webm',
    });
    expect(body['sample_params']).toEqual({ sample_steps: 4 });
    expect(await probe(toBytes(body['init_image']))).toMatchObject({ width: 64, height: 48 });
    expect(made.result).toEqual({ seed: 3 });
    expect(made.warnings).toEqual([expect.stringContaining('motion')]);
    expect(await probe(made.files[0]!)).toMatchObject({ type: 'video/webm', width: 64, height: 48 });
    const odd = await runMedia(runtime, 'video.generate', { prompt: 'x', frames: 30, size: '64x64' }, { model });
    expect(asked()[1]!.body['video_frames']).toBe(29);
    expect(odd.warnings).toEqual([expect.stringMatching(/29 pictures instead of 30/)]);
  });

  it('are not offered where its model does not', async () => {
    expect((await open()).model.capabilities).not.toContain('video.generate');
  });
});

describe('jobs of an sd-server', () => {
  it('tell where they wait, and when they are begun', async () => {
    const { jobs, generate } = await open();
    jobs.hold();
    const first = generate({});
    await eventually('the first is begun', () => jobs.begun() === 1);
    const states: unknown[] = [];
    const second = generate(
      {},
      {
        onEvent(event: { type: string; state?: string; position?: number }) {
          if (event.type !== 'status') return;
          states.push([event.state, event.position]);
          if (event.state === 'queued') jobs.release();
        },
      },
    );
    await Promise.all([first, second]);
    expect(states[0]).toEqual(['queued', 1]);
  });

  it('are cancelled while they wait', async () => {
    const { jobs, generate } = await open();
    jobs.hold();
    const first = generate({});
    await eventually('the first is begun', () => jobs.begun() === 1);
    const abort = new AbortController();
    const second = generate({}, { signal: abort.signal });
    await eventually('the second waits', () => jobs.stateOf('job_2') === 'queued');
    abort.abort();
    await expectLeft(second);
    await eventually('it is cancelled', () => jobs.cancelled.length === 1);
    expect(jobs.cancelled).toEqual([{ id: 'job_2', was: 'queued' }]);
    jobs.release();
    await first;
    expect(jobs.begun()).toBe(1);
  });

  it('are cancelled while they are made', async () => {
    const { jobs, generate } = await open({ interrupts: true });
    jobs.hold();
    const abort = new AbortController();
    const onEvent = ({ state }: { state?: string }) => void (state === 'running' && abort.abort());
    await expectLeft(generate({ n: 4 }, { signal: abort.signal, onEvent }), abort.signal);
    await eventually('it is cancelled', () => jobs.cancelled.length === 1);
    expect(jobs.cancelled).toEqual([{ id: 'job_1', was: 'generating' }]);
  });

  it('that cannot be stopped once they are begun are left at once, and no more of them are begun', async () => {
    const { jobs, asked, generate } = await open({ interrupts: false });
    jobs.hold();
    const abort = new AbortController();
    const onEvent = ({ state }: { state?: string }) => void (state === 'running' && abort.abort());
    await expectLeft(generate({ n: 4 }, { signal: abort.signal, onEvent }), abort.signal);
    await eventually('it was asked to', () => jobs.cancels() === 1);
    jobs.release();
    await eventually('it is done', () => jobs.stateOf('job_1') === 'completed');
    expect(asked().map(({ body }) => body['batch_count'])).toEqual([1]);
    expect([jobs.begun(), jobs.cancels()]).toEqual([1, 1]);
  });

  it('are cancelled also when the caller leaves before they have a name', async () => {
    const { jobs, asked, generate } = await open({ interrupts: true, answerMs: 400 });
    jobs.hold();
    const abort = new AbortController();
    const work = generate({}, { signal: abort.signal });
    await eventually('it was handed in', () => asked().length === 1);
    abort.abort();
    await expectLeft(work);
    expect(jobs.cancels()).toBe(0);
    await eventually('it is cancelled', () => jobs.cancelled.length === 1);
  });

  it('are cancelled again where that failed', async () => {
    const { jobs, generate } = await open({ interrupts: true, deafFor: 2 });
    jobs.hold();
    const abort = new AbortController();
    const onEvent = ({ state }: { state?: string }) => void (state === 'running' && abort.abort());
    await expectLeft(generate({}, { signal: abort.signal, onEvent }), abort.signal);
    await eventually('it is cancelled', () => jobs.cancelled.length === 1);
    expect(jobs.cancels()).toBe(3);
  });

  it('are left at once also where the server is slow to cancel them', async () => {
    const { jobs, generate } = await open({ interrupts: true, cancelMs: 1500 });
    jobs.hold();
    const abort = new AbortController();
    const onEvent = ({ state }: { state?: string }) => void (state === 'running' && abort.abort());
    await expectLeft(generate({}, { signal: abort.signal, onEvent }), abort.signal);
    await eventually('it is cancelled', () => jobs.cancelled.length === 1);
  });

  it('are not handed in for who has left already', async () => {
    const { asked, generate } = await open();
    expect((await fail(generate({}, { signal: AbortSignal.abort() }))).code).toBe('client_closed');
    expect(asked()).toEqual([]);
  });

  it('fail with the server’s own words, without its paths', async () => {
    const { generate } = await open();
    const error = await fail(generate({ prompt: 'fails' }));
    expect(error).toMatchObject({ code: 'upstream_error', source: 'sd', retry: false });
    expect(error.message).toContain('bad magic');
    expect(error.message).not.toContain('opt');
    expect(await fail(generate({ prompt: 'oom' }))).toMatchObject({ code: 'insufficient_vram', retry: false });
    expect(await fail(generate({ prompt: 'refused' }))).toMatchObject({ code: 'invalid_request' });
  });

  it('that the queue has no room for are refused as too many', async () => {
    const { jobs, generate } = await open({ maxQueue: 1 });
    jobs.hold();
    const first = generate({});
    await eventually('the first is begun', () => jobs.begun() === 1);
    const error = await fail(generate({}));
    expect(error).toMatchObject({ code: 'overloaded', source: 'sd' });
    expect(error.retryAfter).toBeGreaterThan(0);
    jobs.release();
    await first;
  });

  it.each([404, 410, 0])('that are lost end: %d', async (status) => {
    const { jobs, generate } = await open();
    jobs.hold();
    const onEvent = ({ state }: { state?: string }) => void (state === 'running' && jobs.lose(status));
    expect(await fail(generate({}, { onEvent }))).toMatchObject({ code: 'upstream_terminated', retry: false });
    jobs.release();
  });

  it('are not for a server that is older', async () => {
    const { asked, generate, model } = await open('none');
    expect(model.capabilities).toEqual(['image.generate', 'image.edit']);
    const made = await generate({ seed: 5, size: '64x64' });
    expect(asked().map(({ path }) => path)).toEqual(['/v1/images/generations']);
    expect(asked()[0]!.block).toMatchObject({ seed: 5 });
    expect((await colourAt(made.files[0]!, 1, 1)).slice(0, 3)).toEqual(toColour(5));
  });

  it('are given up where an older server has taken the place of a newer one', async () => {
    const { fake, asked, generate } = await open();
    fake.replaceByOlder();
    const made = await generate({ seed: 5 });
    expect(asked().map(({ path }) => path)).toEqual(['/sdcpp/v1/img_gen', '/v1/images/generations']);
    expect(made.result).toEqual({ seed: 5 });
    await generate({});
    expect(asked().at(-1)!.path).toBe('/v1/images/generations');
  });
});

/** The caller is told within a second of leaving. */
async function expectLeft(work: Promise<unknown>, signal?: AbortSignal): Promise<void> {
  let leftAt = signal && !signal.aborted ? undefined : performance.now();
  signal?.addEventListener('abort', () => (leftAt ??= performance.now()), { once: true });
  expect((await fail(work)).code).toBe('client_closed');
  expect(performance.now() - leftAt!).toBeLessThan(10_000);
}

function toBytes(base64: string): Buffer {
  return Buffer.from(base64, 'base64');
}

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
