// What the fake ComfyUI makes: every shipped graph runs, and its files have the size, length and contents that the graph asks for.
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFakeComfyUI } from '../support/fake-comfyui/index.ts';
import type { FakeComfyUI, FakeGraph } from '../support/fake-comfyui/index.ts';
import { makePattern, makePicture, probe } from '../support/media/index.ts';
import type { Probed } from '../support/media/index.ts';

const folder = join(import.meta.dirname, '../../adapters/runtimes/comfyui/workflows');
const graphs = Object.fromEntries(
  readdirSync(folder)
    .filter((name) => name.endsWith('.json') && !name.includes('binding'))
    .map((name) => [name.slice(0, -5), JSON.parse(readFileSync(join(folder, name), 'utf8')) as FakeGraph]),
);

let fake: FakeComfyUI;
let picture: Uint8Array;
beforeAll(async () => {
  fake = await openFakeComfyUI({ previews: 'none', stepMs: 0 });
  picture = await makePattern(256, 192);
  fake.addInputFile('gateway-input.png', picture);
  const hole = { left: 64, top: 64, width: 64, height: 32 };
  fake.addInputFile('gateway-mask.png', await makePicture({ width: 256, height: 192, alpha: 0, hole }));
  const white = { ...hole, colour: [255, 255, 255] as const };
  const grey = await makePicture({ width: 256, height: 192, colour: [0, 0, 0], hole: white });
  fake.addInputFile('grey-mask.png', new Uint8Array(await sharp(grey).toColourspace('b-w').png().toBuffer()));
});
afterAll(() => fake.close());

interface Made {
  key: string;
  filename: string;
  type: string;
  bytes: Uint8Array;
}
interface Entry {
  status: { status_str: string; messages: [string, Record<string, unknown>][] };
  outputs: Record<string, Record<string, { filename: string; subfolder: string; type: string }[]>>;
}

async function run(prompt: FakeGraph, on = fake): Promise<Entry> {
  const prompt_id = randomUUID();
  const answer = await fetch(`${on.url}/prompt`, { method: 'POST', body: JSON.stringify({ prompt, prompt_id }) });
  expect(await answer.clone().json()).toMatchObject({ prompt_id, node_errors: {} });
  const look = async () =>
    ((await (await fetch(`${on.url}/history/${prompt_id}`)).json()) as Record<string, Entry>)[prompt_id];
  await expect.poll(look).toBeDefined();
  return (await look())!;
}

async function make(prompt: FakeGraph): Promise<Made[]> {
  const entry = await run(prompt);
  expect(entry.status.status_str).toBe('success');
  const items = Object.values(entry.outputs).flatMap((output) =>
    Object.entries(output).flatMap(([key, list]) => (key === 'animated' ? [] : list.map((item) => ({ key, ...item })))),
  );
  return Promise.all(
    items.map(async ({ key, filename, subfolder, type }) => {
      const answer = await fetch(`${fake.url}/view?${new URLSearchParams({ filename, subfolder, type })}`);
      return {
        key,
        filename,
        type: answer.headers.get('content-type')!,
        bytes: new Uint8Array(await answer.arrayBuffer()),
      };
    }),
  );
}

/** The graph with some inputs changed: `{ 'latent.width': 64 }`. */
function change(name: string, inputs: Record<string, unknown>): FakeGraph {
  const graph = structuredClone(graphs[name]!);
  for (const [path, value] of Object.entries(inputs)) {
    const [node, input] = path.split(/\.(?=[^.]+$)/) as [string, string];
    graph[node]!.inputs[input] = value;
  }
  return graph;
}

const raw = async (bytes: Uint8Array) => new Uint8Array(await sharp(bytes).removeAlpha().raw().toBuffer());

