// The ComfyUI runtime over a faithful server: what it sends, what it tells while it works, and what comes out.
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { testRuntime } from '../conformance/runtime.ts';
import { openComfyUI, picture, start } from '../support/comfyui-runtime.ts';
import { eventually } from '../support/eventually.ts';
import { openFakeComfyUI } from '../support/fake-comfyui/index.ts';
import type { FakeComfyUI } from '../support/fake-comfyui/index.ts';

const open = async () => {
  const fake = await openFakeComfyUI();
  const runtime = openComfyUI(fake.url);
  const close = async () => {
    await runtime.close?.();
    await fake.close();
  };
  return { runtime, models: {}, close };
};
testRuntime('comfyui', open, []);

const SMALL = { width: 512, height: 512 };

describe('comfyui', () => {
  let fake: FakeComfyUI;
  let comfyui: RuntimeAdapter;
  beforeAll(async () => {
    fake = await openFakeComfyUI({ stepMs: 10 });
    comfyui = openComfyUI(fake.url);
  });
  afterAll(async () => {
    await comfyui.close?.();
    await fake.close();
  });
  afterEach(() => fake.release());
  const generate = (input: object = {}, model = 'sdxl') =>
    start(comfyui, 'image.generate', model, { prompt: 'a lighthouse', ...SMALL, steps: 10, ...input });

  it('makes a picture, and tells how far it is with first looks on the way', async () => {
    const before = fake.executions();
    const job = generate();
    const { files, seed } = await job.ended;
    expect(fake.executions()).toBe(before + 1);
    expect(await sharp(files[0]).metadata()).toMatchObject({ format: 'png', ...SMALL });
    expect(files).toHaveLength(1);
    expect(seed).toBeTypeOf('number');

    const progress = job.events.flatMap((event) => (event.type === 'progress' ? event : []));
    const done = progress.map((event) => event.done);
    expect(progress.length).toBeGreaterThan(5);
    expect(done).toEqual(done.toSorted((a, b) => a - b));
    expect(progress.at(-1)).toMatchObject({ done: progress[0]!.total, unit: 'steps' });

    const previews = job.events.flatMap((event) => (event.type === 'preview' ? event : []));
    expect(previews.length).toBeGreaterThan(0);
    expect(previews.length).toBeLessThan(5);
    expect(await sharp(previews[0]!.bytes).metadata()).toMatchObject({ format: 'jpeg' });
    expect(previews[0]!.media_type).toBe('image/jpeg');

    const states = job.events.flatMap((event) => (event.type === 'status' ? event.state : []));
    expect(states).toContain('loading');
    expect(states.at(-1)).toBe('running');
  });

  it('names its prompts, asks for previews and brings no origin', async () => {
    await generate().ended;
    const { prompt_id, client_id, extra_data } = fake.prompts().at(-1)!;
    expect(prompt_id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/);
    expect(fake.sockets()).toEqual([client_id]);
    expect(extra_data).toMatchObject({ preview_method: 'auto' });
  });

  it('makes new files of the same request, though the server remembers the picture', async () => {
    const [first, second] = [await generate({ seed: 7 }).ended, await generate({ seed: 7 }).ended];
    const [a, b] = fake
      .prompts()
      .slice(-2)
      .map(({ graph }) => JSON.stringify(graph));
    expect(a).not.toBe(b);
    expect(first.seed).toBe(7);
    expect(second.files).toHaveLength(1);
    const pixels = (bytes: Uint8Array) => sharp(bytes).raw().toBuffer();
    expect(await pixels(second.files[0]!)).toEqual(await pixels(first.files[0]!));
  });

  it('chooses another seed each time where none is asked for', async () => {
    const [first, second] = [await generate().ended, await generate().ended];
    expect(first.seed).not.toBe(second.seed);
  });

  it('gives as many pictures as are asked for', async () => {
    const { files } = await generate({ n: 3 }).ended;
    expect(files).toHaveLength(3);
    expect(new Set(files.map((file) => Buffer.from(file).toString('base64'))).size).toBe(3);
  });

  it('sends pictures and mask under names of its own, and the size they need', async () => {
    const files = [await picture('art_a', 320, 256), await picture('art_m', 640, 512, '#ffffff')];
    const input = { image: ['art_a'], mask: 'art_m', prompt: 'a door', strength: 0.8 };
    const job = start(comfyui, 'image.edit', 'sdxl', input, { files, requestId: '../job 1/é' });
    const { files: made } = await job.ended;
    expect((await sharp(made[0]).metadata()).format).toBe('png');
    const [image, mask] = fake.uploads().slice(-2);
    for (const sent of [image!, mask!]) {
      expect(sent).toMatchObject({ subfolder: 'hono-ai', type: 'input' });
      expect(sent.sentName).toMatch(/^[0-9a-f]{16}-[\w-]+\.png$/);
      expect(await sharp(sent.bytes).metadata()).toMatchObject({ format: 'png', width: 320, height: 256 });
    }
    const { channels } = await sharp(mask!.bytes).stats();
    expect(channels[0]!.min).toBe(255);
    const told = JSON.stringify(fake.prompts().at(-1)!.graph);
    expect(told).toContain(`hono-ai/${image!.name}`);
    expect(told).toContain(`hono-ai/${mask!.name}`);
  });

  it('makes a photograph as small as the workflow takes it on, its mask with it, and says so', async () => {
    const files = [await picture('art_a', 2400, 1600), await picture('art_m', 2400, 1600, '#ffffff')];
    const input = { image: ['art_a'], mask: 'art_m', prompt: 'a door' };
    const { warnings } = await start(comfyui, 'image.edit', 'sdxl', input, { files }).ended;
    expect(warnings.join()).toContain('1.6 megapixels: image was made 1544x1032');
    for (const sent of fake.uploads().slice(-2)) {
      expect(await sharp(sent.bytes).metadata()).toMatchObject({ width: 1544, height: 1032 });
    }
  });

  it('makes films', async () => {
    const job = start(comfyui, 'video.generate', 'animatediff', { prompt: 'waves', frames: 16, format: 'mp4' });
    const { files } = await job.ended;
    expect(files).toHaveLength(1);
    expect(Buffer.from(files[0]!.subarray(4, 8)).toString()).toBe('ftyp');
  });

  it('makes music', async () => {
    const job = start(comfyui, 'music.generate', 'ace-step', { prompt: 'waltz', seconds: 5 });
    const { files } = await job.ended;
    expect(files).toHaveLength(1);
    expect(Buffer.from(files[0]!.subarray(0, 3)).toString('latin1')).toMatch(/^(ID3|\u00ff[\u00f2-\u00ff].)/);
  });

  it('runs many jobs over one connection, each with its place in the queue and its own files', async () => {
    fake.hold('start');
    const jobs = [1, 2, 3, 4].map((seed) => generate({ seed, steps: 4 }));
    await eventually('three wait', () => fake.pending().length === 3);
    const places = () => jobs.map(({ events }) => events.findLast((event) => event.type === 'status')?.position ?? 0);
    await eventually('their places are known', () => places().toSorted().join() === '0,1,2,3');
    fake.release();
    const results = await Promise.all(jobs.map(({ ended }) => ended));
    expect(results.map(({ seed }) => seed)).toEqual([1, 2, 3, 4]);
    expect(new Set(results.map(({ files }) => Buffer.from(files[0]!).toString('base64'))).size).toBe(4);
    expect(new Set(fake.sockets()).size).toBe(1);
  });

  it('closes its connection when nobody needs it, and opens it again', async () => {
    const own = await openFakeComfyUI();
    const runtime = openComfyUI(own.url, { timings: { idleMs: 50 } });
    try {
      const ask = () => start(runtime, 'image.generate', 'sdxl', { prompt: 'x', ...SMALL, steps: 2 }).ended;
      await ask();
      await eventually('it is closed', () => own.sockets().length === 0);
      await ask();
      expect(own.executions()).toBe(2);
    } finally {
      await runtime.close?.();
      await eventually('it is closed', () => own.sockets().length === 0);
      await own.close();
    }
  });

  it('sends the key of a proxy with every request', async () => {
    const seen = new Set<string | undefined>();
    const keyed = openComfyUI(fake.url, {
      apiKey: 'secret',
      transport: (request) => {
        seen.add(request.headers['authorization']);
        return fetchTransport(request);
      },
    });
    await start(keyed, 'image.generate', 'sdxl', { prompt: 'x', ...SMALL, steps: 2 }).ended;
    await keyed.close?.();
    expect([...seen]).toEqual(['Bearer secret']);
  });

  it('gives large files as they come, as often as they are wanted', async () => {
    const limits = { firstByteMs: 10_000, idleMs: 5000, controlMs: 2000, maxReplyBytes: 20_000 };
    const small = openComfyUI(fake.url, { limits });
    const job = start(small, 'image.generate', 'sdxl', { prompt: 'x', ...SMALL, steps: 2 });
    const { made, files } = await job.ended;
    // The signal of a call does not outlive it.
    job.cancel();
    expect(files[0]!.byteLength).toBeGreaterThan(20_000);
    expect(made[0]!.bytes).not.toBeInstanceOf(Uint8Array);
    const again: Uint8Array[] = [];
    for await (const piece of made[0]!.bytes as AsyncIterable<Uint8Array>) again.push(piece);
    expect(Buffer.concat(again)).toEqual(Buffer.from(files[0]!));
    await small.close?.();
  });
});

