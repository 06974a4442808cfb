// The Ollama adapter: the suite of every runtime, then one test for each way in which Ollama's wire surprises.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createOllama } from '../../adapters/runtimes/ollama/index.ts';
import type { OllamaOptions } from '../../adapters/runtimes/ollama/index.ts';
import type { CapabilityId, Chunk, Input, Result } from '../../src/capabilities/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { RunEvent } from '../../src/event.ts';
import type { Model, RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { testRuntime } from '../conformance/runtime.ts';
import { openFakeOllama, UTF8_TEXT, VRAM } from '../support/fake-ollama.ts';
import type { FakeOllama } from '../support/fake-ollama.ts';
import { noFiles } from '../support/no-files.ts';

const limits = { firstByteMs: 1500, idleMs: 500, controlMs: 1500, maxReplyBytes: 1_000_000 };

testRuntime('ollama', async () => {
  const fake = await openFakeOllama();
  return {
    runtime: adapt(fake),
    models: { generate: 'echo', chat: 'echo', embed: 'embedder', long: 'slow' },
    executions: fake.executions,
    aborts: fake.aborts,
    close: fake.close,
  };
});

describe('ollama', () => {
  let fake: FakeOllama;
  let ollama: RuntimeAdapter;
  const extra: FakeOllama[] = [];
  beforeAll(async () => {
    fake = await openFakeOllama();
    ollama = adapt(fake);
  });
  afterAll(() => fake.close());
  afterEach(async () => {
    for (const each of extra.splice(0)) await each.close();
  });
  const open = async (...options: Parameters<typeof openFakeOllama>) => {
    const opened = await openFakeOllama(...options);
    extra.push(opened);
    return opened;
  };
  const chat = (model: string, input: Partial<Input<'text.chat'>> = {}, facts: Partial<Model> = {}) =>
    run(
      ollama,
      'text.chat',
      { messages: [{ role: 'user', content: 'Hello there' }], stream: true, ...input },
      { id: model, ...facts },
    );
  const generate = (model: string, input: Partial<Input<'text.generate'>> = {}, facts: Partial<Model> = {}) =>
    run(ollama, 'text.generate', { prompt: 'Hello there', stream: true, ...input }, { id: model, ...facts });
  const sent = (path: string, from = fake) => from.requests.findLast((request) => request.path === path)?.body ?? {};

  describe('what it sends', () => {
    it('asks for a stream, whatever the caller reads', async () => {
      await chat('echo', { stream: false });
      expect(sent('/api/chat')).toMatchObject({ model: 'echo', stream: true });
      expect(sent('/api/chat')).not.toHaveProperty('options');
      expect(sent('/api/chat')).not.toHaveProperty('think');
    });

    it('translates every sampling knob', async () => {
      await generate('echo', {
        max_tokens: 5,
        seed: 3,
        temperature: 0.5,
        top_p: 0.8,
        top_k: 10,
        min_p: 0.1,
        repeat_penalty: 1.2,
        presence_penalty: 0.3,
        frequency_penalty: 0.4,
        stop: 'zzz',
        context: 2048,
        keep_alive: 60,
        logprobs: true,
        top_logprobs: 2,
        suffix: 'end',
        response_format: { type: 'json_object' },
      });
      expect(sent('/api/generate')).toEqual({
        model: 'echo',
        stream: true,
        prompt: 'Hello there',
        suffix: 'end',
        format: 'json',
        keep_alive: 60,
        logprobs: true,
        top_logprobs: 2,
        options: {
          num_predict: 5,
          seed: 3,
          temperature: 0.5,
          top_p: 0.8,
          top_k: 10,
          min_p: 0.1,
          repeat_penalty: 1.2,
          presence_penalty: 0.3,
          frequency_penalty: 0.4,
          stop: ['zzz'],
          num_ctx: 2048,
        },
      });
    });

    it('sends system and raw, and lets Ollama refuse the two together', async () => {
      await generate('echo', { system: 'Be brief.' });
      expect(sent('/api/generate')).toMatchObject({ system: 'Be brief.' });
      await generate('echo', { raw: true });
      expect(sent('/api/generate')).toMatchObject({ raw: true });
      expect((await fail(generate('echo', { raw: true, system: 'x' }))).code).toBe('invalid_request');
    });

    it('sends a JSON schema as the format', async () => {
      const schema = { type: 'object', properties: { n: { type: 'integer' } } };
      const { result } = await chat('echo', { response_format: { type: 'json_schema', json_schema: { schema } } });
      expect(sent('/api/chat')['format']).toEqual(schema);
      expect(result.message.content).toBe('{"n":1}');
      await chat('echo', { response_format: { type: 'text' } });
      expect(sent('/api/chat')).not.toHaveProperty('format');
    });

    it('sends tool calls as objects and names the tool that answered', async () => {
      const { result } = await chat('tools', {
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'Weather?' },
          {
            role: 'assistant',
            content: '',
            reasoning: 'I must look.',
            tool_calls: [
              { id: 'call_1', type: 'function', function: { name: 'weather', arguments: '{"city":"Oslo"}' } },
              { id: 'call_2', type: 'function', function: { name: 'clock', arguments: '' } },
            ],
          },
          { role: 'tool', tool_call_id: 'call_2', content: '12:00' },
          { role: 'tool', tool_call_id: 'call_1', content: '-3 C' },
        ],
      });
      const [, , assistant, clock, weather] = sent('/api/chat')['messages'];
      expect(assistant).toEqual({
        role: 'assistant',
        content: '',
        thinking: 'I must look.',
        tool_calls: [
          { id: 'call_1', function: { name: 'weather', arguments: { city: 'Oslo' } } },
          { id: 'call_2', function: { name: 'clock', arguments: {} } },
        ],
      });
      expect(clock).toEqual({ role: 'tool', content: '12:00', tool_name: 'clock', tool_call_id: 'call_2' });
      expect(weather.tool_name).toBe('weather');
      expect(result.message.content).toBe('weather said -3 C');
    });

    it.each(['{"city":', '[1]', '"text"'])('refuses tool arguments that are no object: %s', async (text) => {
      const call = { id: 'c', type: 'function' as const, function: { name: 'f', arguments: text } };
      const error = await fail(chat('tools', { messages: [{ role: 'assistant', content: '', tool_calls: [call] }] }));
      expect(error).toMatchObject({ code: 'invalid_request', param: 'messages.0.tool_calls.0.function.arguments' });
    });

    it('sends pictures as bare base64, and takes nothing but data: URLs', async () => {
      const url = 'data:image/png;base64,aGVsbG8=';
      const vision = { vision: true };
      const ask = (picture: string): Partial<Input<'text.chat'>> => ({
        messages: [
          {
            role: 'user',
            content: [
              { type: 'text', text: 'What?' },
              { type: 'image_url', image_url: { url: picture } },
            ],
          },
        ],
      });
      expect((await chat('vision', ask(url), vision)).result.message.content).toBe('saw 1 pictures');
      expect(sent('/api/chat')['messages']).toEqual([{ role: 'user', content: 'What?', images: ['aGVsbG8='] }]);
      expect((await generate('vision', { images: [url, url] }, vision)).result.text).toBe('saw 2 pictures');
      for (const bad of ['https://example.com/cat.png', 'data:image/svg+xml,<svg/>', 'aGVsbG8=']) {
        const error = await fail(chat('vision', ask(bad), vision));
        expect(error).toMatchObject({ code: 'invalid_request', param: 'messages.0.content.1.image_url.url' });
        expect(error.hint).toContain('data:image/png;base64');
      }
      const blind = { vision: false };
      expect((await fail(chat('echo', ask(url), blind))).code).toBe('unsupported_parameter');
      expect((await fail(generate('echo', { images: [url] }, blind))).code).toBe('unsupported_parameter');
      // Of an old server's model nobody knows; whoever names it may.
      await chat('echo', ask(url), {});
      expect(sent('/api/chat')['messages'][0].images).toEqual(['aGVsbG8=']);
    });

    it.each([
      ['none', false],
      ['minimal', 'low'],
      ['medium', 'medium'],
      ['max', 'high'],
    ] as const)('sends reasoning_effort %s as think %s', async (effort, think) => {
      const { result } = await chat('thinker', { reasoning_effort: effort }, { reasoning: true });
      expect(sent('/api/chat')['think']).toBe(think);
      expect(result.message.reasoning).toBe(think === false ? undefined : 'Let me think.');
    });

    it('keeps reasoning_effort from a model that cannot reason', async () => {
      const { warnings } = await chat('echo', { reasoning_effort: 'high' });
      expect(sent('/api/chat')).not.toHaveProperty('think');
      expect(warnings).toEqual([expect.stringContaining('reasoning_effort')]);
      expect((await chat('echo', { reasoning_effort: 'none' })).warnings).toEqual([]);
    });

    it('falls back to plain thinking where levels are refused', async () => {
      const old = await open({ old: true });
      const messages = [{ role: 'user' as const, content: 'Hm' }];
      const { result, warnings } = await run(
        ...([
          adapt(old),
          'text.chat',
          { messages, stream: true, reasoning_effort: 'low' },
          { id: 'thinker', reasoning: true },
        ] as const),
      );
      expect(result.message.reasoning).toBe('Let me think.');
      expect(sent('/api/chat', old)['think']).toBe(true);
      expect(warnings).toEqual([expect.stringContaining('levels')]);
    });

    it('warns of each knob that Ollama lacks', async () => {
      const tools = [{ type: 'function' as const, function: { name: 'weather', strict: true } }];
      const { warnings } = await chat('tools', {
        tools,
        tool_choice: 'required',
        parallel_tool_calls: false,
        messages: [{ role: 'user', content: 'Hi', name: 'Ann' }],
      });
      for (const knob of ['name', 'tool_choice', 'parallel_tool_calls', 'strict']) {
        expect(
          warnings.filter((warning) => warning.includes(knob)),
          knob,
        ).toHaveLength(1);
      }
      expect((await generate('echo', { echo: true })).warnings).toEqual([expect.stringContaining('echo')]);
      expect((await generate('echo', { prompt: '' })).warnings).toEqual([expect.stringContaining('empty prompt')]);
    });

    it('leaves the tools out for tool_choice none', async () => {
      const tools = [{ type: 'function' as const, function: { name: 'weather' } }];
      const { result, warnings } = await chat('tools', { tools, tool_choice: 'none' });
      expect(sent('/api/chat')).not.toHaveProperty('tools');
      expect(result.finish_reason).toBe('stop');
      expect(warnings).toEqual([]);
    });

    it('takes max_tokens 0 for what it says, though Ollama takes it for no limit', async () => {
      const { result, events } = await generate('echo', { max_tokens: 0 });
      expect(sent('/api/generate')['options'].num_predict).toBe(1);
      expect(result).toMatchObject({ text: '', finish_reason: 'length', usage: { completion_tokens: 0 } });
      expect(events.some((event) => event.type === 'chunk')).toBe(false);
    });

    it('folds a seed that is wider than the runner keeps', async () => {
      const { result } = await generate('echo', { seed: 0xffffffff + 5 });
      expect(sent('/api/generate')['options'].seed).toBe(5);
      expect(result.seed).toBe(0xffffffff + 5);
    });
  });

  describe('what it makes of the answer', () => {
    it('numbers the tool calls, gives each an id, and ends with tool_calls', async () => {
      const tools = [
        { type: 'function' as const, function: { name: 'weather', parameters: { type: 'object' } } },
        { type: 'function' as const, function: { name: 'clock' } },
      ];
      const { result, events, warnings } = await chat('tools', { tools });
      expect(result.finish_reason).toBe('tool_calls');
      const calls = result.message.tool_calls ?? [];
      expect(calls.map((call) => call.function)).toEqual([
        { name: 'weather', arguments: '{"city":"Oslo","nth":0}' },
        { name: 'clock', arguments: '{"city":"Bergen","nth":1}' },
      ]);
      expect(calls[0]!.id).toBe('call_fake0001');
      expect(calls[1]!.id).toMatch(/^call_[0-9a-f]{24}$/);
      const chunks = events.flatMap((event) => (event.type === 'chunk' ? (event.chunk.tool_calls ?? []) : []));
      expect(chunks).toEqual(calls.map(({ id, function: each }, index) => ({ index, id, ...each })));
      expect(warnings).toEqual([]);
    });

    it('keeps reasoning apart from text', async () => {
      for (const { events, result } of [await chat('thinker'), await generate('thinker')]) {
        const reasoning = events.map((event) => (event.type === 'chunk' ? (event.chunk.reasoning ?? '') : '')).join('');
        expect(reasoning).toBe('Let me think.');
        expect('message' in result ? result.message.reasoning : result.reasoning).toBe(reasoning);
      }
    });

    it('puts characters together that the network cut', async () => {
      expect((await chat('utf8')).result.message.content).toBe(UTF8_TEXT);
      expect((await generate('utf8')).result.text).toBe(UTF8_TEXT);
    });

    it('counts zero where Ollama leaves a counter out', async () => {
      const { result } = await chat('uncounted');
      expect(result.usage).toEqual({ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 });
    });

    it('reports log-probabilities, or that there are none', async () => {
      const { result } = await generate('echo', { logprobs: true });
      expect(result.logprobs).toHaveLength(10);
      expect(result.logprobs![0]).toMatchObject({ logprob: -0.5, top_logprobs: [] });
      const { result: both } = await chat('echo', { logprobs: true, top_logprobs: 2 });
      expect(both.logprobs![0]!.top_logprobs).toHaveLength(2);
      const old = await open({ old: true });
      const asked = { prompt: 'x', logprobs: true, stream: true };
      expect((await run(adapt(old), 'text.generate', asked, { id: 'echo' })).warnings).toEqual([
        expect.stringContaining('log-probabilities'),
      ]);
    });
  });

  describe('how it fails', () => {
    it.each([
      ['silent', 'upstream_timeout'],
      ['hang', 'upstream_idle'],
      ['reset', 'upstream_terminated'],
      ['truncated', 'upstream_truncated'],
      ['garbage', 'upstream_invalid'],
      ['errorline', 'upstream_error'],
      ['oomline', 'insufficient_vram'],
      ['oom', 'insufficient_vram'],
    ] as const)('%s → %s', async (model, code) => {
      for (const ask of [chat, generate]) {
        const error = await fail(ask(model));
        expect(error.code).toBe(code);
        expect(error.source).toBe('ollama');
        expect(error.message).not.toMatch(/127\.0\.0\.1|\/root|http:/);
      }
    });

    it('gives nothing more to a caller who left, though the rest of the answer has come', async () => {
      const line = '{"response":"x","done":false}\n';
      const bytes = new TextEncoder().encode(line.repeat(3) + '{"response":"","done":true,"done_reason":"stop"}\n');
      const transport: OllamaOptions['transport'] = async () => ({
        status: 200,
        header: () => undefined,
        body: (async function* () {
          yield bytes;
        })(),
      });
      const abort = new AbortController();
      const call = {
        model: { id: 'x', capabilities: [], state: 'loaded' as const },
        signal: abort.signal,
        requestId: 'req_test',
        file: noFiles,
      };
      let chunks = 0;
      const reading = (async () => {
        for await (const event of adapt(fake, { transport }).handles['text.generate']!(
          { prompt: 'x', stream: true },
          call,
        )) {
          if (event.type === 'chunk' && ++chunks === 1) abort.abort();
        }
      })();
      expect((await fail(reading)).code).toBe('client_closed');
      expect(chunks).toBe(1);
    });

    it('stops a runtime that it gave up on', async () => {
      const before = fake.aborts();
      await fail(chat('hang'));
      await until(() => fake.aborts() === before + 1);
    });

    it('says how to get a model that is not there', async () => {
      for (const ask of [chat, generate]) {
        expect(await fail(ask('nope:7b'))).toMatchObject({
          code: 'model_not_found',
          hint: 'ollama pull nope:7b',
          source: 'ollama',
        });
      }
      expect(ollama.pullHint!('nope:7b')).toBe('ollama pull nope:7b');
    });

    it('names the parameter that the model cannot take', async () => {
      const tools = [{ type: 'function' as const, function: { name: 'weather' } }];
      expect(await fail(chat('slow', { tools }))).toMatchObject({ code: 'unsupported_parameter', param: 'tools' });
      expect(await fail(generate('slow', { suffix: 'x' }))).toMatchObject({
        code: 'unsupported_parameter',
        param: 'suffix',
      });
    });

    it('tells another server from one without the model', async () => {
      const elsewhere = adapt(fake, { baseUrl: `${fake.url}/v1` });
      const asked = { prompt: 'x', stream: true };
      expect((await fail(run(elsewhere, 'text.generate', asked, { id: 'echo' }))).code).toBe('upstream_invalid');
    });

    it('says that it is down, with a remedy', async () => {
      const gone = await openFakeOllama();
      await gone.close();
      const error = await fail(adapt(gone).health(AbortSignal.timeout(5000)));
      expect(error.code).toBe('upstream_unavailable');
      expect(error.hint).toContain('ollama serve');
    });
  });

  describe('text.embed', () => {
    const embed = (input: Input<'text.embed'>, runtime = ollama) =>
      run(runtime, 'text.embed', input, { id: 'embedder' });

    it('gives a vector for an empty text, where Ollama gives none', async () => {
      expect((await embed({ input: '' })).result.embeddings).toHaveLength(1);
    });

    it('shortens vectors, and warns where that cannot be', async () => {
      expect((await embed({ input: 'x', dimensions: 8 })).result.dimensions).toBe(8);
      const { result, warnings } = await embed({ input: 'x', dimensions: 999 });
      expect(result.dimensions).toBe(32);
      expect(warnings).toEqual([expect.stringContaining('999')]);
    });

    it('refuses a text that would be cut in silence', async () => {
      expect((await fail(embed({ input: 'x'.repeat(9000) }))).code).toBe('context_length_exceeded');
    });
  });

  describe('models', () => {
    it('offers each model for what it can do', async () => {
      const models = new Map((await ollama.models(AbortSignal.timeout(5000))).map((model) => [model.id, model]));
      expect(models.get('echo:latest')).toMatchObject({
        aliases: ['echo'],
        capabilities: ['text.generate', 'text.chat'],
        tools: true,
        vision: false,
        reasoning: false,
        contextWindow: 8192,
        size: 2_000_000_000,
        created: 1769731200,
        rank: 1769731200,
      });
      expect(models.get('echo:latest')).not.toHaveProperty('tiny');
      expect(models.get('embedder:latest')!.capabilities).toEqual(['text.embed']);
      expect(models.get('thinker:latest')!.reasoning).toBe(true);
      expect(models.get('vision:latest')!.vision).toBe(true);
      expect(fake.requests.some((request) => request.path === '/api/show')).toBe(false);
    });

    it('asks an older server for the details, once per model', async () => {
      const old = await open({ old: true });
      const runtime = adapt(old);
      const shows = () => old.requests.filter((request) => request.path === '/api/show').length;
      const first = await runtime.models(AbortSignal.timeout(5000));
      expect(first.find((model) => model.id === 'embedder:latest')).toMatchObject({
        capabilities: ['text.embed'],
        contextWindow: 8192,
      });
      expect(shows()).toBe(first.length);
      expect(await runtime.models(AbortSignal.timeout(5000))).toEqual(first);
      expect(shows()).toBe(first.length);
    });

    it('knows what is loaded, and says when a model must load first', async () => {
      const cold = await open();
      const runtime = adapt(cold);
      const state = async () =>
        (await runtime.models(AbortSignal.timeout(5000))).find((model) => model.id === 'echo:latest')!.state;
      const states = async (id: string) => {
        const { events } = await run(runtime, 'text.generate', { prompt: 'x', stream: true }, { id });
        return events.filter((event) => event.type === 'status');
      };
      expect(await state()).toBe('ready');
      expect(await states('echo')).toEqual([{ type: 'status', state: 'loading' }]);
      expect(await state()).toBe('loaded');
      expect(await states('echo:latest')).toEqual([]);
      expect(await states('cloud'), 'a model of the cloud never loads').toEqual([]);
    });
  });

  describe('gpu', () => {
    it('estimates the footprint, and measures it once the model has run', async () => {
      const server = await open({ loaded: ['slow'] });
      const { gpu, models } = adapt(server);
      const model: Model = { id: 'slow', capabilities: ['text.chat'], state: 'ready', size: 1000 };
      // Weights, buffers, and a context's cache.
      const guess = gpu!.footprint({ ...model, size: 5e9 });
      expect(guess).toBeGreaterThan(5.3e9);
      expect(guess).toBeLessThan(7e9);
      expect(await gpu!.residents(AbortSignal.timeout(5000))).toMatchObject([
        { model: 'slow:latest', vram: VRAM, ram: 0 },
      ]);
      expect(gpu!.footprint(model)).toBe(VRAM);
      await models(AbortSignal.timeout(5000));
      expect(gpu!.footprint({ ...model, id: 'cloud' })).toBe(0);
    });

    it('evicts a model, and returns only when it is gone', async () => {
      const server = await open({ loaded: ['echo', 'slow'], unloadMs: 150 });
      const { gpu } = adapt(server);
      await gpu!.evict('echo', AbortSignal.timeout(5000));
      expect([...server.loaded]).toEqual(['slow:latest']);
      expect(sent('/api/generate', server)).toMatchObject({ model: 'echo', keep_alive: 0 });
      expect(server.executions()).toBe(0);
      await gpu!.evict('never-loaded', AbortSignal.timeout(5000));
    });

    it('gives up on a model that does not leave', async () => {
      const server = await open({ loaded: ['sticky'] });
      const { gpu } = adapt(server, { evictMs: 250 });
      const error = await fail(gpu!.evict('sticky', AbortSignal.timeout(5000)));
      expect(error).toMatchObject({ code: 'insufficient_vram', source: 'ollama' });
      expect(error.retryAfter).toBeGreaterThan(0);
    });
  });
});

