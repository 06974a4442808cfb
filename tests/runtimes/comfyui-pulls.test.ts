// Getting models for ComfyUI: recipes and single files into the right folders, and nothing anywhere else.
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PullWant } from '../../src/puller.ts';
import { fetchTransport, type TransportRequest } from '../../src/upstream.ts';
import { BASE, openPullWorld, pull, signal, type PullWorld } from '../support/comfyui-pulls.ts';
import { start } from '../support/comfyui-runtime.ts';

let world: PullWorld;
let outside: string;

beforeEach(async () => {
  world = await openPullWorld();
  outside = world.outside();
});
afterEach(async () => {
  expect(world.outside()).toBe(outside);
  await world.close();
});

const SDXL = 'checkpoints/sd_xl_base_1.0.safetensors';
const stateOf = async (runtime: ReturnType<PullWorld['open']>['runtime'], id: string) =>
  (await runtime.models(signal)).find((model) => model.id === id)?.state;
const things = (path: string, more: Partial<PullWant> = {}): PullWant => ({
  model: 'x',
  source: `hf:someone/things/${path}`,
  ...more,
});
/** An own workflow: SDXL with another checkpoint, said to be got from somewhere. */
function addWorkflow(id: string, name: string, file: { folder?: string; url?: string }): void {
  const shipped = new URL('../../adapters/runtimes/comfyui/workflows/', import.meta.url);
  const read = (path: string) => JSON.parse(readFileSync(new URL(path, shipped), 'utf8'));
  const graph = read('sdxl-txt2img.json');
  const binding = read('sdxl-txt2img.binding.json');
  graph.ckpt.inputs.ckpt_name = name;
  const requires = { files: [{ node: 'ckpt', input: 'ckpt_name', ...file }] };
  writeFileSync(join(world.workflows, `${id}.json`), JSON.stringify(graph));
  writeFileSync(join(world.workflows, `${id}.binding.json`), JSON.stringify({ ...binding, model: id, requires }));
}

