// Pictures by the embedded runtime: the real network paints, and what it painted is opened and measured.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { loadEngine } from '../../adapters/runtimes/embedded/engine.ts';
import { loadFlow } from '../../adapters/runtimes/embedded/flow.ts';
import { createEmbedded, type EmbeddedOptions } from '../../adapters/runtimes/embedded/index.ts';
import { createNoise } from '../../adapters/runtimes/embedded/noise.ts';
import { understand, vocabulary } from '../../adapters/runtimes/embedded/words.ts';
import type { Input } from '../../src/capabilities/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { RunEvent } from '../../src/event.ts';
import type { Model, RuntimeAdapter } from '../../src/runtime.ts';
import '../support/warm-onnx.ts';
import { noFiles } from '../support/no-files.ts';

type Asked = Partial<Input<'image.generate'>>;
type Painted = RunEvent<never, { seed?: number | undefined }>;

const modelsDir = fileURLToPath(new URL('../../models', import.meta.url));
const tools = openMediaTools({ maxPixels: 4e6 });
const open = (options: Partial<EmbeddedOptions> = {}) =>
  createEmbedded({ tools, cacheDir: 'no-cache', download: false, idleMs: 60_000, queue: 4, ...options });
const runtime = open();
afterAll(() => runtime.close!());