describe('memory of comfyui', () => {
  let fake: FakeComfyUI;
  let comfyui: RuntimeAdapter;
  beforeAll(async () => {
    fake = await openFakeComfyUI();
    comfyui = openComfyUI(fake.url, { timings: { evictMs: 600 } });
  });
  afterAll(async () => {
    await comfyui.close?.();
    await fake.close();
  });
  const { signal } = new AbortController();
  const ask = () => start(comfyui, 'image.generate', 'sdxl', { prompt: 'x', ...SMALL, steps: 4 });

  it('is that of the model that ran last, and is given back when asked for', async () => {
    expect(await comfyui.gpu!.residents(signal)).toEqual([]);
    await ask().ended;
    const [resident] = await comfyui.gpu!.residents(signal);
    expect(resident).toEqual({ model: 'sdxl', vram: fake.loadedVram });
    expect(resident!.vram).toBeGreaterThan(1_000_000_000);
    const listed = await comfyui.models(signal);
    expect(listed.find(({ id }) => id === 'sdxl')?.state).toBe('loaded');
    await comfyui.gpu!.evict('sdxl', signal);
    expect(fake.frees()).toEqual([{ unload_models: true, free_memory: true }]);
    expect(fake.loadedVram).toBe(0);
    expect(await comfyui.gpu!.residents(signal)).toEqual([]);
    expect((await comfyui.models(signal)).find(({ id }) => id === 'sdxl')?.state).toBe('ready');
  });

  it('measures a model only where nothing else can be in it', async () => {
    const look = async (runtime: RuntimeAdapter) => (await runtime.gpu!.residents(signal))[0]!;
    const run = (model: string) => start(comfyui, 'image.generate', model, { prompt: 'x', ...SMALL, steps: 4 }).ended;
    await run('sdxl');
    expect(await look(comfyui)).toEqual({ model: 'sdxl', vram: fake.loadedVram });
    const other = (await comfyui.models(signal)).find(
      ({ id, state, capabilities }) => id !== 'sdxl' && state === 'ready' && capabilities.includes('image.generate'),
    )!;
    await run(other.id);
    expect(await look(comfyui)).toEqual({ model: other.id, vram: fake.loadedVram, shared: true });
    // Who comes later cannot know what is there already.
    const late = openComfyUI(fake.url, { timings: { evictMs: 600 } });
    expect(await look(late)).toMatchObject({ shared: true });
    await late.close?.();
    await comfyui.gpu!.evict(other.id, signal);
    await run(other.id);
    expect(await look(comfyui)).toEqual({ model: other.id, vram: fake.loadedVram });
    await comfyui.gpu!.evict(other.id, signal);
  });

  it('is seen at its peak while a model works, which is gone when it rests', async () => {
    const own = openComfyUI(fake.url, { timings: { peakMs: 20 } });
    const look = async () => (await own.gpu!.residents(signal))[0]!;
    await own.gpu!.evict('sdxl', signal);
    fake.hold('output');
    const job = start(own, 'image.generate', 'sdxl', { prompt: 'x', ...SMALL, steps: 4 });
    await fake.held();
    const rested = fake.loadedVram;
    fake.loadedVram = rested + 3e9;
    expect(await look()).toMatchObject({ model: 'sdxl', vram: rested + 3e9, busy: true });
    await new Promise((resolve) => setTimeout(resolve, 300));
    fake.loadedVram = rested;
    await new Promise((resolve) => setTimeout(resolve, 100));
    fake.release();
    await job.ended;
    expect(await look()).toEqual({ model: 'sdxl', vram: rested, peak: rested + 3e9 });
    await own.gpu!.evict('sdxl', signal);
    await start(own, 'image.generate', 'sdxl', { prompt: 'x', ...SMALL, steps: 4 }).ended;
    expect(await look()).toEqual({ model: 'sdxl', vram: rested });
    await own.gpu!.evict('sdxl', signal);
    await own.close?.();
  });

  it('that a running job needs is not waited for without end', async () => {
    fake.hold('output');
    const job = ask();
    await fake.held();
    await expect(comfyui.gpu!.evict('sdxl', signal)).rejects.toMatchObject({ code: 'insufficient_vram' });
    fake.release();
    await job.ended;
  });

  it('is estimated by the workflow', () => {
    const { footprint } = comfyui.gpu!;
    const model = { id: 'sdxl', capabilities: [], state: 'ready' } as const;
    expect(footprint({ ...model, capabilities: [] })).toBeGreaterThan(4 * 1024 ** 3);
  });
});