describe('a recipe', () => {
  it('is told before a byte comes, with its size, its room, its licence and its memory', async () => {
    const { puller } = world.open();
    const plan = await puller.plan({ model: 'sdxl' }, signal);
    expect(plan).toMatchObject({
      model: 'sdxl',
      files: [{ name: 'sd_xl_base_1.0.safetensors', folder: 'checkpoints', size: BASE.byteLength, present: false }],
      bytes: BASE.byteLength,
      license: 'OpenRAIL++-M',
      facts: { size: BASE.byteLength, vram: 9 * 1024 ** 3 },
      warnings: [],
    });
    expect(plan.free).toBeGreaterThan(0);
    expect(world.files()).toEqual([]);
  });

  it('brings what the workflows lack, and the model is ready with its size', async () => {
    const { runtime, puller } = world.open();
    expect(puller.claims({ model: 'sdxl' })).toBe(100);
    expect(await stateOf(runtime, 'sdxl')).toBe('available');
    const { model, files, warnings, events } = await pull(puller, { model: 'sdxl' });
    expect(model).toBe('sdxl');
    expect(warnings).toEqual([]);
    expect(files).toMatchObject([{ name: 'sd_xl_base_1.0.safetensors', folder: 'checkpoints' }]);
    expect(readFileSync(join(world.models, SDXL)).equals(BASE)).toBe(true);
    expect(events.some((event) => event.type === 'progress' && event.total === BASE.byteLength)).toBe(true);
    const sdxl = (await runtime.models(signal)).find(({ id }) => id === 'sdxl');
    expect(sdxl).toMatchObject({ state: 'ready', size: BASE.byteLength, license: 'OpenRAIL++-M' });
    expect(sdxl?.vram).toBe(9 * 1024 ** 3);
  });

  it('brings nothing twice, and of what models share only what is not there', async () => {
    const { puller } = world.open();
    await pull(puller, { model: 'sdxl' });
    const before = world.hub.requests.length;
    expect((await pull(puller, { model: 'sdxl' })).files).toHaveLength(1);
    expect((await puller.plan({ model: 'sdxl-inpaint' }, signal)).files).toMatchObject([{ present: true }]);
    expect(world.hub.requests.length).toBe(before);
    const { files } = await pull(puller, { model: 'sdxl-lightning-lora' });
    expect(files.map(({ folder }) => folder)).toEqual(['checkpoints', 'loras']);
    expect(world.fetched('sd_xl_base')).toBe(2);
  });

  it('that several gateways want at once comes once', async () => {
    const all = await Promise.all(Array.from({ length: 4 }, () => pull(world.open().puller, { model: 'sdxl' })));
    expect(new Set(all.map(({ files }) => files[0]?.size))).toEqual(new Set([BASE.byteLength]));
    expect(world.fetched('/cdn/')).toBe(1);
  });

  it('takes a file that lies in a folder of its own for the one that is needed', async () => {
    mkdirSync(join(world.models, 'checkpoints', 'mine'));
    writeFileSync(join(world.models, 'checkpoints', 'mine', 'sd_xl_base_1.0.safetensors'), BASE);
    const { puller } = world.open();
    const plan = await puller.plan({ model: 'sdxl' }, signal);
    expect(plan).toMatchObject({ files: [{ present: true, size: BASE.byteLength }], bytes: 0 });
  });

  it('says which node classes are missing, and that a pickle comes with it', async () => {
    const { runtime, puller } = world.open({ transport: without(/^(VHS|ADE)_/) });
    const { warnings, files } = await pull(puller, { model: 'animatediff' });
    expect(warnings.join('\n')).toMatch(/VHS_VideoCombine.*comfy node install comfyui-videohelpersuite/);
    expect(warnings.join('\n')).toMatch(/comfy node install comfyui-animatediff-evolved/);
    expect(warnings.join('\n')).toMatch(/v3_sd15_mm\.ckpt is a pickle/);
    expect(files.map(({ folder, name }) => `${folder}/${name}`)).toContain('animatediff_models/v3_sd15_mm.ckpt');
    expect(await stateOf(runtime, 'animatediff')).toBe('available');
  });

  it('goes into the folders that the server itself tells, where they are here and hold what it lists', async () => {
    world.fake.addModelFile('checkpoints', 'other.safetensors');
    const { runtime, puller } = world.open({ modelsDir: undefined as never });
    await pull(puller, { model: 'sdxl' });
    expect(world.files()).toContain(SDXL);
    expect(await stateOf(runtime, 'sdxl')).toBe('ready');
  });

  it('is told by what is on disk and known beforehand where neither server nor hub answers', async () => {
    writeFileSync(join(world.models, 'loras', 'sdxl_lightning_4step_lora.safetensors'), 'here');
    const { puller } = world.open({ baseUrl: 'http://127.0.0.1:9' });
    world.hub.trouble = { kind: 'status', status: 503 };
    const plan = await puller.plan({ model: 'sdxl-lightning-lora' }, signal);
    expect(plan.files).toMatchObject([
      { name: 'sdxl_lightning_4step_lora.safetensors', present: true, size: 4 },
      { name: 'sd_xl_base_1.0.safetensors', present: false },
    ]);
    expect(plan.bytes).toBeUndefined();
    expect(plan.warnings).toHaveLength(2);
  });
});