describe('tiny-t2i', { timeout: 60_000 }, () => {
  it('is listed as the tiny model that it is, and text models as blind', async () => {
    const models = await runtime.models(AbortSignal.timeout(10_000));
    const painter = models.find(({ id }) => id === 'tiny-t2i')!;
    expect(painter).toMatchObject({ capabilities: ['image.generate'], tiny: true, state: 'ready', size: 4_440_967 });
    expect(painter.contextWindow).toBeUndefined();
    expect(models.filter(({ vision }) => vision !== false)).toEqual([]);
  });

  it('paints the same picture for the same seed, and another for another', async () => {
    const [first, again, other] = [await paint({ seed: 5 }), await paint({ seed: 5 }), await paint({ seed: 6 })];
    expect(first.result.seed).toBe(5);
    expect(again.files).toEqual(first.files);
    expect(other.files).not.toEqual(first.files);
    const free = await paint({});
    expect((await paint({ seed: free.result.seed })).files).toEqual(free.files);
  });

  it('paints night darker than day, and red redder than blue', async () => {
    const means = async (prompt: string) => {
      const { channels } = await sharp((await paint({ prompt, seed: 3, steps: 12 })).files[0]!.bytes).stats();
      return channels.map(({ mean }) => mean) as [number, number, number];
    };
    const light = ([r, g, b]: [number, number, number]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
    const [day, night] = [await means('a green tree by day'), await means('a green tree at night')];
    expect(light(night)).toBeLessThan(light(day) / 2);
    const [red, blue] = [await means('crimson balloons, snow'), await means('a blue balloon in the snow')];
    expect(red[0] - red[2]).toBeGreaterThan(blue[0] - blue[2] + 20);
  });

  it('says what of the prompt it painted, and what it cannot do', async () => {
    const { warnings } = await paint({
      prompt: 'Two crimson houses and a blue dragon in winter',
      negative_prompt: 'cats',
      sampler: 'dpmpp_2m',
      scheduler: 'karras',
      loras: ['style.safetensors'],
    });
    expect(warnings[0]).toMatch(/toy.*10 colours, 12 objects and 7 scenes.*took red, house, snow\./);
    expect(warnings[1]).toMatch(/one colour.*: blue left out/);
    expect(warnings[2]).toMatch(/does not know two, dragon: ignored.*robot/);
    expect(warnings[3]).toMatch(/negative_prompt, sampler, scheduler, loras ignored/);
    const plain = await paint({ prompt: 'red house, night', sampler: 'euler' });
    expect(plain.warnings).toHaveLength(1);
    const nothing = await paint({ prompt: 'ein Schloß'.repeat(3000) });
    expect(nothing.warnings.join(' ')).toContain('took nothing');
    expect(nothing.warnings.join(' ').length).toBeLessThan(1500);
  });

  it('tells every step and shows how the picture comes about', async () => {
    const { events, files } = await paint({ steps: 10, n: 2, seed: 1 });
    const progress = events.filter((event) => event.type === 'progress');
    expect(progress.map(({ done }) => done)).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
    expect(progress[0]).toMatchObject({ total: 20, unit: 'steps' });
    const previews = events.filter((event) => event.type === 'preview');
    expect(previews).toHaveLength(4);
    for (const { media_type, bytes } of previews) {
      expect(media_type).toBe('image/png');
      expect(await sharp(bytes).metadata()).toMatchObject({ format: 'png', width: 256, height: 256 });
    }
    expect(files.map(({ name }) => name)).toEqual(['tiny-t2i-1.png', 'tiny-t2i-2.png']);
    expect(files[0]!.bytes).not.toEqual(files[1]!.bytes);
    // The second of two is the first of the next seed.
    expect((await paint({ steps: 10, seed: 2 })).files[0]!.bytes).toEqual(files[1]!.bytes);
  });

  it('makes squares of 64 to 1024 pixels, and says so where another size was asked for', async () => {
    const sizeOf = async (asked: Asked) => {
      const { files, warnings } = await paint({ steps: 1, ...asked });
      const { width, height } = await sharp(files[0]!.bytes).metadata();
      return { size: `${width}x${height}`, told: warnings.find((warning) => warning.includes('instead of')) };
    };
    expect(await sizeOf({})).toEqual({ size: '256x256' });
    expect(await sizeOf({ size: 'auto' })).toEqual({ size: '256x256' });
    expect(await sizeOf({ size: '64x64' })).toEqual({ size: '64x64' });
    expect(await sizeOf({ width: 1024, height: 1024 })).toEqual({ size: '1024x1024' });
    expect(await sizeOf({ size: '1536x1024' })).toMatchObject({ size: '1024x1024', told: /instead of 1536x1024/ });
    expect(await sizeOf({ size: '200x100' })).toMatchObject({ size: '128x128', told: /128x128 instead of 200x100/ });
    expect(await sizeOf({ size: '1x1' })).toMatchObject({ size: '64x64', told: /instead of 1x1/ });
    expect(await failure(paint({ width: 64 }))).toMatchObject({ code: 'invalid_request', param: 'height' });
  });

  it('paints the prompt only as far as guidance asks for it', async () => {
    const at = async (guidance_scale: number, prompt: string) =>
      (await paint({ seed: 4, steps: 4, guidance_scale, prompt })).files[0]!.bytes;
    expect(await at(0, 'red house, night')).toEqual(await at(0, 'blue boat, sea'));
    expect(await at(1, 'red house, night')).not.toEqual(await at(1, 'blue boat, sea'));
    expect(await at(1, 'red house, night')).not.toEqual(await at(4, 'red house, night'));
  });
});

describe('the picture worker', { timeout: 60_000 }, () => {
  it('stops when the caller leaves, and paints for the next one', async () => {
    const abort = new AbortController();
    let steps = 0;
    const run = paint({ steps: 500 }, runtime, abort.signal, (event) => {
      if (event.type === 'progress' && ++steps === 3) abort.abort();
    });
    expect((await failure(run)).code).toBe('client_closed');
    expect(steps).toBe(3);
    expect((await paint({ steps: 1 })).files).toHaveLength(1);
  });

  it('looks before each step whether it was told to stop', async () => {
    const engine = await loadEngine({ engine: 'wasm', threads: 1 });
    const model = {
      format: 'flow',
      id: 'tiny-t2i',
      path: join(modelsDir, 'tiny-t2i', 'model_q8.onnx'),
      small: true,
    } as const;
    const flow = await loadFlow(engine, model);
    let steps = 0;
    const pictures = await flow.paint(
      { kind: 'paint', model, words: [0, 0, 0], seeds: [1, 2], steps: 50, guidance: 1, previewEvery: 4 },
      { cancelled: () => steps >= 2, step: () => steps++, look: () => {} },
    );
    expect(steps).toBe(2);
    expect(pictures).toEqual([]);
    await flow.dispose();
  });

  it('works beside the text worker, holds the model while it is used and lets go of it when idle', async () => {
    const brief = open({ idleMs: 50 });
    const state = async () =>
      (await brief.models(new AbortController().signal)).find(({ id }) => id === 'tiny-t2i')!.state;
    let seen = '';
    await paint({ steps: 3 }, brief, undefined, async (event) => {
      if (event.type === 'progress') seen = await state();
    });
    expect(seen).toBe('loaded');
    await vi.waitFor(async () => expect(await state()).toBe('ready'), 20_000);
    await brief.close!();
  });

  it('refuses damaged files, and models that do not paint', async () => {
    const scratch = await mkdtemp(join(tmpdir(), 'embedded-image-'));
    for (const part of ['SHA256SUMS', 'tiny-t2i'])
      await cp(join(modelsDir, part), join(scratch, part), { recursive: true });
    const words = join(scratch, 'tiny-t2i', 'words.json');
    await writeFile(words, (await readFile(words, 'utf8')).replace('"red"', '"rad"'));
    const damaged = open({ modelsDir: scratch });
    expect(await failure(paint({}, damaged))).toMatchObject({
      code: 'model_unavailable',
      message: expect.stringContaining('tiny-t2i/words.json'),
    });
    await damaged.close!();
    await rm(scratch, { recursive: true });
    const model = { id: 'tiny-story' } as Model;
    expect(await failure(paint({}, runtime, undefined, undefined, model))).toMatchObject({ code: 'not_supported' });
    const call = {
      model: { id: 'tiny-t2i' } as Model,
      signal: new AbortController().signal,
      requestId: 'r',
      file: noFiles,
    };
    const chat = runtime.handles['text.chat']!({ messages: [{ role: 'user', content: 'x' }], stream: false }, call);
    expect(
      await failure(
        (async () => {
          for await (const _ of chat);
        })(),
      ),
    ).toMatchObject({ code: 'not_supported' });
  });
});

describe('its words', () => {
  it('are those that the network was trained on', async () => {
    const { words, size } = JSON.parse(await readFile(join(modelsDir, 'tiny-t2i', 'words.json'), 'utf8')) as {
      words: string[];
      size: number;
    };
    expect(Object.values(vocabulary).flat().toSorted()).toEqual(words.filter((word) => word !== '<pad>'));
    expect(size).toBe(64);
  });

  it('are found in plurals and synonyms, once of each kind', () => {
    const { used, surplus } = understand('Kitties on BOATS, oceans');
    expect({ used, surplus }).toEqual({ used: ['cat', 'sea'], surplus: ['boat'] });
    expect(understand('a red, red rose')).toEqual({ used: ['red', 'flower'], surplus: [], unknown: [] });
    expect(understand('constructor __proto__ toString').used).toEqual([]);
    expect(understand('кот 猫').unknown).toEqual(['кот', '猫']);
  });
});

it('noise is normal, and the same everywhere', () => {
  const next = createNoise(42);
  const values = Array.from({ length: 50_000 }, next);
  const moment = (power: number) => values.reduce((sum, value) => sum + value ** power, 0) / values.length;
  expect(moment(1)).toBeCloseTo(0, 1);
  expect(moment(2)).toBeCloseTo(1, 1);
  expect(Math.abs(moment(3))).toBeLessThan(0.1);
  expect(moment(4)).toBeGreaterThan(2.8);
  expect(moment(4)).toBeLessThan(3.2);
  const inside = values.filter((value) => Math.abs(value) < 1.96).length / values.length;
  expect(inside).toBeCloseTo(0.95, 2);
});

interface Answer {
  events: Painted[];
  warnings: string[];
  result: { seed?: number | undefined };
  files: { name: string | undefined; bytes: Uint8Array }[];
}

async function paint(
  asked: Asked,
  on: RuntimeAdapter = runtime,
  signal = new AbortController().signal,
  onEvent: (event: Painted) => unknown = () => {},
  model = { id: 'tiny-t2i' } as Model,
): Promise<Answer> {
  const input = { prompt: 'a red house at night', steps: 2, n: 1, stream: false, ...asked };
  const answer: Partial<Answer> & Pick<Answer, 'events' | 'warnings'> = { events: [], warnings: [] };
  for await (const event of on.handles['image.generate']!(input, {
    model,
    signal,
    requestId: 'req_1',
    file: noFiles,
  })) {
    answer.events.push(event);
    await onEvent(event);
    if (event.type === 'warning') answer.warnings.push(event.warning);
    if (event.type === 'result') {
      answer.result = event.result;
      answer.files = event.files!.map(({ name, bytes }) => ({ name, bytes: bytes as Uint8Array }));
    }
  }
  if (!answer.files) throw new Error('no result');
  return answer as Answer;
}

async function failure(run: Promise<unknown>): Promise<GatewayError> {
  const error = await run.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof GatewayError)) throw new Error('a GatewayError was expected', { cause: error });
  return error;
}
