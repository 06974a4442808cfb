// The relay of OpenAI requests: bytes pass untouched both ways, and a stream never ends as if it were whole when it is not.
import fc from '../support/property.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createOpenAI } from '../../adapters/runtimes/openai/index.ts';
import { verifyStream } from '../../adapters/runtimes/openai/verify.ts';
import { GatewayError } from '../../src/error.ts';
import type { Relay, RelayReply } from '../../src/runtime.ts';
import { createUpstream, fetchTransport } from '../../src/upstream.ts';
import { openFakeOpenAI, UTF8_TEXT } from '../support/fake-openai.ts';
import type { FakeOpenAI } from '../support/fake-openai.ts';
import { noFiles } from '../support/no-files.ts';

const tools = openMediaTools({ maxPixels: 1_000_000 });
const limits = { firstByteMs: 1500, idleMs: 500, controlMs: 1500, maxReplyBytes: 1_000_000 };
const upstream = createUpstream({
  name: 'openai',
  baseUrl: 'http://127.0.0.1:9/v1',
  transport: fetchTransport,
  limits,
});
const encoder = new TextEncoder();
const decoder = new TextDecoder();

describe('openai relay', () => {
  let fake: FakeOpenAI;
  let relay: Relay;
  beforeAll(async () => {
    fake = await openFakeOpenAI();
    relay = createOpenAI({ name: 'openai', baseUrl: fake.url, transport: fetchTransport, limits, tools }).relays!
      .openai!;
  });
  afterAll(() => fake.close());

  const send = (path: string, body: Record<string, unknown>, signal = new AbortController().signal) =>
    relay(
      { path, body: encoder.encode(JSON.stringify(body, null, 2)), stream: body['stream'] === true },
      {
        model: { id: String(body['model']), capabilities: [], state: 'ready' },
        signal,
        requestId: 'req_test',
        file: noFiles,
      },
    );
  const ask = (model: string, more: Record<string, unknown> = {}) =>
    send('/chat/completions', {
      model,
      messages: [{ role: 'user', content: 'Grüße' }],
      stream: true,
      seed: 1,
      ...more,
    });
  const direct = async (path: string, body: Record<string, unknown>) => {
    const reply = await fetch(fake.url + path, { method: 'POST', body: JSON.stringify(body) });
    return new Uint8Array(await reply.arrayBuffer());
  };

  describe('streams', () => {
    it.each(['echo', 'crlf', 'utf8', 'reasoner', 'tools', 'tools-text', 'usage-every', 'logprobs'])(
      'passes %s byte for byte',
      async (model) => {
        const body = {
          model,
          messages: [{ role: 'user', content: 'x' }],
          stream: true,
          stream_options: { include_usage: true },
          logprobs: true,
        };
        const reply = await send('/chat/completions', body);
        expect(reply).toMatchObject({ status: 200, contentType: 'text/event-stream' });
        const bytes = await readAll(reply);
        expect(bytes).toEqual(await direct('/chat/completions', body));
        if (model === 'utf8') expect(joinText(decoder.decode(bytes))).toBe(UTF8_TEXT);
        const prompt = { model, prompt: 'x', stream: true };
        expect(await readAll(await send('/completions', prompt))).toEqual(await direct('/completions', prompt));
      },
    );

    it('sends the very bytes it was given', async () => {
      const body = encoder.encode(
        ' {"model" : "echo","messages":[{"role":"user","content":"\\u00fc"}],\n"odd":1.0, "stream":true}',
      );
      const model = { id: 'echo', capabilities: [], state: 'ready' as const };
      await readAll(
        await relay(
          { path: '/chat/completions', body, stream: true },
          { model, signal: new AbortController().signal, requestId: 'r', file: noFiles },
        ),
      );
      const { bytes, headers } = fake.requests.at(-1)!;
      expect(new Uint8Array(bytes)).toEqual(body);
      expect(headers['content-type']).toBe('application/json');
    });

    it('ends where the stream ends, once', async () => {
      const text = decoder.decode(await readAll(await ask('twice')));
      expect(text.match(/\[DONE\]/g)).toHaveLength(1);
      expect(text).not.toContain('late');
      expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
      expect(decoder.decode(await readAll(await ask('eof')))).toMatch(
        /"finish_reason":"stop".*\n\ndata: \[DONE\]\n\n$/,
      );
      await pause(50);
      expect(fake.aborts()).toBe(0);
    });

    it('makes a stream of an answer that came whole', async () => {
      const text = decoder.decode(await readAll(await ask('whole')));
      const [first, ...rest] = text.split('\n\n');
      expect(JSON.parse(first!.slice(5))).toMatchObject({
        object: 'chat.completion.chunk',
        choices: [{ delta: { role: 'assistant' }, finish_reason: 'stop' }],
        usage: { completion_tokens: 10 },
      });
      expect(rest).toEqual(['data: [DONE]', '']);
    });

    it.each([
      ['busy', { code: 'overloaded', retryAfter: 5 }],
      ['limited', { code: 'rate_limited', retryAfter: 7 }],
      ['plain', { code: 'invalid_request' }],
      ['no-such-model', { code: 'model_not_found' }],
      ['error-200', { code: 'upstream_error', message: 'The service is currently unavailable' }],
      ['error-first', { code: 'upstream_error', message: 'the sampler failed' }],
      ['garbage', { code: 'upstream_invalid' }],
      ['rubbish', { code: 'upstream_invalid' }],
      ['silent', { code: 'upstream_timeout' }],
    ])('fails before the first byte: %s', async (model, expected) => {
      expect(await fail(ask(model))).toMatchObject({ source: 'openai', ...expected });
    });

    it.each([
      ['truncated', { code: 'upstream_truncated' }],
      ['cut', { code: 'upstream_truncated' }],
      ['reset', { code: 'upstream_terminated' }],
      ['hang', { code: 'upstream_idle' }],
      ['error-mid', { code: 'upstream_error', message: 'the sampler failed' }],
      ['error-named', { code: 'upstream_error', message: 'the sampler failed' }],
      ['error-line', { code: 'upstream_error', message: 'the sampler failed' }],
      ['error-text', { code: 'upstream_error', message: 'the sampler failed' }],
    ])('fails in the middle, at the end of an event: %s', async (model, expected) => {
      const { text, error } = await readSome(await ask(model));
      expect(error).toMatchObject({ source: 'openai', ...expected });
      expect(joinText(text).split(' ')).toHaveLength(2);
      expect(text.endsWith('\n\n')).toBe(true);
      expect(text).not.toMatch(/\[DONE\]|sampler/);
    });

    it('stops the server when its reader stops, or the caller leaves', async () => {
      const before = fake.aborts();
      for await (const _ of (await ask('slow')).body) break;
      await until(() => fake.aborts() === before + 1);
      const abort = new AbortController();
      const reply = await send('/chat/completions', { model: 'slow', messages: [], stream: true }, abort.signal);
      setTimeout(() => abort.abort(), 50);
      expect((await readSome(reply)).error).toMatchObject({ code: 'client_closed' });
      await until(() => fake.aborts() === before + 2);
    });
  });

  describe('whole answers', () => {
    it.each([
      ['/chat/completions', { model: 'echo', messages: [{ role: 'user', content: 'x' }] }],
      ['/completions', { model: 'utf8', prompt: 'x' }],
      ['/embeddings', { model: 'embedder', input: ['a', 'b'], encoding_format: 'base64' }],
    ])('passes %s byte for byte', async (path, body) => {
      const reply = await send(path, body);
      expect(reply).toMatchObject({ status: 200, contentType: 'application/json' });
      expect(await readAll(reply)).toEqual(await direct(path, body));
    });

    it.each([
      ['error-200', { code: 'upstream_error', message: 'The service is currently unavailable' }],
      ['garbage', { code: 'upstream_invalid' }],
      ['oom', { code: 'insufficient_vram' }],
      ['detail', { code: 'invalid_request', message: 'field required' }],
    ])('fails: %s', async (model, expected) => {
      expect(await fail(ask(model, { stream: false }))).toMatchObject({ source: 'openai', ...expected });
    });
  });

  it('never has a server fetch a picture', async () => {
    const before = fake.requests.length;
    const parts = [
      { type: 'image_url', image_url: { url: 'http://127.0.0.1/x.png' } },
      { type: 'image_url', image_url: 'file:///etc/passwd' },
      { type: 'video_url', video_url: { url: 'https://example.com/x.mp4' } },
    ];
    for (const part of parts) {
      const error = await fail(ask('echo', { messages: [{ role: 'user', content: [part] }] }));
      expect(error).toMatchObject({ code: 'invalid_request', param: expect.stringContaining('messages.0.content.0') });
    }
    const escaped = '{"model":"echo","messages":[{"content":[{"image\\u005furl":{"url":"http://127.0.0.1/"}}]}]}';
    const model = { id: 'echo', capabilities: [], state: 'ready' as const };
    const request = { path: '/chat/completions', body: encoder.encode(escaped), stream: false };
    expect(
      (await fail(relay(request, { model, signal: new AbortController().signal, requestId: 'r', file: noFiles }))).code,
    ).toBe('invalid_request');
    expect(fake.requests).toHaveLength(before);
    const inline = { type: 'image_url', image_url: { url: 'data:image/png;base64,aaaa' } };
    await readAll(await ask('echo', { messages: [{ role: 'user', content: [inline] }] }));
  });
});