describe('where it may not go', () => {
  it.each([
    ['a server elsewhere', { baseUrl: 'http://comfy.example:8188', transport: elsewhere() }],
    ['a server whose folders hold other files than it lists', { transport: lists('/models/checkpoints', ['x.ckpt']) }],
  ])('%s has nothing written by guess', async (_, options) => {
    const transport = 'baseUrl' in options ? elsewhere(world.fake.url) : options.transport;
    const { puller } = world.open({ ...options, transport, modelsDir: undefined as never });
    await expect(puller.plan({ model: 'sdxl' }, signal)).rejects.toMatchObject({
      code: 'not_supported',
      hint: expect.stringMatching(/^Set HONO_AI_MODEL_DIRS=comfyui:.*/),
    });
    await expect(pull(puller, { model: 'sdxl' })).rejects.toMatchObject({ code: 'not_supported' });
    expect(world.files()).toEqual([]);
  });

  it('a folder that leads elsewhere is not followed', async () => {
    const beside = join(world.models, '../../beside');
    rmSync(join(world.models, 'loras'), { recursive: true });
    symlinkSync(beside, join(world.models, 'loras'));
    const { puller } = world.open();
    await expect(pull(puller, things('plain.safetensors'))).rejects.toMatchObject({ code: 'not_supported' });
    await expect(puller.remove!('canary.safetensors', signal)).rejects.toMatchObject({ code: 'model_not_found' });
  });

  it.each([
    ['../../../evil.safetensors', 'checkpoints', 'refused'],
    ['/etc/evil.safetensors', 'checkpoints', 'refused'],
    ['sub/evil.safetensors', 'checkpoints', 'checkpoints/evil.safetensors'],
    ['..\\..\\evil.safetensors', 'checkpoints', 'refused'],
    ['evil.safetensors', '../../beside', undefined],
    ['evil.safetensors', 'custom_nodes', undefined],
    ['evil.safetensors', '/tmp', undefined],
    ['evil\u202e.safetensors', 'checkpoints', undefined],
    [`${'e'.repeat(4096)}.safetensors`, 'checkpoints', undefined],
    ['sha256:../../x', 'checkpoints', 'refused'],
    ['evil.ckpt', 'checkpoints', undefined],
    ['evil.py', 'checkpoints', undefined],
  ])('an own workflow that wants %s in %s leads nowhere else', async (name, folder, expected) => {
    addWorkflow('mine', name, { folder, url: 'https://huggingface.co/someone/things/resolve/main/plain.safetensors' });
    const { runtime, puller } = world.open();
    await runtime.models(signal);
    if (expected === 'refused') {
      await expect(pull(puller, { model: 'mine' })).rejects.toMatchObject({ code: 'model_not_found' });
      return expect(world.files()).toEqual([]);
    }
    const { warnings } = await pull(puller, { model: 'mine' });
    expect(world.files()).toEqual(expected === undefined ? [] : [expected]);
    if (expected === undefined) expect(warnings.length).toBeGreaterThan(0);
  });

  it('a file that nobody says where to get is named', async () => {
    addWorkflow('mine', 'unknown.safetensors', {});
    const { puller, runtime } = world.open();
    await runtime.models(signal);
    expect((await pull(puller, { model: 'mine' })).warnings).toEqual([
      'Nobody says where unknown.safetensors is got: put it into models/checkpoints of ComfyUI.',
    ]);
  });

  it('one that the server does not list afterwards is said', async () => {
    mkdirSync(join(world.models, 'elsewhere'));
    const { puller } = world.open({ modelsDir: join(world.models, 'elsewhere') });
    const { warnings } = await pull(puller, { model: 'sdxl' });
    expect(warnings).toEqual([expect.stringMatching(/does not list sd_xl_base_1\.0\.safetensors/)]);
  });
});

