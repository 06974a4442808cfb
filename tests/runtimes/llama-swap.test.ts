// llama-swap: servers that it starts and stops; and telling programs apart, whatever port and name they have.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { testMemory } from '../conformance/memory.ts';
import { openFakeLlamaRouter } from '../support/fake-llama-router.ts';
import { openFakeLlamaSwap } from '../support/fake-llama-swap.ts';
import type { FakeLlamaSwap } from '../support/fake-llama-swap.ts';
import { openFakeOpenAI } from '../support/fake-openai.ts';
import { fail, known, list, never, overProgram } from '../support/program-runtime.ts';

testMemory('llama-swap', async () => {
  const fake = await openFakeLlamaSwap();
  return {
    runtime: overProgram(fake.url),
    model: 'org/llama',
    loads: () => fake.counts.starts,
    down: fake.down,
    close: fake.close,
  };
});

describe('llama-swap', () => {
  let fake: FakeLlamaSwap;
  let runtime: RuntimeAdapter;
  beforeEach(async () => {
    fake = await openFakeLlamaSwap();
    runtime = overProgram(fake.url);
  });
  afterEach(() => fake.close());

  it('tells which servers run, and the other names of models', async () => {
    fake.states.set('qwen', 'starting');
    fake.states.set('org/llama', 'ready');
    expect(await list(runtime)).toMatchObject({
      qwen: { state: 'loading', aliases: ['small'] },
      'org/llama': { state: 'loaded' },
    });
    expect(await runtime.memory!.residents(never())).toEqual([{ model: 'org/llama', vram: 0 }]);
  });

  it('says when a server does not start', async () => {
    const { memory, models } = await known(runtime);
    fake.broken.add('qwen');
    expect(await fail(memory.load(models['qwen']!, { signal: never() }))).toMatchObject({
      code: 'upstream_error',
      hint: expect.stringContaining('/logs'),
    });
  });

  it('waits for a server that is stopping, and never stops them all', async () => {
    const { memory, models } = await known(runtime);
    for (const id of ['qwen', 'org/llama']) await memory.load(models[id]!, { signal: never() });
    fake.old = true;
    expect((await fail(memory.evict('qwen', never()))).code).toBe('not_supported');
    fake.old = false;
    await Promise.all([memory.evict('qwen', never()), memory.evict('qwen', never())]);
    expect(await memory.residents(never())).toEqual([{ model: 'org/llama', vram: 0 }]);
  });

  it('gets no models', async () => {
    const { puller } = await known(runtime);
    expect(puller.claims({ model: 'hf.co/org/tiny-GGUF' })).toBeUndefined();
    expect(puller.remove).toBeUndefined();
    expect((await fail(puller.plan({ model: 'hf.co/org/tiny-GGUF' }, never()))).code).toBe('not_supported');
  });
});

describe('which program it is', () => {
  it('is looked for once, and again when another answers there', async () => {
    const swap = await openFakeLlamaSwap();
    const router = await openFakeLlamaRouter();
    const runtime = overProgram(swap.url);
    try {
      expect(swap.requests).toEqual([]);
      await Promise.all([runtime.models(never()), runtime.models(never())]);
      const looks = swap.requests.filter((request) => /api\/(ps|v1)|props/.test(request)).length;
      await runtime.models(never());
      expect(swap.requests.filter((request) => /api\/(ps|v1)|props/.test(request))).toHaveLength(looks);
      expect(runtime.puller!.claims({ model: 'hf.co/org/a-GGUF' })).toBeUndefined();

      await swap.down();
      expect((await fail(runtime.memory!.residents(never()))).code).toBe('upstream_unavailable');
      await swap.up(router.respond);
      await runtime.models(never());
      expect(runtime.puller!.claims({ model: 'hf.co/org/a-GGUF' })).toBe(60);
      await swap.down();
      await swap.up(swap.respond);
      // Without anybody having noticed that it was down.
      await runtime.models(never());
      expect(runtime.puller!.claims({ model: 'hf.co/org/a-GGUF' })).toBeUndefined();
    } finally {
      await Promise.all([swap.close(), router.close()]);
    }
  });

  it('is none of these for a server that only speaks the protocol, which then has no memory to move', async () => {
    const plain = await openFakeOpenAI({ list: { data: [{ id: 'a', owned_by: 'me' }] } });
    const hosted = await openFakeOpenAI({ list: { data: [{ id: 'gpt-5', owned_by: 'openai' }] } });
    try {
      const one = overProgram(plain.url);
      expect(one.memory).toBeDefined();
      expect(await one.memory!.residents(never())).toEqual([]);
      expect(one.memory).toBeUndefined();
      const asked = plain.requests.length;
      await one.models(never());
      expect(plain.requests).toHaveLength(asked + 1);
      expect(one.puller!.claims({ model: 'hf.co/org/a-GGUF' })).toBeUndefined();
      const other = overProgram(hosted.url);
      await other.models(never());
      expect(other.memory).toBeUndefined();
      expect(hosted.requests).toHaveLength(1);
      expect(overProgram(plain.url, { flavour: 'xai' })).not.toHaveProperty('memory');
    } finally {
      await Promise.all([plain.close(), hosted.close()]);
    }
  });

  it('does not hold up the list where a server leaves looks unanswered', async () => {
    const swap = await openFakeLlamaSwap();
    const runtime = overProgram(swap.url);
    try {
      await swap.down();
      const data = [{ id: 'a', object: 'model' }];
      await swap.up(({ path }) =>
        path === '/v1/models'
          ? { status: 200, headers: { 'content-type': 'application/json' }, body: JSON.stringify({ data }) }
          : new Promise(() => {}),
      );
      const begun = performance.now();
      expect(Object.keys(await list(runtime))).toEqual(['a']);
      const first = performance.now() - begun;
      expect(first).toBeLessThan(1900);
      const looks = swap.requests.length;
      await list(runtime);
      expect(swap.requests).toHaveLength(looks + 1);
    } finally {
      await swap.close();
    }
  });
});
