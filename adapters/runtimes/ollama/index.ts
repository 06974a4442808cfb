// The Ollama runtime: text.generate, text.chat and text.embed over its native API.
import type { Input } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { RunEvent, WarningEvent } from '../../../src/event.ts';
import type { Call, RuntimeAdapter } from '../../../src/runtime.ts';
import { createUpstream } from '../../../src/upstream.ts';
import type { Reply, Transport, UpstreamLimits } from '../../../src/upstream.ts';
import { readLines } from '../ndjson.ts';
import { createChatAnswer, createGenerateAnswer } from './answer.ts';
import type { Answer } from './answer.ts';
import { createMemory } from './memory.ts';
import { createModels } from './models.ts';
import { createPuller } from './puller.ts';
import type { PullOptions } from './puller.ts';
import { toChatRequest, toGenerateRequest } from './translate.ts';
import type { Asked } from './translate.ts';
import { notOllama, pullHint, toFailure, toPart } from './wire.ts';
import type { EmbedReply, Part, TextRequest } from './wire.ts';

export interface OllamaOptions {
  /** Default `ollama`. */
  name?: string;
  /** e.g. `http://127.0.0.1:11434`, without a path. */
  baseUrl: string;
  transport: Transport;
  limits: UpstreamLimits;
  /** Sent with every request, e.g. for a proxy that wants a key. */
  headers?: Record<string, string>;
  /** Default 100. */
  priority?: number;
  /** Whether there is a card on its machine; undefined where nobody knows. */
  hasCard?: () => boolean | undefined;
  /** Milliseconds until an unload that does not happen is an error; default 15 000. */
  evictMs?: number;
  /** How many requests for one model it works on at the same time; default 4. Those that it has no lane for wait there, and begin without a gap. */
  slots?: number;
  /** What models are got with; absent: they are got by other means. */
  pulls?: PullOptions;
}

