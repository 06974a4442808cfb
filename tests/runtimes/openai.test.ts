// The OpenAI-compatible adapter: the suite of every runtime, then a test for each way in which servers of this family differ.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createOpenAI } from '../../adapters/runtimes/openai/index.ts';
import type { OpenAIOptions } from '../../adapters/runtimes/openai/index.ts';
import type { CapabilityId, Chunk, Input, Result } from '../../src/capabilities/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { RunEvent } from '../../src/event.ts';
import type { Model, RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { testRuntime } from '../conformance/runtime.ts';
import { openFakeOpenAI, UTF8_TEXT } from '../support/fake-openai.ts';
import type { FakeOpenAI } from '../support/fake-openai.ts';
import { noFiles } from '../support/no-files.ts';

const tools = openMediaTools({ maxPixels: 1_000_000 });
const limits = { firstByteMs: 1500, idleMs: 500, controlMs: 1500, maxReplyBytes: 1_000_000 };
const PICTURE = 'data:image/png;base64,iVBORw0KGgo=';

testRuntime('openai', async () => {
  const fake = await openFakeOpenAI({ apiKey: 'secret' });
  return {
    runtime: adapt(fake, { apiKey: 'secret' }),
    models: { generate: 'echo', chat: 'echo', embed: 'embedder', long: 'slow' },
    executions: fake.executions,
    aborts: fake.aborts,
    close: fake.close,
  };
});

const openXai = async () => {
  const fake = await openFakeOpenAI({ apiKey: 'secret', flavour: 'xai' });
  return {
    runtime: adapt(fake, { name: 'xai', apiKey: 'secret', flavour: 'xai' }),
    models: { generate: 'grok-3', chat: 'grok-3', long: 'slow' },
    executions: fake.executions,
    aborts: fake.aborts,
    close: fake.close,
  };
};
testRuntime('xai', openXai, ['generate', 'chat']);

describe('openai', () => {
  let fake: FakeOpenAI;
  let openai: RuntimeAdapter;
  const extra: FakeOpenAI[] = [];
  beforeAll(async () => {
    fake = await openFakeOpenAI();
    openai = adapt(fake);
  });
  afterAll(() => fake.close());
  afterEach(async () => {
    for (const each of extra.splice(0)) await each.close();
  });
  const open = async (...options: Parameters<typeof openFakeOpenAI>) => {
    const opened = await openFakeOpenAI(...options);
    extra.push(opened);
    return opened;
  };
  const chat = (model: string, input: Partial<Input<'text.chat'>> = {}, on = openai) =>
    run(on, 'text.chat', { messages: [{ role: 'user', content: 'Hello there' }], stream: true, ...input }, model);
  const generate = (model: string, input: Partial<Input<'text.generate'>> = {}, on = openai) =>
    run(on, 'text.generate', { prompt: 'Hello there', stream: true, ...input }, model);
  const sent = (from = fake) => from.requests.at(-1)!;
  const body = (from = fake) => sent(from).body!;

  describe('what it sends', () => {
    it('asks for a stream with usage, whatever the caller reads', async () => {
      await chat('echo', { stream: false });
      expect(sent().path).toBe('/v1/chat/completions');
      expect(body()).toEqual({
        model: 'echo',
        messages: [{ role: 'user', content: 'Hello there' }],
        stream: true,
        stream_options: { include_usage: true },
      });
    });

    it('translates every knob, and warns of those that a request cannot set', async () => {
      const { warnings } = await generate('echo', {
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
        logprobs: true,
        top_logprobs: 12,
        context: 2048,
        keep_alive: 60,
        response_format: { type: 'json_object' },
      });
      expect(body()).toMatchObject({
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
        logprobs: true,
        top_logprobs: 12,
        response_format: { type: 'json_object' },
      });
      for (const name of ['context', 'keep_alive', 'max_completion_tokens']) expect(body()).not.toHaveProperty(name);
      expect(warnings.join()).toContain('context');
      expect(warnings.join()).toContain('keep_alive');
      expect(warnings).toHaveLength(2);
    });

    it('sends a prompt as a conversation, with system and pictures', async () => {
      await generate('echo', { system: 'Be brief.', images: [PICTURE] });
      expect(body()['messages']).toEqual([
        { role: 'system', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Hello there' },
            { type: 'image_url', image_url: { url: PICTURE } },
          ],
        },
      ]);
      expect(body()).not.toHaveProperty('system');
    });

    it.each([{ raw: true }, { suffix: 'the end' }, { echo: true }])('sends %o as a bare prompt', async (knob) => {
      const { result } = await generate('echo', { ...knob, max_tokens: 3 });
      expect(sent().path).toBe('/v1/completions');
      expect(body()).toMatchObject({ prompt: 'Hello there', max_tokens: 3, stream: true });
      expect(body()).not.toHaveProperty('raw');
      if ('suffix' in knob) expect(body()['suffix']).toBe('the end');
      if ('echo' in knob) expect(result.text).toMatch(/^Hello there/);
      expect(result.finish_reason).toBe('length');
    });

    it('sends a conversation with tools as OpenAI has it', async () => {
      const call = {
        id: 'call_1',
        type: 'function' as const,
        function: { name: 'weather', arguments: '{"city":"Oslo"}' },
      };
      const messages: Input<'text.chat'>['messages'] = [
        { role: 'user', content: 'Weather?' },
        { role: 'assistant', content: '', reasoning: 'I must look.', tool_calls: [call] },
        { role: 'tool', tool_call_id: 'call_1', content: '-3 C' },
      ];
      await chat('tools-text', {
        messages,
        tools: [{ type: 'function', function: { name: 'weather', parameters: { type: 'object' }, strict: null } }],
        tool_choice: { type: 'function', function: { name: 'weather' } },
        parallel_tool_calls: false,
        response_format: { type: 'json_schema', json_schema: { schema: { type: 'object' } } },
      });
      expect(body()).toMatchObject({
        messages: [
          { role: 'user', content: 'Weather?' },
          { role: 'assistant', content: '', reasoning_content: 'I must look.', tool_calls: [call] },
          { role: 'tool', tool_call_id: 'call_1', content: '-3 C' },
        ],
        tools: [{ type: 'function', function: { name: 'weather', parameters: { type: 'object' } } }],
        tool_choice: { type: 'function', function: { name: 'weather' } },
        parallel_tool_calls: false,
        response_format: { type: 'json_schema', json_schema: { name: 'answer', schema: { type: 'object' } } },
      });
      expect(body()['tools'][0].function).not.toHaveProperty('strict');
    });

    it('switches reasoning off where chat templates do that', async () => {
      await chat('echo', { reasoning_effort: 'none' });
      expect(body()['chat_template_kwargs']).toEqual({ enable_thinking: false });
      expect(body()).not.toHaveProperty('reasoning_effort');
      await chat('echo', { reasoning_effort: 'high' });
      expect(body()['reasoning_effort']).toBe('high');
    });

    it('asks again without the knobs that a server refuses, and says so', async () => {
      const before = fake.executions();
      const { result, warnings } = await chat('picky', { top_k: 4, reasoning_effort: 'none', temperature: 1 });
      expect(result.message.content).not.toBe('');
      expect(body()).toMatchObject({ temperature: 1 });
      expect(fake.executions()).toBe(before + 1);
      for (const name of ['top_k', 'chat_template_kwargs', 'stream_options']) {
        expect(body()).not.toHaveProperty(name);
        expect(warnings.join()).toContain(name);
      }
    });

    it('never has a server fetch a picture', async () => {
      const before = fake.executions();
      for (const url of ['http://127.0.0.1/x.png', 'https://example.com/x.png', 'file:///etc/passwd', 'x.png']) {
        const content = [{ type: 'image_url' as const, image_url: { url } }];
        const error = await fail(chat('echo', { messages: [{ role: 'user', content }] }));
        expect(error).toMatchObject({ code: 'invalid_request', param: 'messages.0.content.0.image_url' });
        expect((await fail(generate('echo', { images: [url] }))).code).toBe('invalid_request');
      }
      expect(fake.executions()).toBe(before);
    });

    it('sends the key with every request, and never shows it', async () => {
      const server = await open({ apiKey: 'secret' });
      const good = adapt(server, { apiKey: 'secret', headers: { 'x-team': 'blue' } });
      await good.health(new AbortController().signal);
      expect(sent(server).headers).toMatchObject({ authorization: 'Bearer secret', 'x-team': 'blue' });
      await chat('echo', {}, good);
      expect(sent(server).headers).toMatchObject({ authorization: 'Bearer secret', 'x-team': 'blue' });
      const bad = adapt(server, { apiKey: 'wrong-key' });
      for (const error of [await fail(chat('echo', {}, bad)), await fail(bad.health(new AbortController().signal))]) {
        expect(error).toMatchObject({ code: 'provider_auth', source: 'openai' });
        expect(`${error.message} ${error.hint}`).not.toContain('wrong-key');
      }
    });
  });

  describe('what it makes of answers', () => {
    it('counts what the server counts', async () => {
      const { result } = await chat('echo', { seed: 5 });
      expect(result).toMatchObject({ finish_reason: 'stop', seed: 5 });
      expect(result.usage.completion_tokens).toBe(10);
      expect(result.usage.prompt_tokens).toBeGreaterThan(0);
    });

    it.each(['usage-last', 'usage-every'])('finds the usage of %s', async (model) => {
      const { result, warnings } = await chat(model);
      expect(result.usage.completion_tokens).toBe(10);
      expect(warnings).toEqual([]);
    });

    it('estimates where nobody counts, and says so', async () => {
      const { result, warnings } = await chat('uncounted');
      expect(result.usage).toEqual({ prompt_tokens: 3, completion_tokens: 10, total_tokens: 13 });
      expect(warnings).toEqual([expect.stringContaining('estimate')]);
    });

    it('makes nothing of max_tokens 0', async () => {
      const { result, events } = await chat('echo', { max_tokens: 0 });
      expect(body()['max_tokens']).toBe(1);
      expect(events.filter((event) => event.type === 'chunk')).toEqual([]);
      expect(result.message.content).toBe('');
      expect(result).toMatchObject({ finish_reason: 'length', usage: { completion_tokens: 0 } });
    });

    it('scores an echoed prompt', async () => {
      const { result } = await generate('echo', { raw: true, echo: true, logprobs: true, max_tokens: 0 });
      expect(body()).toMatchObject({ echo: true, max_tokens: 0, logprobs: 1 });
      expect(result.text).toBe('Hello there');
      // The first of two tokens has no probability.
      expect(result.logprobs).toEqual([{ token: 'there', logprob: -0.25, top_logprobs: [] }]);
    });

    it.each(['chat', 'generate'] as const)('reports log-probabilities of text.%s', async (kind) => {
      const knobs = { logprobs: true, top_logprobs: 2, max_tokens: 3 };
      const { result, events } =
        kind === 'chat' ? await chat('logprobs', knobs) : await generate('logprobs', { ...knobs, raw: true });
      expect(result.logprobs).toHaveLength(3);
      for (const { logprob, top_logprobs } of result.logprobs!) {
        expect(logprob).toBe(-0.25);
        expect(top_logprobs.map((each) => each.logprob)).toEqual([-0.5, -1.5]);
      }
      const chunks = events.flatMap((event) => (event.type === 'chunk' ? (event.chunk.logprobs ?? []) : []));
      expect(chunks).toEqual(result.logprobs);
    });

    it.each(['reasoner', 'thinker'])('tells the reasoning of %s from its text', async (model) => {
      const { result } = await chat(model);
      expect(result.message.reasoning).toBe('Let me see');
      expect(result.message.content).not.toContain('Let me see');
      // The reasoner leaves its thoughts out of completion_tokens.
      expect(result.usage.completion_tokens).toBe(13);
      expect((await generate(model)).result.reasoning).toBe('Let me see');
    });

    it.each(['crlf', 'twice', 'eof', 'whole'])('reads %s to its end and no further', async (model) => {
      const { result, chunks } = await chat(model);
      expect(chunks).toBe(result.message.content);
      expect(result.message.content.split(' ')).toHaveLength(10);
      expect(result.finish_reason).toBe('stop');
      expect((await generate(model, { raw: true })).result.text.split(' ')).toHaveLength(10);
    });

    it('puts characters together that arrive in pieces', async () => {
      expect((await chat('utf8')).chunks).toBe(UTF8_TEXT);
    });

    it('uses a connection again after an answer', async () => {
      for (let time = 0; time < 3; time++) await chat('twice');
      await pause(50);
      expect(fake.aborts()).toBe(0);
    });
  });

  describe('tool calls', () => {
    const weather = { name: 'get_weather', arguments: '{"city":"Oslo"}' };

    it('takes the deltas of OpenAI', async () => {
      const { result, events } = await chat('tools-text');
      expect(result.finish_reason).toBe('tool_calls');
      expect(result.message.tool_calls).toEqual([
        { id: 'call_1', type: 'function', function: weather },
        { id: 'call_2', type: 'function', function: { name: 'get_time', arguments: '{}' } },
      ]);
      expect(joinCalls(events)).toEqual(result.message.tool_calls!.map((call) => call.function));
    });

    it('numbers and names calls that came without, and turns objects into text', async () => {
      const { result, events } = await chat('tools');
      expect(result.finish_reason).toBe('tool_calls');
      const calls = result.message.tool_calls!;
      expect(calls.map((call) => call.function)).toEqual([
        weather,
        { name: 'get_time', arguments: '{"zone":"CET"}' },
        { name: 'ping', arguments: '{}' },
      ]);
      expect(calls[1]!.id).toBe('call_two');
      for (const { id } of [calls[0]!, calls[2]!]) expect(id).toMatch(/^call_[0-9a-f]{24}$/);
      expect(joinCalls(events)).toEqual(calls.map((call) => call.function));
    });

    it('tells two calls apart that have one number', async () => {
      const { result } = await chat('tools-whole');
      expect(result.message.tool_calls).toEqual([
        { id: 'a', type: 'function', function: weather },
        { id: 'b', type: 'function', function: { name: 'get_time', arguments: '{"city":"Oslo"}' } },
      ]);
    });
  });

  describe('failures', () => {
    it.each([
      ['busy', { code: 'overloaded', message: 'Loading model', retryAfter: 5 }],
      ['limited', { code: 'rate_limited', message: 'Rate limit reached', retryAfter: 7 }],
      ['detail', { code: 'invalid_request', message: 'field required' }],
      ['plain', { code: 'invalid_request', message: 'messages must alternate' }],
      ['context', { code: 'context_length_exceeded' }],
      ['oom', { code: 'insufficient_vram' }],
      ['garbage', { code: 'upstream_invalid' }],
      ['rubbish', { code: 'upstream_invalid' }],
      ['error-200', { code: 'upstream_error', message: 'The service is currently unavailable' }],
      ['error-first', { code: 'upstream_error', message: 'the sampler failed' }],
      ['error-mid', { code: 'upstream_error', message: 'the sampler failed' }],
      ['error-named', { code: 'upstream_error', message: 'the sampler failed' }],
      ['error-line', { code: 'upstream_error', message: 'the sampler failed' }],
      ['error-text', { code: 'upstream_error', message: 'the sampler failed' }],
      ['truncated', { code: 'upstream_truncated' }],
      ['cut', { code: 'upstream_truncated' }],
      ['reset', { code: 'upstream_terminated' }],
      ['hang', { code: 'upstream_idle' }],
      ['silent', { code: 'upstream_timeout' }],
      ['embedder', { code: 'invalid_request' }],
    ])('%s', async (model, expected) => {
      expect(await fail(chat(model))).toMatchObject({ source: 'openai', ...expected });
    });

    it('is unavailable when nobody listens', async () => {
      const gone = await openFakeOpenAI();
      const runtime = adapt(gone);
      await gone.close();
      for (const work of [() => chat('echo', {}, runtime), () => runtime.health(new AbortController().signal)]) {
        const error = await fail(work());
        expect(error).toMatchObject({ code: 'upstream_unavailable', source: 'openai' });
        expect(error.hint).toBeDefined();
        expect(error.message).not.toMatch(/127\.0\.0\.1|\d{4}/);
      }
    });
  });

  describe('text.embed', () => {
    const embed = (model: string, input: Partial<Input<'text.embed'>> = {}) =>
      run(openai, 'text.embed', { input: ['one', 'two'], ...input }, model);

    it('asks for floats and takes base64 all the same', async () => {
      const floats = await embed('embedder');
      expect(body()).toEqual({ model: 'embedder', input: ['one', 'two'], encoding_format: 'float' });
      const { result } = await embed('embedder-base64');
      for (const [at, vector] of result.embeddings.entries()) {
        expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
        for (const [index, value] of vector.entries())
          expect(value).toBeCloseTo(floats.result.embeddings[at]![index]!, 5);
      }
    });

    it('says what dimensions came of those asked for', async () => {
      expect((await embed('embedder', { dimensions: 8 })).result.dimensions).toBe(8);
      const { result, warnings } = await embed('embedder', { dimensions: 64 });
      expect(result.dimensions).toBe(32);
      expect(warnings).toEqual([expect.stringContaining('not 64')]);
    });

    it('refuses vectors of different lengths', async () => {
      expect((await fail(embed('embedder-ragged'))).code).toBe('upstream_invalid');
      expect((await fail(embed('echo'))).code).toBe('invalid_request');
    });
  });

  describe('models', () => {
    const listed = async (list: unknown) => {
      const models = await adapt(await open({ list })).models(new AbortController().signal);
      return Object.fromEntries(models.map(({ id, ...model }) => [id, model]));
    };
    const named = async (...ids: string[]) => listed({ data: ids.map((id) => ({ id })) });

    it('guesses from ids what they can be asked', async () => {
      const text = ['qwen3:8b', 'ggml-org/gemma-3-4b-it-GGUF:Q4_K_M', 'org/my model', 'gpt-oss-20b', 'llava'];
      const embeds = [
        'text-embedding-3-small',
        'nomic-embed-text',
        'BAAI/bge-m3',
        'all-minilm:l6',
        'intfloat/e5-large',
      ];
      const draws = ['dall-e-3', 'flux.1-dev', 'Qwen/Qwen-Image', 'stablediffusion', 'sdxl-turbo', 'z-image-turbo'];
      const edits = [
        'gpt-image-1',
        'chatgpt-image-latest',
        'sd-cpp-local',
        'qwen-image-edit-2511',
        'flux.1-kontext-dev',
      ];
      const others = [
        'whisper-1',
        'tts-1',
        'kokoro',
        'BAAI/bge-reranker-v2',
        'grok-imagine-video',
        'ltx-video',
        'imagebind',
      ];
      const models = await named(...text, ...embeds, ...draws, ...edits, ...others, 'dall-e-2', 'sora-2');
      for (const id of text) expect(models[id]?.capabilities, id).toEqual(['text.generate', 'text.chat']);
      for (const id of embeds) expect(models[id]?.capabilities, id).toEqual(['text.embed']);
      for (const id of draws) expect(models[id]?.capabilities, id).toEqual(['image.generate']);
      for (const id of edits) expect(models[id]?.capabilities, id).toEqual(['image.generate', 'image.edit']);
      for (const id of others) expect(models[id]?.capabilities, id).toEqual([]);
      expect(models['dall-e-2']).toMatchObject({
        capabilities: ['image.generate', 'image.edit', 'image.vary'],
        mask: true,
      });
      expect(models['sora-2']).toMatchObject({ capabilities: ['video.generate'], animate: true });
      expect(models['gpt-image-1']?.mask).toBe(true);
      expect(models['qwen-image-edit-2511']).not.toHaveProperty('mask');
    });

    it('guesses from ids which of them see', async () => {
      const see = [
        'llava:13b',
        'qwen2.5vl:7b',
        'Qwen/Qwen3-VL-8B',
        'pixtral-12b',
        'gemma-3-4b-it',
        'gemma-4-12b',
        'gpt-4o',
      ];
      see.push('gpt-4.1-mini', 'gpt-5', 'OpenGVLab/InternVL3-8B', 'minicpm-v', 'moondream', 'SmolVLM-256M', 'Molmo-7B');
      see.push('granite-vision-3.2', 'llama-3.2-11b-vision-instruct', 'glm-4.6v');
      const unknown = ['qwen3:8b', 'gpt-oss-20b', 'gemma-3-1b-it', 'gpt-4o-audio-preview', 'mistral-7b', 'vlad-8b'];
      const models = await named(...see, ...unknown);
      for (const id of see) expect(models[id]?.vision, id).toBe(true);
      for (const id of unknown) expect(models[id], id).not.toHaveProperty('vision');
    });

    it('believes a server rather than an id about what a model sees', async () => {
      const models = await listed({
        data: [
          { id: 'llava', architecture: { input_modalities: ['text'] } },
          { id: 'gemma-3-4b', type: 'llm' },
          { id: 'pixtral', capabilities: { vision: false } },
          { id: 'gemma-3-12b' },
          { id: 'plain' },
        ],
        models: [
          { name: 'gemma-3-12b', capabilities: ['completion'] },
          { model: 'plain', capabilities: ['completion', 'multimodal'] },
        ],
      });
      const seen = Object.entries(models).map(([id, { vision }]) => [id, vision]);
      expect(Object.fromEntries(seen)).toEqual({
        llava: false,
        'gemma-3-4b': false,
        pixtral: false,
        'gemma-3-12b': false,
        plain: true,
      });
    });

    it('reads what llama.cpp, LM Studio and vLLM add', async () => {
      const models = await listed({
        data: [
          {
            id: 'a',
            meta: { n_ctx: 8192, n_ctx_train: 131_072, size: 5_000 },
            status: { value: 'loaded' },
            architecture: { input_modalities: ['text', 'image'] },
          },
          { id: 'b', status: { value: 'unloaded' }, meta: null },
          { id: 'c', state: 'loaded', type: 'vlm', max_context_length: 4096 },
          { id: 'd', state: 'not-loaded', type: 'embeddings' },
          { id: 'e', owned_by: 'vllm', max_model_len: 2048, created: 1_700_000_000 },
          { id: 'f', status: { value: 'downloading' } },
          { id: 'a' },
          { name: 'no id' },
        ],
      });
      const capabilities = ['text.generate', 'text.chat'];
      expect(models).toEqual({
        a: { capabilities, state: 'loaded', contextWindow: 8192, size: 5_000, vision: true },
        b: { capabilities, state: 'ready' },
        c: { capabilities, state: 'loaded', contextWindow: 4096, vision: true },
        d: { capabilities: ['text.embed'], state: 'ready' },
        e: {
          capabilities,
          state: 'ready',
          contextWindow: 2048,
          created: 1_700_000_000,
          rank: 1_700_000_000,
          echo: true,
        },
        f: { capabilities, state: 'available' },
      });
    });

    it('takes a fixed list without asking', async () => {
      const server = await open();
      const models = await adapt(server, { models: ['x', 'y-embed'] }).models(new AbortController().signal);
      expect(models.map(({ id }) => id)).toEqual(['x', 'y-embed']);
      expect(server.requests).toEqual([]);
    });
  });

  describe('xai', () => {
    const xai = async () => {
      const server = await open({ flavour: 'xai' });
      return { server, runtime: adapt(server, { name: 'xai', flavour: 'xai' }) };
    };

    it('leaves out what xAI refuses, and says so', async () => {
      const { server, runtime } = await xai();
      const knobs = {
        top_k: 4,
        min_p: 0.1,
        repeat_penalty: 1.1,
        top_logprobs: 20,
        presence_penalty: 1,
        frequency_penalty: 1,
        stop: 'x',
      };
      const { warnings } = await chat('grok-4.6', { ...knobs, max_tokens: 4, reasoning_effort: 'max' }, runtime);
      expect(body(server)).toMatchObject({ max_completion_tokens: 4, top_logprobs: 8, reasoning_effort: 'xhigh' });
      for (const name of [...Object.keys(knobs), 'reasoning_effort']) expect(warnings.join()).toContain(name);
      expect(warnings).toHaveLength(8);
      // Nothing was refused on the way.
      expect(server.requests).toHaveLength(1);
      await chat('grok-3', { stop: 'x', presence_penalty: 1 }, runtime);
      expect(body(server)).toMatchObject({ stop: 'x', presence_penalty: 1 });
    });

    it('refuses bare prompts before anything is sent', async () => {
      const { server, runtime } = await xai();
      for (const param of ['raw', 'echo'] as const) {
        const error = await fail(generate('grok-4.6', { [param]: true }, runtime));
        expect(error).toMatchObject({ code: 'unsupported_parameter', param, source: 'xai' });
      }
      expect((await fail(generate('grok-4.6', { suffix: 'x' }, runtime))).param).toBe('suffix');
      expect(server.requests).toEqual([]);
    });

    it('is asked last, relays nothing, and adds the reasoning that it does not count', async () => {
      const { runtime } = await xai();
      expect(runtime.priority).toBeLessThan(openai.priority);
      expect(runtime.relays).toBeUndefined();
      expect((await chat('reasoner', {}, runtime)).result.usage.completion_tokens).toBe(13);
      expect((await fail(chat('error-200', {}, runtime))).message).toBe('The service is currently unavailable');
    });
  });
});

