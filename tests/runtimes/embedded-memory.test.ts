// The embedded runtime's memory and pulls: real models in real workers, fetched from a server with the hub's layout.
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDownloads } from '../../adapters/downloads/index.ts';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createEmbedded, type EmbeddedOptions } from '../../adapters/runtimes/embedded/index.ts';
import type { Model, ModelMemory, RuntimeAdapter } from '../../src/runtime.ts';
import { testMemory } from '../conformance/memory.ts';
import '../support/warm-onnx.ts';
import { eventually } from '../support/eventually.ts';
import { type FakeHub, openFakeHub } from '../support/fake-hub.ts';
import { noFiles } from '../support/no-files.ts';
import { fail, list, never, pull } from '../support/program-runtime.ts';
import { writeTinyEncoder } from '../support/tiny-encoder.ts';

const SMOLLM = 'HuggingFaceTB/SmolLM2-135M-Instruct';
const tools = openMediaTools({ maxPixels: 1e6 });
const tinyStory = fileURLToPath(new URL('../../models/tiny-story', import.meta.url));
const scratch = await mkdtemp(join(tmpdir(), 'embedded-memory-'));
afterAll(() => rm(scratch, { recursive: true }));

function open(options: Partial<EmbeddedOptions> = {}): RuntimeAdapter {
  const cacheDir = join(scratch, 'no-cache');
  return createEmbedded({ tools, cacheDir, download: false, idleMs: 60_000, queue: 4, ...options });
}

testMemory(
  'the embedded runtime',
  async () => {
    const runtime = open();
    // The quickest to load; that a model at work stays is seen below.
    return { runtime, model: 'tiny-t2i', close: async () => runtime.close!() };
  },
  { goesOn: true, mute: true },
);

describe('embedded memory', { timeout: 60_000 }, () => {
  let runtime: RuntimeAdapter;
  let memory: Required<ModelMemory>;
  let models: Record<string, Model>;
  const setUp = async (options: Partial<EmbeddedOptions> = {}) => {
    runtime = open(options);
    memory = runtime.memory as Required<ModelMemory>;
    models = await list(runtime);
  };
  afterEach(() => runtime.close!());

  it('lies in main memory, each model in the worker of its kind, without having answered anything', async () => {
    await setUp();
    expect(memory.device()).toBe('processor');
    for (const id of ['tiny-story', 'tiny-embed', 'tiny-t2i']) await memory.load(models[id]!, { signal: never() });
    const residents = await memory.residents(never());
    expect(residents.map(({ model, vram }) => [model, vram]).toSorted()).toEqual([
      ['tiny-embed', 0],
      ['tiny-story', 0],
      ['tiny-t2i', 0],
    ]);
    for (const { ram } of residents) expect(ram).toBeGreaterThan(2_000_000);
    for (const id of ['tiny-story', 'tiny-embed', 'tiny-t2i']) await memory.evict(id, never());
    expect(await memory.residents(never())).toEqual([]);
  });

  it('keeps a model as long as it is told to', async () => {
    await setUp({ idleMs: 100 });
    await memory.load(models['tiny-story']!, { signal: never(), keep: -1 });
    await new Promise((resolve) => setTimeout(resolve, 200));
    const [kept] = await memory.residents(never());
    expect(kept).toMatchObject({ model: 'tiny-story' });
    expect(kept).not.toHaveProperty('expiresAt');
    const before = Date.now();
    await memory.load(models['tiny-story']!, { signal: never(), keep: 3600 });
    expect((await memory.residents(never()))[0]!.expiresAt).toBeGreaterThanOrEqual(before + 3_600_000);
    await memory.load(models['tiny-story']!, { signal: never() });
    let left = 1;
    await eventually('the worker ended', () => {
      void memory.residents(never()).then((residents) => (left = residents.length));
      return left === 0;
    });
  });

  it('unloads one of two in a worker, and leaves the other', async () => {
    const localDir = join(scratch, 'two');
    await cp(tinyStory, join(localDir, 'second'), { recursive: true });
    await setUp({ localDir });
    for (const id of ['tiny-story', 'second']) await memory.load(models[id]!, { signal: never() });
    expect(await memory.residents(never())).toHaveLength(2);
    await memory.evict('second', never());
    expect((await memory.residents(never())).map(({ model }) => model)).toEqual(['tiny-story']);
  });

  it('loads nothing that is not on disk, and says how to get it', async () => {
    await setUp();
    const error = await fail(memory.load(models[SMOLLM]!, { signal: never() }));
    expect(error).toMatchObject({ code: 'model_unavailable', hint: expect.stringContaining(`models pull ${SMOLLM}`) });
  });
});

