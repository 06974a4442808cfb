// LM Studio: its models and instances, and downloads that it runs as jobs.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { testMemory } from '../conformance/memory.ts';
import { openFakeLmStudio } from '../support/fake-lm-studio.ts';
import type { FakeLmStudio } from '../support/fake-lm-studio.ts';
import { toNumber } from '../../adapters/runtimes/openai/managers/lm-studio.ts';
import { fail, known, limits, list, never, overProgram, pull } from '../support/program-runtime.ts';

const QWEN = 'qwen/qwen3-8b';
const EMBEDDER = 'text-embedding-nomic';
const TINY = 'hf.co/org/tiny-GGUF:Q4_K_M';

testMemory(
  'LM Studio',
  async () => {
    const fake = await openFakeLmStudio();
    return {
      runtime: overProgram(fake.url),
      model: QWEN,
      loads: () => fake.counts.loads,
      down: fake.down,
      close: fake.close,
    };
  },
  { goesOn: true },
);

describe('LM Studio', () => {
  let fake: FakeLmStudio;
  let runtime: RuntimeAdapter;
  beforeEach(async () => {
    fake = await openFakeLmStudio();
    runtime = overProgram(fake.url);
  });
  afterEach(() => fake.close());

  it('tells the facts of its models', async () => {
    fake.models.get(QWEN)!.instances.push(QWEN);
    expect(await list(runtime)).toEqual({
      [QWEN]: {
        id: QWEN,
        capabilities: ['text.generate', 'text.chat'],
        state: 'loaded',
        size: 5_000_000_000,
        parameters: 8e9,
        quantization: 'Q4_K_M',
        contextWindow: 4096,
        vision: false,
        tools: true,
      },
      [EMBEDDER]: {
        id: EMBEDDER,
        capabilities: ['text.embed'],
        state: 'ready',
        size: 84_000_000,
        quantization: 'Q4_K_M',
        contextWindow: 32_768,
      },
    });
  });

  it('reads how large models are said to be', () => {
    expect(['7B', '1.5b', '8x7B', '270M', '~4 B', '', 'big', '9'.repeat(50), null].map(toNumber)).toEqual([
      7e9,
      1.5e9,
      56e9,
      270e6,
      4e9,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('sends away all instances of a model', async () => {
    const { memory } = await known(runtime);
    fake.models.get(QWEN)!.instances.push(QWEN, `${QWEN}:2`);
    expect(await memory.residents(never())).toEqual([{ model: QWEN, vram: 0, contextWindow: 4096 }]);
    await memory.evict(QWEN, never());
    expect(fake.counts.unloads).toBe(2);
    expect(await memory.residents(never())).toEqual([]);
  });

  it('says when there is too little memory', async () => {
    const { memory, models } = await known(runtime);
    fake.full = true;
    expect(await fail(memory.load(models[QWEN]!, { signal: never() }))).toMatchObject({
      code: 'insufficient_vram',
      status: 503,
    });
  });

  it('downloads as a job, with its progress, and finds the name that it got there', async () => {
    const { puller } = await known(runtime);
    expect(puller.claims({ model: TINY })).toBe(60);
    expect(puller.remove).toBeUndefined();
    expect(puller.search).toBeUndefined();
    const events = await pull(runtime, { model: TINY });
    const progress = events.filter((event) => event.type === 'progress');
    expect(progress.length).toBeGreaterThan(1);
    expect(progress.at(-1)).toMatchObject({ done: 4_000_000, total: 4_000_000, unit: 'bytes' });
    expect(events.filter((event) => event.type === 'warning').map(({ warning }) => warning)).toEqual([
      expect.stringContaining('cannot be told to stop'),
    ]);
    expect(events.at(-1)).toEqual({ type: 'pulled', model: 'tiny-1.5b', files: [{ name: 'tiny-1.5b', size: 4e6 }] });
    expect((await list(runtime))['tiny-1.5b']).toMatchObject({ state: 'ready', parameters: 1.5e9 });
  });

  it('downloads nothing that is there', async () => {
    expect(await pull(runtime, { model: QWEN })).toEqual([{ type: 'pulled', model: QWEN, files: [] }]);
    expect((await runtime.puller!.plan({ model: QWEN }, never())).bytes).toBe(0);
    expect(fake.counts.downloads).toBe(0);
  });

  it('waits for one that is paused there, and says so', async () => {
    fake.mode = 'paused';
    const events = await pull(runtime, { model: 'qwen/qwen3-4b' });
    const warnings = events.flatMap((event) => (event.type === 'warning' ? [event.warning] : []));
    expect(warnings.join()).toContain('paused');
    expect(events.at(-1)).toMatchObject({ type: 'pulled', model: 'qwen/qwen3-4b' });
  });

  it('says what went wrong', async () => {
    expect((await fail(pull(runtime, { model: 'org/none' }))).code).toBe('model_not_found');
    expect((await fail(pull(runtime, { model: 'x', source: 'https://example.com/a' }))).code).toBe('not_supported');
    fake.mode = 'failed';
    expect((await fail(pull(runtime, { model: TINY }))).code).toBe('upstream_terminated');
    fake.mode = 'well';
    fake.downloadMs = 20_000;
    expect((await fail(pull(runtime, { model: 'qwen/qwen3-4b' }, AbortSignal.timeout(150)))).code).toBe(
      'client_closed',
    );
    const hasty = overProgram(fake.url, { limits: { ...limits, idleMs: 200 } });
    expect((await fail(pull(hasty, { model: TINY }))).code).toBe('upstream_idle');
  });
});
