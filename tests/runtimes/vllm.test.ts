// vLLM: a server that sleeps and is woken by whoever needs it.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { testMemory } from '../conformance/memory.ts';
import { openFakeVllm } from '../support/fake-vllm.ts';
import type { FakeVllm } from '../support/fake-vllm.ts';
import { noFiles } from '../support/no-files.ts';
import { fail, known, never, overProgram } from '../support/program-runtime.ts';

const MODEL = 'org/model-7b';

testMemory(
  'vLLM',
  async () => {
    const fake = await openFakeVllm();
    fake.asleep = true;
    return {
      runtime: overProgram(fake.url),
      model: MODEL,
      loads: () => fake.counts.wakes,
      down: fake.down,
      close: fake.close,
    };
  },
  { goesOn: true },
);

describe('vLLM', () => {
  let fake: FakeVllm;
  let runtime: RuntimeAdapter;
  beforeEach(async () => {
    fake = await openFakeVllm();
    runtime = overProgram(fake.url);
  });
  afterEach(() => fake.close());

  it('sleeps with all of its models, and tells no bytes', async () => {
    const { memory, models } = await known(runtime);
    expect(models[MODEL]).toMatchObject({ state: 'loaded', contextWindow: 4096, echo: true });
    expect(await memory.residents(never())).toEqual([
      { model: MODEL, vram: 0 },
      { model: 'my-lora', vram: 0 },
    ]);
    await memory.evict(MODEL, never());
    expect(await memory.residents(never())).toEqual([]);
    expect(fake.counts.sleeps).toBe(1);
    await memory.evict('my-lora', never());
    expect(fake.counts.sleeps).toBe(1);
  });

  it('is woken by a request, since asleep it would refuse it', async () => {
    const { memory, models } = await known(runtime);
    await memory.evict(MODEL, never());
    const call = { model: models[MODEL]!, signal: never(), requestId: 'req_wake', file: noFiles };
    const messages = [{ role: 'user' as const, content: 'hi' }];
    for await (const event of runtime.handles['text.chat']!({ messages, stream: true }, call)) void event;
    await memory.evict(MODEL, never());
    const body = new TextEncoder().encode(JSON.stringify({ model: MODEL, messages, stream: true }));
    const reply = await runtime.relays!.openai!({ path: '/chat/completions', body, stream: true }, call);
    expect((await fail(memory.evict(MODEL, never()))).code).toBe('conflict');
    expect(await memory.residents(never())).toContainEqual({ model: MODEL, vram: 0, busy: true });
    for await (const bytes of reply.body) void bytes;
    await memory.evict(MODEL, never());
    expect(fake.counts).toEqual({ sleeps: 3, wakes: 2, runs: 2, refused: 0 });
  });

  it('says how it is started so that it can sleep', async () => {
    fake.canSleep = false;
    const { memory, models } = await known(runtime);
    expect(models[MODEL]!.state).toBe('loaded');
    expect((await memory.residents(never())).map(({ model }) => model)).toEqual([MODEL, 'my-lora']);
    const error = await fail(memory.evict(MODEL, never()));
    expect(error).toMatchObject({ code: 'not_supported', status: 501 });
    expect(error.hint).toMatch(/--enable-sleep-mode.*VLLM_SERVER_DEV_MODE=1/);
    await expect(memory.load(models[MODEL]!, { signal: never() })).resolves.toBeUndefined();
    expect(runtime.puller!.claims({ model: 'hf.co/org/model' })).toBeUndefined();
  });
});
