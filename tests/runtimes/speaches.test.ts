// speaches: what it holds, what it gets, and what it deletes.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { testMemory } from '../conformance/memory.ts';
import { openFakeSpeaches } from '../support/fake-speaches.ts';
import type { FakeSpeaches } from '../support/fake-speaches.ts';
import { fail, known, limits, list, never, overProgram, pull } from '../support/program-runtime.ts';

const SMALL = 'Systran/faster-whisper-small';
const LARGE = 'Systran/faster-whisper-large-v3';

testMemory(
  'speaches',
  async () => {
    const fake = await openFakeSpeaches();
    return {
      runtime: overProgram(fake.url),
      model: SMALL,
      loads: () => fake.counts.loads,
      down: fake.down,
      close: fake.close,
    };
  },
  { mute: true, goesOn: true },
);

describe('speaches', () => {
  let fake: FakeSpeaches;
  let runtime: RuntimeAdapter;
  beforeEach(async () => {
    fake = await openFakeSpeaches();
    runtime = overProgram(fake.url);
  });
  afterEach(() => fake.close());

  it('leaves a model that is in use there', async () => {
    const { memory, models } = await known(runtime);
    await memory.load(models[SMALL]!, { signal: never() });
    fake.busy.add(SMALL);
    expect((await fail(memory.evict(SMALL, never()))).code).toBe('conflict');
    expect((await list(runtime))[SMALL]!.state).toBe('loaded');
  });

  it('takes names for names and not for paths', async () => {
    const { memory, models, puller } = await known(runtime);
    fake.inMemory.add('../admin');
    for (const id of ['../admin', 'a//b', '.']) {
      expect((await fail(memory.evict(id, never()))).code).toBe('invalid_request');
      expect((await fail(memory.load({ ...models[SMALL]!, id }, { signal: never() }))).code).toBe('invalid_request');
      expect((await fail(puller.remove!(id, never()))).code).toBe('invalid_request');
    }
    expect(fake.requests.filter((request) => request.includes('admin'))).toEqual([]);
  });

  it('gets a model, however long that takes, and says what it cannot say', async () => {
    fake.downloadMs = 600;
    const hasty = overProgram(fake.url, { limits: { ...limits, firstByteMs: 300 } });
    const { puller } = await known(hasty);
    expect(puller.claims({ model: LARGE })).toBe(60);
    expect((await puller.plan({ model: LARGE }, never())).warnings).toHaveLength(1);
    const events = await pull(hasty, { model: LARGE });
    expect(events.map(({ type }) => type)).toEqual(['status', 'warning', 'pulled']);
    expect(events.at(-1)).toEqual({ type: 'pulled', model: LARGE, files: [] });
    expect((await list(hasty))[LARGE]).toMatchObject({ state: 'ready', source: `https://huggingface.co/${LARGE}` });
    expect((await pull(hasty, { model: LARGE })).at(-1)!.type).toBe('pulled');
    expect(fake.counts.downloads).toBe(1);
  });

  it('says what went wrong', async () => {
    expect((await fail(pull(runtime, { model: 'org/faster-whisper-none' }))).code).toBe('model_not_found');
    const gated = await fail(pull(runtime, { model: 'org/faster-whisper-secret' }));
    expect(gated).toMatchObject({ code: 'model_unavailable', hint: expect.stringContaining('HF_TOKEN') });
    expect((await fail(pull(runtime, { model: 'hf.co/a/b', sha256: 'a'.repeat(64) }))).code).toBe('not_supported');
    fake.downloadMs = 20_000;
    expect((await fail(pull(runtime, { model: LARGE }, AbortSignal.timeout(150)))).code).toBe('client_closed');
  });

  it('searches its registry, and then knows those names as its own', async () => {
    const { puller } = await known(runtime);
    expect(puller.claims({ model: 'speaches-ai/piper-en_US-amy-low' })).toBe(60);
    const offers = await puller.search!('WHISPER systran', never());
    expect(offers.map(({ model, present }) => [model, present])).toEqual([
      [SMALL, true],
      [LARGE, false],
    ]);
    expect(puller.claims({ model: LARGE })).toBe(100);
    expect(puller.claims({ model: 'org/llama-GGUF' })).toBeUndefined();
  });

  it('deletes a model, out of memory first', async () => {
    const { memory, models, puller } = await known(runtime);
    await memory.load(models[SMALL]!, { signal: never() });
    expect(await puller.remove!(SMALL, never())).toEqual({ freed: undefined, files: [] });
    expect(fake.counts).toMatchObject({ unloads: 1, deletes: 1 });
    expect((await fail(puller.remove!(SMALL, never()))).code).toBe('model_not_found');
    expect((await fail(puller.remove!('meta/llama', never()))).code).toBe('model_not_found');
  });

  it('is found while it has no model at all', async () => {
    fake.models.clear();
    const { puller } = await known(runtime);
    expect(puller.claims({ model: LARGE })).toBe(60);
    expect(fake.count('GET /v1/registry')).toBe(0);
  });
});