describe('shipped graphs', () => {
  it.each(Object.keys(graphs))('%s runs', { timeout: 60_000 }, async (name) => {
    const quick: Record<string, unknown> = {};
    for (const [id, { inputs }] of Object.entries(graphs[name]!)) {
      for (const side of ['width', 'height']) if (side in inputs) quick[`${id}.${side}`] = 128;
      if ('megapixels' in inputs) quick[`${id}.megapixels`] = 0.05;
    }
    const made = await make(change(name, quick));
    expect(made.length).toBeGreaterThan(0);
    for (const { bytes } of made) expect((await probe(bytes)).type).toMatch(/^(image|video|audio)\//);
  });

  it.each<[name: string, inputs: Record<string, unknown>, key: string, expected: Probed]>([
    [
      'sdxl-txt2img',
      { 'latent.width': 96, 'latent.height': 64 },
      'images',
      { type: 'image/png', width: 96, height: 64 },
    ],
    [
      'animatediff-txt2video',
      { 'latent.width': 64, 'latent.height': 64 },
      'gifs',
      { type: 'video/mp4', width: 64, height: 64, frames: 16, fps: 8, duration_s: 2, codec: 'avc' },
    ],
    [
      'animatediff-txt2video',
      { 'latent.width': 64, 'latent.height': 64, 'video.format': 'image/gif' },
      'gifs',
      { type: 'image/gif', width: 64, height: 64, frames: 16 },
    ],
    [
      'animatediff-txt2video',
      { 'latent.width': 64, 'latent.height': 64, 'video.format': 'image/webp', 'latent.batch_size': 20 },
      'gifs',
      { type: 'image/webp', width: 64, height: 64, frames: 20 },
    ],
    [
      'animatediff-txt2video',
      { 'latent.width': 64, 'latent.height': 64, 'video.format': 'video/webm', 'video.pingpong': true },
      'gifs',
      { type: 'video/webm', width: 64, height: 64, frames: 30, fps: 8 },
    ],
    [
      'wan22-5b-video',
      { 'latent.width': 64, 'latent.height': 96, 'latent.length': 17 },
      'images',
      { type: 'video/mp4', width: 64, height: 96, frames: 17, fps: 24 },
    ],
    ['ace-step-music', { 'latent.seconds': 12 }, 'audio', { type: 'audio/mpeg', codec: 'mp3' }],
  ])('%s %o', async (name, inputs, key, expected) => {
    const [made] = await make(change(name, inputs));
    expect(made!.key).toBe(key);
    expect(await probe(made!.bytes)).toMatchObject(expected);
  });

  it('makes as many pictures as the batch says, each another one, and others for another seed or prompt', async () => {
    const base = { 'latent.width': 64, 'latent.height': 64, 'latent.batch_size': 3 };
    const sets = [{ 'sample.seed': 5 }, { 'sample.seed': 6 }, { 'sample.seed': 5, 'pos.text': 'a bear' }];
    const pictures: string[] = [];
    for (const set of sets) {
      const made = await make(change('sdxl-txt2img', { ...base, ...set }));
      expect(made).toHaveLength(3);
      for (const { bytes } of made) pictures.push(Buffer.from(await raw(bytes)).toString('base64'));
    }
    expect(new Set(pictures).size).toBe(9);
  });

  it('writes the graph into PNG and MP3, as the real one does', async () => {
    const [png] = await make(
      change('sdxl-txt2img', { 'latent.width': 64, 'latent.height': 64, 'pos.text': 'secret fox' }),
    );
    expect(Buffer.from(png!.bytes).includes('secret fox')).toBe(true);
    const [mp3] = await make(change('ace-step-music', { 'latent.seconds': 12, 'text.tags': 'secret song' }));
    expect(Buffer.from(mp3!.bytes).includes('secret song')).toBe(true);
    expect((await probe(mp3!.bytes)).duration_s).toBeCloseTo(12, 1);
  });

  it.each([
    ['alpha', 'gateway-mask.png'],
    ['red', 'grey-mask.png'],
  ])('keeps every pixel outside the grown mask (%s), and changes those inside', async (channel, image) => {
    const mask = { 'mask.channel': channel, 'mask.image': image };
    const [made] = await make(change('sdxl-inpaint', { ...mask, 'grow.expand': 8, 'grow.tapered_corners': true }));
    const [before, after] = [await raw(picture), await raw(made!.bytes)];
    let inside = 0;
    let outside = 0;
    for (let y = 0; y < 192; y++) {
      for (let x = 0; x < 256; x++) {
        const at = (y * 256 + x) * 3;
        const same = before[at] === after[at] && before[at + 1] === after[at + 1] && before[at + 2] === after[at + 2];
        const near = x >= 56 && x < 136 && y >= 56 && y < 104;
        if (!near && !same) outside++;
        if (!same && x >= 64 && x < 128 && y >= 64 && y < 96) inside++;
      }
    }
    expect(outside).toBe(0);
    expect(inside).toBeGreaterThan(0.9 * 64 * 32);
  });

  it('makes less of a picture the more it shall change', async () => {
    const distance = async (denoise: number) => {
      const [made] = await make(change('sdxl-img2img', { 'sample.denoise': denoise, 'fit.megapixels': 0.046875 }));
      const [before, after] = [await raw(picture), await raw(made!.bytes)];
      expect(after.length).toBe(before.length);
      return before.reduce((sum, value, at) => sum + Math.abs(value - after[at]!), 0) / before.length;
    };
    const [little, much] = [await distance(0.1), await distance(0.9)];
    expect(little).toBeLessThan(20);
    expect(much).toBeGreaterThan(little * 3);
  });

  it('fails like VHS where there is no ffmpeg, but for GIF and WebP', async () => {
    const bare = await openFakeComfyUI({ ffmpeg: false, previews: 'none', stepMs: 0 });
    const size = { 'latent.width': 64, 'latent.height': 64 };
    try {
      const failed = await run(change('animatediff-txt2video', size), bare);
      expect(failed.status.messages.at(-1)![1]).toMatchObject({
        node_id: 'video',
        exception_type: 'ProcessLookupError',
      });
      const gif = await run(change('animatediff-txt2video', { ...size, 'video.format': 'image/gif' }), bare);
      expect(gif.status.status_str).toBe('success');
    } finally {
      await bare.close();
    }
  });
});

describe('validation', () => {
  const errorsOf = async (prompt: FakeGraph, on = fake) => {
    const answer = await fetch(`${on.url}/prompt`, { method: 'POST', body: JSON.stringify({ prompt }) });
    expect(answer.status).toBe(400);
    const { node_errors } = (await answer.json()) as {
      node_errors: Record<string, { errors: { type: string; details: string }[] }>;
    };
    return Object.entries(node_errors).flatMap(([id, { errors }]) =>
      errors.map(({ type, details }) => [id, type, details]),
    );
  };

  it.each<[inputs: Record<string, unknown>, error: string[]]>([
    [{ 'latent.width': 8 }, ['latent', 'value_smaller_than_min', 'width']],
    [{ 'latent.width': 20_000 }, ['latent', 'value_bigger_than_max', 'width']],
    [
      { 'latent.width': 'wide' },
      ['latent', 'invalid_input_type', "width, wide, invalid literal for int() with base 10: 'wide'"],
    ],
    [
      { 'sample.sampler_name': 'best' },
      ['sample', 'value_not_in_list', expect.stringContaining("sampler_name: 'best' not in (list of length")],
    ],
    [
      { 'sample.model': ['ckpt', 1] },
      ['sample', 'return_type_mismatch', 'model, received_type(CLIP) mismatch input_type(MODEL)'],
    ],
    [{ 'sample.model': ['nobody', 0] }, ['sample', 'exception_during_inner_validation', "'nobody'"]],
    [{ 'save.images': ['nobody', 0] }, ['save', 'exception_during_validation', "'nobody'"]],
    [{ 'save.images': ['decode'] }, ['save', 'bad_linked_input', 'images']],
  ])('%o', async (inputs, error) => {
    expect(await errorsOf(change('sdxl-txt2img', inputs))).toEqual([error]);
  });

  it('misses pictures that nobody uploaded and models that nobody has', async () => {
    const absent = change('sdxl-img2img', { 'image.image': 'absent.png' });
    expect(await errorsOf(absent)).toEqual([
      ['image', 'custom_validation_failed', 'image - Invalid image file: absent.png'],
    ]);
    const bare = await openFakeComfyUI({ files: 'none' });
    try {
      const [[id, type]] = (await errorsOf(graphs['sdxl-txt2img']!, bare)) as [string[]];
      expect([id, type]).toEqual(['ckpt', 'value_not_in_list']);
      bare.addModelFile('checkpoints', 'sd_xl_base_1.0.safetensors');
      await run(change('sdxl-txt2img', { 'latent.width': 64, 'latent.height': 64 }), bare);
      bare.removeModelFile('sd_xl_base_1.0.safetensors');
      expect(await errorsOf(graphs['sdxl-txt2img']!, bare)).toHaveLength(1);
    } finally {
      await bare.close();
    }
  });
});

describe('files', () => {
  const upload = async (name: string, bytes: Uint8Array, more: Record<string, string> = {}) => {
    const form = new FormData();
    form.set('image', new File([bytes as BlobPart], name));
    for (const [field, value] of Object.entries(more)) form.set(field, value);
    return fetch(`${fake.url}/api/upload/image`, { method: 'POST', body: form });
  };

  it('are renamed rather than overwritten, and the same bytes keep their name', async () => {
    const [one, two] = [await makePicture({ width: 2, height: 2 }), await makePicture({ width: 3, height: 3 })];
    const name = async (answer: Promise<Response>) => ((await (await answer).json()) as { name: string }).name;
    expect(await name(upload('up.png', one, { subfolder: 'gateway' }))).toBe('up.png');
    expect(await name(upload('up.png', one, { subfolder: 'gateway' }))).toBe('up.png');
    expect(await name(upload('up.png', two, { subfolder: 'gateway' }))).toBe('up (1).png');
    expect(await name(upload('up.png', two, { subfolder: 'gateway', overwrite: 'true' }))).toBe('up.png');
    expect((await upload('up.png', one, { subfolder: '../..' })).status).toBe(400);
    expect(fake.uploads().at(-1)).toMatchObject({
      kind: 'image',
      sentName: 'up.png',
      subfolder: 'gateway',
      type: 'input',
    });
    const seen = await fetch(`${fake.url}/view?filename=up.png&subfolder=gateway&type=input`);
    expect(await probe(new Uint8Array(await seen.arrayBuffer()))).toMatchObject({ width: 3 });
  });

  it('are sent whole, in ranges, or not again', async () => {
    const url = `${fake.url}/view?filename=gateway-input.png&type=input`;
    const whole = await fetch(url);
    expect(whole.headers.get('accept-ranges')).toBe('bytes');
    expect(whole.headers.get('content-disposition')).toBe('filename="gateway-input.png"');
    const part = await fetch(url, { headers: { range: 'bytes=1-3' } });
    expect([part.status, await part.text(), part.headers.get('content-range')]).toEqual([
      206,
      'PNG',
      `bytes 1-3/${picture.length}`,
    ]);
    expect((await fetch(url, { headers: { range: `bytes=${picture.length}-` } })).status).toBe(416);
    expect((await fetch(url, { headers: { 'if-none-match': whole.headers.get('etag')! } })).status).toBe(304);
    expect((await fetch(`${fake.url}/view?filename=a.png&subfolder=..%2F..&type=output`)).status).toBe(403);
    expect((await fetch(`${fake.url}/view?filename=a.png&type=etc`)).status).toBe(400);
  });

  it('are kept from pages of other sites', async () => {
    const url = `${fake.url}/system_stats`;
    expect((await fetch(url, { headers: { 'sec-fetch-site': 'cross-site' } })).status).toBe(403);
    expect((await fetch(url, { headers: { origin: 'https://example.com' } })).status).toBe(403);
    expect((await fetch(url, { headers: { origin: fake.url } })).status).toBe(200);
  });
});