export function createOllama(options: OllamaOptions): RuntimeAdapter {
  const { name = 'ollama', priority = 100, evictMs = 15_000, slots = 4, limits, pulls } = options;
  const upstream = createUpstream({
    ...options,
    name,
    hint: 'Start it with `ollama serve`, or correct its address in the configuration.',
  });
  const memory = createMemory(upstream, evictMs, options.hasCard ?? (() => undefined));

  const puller = pulls && createPuller({ ...options, ...pulls, name, upstream, memory });

  async function open(path: string, json: { model: string }, call: Call): Promise<Reply> {
    const reply = await upstream.send(path, { json, signal: call.signal });
    if (reply.status === 200) return reply;
    throw toFailure(upstream, reply.status, await reply.text(), json.model);
  }

  /** Up to 0.14, most models could be told to think but not how much. */
  async function openText(path: string, { request, warnings }: Asked<TextRequest>, call: Call): Promise<Reply> {
    try {
      return await open(path, request, call);
    } catch (error) {
      const level = request.think;
      if (typeof level !== 'string' || !(error instanceof GatewayError && error.message.startsWith('think value')))
        throw error;
      warnings.push(`This version of Ollama has no levels of reasoning for ${request.model}; it just reasons.`);
      return open(path, { ...request, think: true } as TextRequest, call);
    }
  }

  async function* answerText<Chunk, Result>(
    path: string,
    call: Call,
    ask: () => { asked: Asked<TextRequest>; answer: Answer<Chunk, Result> },
  ): AsyncGenerator<RunEvent<Chunk, Result>> {
    const { asked, answer } = ask();
    const cold = await memory.isCold(call.model.id, call.signal);
    if (cold) yield { type: 'status', state: 'loading' };
    const reply = await openText(path, asked, call);
    for (const warning of asked.warnings) yield { type: 'warning', warning };
    const spill = createSpill(call);
    let last: Part | undefined;
    // Read to the end of the body, not to the last line: only then is the connection free for the next request.
    for await (const line of readLines(reply.body, limits.maxReplyBytes, name)) {
      // One read can hold many lines; a caller who left gets none of the rest.
      if (call.signal.aborted) throw cancelled();
      const part = toPart(line, upstream, call.model.id);
      // It speaks, so it is loaded, and where to can be asked while it goes on.
      if (cold) spill.look();
      const chunk = answer.add(part);
      if (part.done) last = part;
      if (chunk !== undefined) yield { type: 'chunk', chunk };
      yield* spill.news();
    }
    if (last === undefined) throw truncated(name);
    memory.answered(call.model.id, asked.request.keep_alive);
    await spill.ended();
    yield* spill.news();
    for (const warning of answer.warnings(last)) yield { type: 'warning', warning };
    yield { type: 'result', result: answer.result(last) };
  }

  async function* embed(
    input: Input<'text.embed'>,
    call: Call,
  ): ReturnType<NonNullable<RuntimeAdapter['handles']['text.embed']>> {
    // Always a list: Ollama answers a lone empty string with no vector at all.
    const texts = typeof input.input === 'string' ? [input.input] : input.input;
    const cold = await memory.isCold(call.model.id, call.signal);
    if (cold) yield { type: 'status', state: 'loading' };
    // The vector of a text that was cut in silence is wrong without a sign of it, so a text too long is an error.
    const json = {
      model: call.model.id,
      input: texts,
      truncate: false,
      dimensions: input.dimensions,
      keep_alive: call.keep,
    };
    const { embeddings, prompt_eval_count: tokens = 0 } = toEmbedReply(
      await (await open('/api/embed', json, call)).text(),
    );
    if (embeddings?.length !== texts.length) throw notOllama(name);
    memory.answered(call.model.id, call.keep);
    const spill = createSpill(call);
    if (cold) spill.look();
    await spill.ended();
    yield* spill.news();
    const dimensions = embeddings[0]?.length ?? 0;
    if (input.dimensions !== undefined && input.dimensions !== dimensions) {
      yield {
        type: 'warning',
        warning: `Vectors of ${call.model.id} have ${dimensions} dimensions, not ${input.dimensions}.`,
      };
    }
    yield {
      type: 'result',
      result: { embeddings, dimensions, usage: { prompt_tokens: tokens, total_tokens: tokens } },
    };
  }

  /** Looks once after a load whether all of the model went to the card, which Ollama never says by itself. */
  function createSpill({ model, signal }: Call) {
    let looking: Promise<void> | undefined;
    let found: string | undefined;
    return {
      look() {
        looking ??= memory.spill(model.id, signal).then((warning) => void (found = warning));
      },
      ended: async () => looking,
      *news(): Generator<WarningEvent> {
        if (found !== undefined) yield { type: 'warning', warning: found };
        found = undefined;
      },
    };
  }

  function toEmbedReply(body: string): EmbedReply {
    try {
      return (JSON.parse(body) ?? {}) as EmbedReply;
    } catch (cause) {
      throw notOllama(name, cause);
    }
  }

  return {
    name,
    priority,
    models: createModels(upstream, memory),
    handles: {
      'text.generate': (input, call) =>
        answerText('/api/generate', call, () => ({
          asked: toGenerateRequest(input, call, name),
          answer: createGenerateAnswer(input),
        })),
      'text.chat': (input, call) =>
        answerText('/api/chat', call, () => ({
          asked: toChatRequest(input, call, name),
          answer: createChatAnswer(input),
        })),
      'text.embed': embed,
    },
    gpu: { ...memory.gpu, slots: { model: slots } },
    ...(puller ? { puller } : {}),
    async health(signal) {
      const { version } = await upstream.control<{ version?: string }>('/api/version', { signal });
      if (typeof version !== 'string') throw notOllama(name);
      return { version };
    },
    pullHint,
  };
}

function cancelled(): GatewayError {
  return new GatewayError('client_closed', 'The request was cancelled.');
}

function truncated(source: string): GatewayError {
  return new GatewayError('upstream_truncated', `${source} ended its answer before it was complete.`, {
    source,
    retry: false,
    hint: `Look at the log of ${source}: a runner that is killed ends its answers like this.`,
  });
}