describe('openai relay, piece by piece', () => {
  const chunk = (content: string, finish: string | null = null) =>
    `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: finish }] })}`;

  it('passes the same pieces on, not copies', async () => {
    const pieces = [`${chunk('a')}\n\n`, `: ping\n\n${chunk('b')}\n\n`, `${chunk('', 'stop')}\n\ndata: [DONE]\n\n`].map(
      (text) => encoder.encode(text),
    );
    const passed = [];
    for await (const bytes of verifyStream(toBody(pieces), upstream, 1e6)) passed.push(bytes);
    expect(passed).toHaveLength(3);
    for (const [index, bytes] of passed.entries()) expect(bytes).toBe(pieces[index]);
  });

  it('is not deceived by text that looks like an end or a failure', async () => {
    const texts = [
      'data: [DONE]',
      '\ndata: [DONE]\n\n',
      '"finish_reason":"stop"',
      '\n\ndata: {"error":"x"}',
      '\nerror: x',
      'event: error',
    ];
    const stream = texts.map((text) => `${chunk(text)}\n\n`).join('') + 'data: {"error":null,"choices":[]}\n\n';
    const whole = `${stream}data: [DONE]\n\n`;
    expect(await verify([encoder.encode(whole)])).toEqual({ text: whole });
    const { text, error } = await verify([encoder.encode(stream)]);
    expect(text).toBe(stream);
    expect(error?.code).toBe('upstream_truncated');
  });

  it('takes finish_reason and [DONE] as every server spells them', async () => {
    const spaced = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n';
    expect(await verify([encoder.encode(spaced)])).toEqual({ text: `${spaced}data: [DONE]\n\n` });
    const tight = `data:${chunk('x').slice(6)}\n\ndata:[DONE]\n\n`;
    expect(await verify([encoder.encode(tight)])).toEqual({ text: tight });
    expect(await verify([encoder.encode(`${chunk('x', 'stop')}`)])).toEqual({
      text: `${chunk('x', 'stop')}\n\ndata: [DONE]\n\n`,
    });
    expect(await verify([encoder.encode(`${chunk('x')}\n\ndata: [DONE]`)])).toEqual({
      text: `${chunk('x')}\n\ndata: [DONE]\n\n`,
    });
  });

  it('refuses a line without end', async () => {
    const { text, error } = await verify([encoder.encode('data: '), encoder.encode('x'.repeat(200))], 100);
    expect(error?.code).toBe('upstream_invalid');
    expect(text).toBe('');
  });

  it('keeps what it holds back, although the transport uses its memory again', async () => {
    const stream = `${chunk('Grüße')}\n\n${chunk('', 'stop')}\n\ndata: [DONE]\n\n`;
    const memory = new Uint8Array(7);
    async function* body() {
      for (const piece of cutUp(encoder.encode(stream), [7])) {
        memory.set(piece);
        yield memory.subarray(0, piece.length);
        memory.fill(0x2a);
      }
    }
    let text = '';
    for await (const bytes of verifyStream(body(), upstream, 1e6))
      text += decoder.decode(bytes.slice(), { stream: true });
    expect(text).toBe(stream);
  });

  it('gives the same bytes and the same end however the bytes are cut', async () => {
    const middle = fc.array(
      fc.oneof(
        fc
          .string({ unit: 'grapheme', maxLength: 100 })
          .filter((text) => !text.includes('\uFFFD'))
          .map((text) => chunk(text)),
        fc.constantFrom(
          ': ping',
          'event: x',
          chunk('data: [DONE]'),
          chunk('"error"'),
          'data: {"choices":[],"usage":{}}',
        ),
      ),
      // What a stream has for line ends is learnt from its first line.
      { minLength: 1, maxLength: 8 },
    );
    const end = fc.constantFrom(
      ['data: [DONE]'],
      [chunk('', 'stop'), 'data: [DONE]', chunk('late'), 'data: [DONE]'],
      [chunk('', 'length')],
      [chunk('', 'stop'), 'data: {"choices":[],"usage":{"total_tokens":3}}'],
      ['data: {"error":{"message":"it brôke"}}', 'data: [DONE]'],
      ['event: error\ndata: {"message":"it brôke"}'],
      ['error: {"message":"it brôke"}'],
      [],
    );
    const stream = fc.tuple(middle, end, fc.constantFrom('\n', '\r\n'));
    await fc.assert(
      fc.asyncProperty(
        stream,
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        async ([events, last, lineEnd], sizes) => {
          const bytes = encoder.encode(
            [...events, ...last]
              .map((event) => `${event}\n\n`)
              .join('')
              .replaceAll('\n', lineEnd),
          );
          const whole = await verify([bytes]);
          expect(await verify(cutUp(bytes, sizes))).toEqual(whole);
          const sent = decoder.decode(bytes);
          if (!whole.error) {
            const ended = sent.search(/^data: \[DONE\]/m);
            const kept =
              ended === -1
                ? `${sent}data: [DONE]\n\n`
                : sent.slice(0, ended + 'data: [DONE]'.length + 2 * lineEnd.length);
            expect(whole.text).toBe(kept);
          } else {
            expect(sent.startsWith(whole.text)).toBe(true);
            expect(whole.error.code).toBe(last.length === 0 ? 'upstream_truncated' : 'upstream_error');
            if (last.length > 0) expect(whole.error.message).toBe('it brôke');
          }
          expect(whole.text).not.toContain('\uFFFD');
        },
      ),
      { numRuns: 400 },
    );
  });
});