describe('getting embedded models', { timeout: 60_000 }, () => {
  let hub: FakeHub;
  let runtime: RuntimeAdapter;
  let cacheDir: string;
  let tests = 0;
  const start = (options: Partial<EmbeddedOptions> = {}) => {
    const downloads = createDownloads({ tokens: {}, trusted: hub.origins, allow: [], stallMs: 5000, tries: 1 });
    return open({ cacheDir, hubUrl: hub.url, downloads, ...options });
  };
  beforeEach(async () => {
    cacheDir = join(scratch, `cache-${tests++}`);
    const encoder = join(scratch, 'encoder');
    await writeTinyEncoder(encoder);
    hub = await openFakeHub({
      [SMOLLM]: tinyStory,
      'onnx-community/tiny-encoder': encoder,
      'org/none': { 'config.json': new Uint8Array(2), 'model.safetensors': new Uint8Array(10) },
    });
    runtime = start();
  });
  afterEach(async () => {
    await runtime.close!();
    await hub.close();
  });

  it('claims what it knows by name, and what is laid out for it', () => {
    const { claims } = runtime.puller!;
    for (const model of ['smollm2', SMOLLM, `hf.co/${SMOLLM}`, 'tiny-story']) expect(claims({ model })).toBe(100);
    expect(claims({ model: 'x', source: `hf:${SMOLLM}` })).toBe(100);
    expect(claims({ model: 'hf.co/onnx-community/tiny-encoder' })).toBe(60);
    expect(claims({ model: 'x', source: 'hf:org/other' })).toBe(10);
    for (const want of [
      { model: 'qwen3:8b' },
      { model: 'org/other' },
      { model: 'hf.co/org/other-GGUF:Q4_K_M' },
      { model: 'x', source: 'hf:onnx-community/a/onnx/model.onnx' },
      { model: 'x', source: 'https://example.com/onnx-community/a' },
      { model: 'smollm2', kind: 'lora' as const },
      { model: 'smollm2', sha256: 'a'.repeat(64) },
    ]) {
      expect(claims(want), JSON.stringify(want)).toBeUndefined();
    }
    expect(open().puller).toBeUndefined();
  });

  it('gets a model by its short name, though first use would not, and tells beforehand what that takes', async () => {
    const plan = await runtime.puller!.plan({ model: 'smollm2' }, never());
    expect(plan).toMatchObject({ model: SMOLLM, license: 'apache-2.0', source: `${hub.url}/${SMOLLM}`, warnings: [] });
    expect(plan.files.map(({ name, present }) => [name, present])).toContainEqual(['onnx/model_quantized.onnx', false]);
    expect(plan.bytes).toBeGreaterThan(2_000_000);
    const events = await pull(runtime, { model: 'smollm2' });
    expect(events.some((event) => event.type === 'progress' && event.unit === 'bytes')).toBe(true);
    expect(events.at(-1)).toMatchObject({ type: 'pulled', model: SMOLLM });
    expect((await list(runtime))[SMOLLM]).toMatchObject({ state: 'ready', quantization: 'q8' });
    expect(await runtime.puller!.plan({ model: 'smollm2' }, never())).toMatchObject({ files: [], bytes: 0 });
    const asked = hub.requests.length;
    expect(await pull(runtime, { model: SMOLLM })).toEqual([{ type: 'pulled', model: SMOLLM, files: [] }]);
    const [warned] = await pull(runtime, { model: `hf:${SMOLLM}@v2` });
    expect(warned).toMatchObject({ type: 'warning', warning: expect.stringContaining('another revision') });
    expect(hub.requests).toHaveLength(asked);
  });

  it('gets a repository that nobody here knows, lists it and runs it', async () => {
    const id = 'onnx-community/tiny-encoder';
    const want = { model: `hf.co/${id}` };
    expect((await runtime.puller!.plan(want, never())).files).toHaveLength(4);
    const done = (await pull(runtime, want)).at(-1)!;
    expect(done).toMatchObject({ type: 'pulled', model: id });
    expect((await list(runtime))[id]).toMatchObject({ state: 'ready', capabilities: ['text.embed'] });
    await runtime.memory!.load!((await list(runtime))[id]!, { signal: never() });
    expect((await list(runtime))[id]!.state).toBe('loaded');
    const freed = await runtime.puller!.remove!(id, never());
    expect(freed.freed).toBeGreaterThan(100);
    expect(await runtime.memory!.residents(never())).toEqual([]);
    expect(await list(runtime)).not.toHaveProperty([id]);
    expect(await readdir(cacheDir)).toEqual([]);
  });

  it('refuses what it could not run, before it fetches any of it', async () => {
    const error = await fail(pull(runtime, { model: 'hf.co/org/none' }));
    expect(error).toMatchObject({ code: 'not_supported', param: 'model' });
    expect(hub.requests.filter((request) => request.includes('/resolve/'))).toEqual([]);
    expect((await fail(runtime.puller!.plan({ model: 'qwen3:8b' }, never()))).code).toBe('not_supported');
    expect((await fail(pull(runtime, { model: 'hf.co/org/nothing-onnx' }))).code).toBe('model_not_found');
  });

  it('tells what it knows by itself when there is no network', async () => {
    await hub.close();
    const plan = await runtime.puller!.plan({ model: 'minilm' }, never());
    expect(plan).toMatchObject({ model: 'Xenova/all-MiniLM-L6-v2', files: [] });
    expect(plan.warnings).toHaveLength(1);
    expect(plan).not.toHaveProperty('bytes');
    const offers = await runtime.puller!.search!('GPT2', never());
    expect(offers.map(({ model, present }) => [model, present])).toEqual([
      ['Xenova/gpt2', false],
      ['onnx-community/gpt2-medium-ONNX', false],
    ]);
    expect((await fail(pull(runtime, { model: 'minilm' }))).code).toBe('model_unavailable');
  });

  it('ends at once when it is left, and keeps what has come', async () => {
    hub.trouble = { kind: 'stall' };
    const error = await fail(pull(runtime, { model: 'smollm2' }, AbortSignal.timeout(300)));
    expect(error.code).toBe('client_closed');
    hub.trouble = undefined;
    expect((await pull(runtime, { model: 'smollm2' })).at(-1)!.type).toBe('pulled');
  });

  it('deletes only what it got, and not while it is in use', async () => {
    const localDir = join(scratch, `own-${tests}`);
    await cp(tinyStory, join(localDir, 'mine'), { recursive: true });
    const own = start({ localDir });
    try {
      await pull(own, { model: 'smollm2' });
      const { remove } = own.puller!;
      expect((await fail(remove!('tiny-story', never()))).code).toBe('conflict');
      expect(await fail(remove!('mine', never()))).toMatchObject({
        code: 'conflict',
        message: expect.stringContaining('your own folder'),
      });
      expect((await fail(remove!('minilm', never()))).code).toBe('model_not_found');
      expect((await fail(remove!('../../etc', never()))).code).toBe('model_not_found');
      const model = (await list(own))[SMOLLM]!;
      const call = { model, signal: never(), requestId: 'req', file: noFiles };
      const messages = [{ role: 'user' as const, content: 'Tell a story for children about a fox.' }];
      let refused: string | undefined;
      for await (const event of own.handles['text.chat']!({ messages, stream: true, max_tokens: 24 }, call)) {
        if (event.type === 'status' && event.state === 'running') {
          refused = (await fail(remove!(SMOLLM, never()))).code;
        }
      }
      expect(refused).toBe('conflict');
      expect((await remove!('smollm2', never())).freed).toBeGreaterThan(2_000_000);
      expect((await list(own))[SMOLLM]!.state).toBe('available');
    } finally {
      await own.close!();
    }
  });
});