describe('a single file', () => {
  it.each([
    [things('plain.safetensors'), 'loras/plain.safetensors'],
    [things('split_files/vae/soft.safetensors'), 'vae/soft.safetensors'],
    [things('vae/diffusion_pytorch_model.safetensors'), 'vae/things-diffusion_pytorch_model.safetensors'],
    [things('some-controlnet.safetensors'), 'controlnet/some-controlnet.safetensors'],
    [things('riddle.safetensors', { kind: 'embedding' }), 'embeddings/riddle.safetensors'],
    [things('flux-Q4_K_S.gguf', { kind: 'gguf' }), 'diffusion_models/flux-Q4_K_S.gguf'],
    [things('plain.safetensors', { model: 'my style.safetensors' }), 'loras/my style.safetensors'],
    [things('plain.safetensors', { model: '../../../evil.safetensors' }), 'loras/evil.safetensors'],
    [{ model: 'hf:someone/one-lora' }, 'loras/style_lora.safetensors'],
    [
      things('riddle.safetensors', { model: 'sdxl_lightning_4step_lora.safetensors' }),
      'loras/sdxl_lightning_4step_lora.safetensors',
    ],
  ])('%j goes to %s', async (want, expected) => {
    const { puller } = world.open();
    expect(puller.claims(want)).toBeGreaterThan(0);
    await pull(puller, want);
    expect(world.files()).toEqual([expected]);
  });

  it('completes a model, which is ready at once', async () => {
    const { runtime, puller } = world.open();
    await pull(puller, { model: 'sdxl' });
    expect(await stateOf(runtime, 'sdxl-lightning-lora')).toBe('available');
    await pull(puller, { model: 'x', source: 'hf:ByteDance/SDXL-Lightning/sdxl_lightning_4step_lora.safetensors' });
    expect(await stateOf(runtime, 'sdxl-lightning-lora')).toBe('ready');
  });

  it('does not take the place of another of the same name', async () => {
    const { puller } = world.open();
    await pull(puller, things('plain.safetensors'));
    const other = { model: 'plain.safetensors', source: 'hf:someone/one-lora/style_lora.safetensors' };
    expect(await puller.plan(other, signal)).toMatchObject({
      files: [{ present: false }],
      warnings: [expect.stringContaining('plain.safetensors')],
    });
    await expect(pull(puller, other)).rejects.toMatchObject({ code: 'conflict' });
    await pull(puller, things('plain.safetensors'));
    expect(world.files()).toEqual(['loras/plain.safetensors']);
  });

  it('is held to a hash, which a model of several files cannot be', async () => {
    const { puller } = world.open();
    const want = { model: 'sdxl', sha256: 'a'.repeat(64) };
    await expect(pull(puller, want)).rejects.toMatchObject({ code: 'invalid_request', param: 'sha256' });
    await expect(puller.plan(want, signal)).rejects.toMatchObject({ param: 'sha256' });
    expect(world.files()).toEqual([]);
  });

  it('whose use cannot be seen is asked after', async () => {
    const { puller } = world.open();
    await expect(pull(puller, things('riddle.safetensors'))).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'kind',
      hint: expect.stringContaining('checkpoint, diffusion_model'),
    });
    await expect(pull(puller, { model: 'x', source: 'hf:someone/things' })).rejects.toMatchObject({
      code: 'invalid_request',
      hint: expect.stringContaining('hf:someone/things/FILE'),
    });
    expect(world.files()).toEqual([]);
  });

  it('that may run code is taken only by its hash', async () => {
    const { puller } = world.open();
    const want = things('4x-Sharp.pth');
    await expect(pull(puller, want)).rejects.toMatchObject({ code: 'invalid_request', param: 'sha256' });
    await expect(pull(puller, { ...want, sha256: 'a'.repeat(64) })).rejects.toMatchObject({ code: 'digest_mismatch' });
    expect(world.files().filter((path) => !path.includes('.part'))).toEqual([]);
    const sha256 = createHash('sha256').update(new Uint8Array(100).fill(1)).digest('hex');
    const { warnings } = await pull(puller, { ...want, sha256 });
    expect(warnings).toEqual([expect.stringContaining('pickle')]);
    expect(world.files()).toContain('upscale_models/4x-Sharp.pth');
    await expect(pull(puller, things('4x-Sharp.pth', { model: 'safe.safetensors' }))).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'model',
    });
  });

  it('is not claimed where it is more likely another’s', () => {
    const { puller } = world.open();
    expect(puller.claims({ model: 'qwen3:8b' })).toBeUndefined();
    expect(puller.claims({ model: 'x', source: 'https://example.com/page.html' })).toBeUndefined();
    expect(puller.claims({ model: 'x', source: 'hf:org/repo/model-Q4_K_M.gguf' })).toBe(10);
    expect(puller.claims({ model: 'x', source: 'hf:org/repo/model-Q4_K_M.gguf', kind: 'diffusion_model' })).toBe(80);
    expect(puller.claims({ model: 'a.safetensors', source: 'https://example.com/api/download/1' })).toBe(60);
  });
});

