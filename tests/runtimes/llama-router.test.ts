// llama-server as a router: what it holds, loading and unloading, and models that it downloads itself.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { testMemory } from '../conformance/memory.ts';
import { openFakeLlamaRouter } from '../support/fake-llama-router.ts';
import type { FakeLlamaRouter } from '../support/fake-llama-router.ts';
import { fail, known, limits, list, never, overProgram, pull } from '../support/program-runtime.ts';

const GEMMA = 'ggml-org/gemma-3-4b-it-GGUF:Q4_K_M';
const TINY = 'org/tiny-GGUF:Q4_K_M';

testMemory('llama-server', async () => {
  const fake = await openFakeLlamaRouter();
  return {
    runtime: overProgram(fake.url),
    model: GEMMA,
    loads: () => fake.counts.loads,
    down: fake.down,
    close: fake.close,
  };
});

describe('llama-server as a router', () => {
  let fake: FakeLlamaRouter;
  let runtime: RuntimeAdapter;
  beforeEach(async () => {
    fake = await openFakeLlamaRouter();
    runtime = overProgram(fake.url);
  });
  afterEach(() => fake.close());

  it('tells the state and the facts of its models', async () => {
    const gemma = fake.models.get(GEMMA)!;
    for (const [value, state] of [
      ['unloaded', 'ready'],
      ['loading', 'loading'],
      ['loaded', 'loaded'],
      ['sleeping', 'ready'],
      ['downloading', 'available'],
    ] as const) {
      gemma.value = value;
      expect((await list(runtime))[GEMMA]).toMatchObject({ state, quantization: 'Q4_K_M' });
    }
    gemma.value = 'loaded';
    expect((await list(runtime))[GEMMA]).toMatchObject({
      parameters: 4e9,
      size: 2_500_000_000,
      source: 'https://huggingface.co/ggml-org/gemma-3-4b-it-GGUF',
    });
  });

  it('estimates video memory of all that its command line does not keep off the card', async () => {
    const { memory, models } = await known(runtime);
    await memory.load(models[GEMMA]!, { signal: never() });
    await memory.load(models['qwen']!, { signal: never() });
    expect(await memory.residents(never())).toEqual([
      { model: GEMMA, vram: 2_500_000_000, estimated: true, contextWindow: 8192 },
      { model: 'qwen', vram: 0, contextWindow: 8192 },
    ]);
    fake.models.get('qwen')!.args = ['llama-server', '--n-gpu-layers', 'all', '--device', 'none'];
    expect((await memory.residents(never()))[1]).toMatchObject({ vram: 0 });
    fake.models.get('qwen')!.args = ['llama-server', '--n-gpu-layers', '20'];
    expect((await memory.residents(never()))[1]).toMatchObject({ vram: 600_000_000, estimated: true });
  });

  it('says with which code the process of a model ended', async () => {
    fake.exits.set(GEMMA, 139);
    const { memory, models } = await known(runtime);
    for (let tries = 1; tries <= 2; tries++) {
      const error = await fail(memory.load(models[GEMMA]!, { signal: never() }));
      expect(error).toMatchObject({ code: 'upstream_error', source: 'box' });
      expect(error.message).toContain('exit code 139');
      expect(fake.counts.loads).toBe(tries);
    }
    fake.exits.clear();
    await memory.load(models[GEMMA]!, { signal: never() });
    expect(fake.models.get(GEMMA)!.value).toBe('loaded');
  });

  it('takes back a load that nobody waits for any more', async () => {
    fake.loadMs = 2000;
    const { memory, models } = await known(runtime);
    const error = await fail(memory.load(models[GEMMA]!, { signal: AbortSignal.timeout(100) }));
    expect(error.code).toBe('client_closed');
    await vi.waitFor(() => expect(fake.models.get(GEMMA)!.value).toBe('unloaded'), 20_000);
    // Not one that somebody else began.
    fake.models.get('qwen')!.value = 'loading';
    await fail(memory.load(models['qwen']!, { signal: AbortSignal.timeout(100) }));
    expect(fake.models.get('qwen')!.value).toBe('loading');
  });

  it('wakes one that sleeps by needing it', async () => {
    const { memory, models } = await known(runtime);
    fake.models.get(GEMMA)!.value = 'sleeping';
    expect(await memory.residents(never())).toEqual([]);
    await memory.load(models[GEMMA]!, { signal: never() });
    expect((await memory.residents(never())).map(({ model }) => model)).toEqual([GEMMA]);
    expect(fake.counts.loads).toBe(0);
  });

  it('gives up a load in the end', async () => {
    fake.loadMs = 5000;
    const hasty = overProgram(fake.url, { limits: { ...limits, firstByteMs: 300 } });
    const { memory, models } = await known(hasty);
    expect((await fail(memory.load(models[GEMMA]!, { signal: never() }))).code).toBe('upstream_timeout');
  });

  it('says that it holds as many as it may', async () => {
    fake.max = 1;
    const { memory, models } = await known(runtime);
    fake.models.get('qwen')!.value = 'loaded';
    const error = await fail(memory.load(models[GEMMA]!, { signal: never() }));
    expect(error).toMatchObject({ code: 'insufficient_vram', retryAfter: 10 });
    expect(fake.models.get('qwen')!.value).toBe('loaded');
  });

  describe('getting models', () => {
    it('claims what it can get, and nothing that it could not check or choose', async () => {
      expect(runtime.puller!.claims({ model: 'org/tiny-GGUF' })).toBeUndefined();
      // Whether anybody has listed its models or not.
      await runtime.puller!.ready!(never());
      expect(runtime.puller!.claims({ model: 'org/tiny-GGUF' })).toBe(10);
      const { puller } = await known(runtime);
      expect(puller.claims({ model: 'hf.co/org/tiny-GGUF:Q4_K_M' })).toBe(60);
      expect(puller.claims({ model: 'x', source: 'hf:org/tiny-gguf', kind: 'gguf' })).toBe(60);
      expect(puller.claims({ model: 'org/tiny-GGUF' })).toBe(10);
      for (const want of [
        { model: 'qwen3:8b' },
        { model: 'hf.co/org/tiny-GGUF', sha256: 'a'.repeat(64) },
        { model: 'x', source: 'hf:org/tiny-GGUF@main/tiny.gguf' },
        { model: 'x', source: 'https://example.com/org/tiny-GGUF' },
        { model: 'hf.co/org/tiny', kind: 'lora' as const },
        { model: 'hf.co/../tiny-GGUF' },
      ]) {
        expect(puller.claims(want), JSON.stringify(want)).toBeUndefined();
      }
    });

    it('downloads with its progress, in bytes', async () => {
      const plan = await runtime.puller!.plan({ model: `hf.co/${TINY}` }, never());
      expect(plan).toMatchObject({ model: TINY, files: [], source: 'https://huggingface.co/org/tiny-GGUF' });
      expect(plan.warnings).toHaveLength(1);
      const events = await pull(runtime, { model: `hf.co/${TINY}` });
      const progress = events.filter((event) => event.type === 'progress');
      expect(progress.length).toBeGreaterThan(1);
      expect(progress[0]).toMatchObject({ unit: 'bytes', total: 1_000_000 });
      expect(events.at(-1)).toEqual({
        type: 'pulled',
        model: TINY,
        files: [{ name: 'model.gguf', size: 1_000_000 }],
      });
      expect((await list(runtime))[TINY]).toMatchObject({ state: 'ready' });
      expect((await runtime.puller!.plan({ model: TINY }, never())).bytes).toBe(0);
      expect(await pull(runtime, { model: TINY })).toEqual([{ type: 'pulled', model: TINY, files: [] }]);
      expect(fake.counts.downloads).toBe(1);
    });

    it('tells how far it is where only the list of models does', async () => {
      fake.plain = true;
      const events = await pull(runtime, { model: TINY });
      expect(events.filter((event) => event.type === 'progress').length).toBeGreaterThan(1);
      expect(events.at(-1)).toMatchObject({ type: 'pulled', files: [{ name: 'model.gguf', size: 1_000_000 }] });
      expect(fake.count('GET /models/sse')).toBe(1);
    });

    it('does not take one for stalled that it hears nothing of', async () => {
      fake.plain = true;
      fake.downloadMs = 800;
      const hasty = overProgram(fake.url, { limits: { ...limits, idleMs: 100 } });
      const before = pull(hasty, { model: 'org/none-GGUF' });
      expect((await fail(before)).code).toBe('upstream_terminated');
    });

    it('finds the id of what was asked for without a quantization', async () => {
      expect((await pull(runtime, { model: 'org/tiny-GGUF' })).at(-1)).toMatchObject({ type: 'pulled', model: TINY });
    });

    it('joins a download that somebody else began', async () => {
      fake.downloadMs = 400;
      const both = await Promise.all([pull(runtime, { model: TINY }), pull(overProgram(fake.url), { model: TINY })]);
      for (const events of both) expect(events.at(-1)!.type).toBe('pulled');
      expect(fake.counts.downloads).toBe(1);
    });

    it('cancels when it is left', async () => {
      fake.downloadMs = 4000;
      const error = await fail(pull(runtime, { model: TINY }, AbortSignal.timeout(150)));
      expect(error.code).toBe('client_closed');
      await vi.waitFor(() => expect(fake.counts.cancelled).toBe(1), 20_000);
    });

    it('says what went wrong', async () => {
      const unknown = await fail(pull(runtime, { model: 'hf.co/org/none-GGUF' }));
      expect(unknown).toMatchObject({ code: 'model_not_found', param: 'model' });
      // Even before anybody has seen that it looked.
      fake.downloadMs = 5;
      const slow = overProgram(fake.url, { lookMs: 150 });
      expect((await fail(pull(slow, { model: 'hf.co/org/none-GGUF' }))).code).toBe('model_not_found');
      fake.downloadMs = 120;
      fake.cut = true;
      expect((await fail(pull(runtime, { model: TINY }))).code).toBe('upstream_terminated');
      fake.cut = false;
      fake.stall = true;
      const hasty = overProgram(fake.url, { limits: { ...limits, idleMs: 200 } });
      expect((await fail(pull(hasty, { model: TINY }))).code).toBe('upstream_idle');
      await fake.down();
      expect((await fail(pull(runtime, { model: TINY }))).code).toBe('upstream_unavailable');
    });

    it('deletes what it downloaded, out of memory first, and nothing else', async () => {
      const { memory, puller, models } = await known(runtime);
      await memory.load(models[GEMMA]!, { signal: never() });
      expect(await puller.remove!(GEMMA, never())).toEqual({ freed: 2_500_000_000, files: [] });
      expect(fake.counts).toMatchObject({ unloads: 1, deletes: 1 });
      // Not even out of memory.
      fake.models.get('qwen')!.value = 'loaded';
      expect((await fail(puller.remove!('qwen', never()))).code).toBe('conflict');
      expect(fake.counts).toMatchObject({ unloads: 1, deletes: 1 });
      expect((await fail(puller.remove!('none', never()))).code).toBe('model_not_found');
    });
  });

  it('is found while it has no model at all', async () => {
    fake.models.clear();
    const { memory, puller } = await known(runtime);
    expect(memory.load).toBeDefined();
    expect(puller.claims({ model: `hf.co/${TINY}` })).toBe(60);
  });
});
