// The fake AUTOMATIC1111: one call at a time, progress beside it, and pictures of the asked size.
import sharp from 'sharp';
import { afterEach, expect, it } from 'vitest';
import { openFakeA1111 } from '../support/fake-a1111.ts';
import type { FakeA1111, FakeA1111Options } from '../support/fake-a1111.ts';
import { makePattern, makePicture, probe } from '../support/media/index.ts';

const open: FakeA1111[] = [];
afterEach(async () => {
  for (const fake of open.splice(0)) await fake.close();
});

async function start(options?: FakeA1111Options): Promise<FakeA1111> {
  const fake = await openFakeA1111(options);
  open.push(fake);
  return fake;
}

const post = (fake: FakeA1111, path: string, body: object = {}) =>
  fetch(`${fake.url}/sdapi/v1/${path}`, { method: 'POST', body: JSON.stringify(body) });
const get = async (fake: FakeA1111, path: string) =>
  (await fetch(`${fake.url}/sdapi/v1/${path}`)).json() as Promise<never>;

async function make(fake: FakeA1111, path: string, body: object) {
  const answer = (await (await post(fake, path, body)).json()) as { images: string[]; info: string };
  const info = JSON.parse(answer.info) as { seed: number; all_seeds: number[]; sd_model_name: string };
  return { images: answer.images.map((image) => new Uint8Array(Buffer.from(image, 'base64'))), info };
}

const raw = async (bytes: Uint8Array) => new Uint8Array(await sharp(bytes).removeAlpha().raw().toBuffer());
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

it('makes pictures of the asked size, number, seed and checkpoint', async () => {
  const fake = await start();
  const body = { prompt: 'a fox', width: 96, height: 64, steps: 3, seed: 11, batch_size: 2, n_iter: 2 };
  const { images, info } = await make(fake, 'txt2img', {
    ...body,
    override_settings: { sd_model_checkpoint: 'v1-5-pruned-emaonly' },
  });
  expect(info).toMatchObject({ seed: 11, all_seeds: [11, 12, 13, 14], sd_model_name: 'v1-5-pruned-emaonly' });
  expect(await probe(images[0]!)).toMatchObject({ type: 'image/png', width: 96, height: 64 });
  expect(new Set(images.map(base64)).size).toBe(4);
  expect(Buffer.from(images[0]!).includes('a fox')).toBe(true);
  expect(fake.loaded()).toMatch(/^sd_xl_base/);
  expect(
    (await make(fake, 'txt2img', { prompt: '', steps: 1, width: 64, height: 64 })).info.seed,
  ).toBeGreaterThanOrEqual(0);
});

it('changes a given picture, with a mask only where it is white', async () => {
  const fake = await start();
  const picture = await makePattern(64, 64);
  const mask = await makePicture({
    width: 64,
    height: 64,
    colour: [0, 0, 0],
    hole: { left: 16, top: 16, width: 32, height: 32, colour: [255, 255, 255] },
  });
  const body = {
    prompt: 'x',
    steps: 1,
    width: 64,
    height: 64,
    init_images: [base64(picture)],
    mask: base64(mask),
    denoising_strength: 1,
  };
  for (const invert of [0, 1]) {
    const { images } = await make(fake, 'img2img', { ...body, inpainting_mask_invert: invert });
    const [before, after] = [await raw(picture), await raw(images[0]!)];
    const same = (x: number, y: number) => before[(y * 64 + x) * 3] === after[(y * 64 + x) * 3];
    expect([same(2, 2), same(60, 40)]).toEqual([invert === 0, invert === 0]);
    expect([same(20, 20), same(40, 30)]).toEqual([invert === 1, invert === 1]);
  }
  expect((await post(fake, 'img2img', { prompt: 'x' })).status).toBe(404);
});

it('tells of progress, 0 when idle, and stops when it is interrupted', async () => {
  const fake = await start();
  expect(await get(fake, 'progress?skip_current_image=true')).toMatchObject({
    progress: 0,
    current_image: null,
    state: { job_count: 0 },
  });
  fake.hold();
  const first = make(fake, 'txt2img', { prompt: 'x', steps: 4, width: 64, height: 64 });
  const second = make(fake, 'txt2img', { prompt: 'y', steps: 4, width: 64, height: 64 });
  await fake.held();
  expect(fake.executions()).toBe(1);
  const progress = await get(fake, 'progress');
  expect(progress).toMatchObject({ progress: 0.25, state: { sampling_step: 1, sampling_steps: 4 } });
  expect(
    await probe(new Uint8Array(Buffer.from((progress as { current_image: string }).current_image, 'base64'))),
  ).toMatchObject({ type: 'image/png' });
  await post(fake, 'interrupt');
  expect((await first).images).toHaveLength(1);
  fake.release();
  await second;
  expect([fake.executions(), fake.interrupts()]).toEqual([2, 1]);
});

it('refuses what it does not know, and fails like the real one', async () => {
  const fake = await start();
  const unknown = await post(fake, 'txt2img', { prompt: 'x', sampler_name: 'Best' });
  expect([unknown.status, await unknown.json()]).toEqual([404, { detail: 'Sampler not found' }]);
  expect((await post(fake, 'txt2img', { steps: 'many' })).status).toBe(422);
  fake.failNext('oom');
  const failed = await post(fake, 'txt2img', { prompt: 'x' });
  expect([failed.status, await failed.json()]).toEqual([
    500,
    { error: 'OutOfMemoryError', detail: '', body: '', errors: expect.stringContaining('out of memory') as string },
  ]);
  const closed = await start({ auth: 'me:secret' });
  expect((await post(closed, 'txt2img')).status).toBe(401);
  const headers = { authorization: `Basic ${base64(Buffer.from('me:secret'))}` };
  expect((await fetch(`${closed.url}/sdapi/v1/sd-models`, { headers })).status).toBe(200);
});

it('lists what it has, and lets go of its checkpoint', async () => {
  const fake = await start();
  for (const path of ['sd-models', 'samplers', 'schedulers', 'loras']) expect(await get(fake, path)).not.toEqual([]);
  const used = async () => ((await get(fake, 'memory')) as { cuda: { system: { used: number } } }).cuda.system.used;
  const before = await used();
  await post(fake, 'unload-checkpoint');
  expect(fake.loaded()).toBeUndefined();
  expect(await used()).toBeLessThan(before);
  await post(fake, 'options', { sd_model_checkpoint: 'v1-5-pruned-emaonly.safetensors' });
  expect(await get(fake, 'options')).toMatchObject({ sd_model_checkpoint: expect.stringContaining('v1-5') as string });
});