function adapt(fake: FakeOllama, options: Partial<OllamaOptions> = {}): RuntimeAdapter {
  return createOllama({ baseUrl: fake.url, transport: fetchTransport, limits, ...options });
}

/** Runs to the end: everything said on the way, the warnings, and the one result. */
async function run<Id extends CapabilityId>(
  runtime: RuntimeAdapter,
  id: Id,
  input: Input<Id>,
  facts: { id: string } & Partial<Model>,
) {
  const model: Model = { capabilities: [id], state: 'ready', ...facts };
  const events: RunEvent<Chunk<Id>, Result<Id>>[] = [];
  const handler = runtime.handles[id]!;
  for await (const event of handler(input, {
    model,
    signal: new AbortController().signal,
    requestId: 'req_test',
    file: noFiles,
  })) {
    events.push(event as RunEvent<Chunk<Id>, Result<Id>>);
  }
  const last = events.at(-1);
  if (last?.type !== 'result') throw new Error('no result');
  return {
    events,
    result: last.result,
    warnings: events.flatMap((event) => (event.type === 'warning' ? [event.warning] : [])),
  };
}

async function fail(work: Promise<unknown>): Promise<GatewayError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}

async function until(happened: () => boolean): Promise<void> {
  const deadline = Date.now() + 1000;
  while (!happened() && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(happened(), 'within a second').toBe(true);
}
