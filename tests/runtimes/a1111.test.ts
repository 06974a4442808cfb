// The AUTOMATIC1111 runtime over a fake server: what is sent, seen, stopped and refused, also by relatives that can do less.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import sharp from 'sharp';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createA1111, type A1111Options } from '../../adapters/runtimes/a1111/index.ts';
import { capabilities, type CapabilityId } from '../../src/capabilities/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { RunEvent } from '../../src/event.ts';
import type { InputFile, Model, RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { eventually } from '../support/eventually.ts';
import { openFakeA1111, type FakeA1111, type FakeA1111Options } from '../support/fake-a1111.ts';
import { makePicture, probe } from '../support/media/index.ts';

const tools = openMediaTools({ maxPixels: 64_000_000 });
const limits = { firstByteMs: 2000, idleMs: 5000, controlMs: 2000, maxReplyBytes: 64_000_000 };
const SDXL = 'sd_xl_base_1.0';
const SD15 = 'v1-5-pruned-emaonly';

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

type Events = RunEvent<unknown, { seed?: number }>[];

async function open(fakeOptions: FakeA1111Options = {}, options: Partial<A1111Options> = {}) {
  const fake = await openFakeA1111(fakeOptions);
  closing.push(() => fake.close());
  const runtime = toRuntime(fake.url, options);
  return { fake, runtime, ...asking(runtime) };
}

function toRuntime(baseUrl: string, options: Partial<A1111Options> = {}): RuntimeAdapter {
  return createA1111({ name: 'a1111', baseUrl, transport: fetchTransport, limits, tools, pollMs: 10, ...options });
}

function asking(runtime: RuntimeAdapter) {
  const models = () => runtime.models(AbortSignal.timeout(5000));
  async function* start(id: CapabilityId, input: object, model = SDXL, signal = new AbortController().signal) {
    const known = (await models()).find((one) => one.id === model);
    const call = { model: known as Model, signal, requestId: 'req_test', file };
    yield* runtime.handles[id]!(capabilities[id].input.parse(input) as never, call) as AsyncIterable<Events[number]>;
  }
  async function run(...asked: Parameters<typeof start>) {
    const events: Events = [];
    for await (const event of start(...asked)) events.push(event);
    const result = events.at(-1)!;
    if (result.type !== 'result') throw new Error('no result');
    const pictures = result.files!.map(({ bytes }) => bytes as Uint8Array);
    const warnings = events.flatMap((event) => (event.type === 'warning' ? event.warning : []));
    return { events, pictures, warnings, seed: result.result.seed };
  }
  const refusal = async (...asked: Parameters<typeof start>) => {
    const error = await run(...asked).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(GatewayError);
    return error as GatewayError;
  };
  return { models, start, run, refusal };
}

const files = new Map<string, Uint8Array>();
const file = async (reference: string): Promise<InputFile> => {
  const bytes = new Uint8Array(files.get(reference)!);
  return {
    id: reference,
    media_type: 'image/png',
    size: bytes.length,
    sha256: '',
    media: {},
    bytes: async () => bytes,
  };
};

beforeAll(async () => {
  files.set('blue', await makePicture({ width: 128, height: 96, colour: [0, 0, 250] }));
  files.set('large', await makePicture({ width: 3000, height: 1000, colour: [0, 0, 250] }));
  const hole = { left: 0, top: 0, width: 64, height: 96 };
  files.set('left', await makePicture({ width: 128, height: 96, alpha: 0, hole }));
  files.set('broken', files.get('blue')!.slice(0, 60));
});

/** The fake as a relative that answers some routes differently, or not at all. */
async function openRelative(
  fake: FakeA1111,
  answers: Record<string, (body: string) => string | undefined>,
): Promise<string> {
  async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url!.split('?')[0]!;
    const body = await new Response(request as never).text();
    const there = await fetch(fake.url + request.url, {
      method: request.method!,
      ...(request.method === 'POST' ? { body, headers: { 'content-type': 'application/json' } } : {}),
    });
    const text = await there.text();
    const told = Object.hasOwn(answers, path) ? answers[path]!(text) : text;
    response.writeHead(told === undefined ? 404 : there.status, { 'content-type': 'application/json' });
    response.end(told ?? '{"detail":"Not Found"}');
  }
  const server: Server = createServer((request, response) => {
    pass(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('models', () => {
  it('are its checkpoints, by their names and titles, and its networks that enlarge', async () => {
    const { models } = await open();
    expect(await models()).toEqual([
      {
        id: SDXL,
        capabilities: ['image.generate', 'image.edit', 'image.vary'],
        state: 'loaded',
        mask: true,
        rank: 1,
        aliases: [`${SDXL}.safetensors [31e35c80fc]`, `${SDXL}.safetensors`],
        usual: {
          'image.generate': { width: 1024, height: 1024, steps: 20, batch: 1 },
          'image.edit': { steps: 20, batch: 1 },
          'image.vary': { steps: 20, batch: 1 },
        },
      },
      expect.objectContaining({ id: SD15, state: 'ready', rank: 0 }),
      { id: 'R-ESRGAN 4x+', capabilities: ['image.upscale'], state: 'ready' },
    ]);
  });

  it('are asked for with the password', async () => {
    const { models, runtime, fake } = await open({ auth: 'me:secret' }, { apiKey: 'me:secret' });
    expect(await models()).toHaveLength(3);
    await runtime.health(AbortSignal.timeout(2000));
    const wrong = toRuntime(fake.url, { apiKey: 'me:wrong' });
    await expect(wrong.health(AbortSignal.timeout(2000))).rejects.toMatchObject({ code: 'provider_auth' });
  });

  it('cannot be had of a server that is down, or is another one', async () => {
    const gone = toRuntime('http://127.0.0.1:9');
    const hint = expect.stringContaining('--api');
    await expect(gone.health(AbortSignal.timeout(2000))).rejects.toMatchObject({ code: 'upstream_unavailable', hint });
    const { fake } = await open();
    const other = toRuntime(await openRelative(fake, { '/sdapi/v1/sd-models': () => '{"models":[]}' }));
    await expect(other.models(AbortSignal.timeout(2000))).rejects.toMatchObject({ code: 'upstream_invalid', hint });
  });
});

describe('image.generate', () => {
  it('asks for what was asked, and tells how far it is', async () => {
    const { run, fake } = await open({ stepMs: 15 });
    const input = {
      prompt: 'a (red:1.2) fox <lora:detail:0.5>',
      negative_prompt: 'blurry',
      size: '256x128',
      steps: 12,
      guidance_scale: 5,
      seed: 7,
      sampler: 'dpm++ 2m',
      scheduler: 'Karras',
      loras: [{ name: 'detail.safetensors', strength: -0.5 }],
    };
    const { events, pictures, seed, warnings } = await run('image.generate', input, SD15);
    expect(fake.calls()).toHaveLength(1);
    expect(fake.calls()[0]).toMatchObject({
      path: 'txt2img',
      body: {
        prompt: 'a (red:1.2) fox <lora:detail:0.5> <lora:detail:-0.5>',
        negative_prompt: 'blurry',
        width: 256,
        height: 128,
        steps: 12,
        cfg_scale: 5,
        seed: 7,
        sampler_name: 'DPM++ 2M',
        scheduler: 'karras',
        override_settings: { sd_model_checkpoint: `${SD15}.safetensors [6ce0161689]` },
        save_images: false,
      },
    });
    expect(fake.loaded()).toContain(SD15);
    expect(seed).toBe(7);
    expect(warnings).toEqual([]);
    expect(await probe(pictures[0]!)).toMatchObject({ type: 'image/png', width: 256, height: 128 });
    const progress = events.filter((event) => event.type === 'progress');
    expect(progress.length).toBeGreaterThan(1);
    for (const { done, total, unit } of progress) {
      expect({ total, unit }).toEqual({ total: 12, unit: 'steps' });
      expect(done).toBeLessThanOrEqual(12);
    }
    const preview = events.find((event) => event.type === 'preview');
    expect(preview).toMatchObject({ media_type: 'image/png' });
    expect(await probe(preview!.bytes)).toMatchObject({ width: 64, height: 64 });
  });

  it('makes several, each with the seed after the last, and tells the first', async () => {
    const { run, fake } = await open();
    const { pictures, seed } = await run('image.generate', { prompt: 'a fox', n: 3, steps: 2, size: '64x64' });
    const seeds = fake.calls().map(({ body }) => body['seed']);
    expect(seeds).toEqual([-1, seed! + 1, seed! + 2]);
    expect(new Set(pictures.map((one) => Buffer.from(one).toString('base64'))).size).toBe(3);
    const again = await run('image.generate', { prompt: 'a fox', n: 3, steps: 2, size: '64x64', seed });
    const pixels = (one: Uint8Array) => sharp(one).raw().toBuffer();
    for (const [index, one] of pictures.entries())
      expect(await pixels(again.pictures[index]!)).toEqual(await pixels(one));
  });

  it('takes the size that its model was made for, and says which one it takes instead of another', async () => {
    const { run, fake } = await open();
    await run('image.generate', { prompt: 'a', steps: 1 }, SD15);
    const { warnings } = await run('image.generate', { prompt: 'a', steps: 1, size: '101x50' });
    expect(warnings).toEqual(['The size is 104x64: sides come in steps of 8 pixels, from 64.']);
    expect(fake.calls().map(({ body }) => [body['width'], body['height']])).toEqual([
      [512, 512],
      [104, 64],
    ]);
  });

  it('waits for its turn', async () => {
    const { start, run, fake } = await open();
    fake.hold();
    const first = run('image.generate', { prompt: 'one', steps: 2, size: '64x64' });
    await fake.held();
    const second = start('image.generate', { prompt: 'two', steps: 2, size: '64x64' });
    expect((await second.next()).value).toEqual({ type: 'status', state: 'queued', position: 1 });
    expect(fake.calls()).toHaveLength(1);
    const third = new AbortController();
    const leaving = run('image.generate', { prompt: 'three', steps: 2 }, SDXL, third.signal);
    third.abort();
    await expect(leaving).rejects.toMatchObject({ code: 'client_closed' });
    fake.release();
    await first;
    await Array.fromAsync(second);
    expect(fake.calls().map(({ body }) => body['prompt'])).toEqual(['one', 'two']);
    await run('image.generate', { prompt: 'four', steps: 2, size: '64x64' });
  });
});

describe('image.edit', () => {
  it('repaints what the mask marks and nothing else', async () => {
    const { run, fake } = await open();
    const input = { image: ['blue', 'large'], mask: 'left', prompt: 'a fox', strength: 1, steps: 2, seed: 3 };
    const { pictures, warnings } = await run('image.edit', input);
    const { body } = fake.calls()[0]!;
    expect(body).toMatchObject({ width: 128, height: 96, denoising_strength: 1, inpainting_mask_invert: 0 });
    const mask = Buffer.from(body['mask'] as string, 'base64');
    expect(await sharp(mask).metadata()).toMatchObject({ channels: 1, width: 128, height: 96 });
    const raw = await sharp(pictures[0]!).raw().toBuffer();
    const at = (x: number, y: number) => [...raw.subarray((y * 128 + x) * 3, (y * 128 + x) * 3 + 3)];
    expect(at(120, 48)).toEqual([0, 0, 250]);
    expect(at(5, 48)).not.toEqual([0, 0, 250]);
    expect(warnings).toEqual(['a1111 changes one picture: only the first was looked at.']);
  });

  it('makes a picture smaller that is too large to be seen at once', async () => {
    const { run, fake } = await open();
    const { warnings } = await run('image.edit', { image: ['large'], prompt: 'a fox', steps: 1 });
    const { width, height, denoising_strength } = fake.calls()[0]!.body as Record<string, number>;
    expect(width! * height!).toBeLessThan(2_200_000);
    expect(width! / height!).toBeCloseTo(3, 1);
    expect(denoising_strength).toBe(0.75);
    expect(warnings[0]).toMatch(/^The picture was made smaller, to \d+x\d+\.$/);
  });

  it('refuses a picture that cannot be read, before anything runs', async () => {
    const { refusal, fake } = await open();
    expect(await refusal('image.edit', { image: ['broken'], prompt: 'a' })).toMatchObject({ code: 'invalid_request' });
    expect(fake.executions()).toBe(0);
  });

  it('varies without a prompt', async () => {
    const { run, fake } = await open();
    await run('image.vary', { image: 'blue', steps: 1 });
    expect(fake.calls()[0]!.body).toMatchObject({ prompt: '', denoising_strength: 0.5, width: 128, height: 96 });
  });
});

describe('image.upscale', () => {
  it('enlarges with the network that is asked', async () => {
    const { fake } = await open();
    const picture = Buffer.from(await makePicture({ width: 32, height: 32 })).toString('base64');
    let asked: Record<string, unknown> | undefined;
    const server = createServer(async (request, response) => {
      const text = await new Response(request as never).text();
      if (!request.url!.endsWith('extra-single-image')) {
        return void response.end(await (await fetch(fake.url + request.url)).text());
      }
      asked = JSON.parse(text) as Record<string, unknown>;
      response.end(JSON.stringify({ html_info: '', image: `data:image/png;base64,${picture}` }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closing.push(async () => void server.close());
    const { run } = asking(toRuntime(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
    const { pictures } = await run('image.upscale', { image: 'blue', scale: 2 }, 'R-ESRGAN 4x+');
    expect(asked).toMatchObject({ upscaler_1: 'R-ESRGAN 4x+', upscaling_resize: 2 });
    expect(await probe(pictures[0]!)).toMatchObject({ width: 32 });
    await run('image.upscale', { image: 'blue' }, 'R-ESRGAN 4x+');
    expect(asked).toMatchObject({ upscaling_resize: 4 });
  });
});

describe('a call that is cancelled', () => {
  const input = { prompt: 'a fox', steps: 400, size: '64x64' };

  it('is interrupted at once, and its error comes when the server has stopped', async () => {
    const { start, run, fake } = await open({ stepMs: 5 });
    const abort = new AbortController();
    const asked = performance.now();
    let aborted = 0;
    await expect(async () => {
      for await (const event of start('image.generate', input, SDXL, abort.signal)) {
        if (event.type !== 'progress' || abort.signal.aborted) continue;
        abort.abort();
        aborted = performance.now();
      }
    }).rejects.toMatchObject({ code: 'client_closed' });
    expect(fake.interrupts()).toBeGreaterThan(0);
    expect(performance.now() - aborted).toBeLessThan(10_000);
    expect(aborted).toBeGreaterThan(asked);
    // The card is free: the next one is not kept waiting by what is left of the last.
    await run('image.generate', { ...input, steps: 1 });
    expect(fake.executions()).toBe(2);
  });

  it('is interrupted where nobody reads on', async () => {
    const { start, fake } = await open({ stepMs: 5 });
    const events = start('image.generate', input);
    while ((await events.next()).value?.type !== 'progress');
    await events.return(undefined as never);
    await eventually('it is interrupted', () => fake.interrupts() > 0);
  });

  it('does not begin where it was cancelled before', async () => {
    const { refusal, fake } = await open();
    expect((await refusal('image.generate', input, SDXL, AbortSignal.abort())).code).toBe('client_closed');
    expect(fake.executions()).toBe(0);
  });

  it('interrupts no picture of somebody else, and its own when its turn comes', async () => {
    const { fake } = await open({ stepMs: 5 });
    let turn = 'somebody-else';
    let ours = '';
    const relative = await openRelative(fake, {
      '/sdapi/v1/progress': (body) => JSON.stringify({ ...JSON.parse(body), current_task: turn }),
    });
    const { start } = asking(toRuntime(relative));
    const abort = new AbortController();
    const run = (async () => {
      for await (const event of start('image.generate', input, SDXL, abort.signal))
        expect(event.type).not.toBe('progress');
    })();
    await eventually('it was asked', () => fake.calls().length === 1);
    ours = fake.calls()[0]!.body['force_task_id'] as string;
    abort.abort();
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(fake.interrupts()).toBe(0);
    turn = ours;
    await expect(run).rejects.toMatchObject({ code: 'client_closed' });
    expect(fake.interrupts()).toBeGreaterThan(0);
  });

  it('is cut off at a relative that knows neither progress nor interrupt', async () => {
    const { fake } = await open({ stepMs: 2 });
    const none = () => undefined;
    const relative = await openRelative(fake, {
      '/sdapi/v1/progress': none,
      '/sdapi/v1/interrupt': none,
      '/sdapi/v1/schedulers': none,
      '/sdapi/v1/options': none,
      '/sdapi/v1/memory': none,
      '/sdapi/v1/unload-checkpoint': none,
    });
    const runtime = toRuntime(relative);
    const { run, start } = asking(runtime);
    const { pictures, warnings } = await run('image.generate', { ...input, steps: 2, scheduler: 'karras' });
    expect(pictures).toHaveLength(1);
    expect(warnings).toEqual(['This version of a1111 has no schedulers to choose from.']);
    const abort = new AbortController();
    const asked = Array.fromAsync(start('image.generate', { ...input, steps: 100 }, SDXL, abort.signal));
    await eventually('it was asked', () => fake.calls().length === 2);
    abort.abort();
    await expect(asked).rejects.toMatchObject({ code: 'client_closed' });
    await expect(runtime.gpu!.evict(SDXL, AbortSignal.timeout(2000))).rejects.toMatchObject({
      code: 'insufficient_vram',
    });
  });
});

describe('what goes wrong', () => {
  it.each([
    ['a sampler that is none', { sampler: 'eulr' }, 'invalid_request', /sampler.*eulr/, /Euler/],
    ['a scheduler that is none', { scheduler: 'k' }, 'invalid_request', /scheduler.*k/, /karras/],
    ['a LoRA that is not there', { loras: ['no-such'] }, 'model_not_found', /loras.*no-such/, /detail/],
  ] as const)('is told of %s, with what there is', async (_, more, code, message, hint) => {
    const { refusal, fake } = await open();
    const error = await refusal('image.generate', { prompt: 'a', ...more });
    expect(error).toMatchObject({ code, source: 'a1111' });
    expect(error.message).toMatch(message);
    expect(error.hint).toMatch(hint);
    expect(fake.executions()).toBe(0);
  });

  it('finds samplers by the names that others give them', async () => {
    const { run, fake } = await open();
    for (const sampler of ['euler', 'k_euler', 'EULER A'])
      await run('image.generate', { prompt: 'a', steps: 1, size: '64x64', sampler });
    expect(fake.calls().map(({ body }) => body['sampler_name'])).toEqual(['Euler', 'Euler', 'Euler a']);
  });

  it('tells a lack of memory from other failures', async () => {
    const { refusal, run, fake } = await open();
    fake.failNext('oom');
    const input = { prompt: 'a', steps: 1, size: '64x64' };
    expect(await refusal('image.generate', input)).toMatchObject({ code: 'insufficient_vram', retry: false });
    fake.failNext('error');
    const error = await refusal('image.generate', input);
    expect(error).toMatchObject({ code: 'upstream_error', retry: false });
    expect(error.message).toMatch(/cannot be multiplied/);
    expect((await run('image.generate', input)).pictures).toHaveLength(1);
  });

  it.each([
    ['no picture', '{"images":[],"info":"{}"}', 'upstream_invalid'],
    ['no JSON', '<html>', 'upstream_invalid'],
    ['null', 'null', 'upstream_invalid'],
    ['what is no base64', '{"images":["%%%"]}', 'upstream_invalid'],
  ])('is told of an answer with %s', async (_, body, code) => {
    const { fake } = await open();
    const { refusal } = asking(toRuntime(await openRelative(fake, { '/sdapi/v1/txt2img': () => body })));
    expect(await refusal('image.generate', { prompt: 'a', steps: 1, size: '64x64' })).toMatchObject({ code });
  });

  it('is told of a server that dies while it works', async () => {
    const { start, fake } = await open();
    fake.hold();
    // Heard from the beginning: it may fail while the server is still closing.
    const failed = Array.fromAsync(start('image.generate', { prompt: 'a', steps: 5, size: '64x64' })).then(
      () => undefined,
      (thrown: GatewayError) => thrown,
    );
    await fake.held();
    await fake.close();
    const error = await failed;
    expect(error).toMatchObject({ source: 'a1111' });
    expect(['upstream_terminated', 'upstream_unavailable', 'upstream_invalid']).toContain(error!.code);
  });
});

describe('its memory', () => {
  it('is told, and is free when its model was made to leave', async () => {
    const { runtime, fake, run, models } = await open();
    const allocated = () => (fake.loaded() ? 6_900_000_000 : 9_000_000);
    const relative = await openRelative(fake, {
      '/sdapi/v1/memory': () => JSON.stringify({ cuda: { reserved: { current: allocated(), peak: 7e9 } } }),
    });
    const there = toRuntime(relative);
    const signal = AbortSignal.timeout(5000);
    const [model] = await there.models(signal);
    expect(there.gpu!.footprint(model!)).toBeGreaterThan(5e9);
    expect(await there.gpu!.residents(signal)).toEqual([{ model: SDXL, vram: 6_900_000_000 }]);
    expect(there.gpu!.footprint(model!)).toBe(6_900_000_000);
    await there.gpu!.evict(SDXL, signal);
    expect(fake.loaded()).toBeUndefined();
    expect(await there.gpu!.residents(signal)).toEqual([]);
    // A version that does not say what it holds is known by what it was asked for.
    await models();
    await run('image.generate', { prompt: 'a', steps: 1, size: '64x64' }, SD15);
    expect(await runtime.gpu!.residents(signal)).toMatchObject([{ model: SD15 }]);
    await runtime.gpu!.evict(SD15, signal);
    expect(await runtime.gpu!.residents(signal)).toEqual([]);
  });

  it('is told at its peak where that was of one model alone, and as busy while it paints', async () => {
    const { fake } = await open();
    let peak = 7e9;
    const relative = await openRelative(fake, {
      '/sdapi/v1/memory': () => JSON.stringify({ cuda: { reserved: { current: 6_900_000_000, peak } } }),
    });
    const there = toRuntime(relative);
    const { models, start, run } = asking(there);
    const look = () => there.gpu!.residents(AbortSignal.timeout(5000));
    await models();
    expect(await look()).toEqual([{ model: SDXL, vram: 6_900_000_000 }]);
    const painting = start('image.generate', { prompt: 'a', steps: 4, size: '64x64' });
    await painting.next();
    expect(await look()).toEqual([{ model: SDXL, vram: 6_900_000_000, busy: true }]);
    peak = 9e9;
    for await (const _ of painting) continue;
    expect(await look()).toEqual([{ model: SDXL, vram: 6_900_000_000, peak: 9e9 }]);
    // Of two that ran since, nobody knows whose it was.
    for (const model of [SDXL, SD15, SDXL])
      await run('image.generate', { prompt: 'a', steps: 1, size: '64x64' }, model);
    peak = 11e9;
    expect(await look()).toMatchObject([{ model: SDXL, peak: 9e9 }]);
  });

  it('that does not become free is said so', async () => {
    const { fake } = await open();
    const relative = await openRelative(fake, {
      '/sdapi/v1/memory': () => '{"cuda":{"reserved":{"current":6900000000}}}',
    });
    const stuck = toRuntime(relative, { evictMs: 300 });
    await expect(stuck.gpu!.evict(SDXL, AbortSignal.timeout(5000))).rejects.toMatchObject({
      code: 'insufficient_vram',
      source: 'a1111',
    });
  });
});
