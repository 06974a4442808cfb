// Ollama's memory: loading, how long models stay, what ran beside the card, and what lists say of models without asking for each.
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createOllama } from '../../adapters/runtimes/ollama/index.ts';
import type { CapabilityId, Input } from '../../src/capabilities/index.ts';
import type { Call, Model, RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { testMemory } from '../conformance/memory.ts';
import { openFakeOllama, VRAM, type FakeOllama, type FakeOllamaOptions } from '../support/fake-ollama.ts';
import { noFiles } from '../support/no-files.ts';

const limits = { firstByteMs: 2000, idleMs: 1000, controlMs: 1500, maxReplyBytes: 5_000_000 };
const never = () => new AbortController().signal;

testMemory(
  'ollama',
  async () => {
    const fake = await openFakeOllama({ loadMs: 100 });
    return { runtime: adapt(fake), model: 'echo:latest', loads: fake.loads, down: fake.close, close: fake.close };
  },
  { goesOn: true },
);

describe('memory of ollama', () => {
  const opened: FakeOllama[] = [];
  const open = async (options?: FakeOllamaOptions) => {
    const fake = await openFakeOllama(options);
    opened.push(fake);
    return { fake, ollama: adapt(fake) };
  };
  afterEach(async () => {
    for (const fake of opened.splice(0)) await fake.close().catch(() => {});
  });

  describe('load', () => {
    it('loads with the options that requests have, so that they need not load again', async () => {
      const { fake, ollama } = await open();
      await ollama.gpu!.load!(model('echo'), { signal: never(), keep: 90 });
      expect(fake.requests.find(({ path }) => path === '/api/generate')?.body).toEqual({
        model: 'echo',
        stream: false,
        keep_alive: 90,
      });
      const events = await run(ollama, 'text.chat', { messages: [{ role: 'user', content: 'Hi' }] }, 'echo');
      expect(events.some(({ type }) => type === 'status')).toBe(false);
      expect(fake.loads()).toBe(1);
    });

    it('never asks for what unloads', async () => {
      const { fake, ollama } = await open();
      await ollama.gpu!.load!(model('echo'), { signal: never(), keep: 0 });
      expect([...fake.loaded]).toEqual(['echo:latest']);
    });

    it('tells when it leaves, how large it is, and of how much context', async () => {
      const { fake, ollama } = await open();
      fake.memory.set('slow:latest', { size: 5e9, vram: 4e9 });
      await ollama.gpu!.load!(model('echo'), { signal: never(), keep: -1 });
      await ollama.gpu!.load!(model('slow'), { signal: never(), keep: 60 });
      const residents = await ollama.gpu!.residents(never());
      expect(residents[0]).toEqual({ model: 'echo:latest', vram: VRAM, ram: 0, contextWindow: 4096 });
      expect(residents[1]).toMatchObject({ model: 'slow:latest', vram: 4e9, ram: 1e9 });
      expect(residents[1]!.expiresAt! - Date.now()).toBeGreaterThan(30_000);
      expect(residents[1]!.expiresAt! - Date.now()).toBeLessThan(61_000);
      expect(ollama.gpu!.device!()).toBe('card');
    });

    it('says that there is too little memory', async () => {
      const { ollama } = await open();
      await expect(ollama.gpu!.load!(model('oom'), { signal: never() })).rejects.toMatchObject({
        code: 'insufficient_vram',
        hint: expect.stringContaining('smaller'),
      });
    });

    it('is content with a model of the cloud, which never loads', async () => {
      const { ollama } = await open();
      await ollama.models(never());
      await expect(ollama.gpu!.load!(model('cloud'), { signal: never() })).resolves.toBeUndefined();
    });
  });

  describe('how long it stays', () => {
    const asks: [CapabilityId, string, string, object][] = [
      ['text.chat', '/api/chat', 'echo', { messages: [{ role: 'user', content: 'Hi' }] }],
      ['text.generate', '/api/generate', 'echo', { prompt: 'Hi' }],
      ['text.embed', '/api/embed', 'embedder', { input: 'Hi' }],
    ];

    it.each(asks)('%s says what the call says', async (id, path, name, input) => {
      const { fake, ollama } = await open();
      const sent = () => fake.requests.findLast((request) => request.path === path)!.body!;
      await run(ollama, id, input, name, { keep: -1 });
      expect(sent()['keep_alive']).toBe(-1);
      await run(ollama, id, input, name, { keep: 600 });
      expect(sent()['keep_alive']).toBe(600);
      await run(ollama, id, input, name);
      expect(sent()).not.toHaveProperty('keep_alive');
    });

    it('heeds the caller before the call', async () => {
      const { fake, ollama } = await open();
      await run(ollama, 'text.generate', { prompt: 'Hi', keep_alive: 5 }, 'echo', { keep: -1 });
      expect(fake.requests.find(({ path }) => path === '/api/generate')!.body).toMatchObject({ keep_alive: 5 });
    });
  });

  describe('beside the card', () => {
    const warnings = (events: { type: string; warning?: string }[]) =>
      events.flatMap(({ type, warning }) => (type === 'warning' ? [warning!] : []));

    it('says once after a load how much runs on the processor, and asks nothing more', async () => {
      const { fake, ollama } = await open();
      fake.memory.set('echo:latest', { size: 10e9, vram: 7.5e9 });
      const first = await run(ollama, 'text.chat', { messages: [{ role: 'user', content: 'Hi' }] }, 'echo');
      expect(warnings(first)).toEqual([
        expect.stringMatching(/^25 % of echo runs on the processor: it takes 10\.0 GB/),
      ]);
      expect(first.at(-1)!.type).toBe('result');
      const asked = fake.requests.filter(({ path }) => path === '/api/ps').length;
      const second = await run(ollama, 'text.chat', { messages: [{ role: 'user', content: 'Hi' }] }, 'echo');
      expect(warnings(second)).toEqual([]);
      expect(fake.requests.filter(({ path }) => path === '/api/ps')).toHaveLength(asked);
    });

    it('tells a card that is not used from one that is full', async () => {
      const { fake, ollama } = await open();
      fake.memory.set('embedder:latest', { size: 1e9, vram: 0 });
      const alone = await run(ollama, 'text.embed', { input: 'Hi' }, 'embedder');
      expect(warnings(alone)).toEqual([expect.stringMatching(/^100 % of embedder .*uses no card.*ROCm.*Vulkan/)]);
      expect(ollama.gpu!.device!()).toBe('processor');
      await run(ollama, 'text.generate', { prompt: 'Hi' }, 'echo');
      fake.memory.set('slow:latest', { size: 2e9, vram: 0 });
      const full = await run(ollama, 'text.generate', { prompt: 'Hi', max_tokens: 2 }, 'slow');
      expect(warnings(full)).toEqual([expect.stringMatching(/^100 % of slow .*0\.0 GB of it found room on the card/)]);
    });

    it('says nothing of a model that sits on the card alone, of one of the cloud, or where it cannot know', async () => {
      const { fake, ollama } = await open();
      await ollama.models(never());
      expect(warnings(await run(ollama, 'text.generate', { prompt: 'Hi' }, 'echo'))).toEqual([]);
      expect(warnings(await run(ollama, 'text.generate', { prompt: 'Hi' }, 'cloud'))).toEqual([]);
      fake.memory.set('slow:latest', { size: 0, vram: 0 });
      expect(warnings(await run(ollama, 'text.generate', { prompt: 'Hi', max_tokens: 1 }, 'slow'))).toEqual([]);
    });
  });

  describe('lists', () => {
    it('have what the list says, and later what only the details say', async () => {
      const { fake, ollama } = await open({ loaded: ['slow'] });
      const [first] = await ollama.models(never());
      expect(first).toMatchObject({
        id: 'echo:latest',
        digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
        parameters: 3.2e9,
        quantization: 'Q4_K_M',
        size: 2e9,
      });
      await vi.waitFor(async () => {
        const here = (await ollama.models(never())).filter(({ id }) => id !== 'cloud:latest');
        expect(new Set(here.map(({ kvPerToken }) => kvPerToken))).toEqual(new Set([2 * 2 * 2 * 64 * 2]));
      }, 20_000);
      expect((await ollama.models(never()))[0]).toMatchObject({ license: 'mit' });
      const names = fake.requests.filter(({ path }) => path === '/api/show').map(({ body }) => body!['model']);
      expect(new Set(names).size).toBe(names.length);
      expect(names[0]).toBe('slow:latest');
    });

    it('of thousands of models cost a few questions, and never wait for them', async () => {
      const { fake, ollama } = await open({ many: 3000, loaded: ['more2999:1b'] });
      expect(await ollama.models(never())).toHaveLength(3018);
      expect(fake.requests.filter(({ path }) => path === '/api/show').length).toBeLessThan(5);
      for (let times = 0; times < 5; times++) await ollama.models(never());
      await vi.waitFor(async () => {
        const loaded = (await ollama.models(never())).find(({ id }) => id === 'more2999:1b');
        expect(loaded?.kvPerToken).toBeDefined();
      }, 20_000);
      expect(fake.requests.filter(({ path }) => path === '/api/show').length).toBeLessThanOrEqual(33);
    });
  });
});

function adapt(fake: FakeOllama): RuntimeAdapter {
  return createOllama({ baseUrl: fake.url, transport: fetchTransport, limits });
}

function model(id: string): Model {
  return { id, capabilities: ['text.chat'], state: 'ready' };
}

async function run<Id extends CapabilityId>(
  ollama: RuntimeAdapter,
  id: Id,
  input: object,
  name: string,
  call: Partial<Call> = {},
): Promise<{ type: string; warning?: string }[]> {
  const handler = ollama.handles[id] as unknown as (
    input: Input<Id>,
    call: Call,
  ) => AsyncIterable<{ type: string; warning?: string }>;
  const events: { type: string; warning?: string }[] = [];
  const all: Call = { model: model(name), signal: never(), requestId: 'req_memory', file: noFiles, ...call };
  for await (const event of handler({ stream: true, ...input } as Input<Id>, all)) events.push(event);
  return events;
}
