// Models of an AUTOMATIC1111 server: got into its folders, loaded, and deleted.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDownloads } from '../../adapters/downloads/index.ts';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createA1111 } from '../../adapters/runtimes/a1111/index.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { pull, REPOS, signal } from '../support/comfyui-pulls.ts';
import { openFakeA1111, type FakeA1111 } from '../support/fake-a1111.ts';
import { openFakeHub, type FakeHub } from '../support/fake-hub.ts';

const limits = { firstByteMs: 2000, idleMs: 5000, controlMs: 2000, maxReplyBytes: 64_000_000 };
const tools = openMediaTools({ maxPixels: 1_000_000 });
const LIGHTNING = 'hf:ByteDance/SDXL-Lightning/sdxl_lightning_4step.safetensors';

let root: string;
let dir: string;
let fake: FakeA1111;
let hub: FakeHub;

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'hono-ai-a1111-'));
  dir = join(root, 'models');
  mkdirSync(join(dir, 'Stable-diffusion'), { recursive: true });
  writeFileSync(join(root, 'canary.safetensors'), 'alive');
  fake = await openFakeA1111({ modelsDir: dir });
  hub = await openFakeHub(REPOS);
});
afterEach(async () => {
  expect(readdirSync(root)).toEqual(['canary.safetensors', 'models']);
  await fake.close();
  await hub.close();
  rmSync(root, { recursive: true, force: true });
});

function open(modelsDir: string | undefined = dir): RuntimeAdapter {
  const downloads = createDownloads({ tokens: {}, trusted: hub.origins, allow: [], stallMs: 2000, tries: 2 });
  const options = { name: 'a1111', baseUrl: fake.url, transport: fetchTransport, limits, tools, downloads };
  return createA1111({ ...options, hubUrl: hub.url, ...(modelsDir === '' ? {} : { modelsDir }) });
}

const idsOf = async (runtime: RuntimeAdapter) => (await runtime.models(signal)).map(({ id }) => id);
const modelOf = async (runtime: RuntimeAdapter, wanted: string) =>
  (await runtime.models(signal)).find(({ id }) => id === wanted)!;

describe('pulling', () => {
  it('brings a checkpoint, which is listed then', async () => {
    const runtime = open();
    const want = { model: 'x', source: LIGHTNING };
    expect(runtime.puller!.claims(want)).toBe(40);
    const plan = await runtime.puller!.plan(want, signal);
    expect(plan).toMatchObject({
      model: 'sdxl_lightning_4step',
      files: [{ folder: 'Stable-diffusion', present: false }],
    });
    expect(plan.bytes).toBe(plan.facts.size);
    const { model } = await pull(runtime.puller!, want);
    expect(await idsOf(runtime)).toContain(model);
    const { freed } = await runtime.puller!.remove!(model, signal);
    expect(freed).toBe(plan.bytes);
    expect(await idsOf(runtime)).not.toContain(model);
  });

  it('puts LoRAs and enlargers where they belong, and says what needs a restart', async () => {
    const { puller } = open();
    expect((await pull(puller!, { model: 'x', source: 'hf:someone/one-lora' })).warnings).toEqual([]);
    const kind = 'upscaler';
    const { warnings } = await pull(puller!, { model: 'x', source: 'hf:someone/things/riddle.safetensors', kind });
    expect(warnings).toEqual([expect.stringContaining('started again')]);
    expect(readdirSync(join(dir, 'Lora'))).toEqual(['style_lora.safetensors']);
    expect(readdirSync(join(dir, 'ESRGAN'))).toEqual(['riddle.safetensors']);
  });

  it('takes no place of another of the same name, and what is chosen stays under each of its names', async () => {
    const runtime = open();
    writeFileSync(join(dir, 'Stable-diffusion', 'mine.safetensors'), 'mine');
    const want = { model: 'mine.safetensors', source: LIGHTNING };
    await expect(pull(runtime.puller!, want)).rejects.toMatchObject({ code: 'conflict' });
    const chosen = (await runtime.models(signal)).find(({ state }) => state === 'loaded')!;
    for (const name of [chosen.id, `${chosen.id}.safetensors`]) {
      await expect(runtime.puller!.remove!(name, signal)).rejects.toMatchObject({ code: 'conflict' });
    }
  });

  it('is nothing for it without its folder, and nothing leads out of that', async () => {
    expect(open('').puller!.claims({ model: 'x', source: LIGHTNING })).toBeUndefined();
    const { puller } = open();
    await expect(puller!.remove!('../../canary', signal)).rejects.toMatchObject({ code: 'model_not_found' });
    await expect(puller!.remove!('..', signal)).rejects.toMatchObject({ code: 'model_not_found' });
    await pull(puller!, { model: '../../../canary.safetensors', source: LIGHTNING });
    expect(readdirSync(join(dir, 'Stable-diffusion'))).toEqual(['canary.safetensors']);
  });
});

describe('loading', () => {
  it('brings another checkpoint into memory, and one that was made to leave', async () => {
    const runtime = open();
    const model = await modelOf(runtime, 'v1-5-pruned-emaonly');
    await runtime.gpu!.load!(model, { signal });
    expect(fake.loaded()).toMatch(/^v1-5/);
    await runtime.gpu!.evict(model.id, signal);
    expect(fake.loaded()).toBeUndefined();
    await runtime.gpu!.load!(model, { signal });
    expect(fake.loaded()).toMatch(/^v1-5/);
    expect(await runtime.gpu!.residents(signal)).toMatchObject([{ model: model.id }]);
  });

  it('is refused for what only enlarges, and ends when its caller leaves', async () => {
    const runtime = open();
    const enlarger = (await runtime.models(signal)).find(({ capabilities }) => capabilities.includes('image.upscale'))!;
    await expect(runtime.gpu!.load!(enlarger, { signal })).rejects.toMatchObject({ code: 'not_supported' });
    const model = await modelOf(runtime, 'v1-5-pruned-emaonly');
    const left = runtime.gpu!.load!(model, { signal: AbortSignal.abort() });
    await expect(left).rejects.toMatchObject({ code: 'client_closed' });
  });
});
