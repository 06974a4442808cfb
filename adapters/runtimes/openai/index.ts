// The OpenAI-compatible runtime: llama-server, vLLM, LM Studio, LocalAI and, with its quirks, xAI.
import type { Input } from '../../../src/capabilities/index.ts';
import type { RunEvent } from '../../../src/event.ts';
import type { Call, RuntimeAdapter } from '../../../src/runtime.ts';
import { createUpstream, type Reply, type Transport, type UpstreamLimits } from '../../../src/upstream.ts';
import { readEvents } from '../sse.ts';
import { createCollector, type Collector } from './answer.ts';
import { toModel } from './models.ts';
import type { Flavour } from './quirks.ts';
import { createRelay } from './relay.ts';
import { toChatBody, toGenerateBody, type Asked } from './translate.ts';
import { notOpenAI, toAnswer, toMidFailure, truncated, type WireEmbeddings, type WireModel } from './wire.ts';

export interface OpenAIOptions {
  name: string;
  /** With /v1. */
  baseUrl: string;
  apiKey?: string;
  headers?: Record<string, string>;
  transport: Transport;
  limits: UpstreamLimits;
  /** Default 90, or 10 for xAI: what costs money never comes before what is at home. */
  priority?: number;
  flavour?: Flavour;
  /** A fixed list in place of GET /models. */
  models?: string[];
}

export function createOpenAI(options: OpenAIOptions): RuntimeAdapter {
  const { name, apiKey, headers, flavour = 'generic', models: fixed } = options;
  const upstream = createUpstream({
    ...options,
    headers: { ...headers, ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}) },
  });

  async function open(path: string, json: object, signal: AbortSignal): Promise<Reply> {
    const reply = await upstream.send(path, { json, signal });
    if (reply.status >= 200 && reply.status < 300) return reply;
    throw upstream.failure(reply.status, await reply.text());
  }

  async function* ask<Chunk, Result>(
    { path, body, warnings }: Asked,
    call: Call,
    toResult: (collector: Collector) => Result,
    seed: number | undefined,
  ): AsyncGenerator<RunEvent<Chunk, Result>> {
    const reply = await open(path, body, call.signal);
    for (const warning of warnings) yield { type: 'warning', warning };
    const collector = createCollector(seed);
    const type = reply.header('content-type') ?? '';
    if (!type.includes('text/event-stream')) {
      const answer = toAnswer(await reply.text(), upstream);
      if (!answer.choices) throw notOpenAI(name);
      const chunk = collector.add(answer);
      if (chunk) yield { type: 'chunk', chunk: chunk as Chunk };
      yield { type: 'result', result: toResult(collector) };
      return;
    }
    let done = false;
    for await (const { event, data } of readEvents(reply.body)) {
      // Read to the end of the body even so: only then is the connection free for the next request.
      if (done) continue;
      if (event === 'error') throw toMidFailure(data, upstream);
      if (data === '[DONE]') {
        done = true;
        continue;
      }
      const chunk = collector.add(toAnswer(data, upstream));
      if (chunk) yield { type: 'chunk', chunk: chunk as Chunk };
    }
    if (!done && !collector.finished) throw truncated(name);
    yield { type: 'result', result: toResult(collector) };
  }

  async function* embed(
    input: Input<'text.embed'>,
    call: Call,
  ): ReturnType<NonNullable<RuntimeAdapter['handles']['text.embed']>> {
    const texts = typeof input.input === 'string' ? [input.input] : input.input;
    const body = {
      model: call.model.id,
      input: texts,
      encoding_format: 'float',
      ...(input.dimensions === undefined ? {} : { dimensions: input.dimensions }),
    };
    const reply = await open('/embeddings', body, call.signal);
    const { data, usage } = toAnswer<WireEmbeddings & { error?: unknown }>(await reply.text(), upstream);
    if (!Array.isArray(data) || data.length !== texts.length) throw notOpenAI(name);
    const embeddings: number[][] = [];
    data.forEach(({ index, embedding }, position) => (embeddings[index ?? position] = normalise(embedding ?? [])));
    const dimensions = embeddings[0]?.length ?? 0;
    if (dimensions === 0) throw notOpenAI(name);
    if (input.dimensions !== undefined && input.dimensions !== dimensions) {
      yield {
        type: 'warning',
        warning: `Vectors of ${call.model.id} have ${dimensions} dimensions, not ${input.dimensions}.`,
      };
    }
    const tokens = usage?.prompt_tokens ?? usage?.total_tokens ?? 0;
    yield {
      type: 'result',
      result: { embeddings, dimensions, usage: { prompt_tokens: tokens, total_tokens: tokens } },
    };
  }

  return {
    name,
    priority: options.priority ?? (flavour === 'xai' ? 10 : 90),
    handles: {
      'text.chat': (input, call) =>
        ask(toChatBody(input, call.model.id, flavour), call, (collector) => collector.chatResult(), input.seed),
      'text.generate': (input, call) =>
        ask(toGenerateBody(input, call.model.id, flavour), call, (collector) => collector.textResult(), input.seed),
      'text.embed': embed,
    },
    // xAI refuses some knobs that others ignore, so what goes there is always translated.
    ...(flavour === 'xai' ? {} : { relays: { openai: createRelay(upstream) } }),
    async models(signal) {
      if (fixed) return fixed.map((id) => toModel({ id }));
      const { data } = await upstream.control<{ data?: WireModel[] }>('/models', { signal });
      if (!Array.isArray(data)) throw notOpenAI(name);
      return data.filter((model) => typeof model?.id === 'string').map(toModel);
    },
    async health(signal) {
      await upstream.control('/models', { signal });
    },
  };
}

/** To length 1; not every server does it. */
function normalise(vector: number[]): number[] {
  const length = Math.hypot(...vector);
  return length === 0 || Math.abs(length - 1) < 1e-6 ? vector : vector.map((value) => value / length);
}