function adapt(fake: FakeOpenAI, options: Partial<OpenAIOptions> = {}): RuntimeAdapter {
  return createOpenAI({ name: 'openai', baseUrl: fake.url, transport: fetchTransport, limits, tools, ...options });
}

/** Runs to the end: everything said on the way, its text, the warnings, and the one result. */
async function run<Id extends CapabilityId>(runtime: RuntimeAdapter, id: Id, input: Input<Id>, modelId: string) {
  const model: Model = { id: modelId, capabilities: [id], state: 'ready' };
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
    chunks: events
      .map((event) => (event.type === 'chunk' ? ((event.chunk as { text?: string }).text ?? '') : ''))
      .join(''),
    warnings: events.flatMap((event) => (event.type === 'warning' ? [event.warning] : [])),
  };
}

/** The calls as a reader of the chunks puts them together. */
function joinCalls(events: RunEvent<Chunk<'text.chat'>, unknown>[]): { name: string; arguments: string }[] {
  const calls: { name: string; arguments: string }[] = [];
  for (const event of events) {
    if (event.type !== 'chunk') continue;
    for (const piece of event.chunk.tool_calls ?? []) {
      const call = (calls[piece.index] ??= { name: '', arguments: '' });
      call.name += piece.name ?? '';
      call.arguments += piece.arguments ?? '';
    }
  }
  return calls;
}

async function fail(work: Promise<unknown>): Promise<GatewayError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