async function verify(pieces: Uint8Array[], maxLineBytes = 1e6) {
  const stream = verifyStream(toBody(pieces), upstream, maxLineBytes);
  const { text, error } = await readSome({ body: stream });
  return error ? { text, error } : { text };
}

async function* toBody(pieces: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}

function cutUp(bytes: Uint8Array, sizes: number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length]!;
    pieces.push(bytes.slice(at, at + size));
    at += size;
  }
  return pieces;
}

async function readAll({ body }: Pick<RelayReply, 'body'>): Promise<Uint8Array> {
  const pieces = [];
  for await (const bytes of body) pieces.push(bytes);
  return new Uint8Array(Buffer.concat(pieces));
}

/** What came, and how it ended where it ended badly. */
async function readSome({ body }: Pick<RelayReply, 'body'>): Promise<{ text: string; error?: GatewayError }> {
  const pieces: Uint8Array[] = [];
  const text = () => decoder.decode(Buffer.concat(pieces));
  try {
    for await (const bytes of body) pieces.push(bytes);
    return { text: text() };
  } catch (error) {
    expect(error).toBeInstanceOf(GatewayError);
    return { text: text(), error: error as GatewayError };
  }
}

function joinText(stream: string): string {
  const events = stream.split(/\r?\n/).filter((line) => line.startsWith('data: {'));
  return events.map((line) => JSON.parse(line.slice(5)).choices[0]?.delta?.content ?? '').join('');
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
  while (!happened() && Date.now() < deadline) await pause(5);
  expect(happened(), 'within a second').toBe(true);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
