// What every host must keep over HTTP, in process and over a socket: the contract, failure by failure, against faithful fakes.
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFakeOllama } from '../support/fake-ollama.ts';
import { openFakeOpenAI } from '../support/fake-openai.ts';
import { eventually, post, type GatewayOptions, type TestGateway } from '../support/gateway.ts';

type Fake<T extends (...args: never[]) => Promise<unknown>> = Awaited<ReturnType<T>>;

export function testHttp(name: string, open: (options: GatewayOptions) => Promise<TestGateway>): void {
  describe(`HTTP: ${name}`, () => {
    let ollama: Fake<typeof openFakeOllama>;
    let server: Fake<typeof openFakeOpenAI>;
    let gateway: TestGateway;

    beforeAll(async () => {
      ollama = await openFakeOllama();
      server = await openFakeOpenAI();
      gateway = await open({
        runtimes: [
          { name: 'ollama', kind: 'ollama', url: ollama.url },
          { name: 'local', kind: 'openai', url: server.url },
          { name: 'gone', kind: 'openai', url: 'http://127.0.0.1:9/v1', models: ['absent'] },
        ],
        aliases: { 'gpt-4o': 'ollama/echo' },
        env: { HONO_AI_HEARTBEAT_MS: '300', HONO_AI_MAX_BODY: '1MB' },
      });
    });
    afterAll(async () => {
      await gateway?.close();
      await Promise.all([ollama?.close(), server?.close()]);
    });

    const chat = (model: string, extra: object = {}, init: RequestInit = {}) =>
      gateway.request(
        '/v1/chat/completions',
        post({ model, messages: [{ role: 'user', content: 'Hello' }], ...extra }, init),
      );

    async function failure(response: Response) {
      const body = (await response.json()) as { error: Record<string, unknown> };
      expect(body.error).toMatchObject({
        message: expect.any(String),
        type: expect.any(String),
        request_id: expect.any(String),
      });
      expect(response.headers.get('x-request-id')).toBe(body.error['request_id']);
      expect(JSON.stringify(body)).not.toMatch(/127\.0\.0\.1|node_modules|\.ts:\d/);
      return { status: response.status, code: body.error['code'], ...body.error } as Record<string, unknown>;
    }

    describe('bad input', () => {
      const cases: [string, string, string | undefined, number, string][] = [
        ['an empty body', '/text/gen', '', 400, 'invalid_json'],
        ['no body', '/text/gen', undefined, 400, 'invalid_json'],
        ['malformed JSON', '/text/gen', '{"prompt":', 400, 'invalid_json'],
        ['a wrong type', '/text/gen', '{"prompt":7}', 400, 'invalid_request'],
        ['an array', '/v1/chat/completions', '[]', 400, 'invalid_request'],
        ['no messages', '/v1/chat/completions', '{"model":"echo"}', 400, 'invalid_request'],
        ['a negative max_tokens', '/text/gen', '{"prompt":"x","max_tokens":-1}', 400, 'invalid_request'],
        [
          'a huge temperature',
          '/v1/chat/completions',
          '{"model":"echo","messages":[{"role":"user","content":"x"}],"temperature":1e308}',
          400,
          'invalid_request',
        ],
        ['a seed beyond integers', '/text/gen', '{"prompt":"x","seed":18446744073709551616}', 400, 'invalid_request'],
        [
          'n of a billion',
          '/v1/chat/completions',
          '{"model":"echo","messages":[{"role":"user","content":"x"}],"n":1000000000}',
          400,
          'invalid_request',
        ],
        ['an unknown model', '/text/gen', '{"prompt":"x","model":"nope"}', 404, 'model_not_found'],
        ['a model that cannot', '/text/embed', '{"input":"x","model":"ollama/echo"}', 501, 'not_supported'],
        ['an unknown path', '/nothing/here', '{}', 404, 'not_found'],
      ];
      for (const [what, path, body, status, code] of cases) {
        it(`${what} → ${status} ${code}`, async () => {
          const response = await gateway.request(path, body === undefined ? { method: 'POST' } : post(body));
          expect(await failure(response)).toMatchObject({ status, code });
        });
      }

      it('names the field and the nearest model', async () => {
        expect(await failure(await gateway.request('/text/gen', post({ prompt: 'x', top_p: 'high' })))).toMatchObject({
          param: 'top_p',
        });
        expect(String((await failure(await chat('ech')))['hint'])).toContain('echo');
      });

      it('a body over the limit → 413, announced or not', async () => {
        const large = JSON.stringify({ prompt: 'x'.repeat(1_100_000) });
        expect(await failure(await gateway.request('/text/gen', post(large)))).toMatchObject({
          status: 413,
          code: 'body_too_large',
        });
        const body = new ReadableStream({
          start(controller) {
            controller.enqueue(new TextEncoder().encode(large));
            controller.close();
          },
        });
        const init = { method: 'POST', body, duplex: 'half' } as RequestInit;
        expect((await gateway.request('/text/gen', init)).status).toBe(413);
      });

      it('a wrong method → 405 with what is allowed', async () => {
        const response = await gateway.request('/text/gen');
        expect(response.headers.get('allow')).toBe('POST');
        expect(await failure(response)).toMatchObject({ status: 405 });
      });

      it('takes JSON however it is labelled, as curl -d labels it', async () => {
        const init = post(
          { prompt: 'x', model: 'echo' },
          { headers: { 'content-type': 'application/x-www-form-urlencoded' } },
        );
        expect((await gateway.request('/text/gen', init)).status).toBe(200);
      });
    });

    describe('runtimes that fail', () => {
      const cases: [string, number, string][] = [
        ['absent', 502, 'upstream_unavailable'],
        ['ollama/silent', 504, 'upstream_timeout'],
        ['ollama/garbage', 502, 'upstream_invalid'],
        ['ollama/oom', 503, 'insufficient_vram'],
        ['ollama/reset', 502, 'upstream_terminated'],
        ['ollama/truncated', 502, 'upstream_truncated'],
        ['ollama/hang', 504, 'upstream_idle'],
        ['ollama/errorline', 502, 'upstream_error'],
        ['local/silent', 504, 'upstream_timeout'],
        ['local/garbage', 502, 'upstream_invalid'],
        ['local/error-200', 502, 'upstream_error'],
        ['local/busy', 503, 'overloaded'],
        ['local/limited', 429, 'rate_limited'],
      ];
      for (const [model, status, code] of cases) {
        it(`${model}, whole answer → ${status} ${code}`, async () => {
          const path = model.startsWith('local') ? '/v1/chat/completions' : '/text/chat';
          const body = { model, messages: [{ role: 'user', content: 'x' }] };
          const failed = await failure(await gateway.request(path, post(body)));
          expect(failed).toMatchObject({ status, code });
          expect(failed['source']).not.toBe('gateway');
        });
      }

      const streams: [string, string][] = [
        ['ollama/reset', 'upstream_terminated'],
        ['ollama/truncated', 'upstream_truncated'],
        ['ollama/hang', 'upstream_idle'],
        ['ollama/errorline', 'upstream_error'],
        ['local/reset', 'upstream_terminated'],
        ['local/truncated', 'upstream_truncated'],
        ['local/hang', 'upstream_idle'],
      ];
      for (const [model, code] of streams) {
        it(`${model}, streamed → an error event and no [DONE]`, async () => {
          const text = await (await chat(model, { stream: true })).text();
          expect(text).toContain('"content":');
          expect(text).toContain(`"code":"${code}"`);
          expect(text).not.toContain('[DONE]');
        });
      }

      it('a failure before the first byte of a stream is still a status', async () => {
        expect(await failure(await chat('absent', { stream: true }))).toMatchObject({ status: 502 });
        expect(await failure(await chat('ollama/oom', { stream: true }))).toMatchObject({ status: 503 });
        expect(await failure(await chat('local/busy', { stream: true }))).toMatchObject({ status: 503 });
      });

      it('one broken stream leaves the others whole', async () => {
        const whole = await (await chat('local/echo', { stream: true })).text();
        const all = await Promise.all(
          Array.from({ length: 20 }, async (_, index) =>
            (await chat(index % 4 === 0 ? 'local/reset' : 'local/echo', { stream: true })).text(),
          ),
        );
        const contents = (text: string) =>
          [...text.matchAll(/"content":"((?:[^"\\]|\\.)*)"/g)].map((match) => match[1]).join('');
        all.forEach((text, index) => {
          if (index % 4 !== 0) expect(contents(text)).toBe(contents(whole));
        });
      });
    });

    describe('clients that leave', () => {
      for (const model of ['ollama/silent', 'local/silent']) {
        for (const stream of [false, true]) {
          it(`before the first byte of ${model}${stream ? ', streamed' : ''}: the runtime is stopped within 1 s`, async () => {
            const fake = model.startsWith('local') ? server : ollama;
            const [begun, aborted] = [fake.executions(), fake.aborts()];
            const leaving = new AbortController();
            const left = chat(model, { stream }, { signal: leaving.signal }).catch(() => undefined);
            await eventually('the runtime was asked', () => fake.executions() > begun);
            leaving.abort();
            await eventually('the runtime was stopped', () => fake.aborts() > aborted);
            await left;
          });
        }
      }

      for (const [model, path] of [
        ['ollama/slow', '/v1/chat/completions'],
        ['local/slow', '/v1/chat/completions'],
        ['ollama/slow', '/text/chat'],
      ] as const) {
        it(`after the first bytes of ${model} on ${path}: the runtime is stopped within 1 s`, async () => {
          const fake = model.startsWith('local') ? server : ollama;
          const aborted = fake.aborts();
          const leaving = new AbortController();
          const body = { model, stream: true, messages: [{ role: 'user', content: 'x' }] };
          const response = await gateway.request(path, post(body, { signal: leaving.signal }));
          const reader = response.body!.getReader();
          await reader.read();
          await reader.read();
          if (gateway.url) leaving.abort();
          else await reader.cancel();
          await eventually('the runtime was stopped', () => fake.aborts() > aborted);
        });
      }
    });

    describe('streams', () => {
      it('say : ping while nothing comes', async () => {
        const text = await (await chat('ollama/silent', { stream: true })).text();
        expect(text).toContain(': ping\n\n');
        expect(text).toContain('"code":"upstream_timeout"');
      });

      it('carry text whole, whatever the byte borders', async () => {
        for (const model of ['ollama/utf8', 'local/utf8']) {
          const text = await (await chat(model, { stream: true })).text();
          expect(text).not.toContain('\ufffd');
          expect(text).toMatch(/\p{Extended_Pictographic}/u);
          expect(text.trimEnd().endsWith('data: [DONE]')).toBe(true);
        }
      });

      it('native ones name what ran and end with the result', async () => {
        const response = await gateway.request('/text/gen', post({ model: 'ollama/echo', prompt: 'x', stream: true }));
        expect(response.headers.get('content-type')).toContain('text/event-stream');
        expect(response.headers.get('x-model')).toBe('echo:latest');
        expect(response.headers.get('x-runtime')).toBe('ollama');
        const events = (await response.text()).trimEnd().split('\n\n');
        const chunks = events
          .filter((event) => event.startsWith('event: chunk'))
          .map((event) => JSON.parse(event.split('data: ')[1]!).text);
        const last = events.at(-1)!;
        expect(last.startsWith('event: result')).toBe(true);
        expect(JSON.parse(last.split('data: ')[1]!)).toMatchObject({
          text: chunks.join(''),
          model: 'echo:latest',
          runtime: 'ollama',
          warnings: [],
        });
      });
    });

    describe('the OpenAI SDK', () => {
      const client = (): OpenAI =>
        new OpenAI({
          baseURL: `${gateway.url ?? 'http://127.0.0.1'}/v1`,
          apiKey: 'sk-any',
          maxRetries: 0,
          ...(gateway.url ? {} : { fetch: (url, init) => gateway.request(new URL(String(url)).pathname, init) }),
        });
      const messages = [{ role: 'user' as const, content: 'Hello' }];

      for (const model of ['ollama/echo', 'local/echo', 'gpt-4o']) {
        it(`chats with ${model}, whole and streamed alike`, async () => {
          const whole = await client().chat.completions.create({ model, messages, seed: 7, temperature: 0 });
          expect(whole.choices[0]!.finish_reason).toBe('stop');
          expect(whole.usage!.total_tokens).toBe(whole.usage!.prompt_tokens + whole.usage!.completion_tokens);
          const stream = await client().chat.completions.create({
            model,
            messages,
            seed: 7,
            temperature: 0,
            stream: true,
            stream_options: { include_usage: true },
          });
          let text = '';
          let usage: unknown;
          const ids = new Set<string>();
          for await (const chunk of stream) {
            ids.add(chunk.id);
            text += chunk.choices[0]?.delta.content ?? '';
            usage = chunk.usage ?? usage;
          }
          expect(text).toBe(whole.choices[0]!.message.content);
          expect(usage).toMatchObject({ total_tokens: whole.usage!.total_tokens });
          expect(ids.size).toBe(1);
        });
      }

      it('gets tool calls, whole and streamed', async () => {
        const tools = [
          {
            type: 'function' as const,
            function: { name: 'get_weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } },
          },
        ];
        for (const model of ['ollama/tools', 'local/tools']) {
          const runner = client().chat.completions.stream({ model, messages, tools });
          const final = await runner.finalChatCompletion();
          expect(final.choices[0]!.finish_reason).toBe('tool_calls');
          for (const call of final.choices[0]!.message.tool_calls!) {
            expect(call.id).toBeTruthy();
            if (call.type === 'function') expect(JSON.parse(call.function.arguments)).toBeTypeOf('object');
          }
        }
      });

      it('gets embeddings as floats and as base64', async () => {
        const floats = await client().embeddings.create({
          model: 'ollama/embedder',
          input: ['a', 'b'],
          encoding_format: 'float',
        });
        const encoded = await client().embeddings.create({ model: 'ollama/embedder', input: ['a', 'b'] });
        expect(encoded.data).toHaveLength(2);
        encoded.data[1]!.embedding.forEach((value, index) =>
          expect(value).toBeCloseTo(floats.data[1]!.embedding[index]!, 5),
        );
      });

      it('lists models and finds one with a slash and a colon in its name', async () => {
        const models = await client().models.list();
        const ids = models.data.map((model) => model.id);
        expect(ids).toContain('echo:latest');
        const found = await client().models.retrieve('ollama/echo:latest');
        expect(found).toMatchObject({ object: 'model', owned_by: 'ollama' });
      });

      it('asks for several answers', async () => {
        const answer = await client().chat.completions.create({ model: 'ollama/echo', messages, n: 3, seed: 1 });
        expect(answer.choices.map((choice) => choice.index)).toEqual([0, 1, 2]);
      });

      it('throws its own error types, before and in the middle', async () => {
        await expect(client().chat.completions.create({ model: 'nope', messages })).rejects.toBeInstanceOf(
          OpenAI.NotFoundError,
        );
        const stream = await client().chat.completions.create({ model: 'local/reset', messages, stream: true });
        await expect(
          (async () => {
            for await (const _ of stream);
          })(),
        ).rejects.toBeInstanceOf(OpenAI.APIError);
      });

      it('completes text', async () => {
        const answer = await client().completions.create({ model: 'ollama/echo', prompt: 'Once', seed: 3 });
        expect(answer).toMatchObject({ object: 'text_completion', choices: [{ index: 0, finish_reason: 'stop' }] });
      });
    });

    it('answers an Ollama client, a browser, a probe and a reader of documents', async () => {
      expect(await (await gateway.request('/')).text()).toBe('Ollama is running');
      const page = await gateway.request('/', { headers: { accept: 'text/html' } });
      expect(page.headers.get('content-type')).toContain('text/html');
      expect((await gateway.request('/health')).status).toBe(200);
      expect((await gateway.request('/ready')).status).toBe(200);
      const document = (await (await gateway.request('/openapi.json')).json()) as {
        openapi: string;
        paths: Record<string, unknown>;
      };
      expect(document.openapi).toBe('3.1.0');
      for (const path of [
        '/text/gen',
        '/text/chat',
        '/text/edit',
        '/text/eval',
        '/text/story',
        '/text/embed',
        '/v1/chat/completions',
      ]) {
        expect(document.paths).toHaveProperty([path]);
      }
      for (const path of ['/docs', '/redoc', '/llms.txt']) expect((await gateway.request(path)).status).toBe(200);
    });
  });
}