describe('removing', () => {
  it('takes what only this model needs, and says what is gone', async () => {
    const { runtime, puller } = world.open();
    await pull(puller, { model: 'sdxl' });
    await pull(puller, { model: 'sdxl-lightning-lora' });
    const { files, freed } = await puller.remove!('sdxl-lightning-lora', signal);
    expect(files).toMatchObject([{ name: 'sdxl_lightning_4step_lora.safetensors', folder: 'loras' }]);
    expect(freed).toBe(files[0]!.size);
    expect(world.files()).toEqual([SDXL]);
    expect(await stateOf(runtime, 'sdxl')).toBe('ready');
    expect(await puller.remove!('sdxl', signal)).toMatchObject({ freed: BASE.byteLength });
    expect(world.files()).toEqual([]);
    expect(await stateOf(runtime, 'sdxl')).toBe('available');
    await expect(puller.remove!('sdxl', signal)).rejects.toMatchObject({ code: 'model_not_found' });
  });

  it('keeps what others need as well', async () => {
    const { puller } = world.open();
    await pull(puller, { model: 'sdxl-lightning-lora' });
    await expect(puller.remove!('sdxl', signal)).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('sdxl-lightning-lora'),
    });
    await expect(puller.remove!('sd_xl_base_1.0.safetensors', signal)).rejects.toMatchObject({ code: 'conflict' });
    expect(world.files()).toContain(SDXL);
  });

  it('does not take what is in memory', async () => {
    const { runtime, puller } = world.open();
    await pull(puller, { model: 'sdxl' });
    await start(runtime, 'image.generate', 'sdxl', { prompt: 'a boat' }).ended;
    await expect(puller.remove!('sdxl', signal)).rejects.toMatchObject({ code: 'conflict' });
    await runtime.gpu!.evict('sdxl', signal);
    expect((await puller.remove!('sdxl', signal)).files).toHaveLength(1);
  });

  it('takes a single file by its name, and none by a way to it', async () => {
    const { puller } = world.open();
    await pull(puller, things('plain.safetensors'));
    for (const name of ['../../../beside/canary.safetensors', '../loras/plain.safetensors', '/etc/x.safetensors']) {
      await expect(puller.remove!(name, signal)).rejects.toMatchObject({ code: 'model_not_found' });
    }
    symlinkSync(join(world.models, '../../beside/canary.safetensors'), join(world.models, 'loras', 'link.safetensors'));
    await expect(puller.remove!('link.safetensors', signal)).rejects.toMatchObject({ code: 'model_not_found' });
    expect(lstatSync(join(world.models, 'loras', 'link.safetensors')).isSymbolicLink()).toBe(true);
    await puller.remove!('plain.safetensors', signal);
    expect(world.files()).toEqual([]);
  });
});

describe('searching', () => {
  it('finds recipes by their names, titles and what they can be asked, with what is here', async () => {
    const { puller } = world.open();
    await pull(puller, { model: 'sdxl' });
    const found = await puller.search!('sdxl', signal);
    expect(found.find(({ model }) => model === 'sdxl')).toMatchObject({
      title: expect.any(String),
      capabilities: expect.arrayContaining(['image.generate', 'image.edit', 'image.vary']),
      vram: 9 * 1024 ** 3,
      license: 'OpenRAIL++-M',
      present: true,
    });
    expect(found.find(({ model }) => model === 'sdxl-lightning')).toMatchObject({ present: false });
    expect((await puller.search!('music', signal)).map(({ model }) => model).toSorted()).toEqual([
      'ace-step',
      'ace-step-1.5',
    ]);
    expect(await puller.search!('no such thing', signal)).toEqual([]);
  });

  it('tells what it knows where nobody answers', async () => {
    const { puller } = world.open({ baseUrl: 'http://127.0.0.1:9' });
    expect((await puller.search!('animatediff', signal)).map(({ present }) => present)).toEqual([false]);
  });
});

/** The server is asked under another name. */
function elsewhere(url = '') {
  return (request: TransportRequest) =>
    fetchTransport({ ...request, url: request.url.replace('http://comfy.example:8188', url) });
}

function lists(path: string, names: string[]) {
  return async (request: TransportRequest) => {
    const reply = await fetchTransport(request);
    if (new URL(request.url).pathname !== path) return reply;
    return { ...reply, body: toBody(JSON.stringify(names)) };
  };
}

/** A server without the extensions that bring these classes. */
function without(classes: RegExp) {
  return async (request: TransportRequest) => {
    const reply = await fetchTransport(request);
    if (new URL(request.url).pathname !== '/object_info') return reply;
    const info = JSON.parse(Buffer.concat(await Array.fromAsync(reply.body)).toString()) as Record<string, unknown>;
    const left = Object.entries(info).filter(([name]) => !classes.test(name));
    return { ...reply, body: toBody(JSON.stringify(Object.fromEntries(left))) };
  };
}

async function* toBody(text: string) {
  yield new TextEncoder().encode(text);
}
