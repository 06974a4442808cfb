// The OpenAI-compatible runtime: text.generate, text.chat and text.embed over llama-server, vLLM, LM Studio, LocalAI, xAI and their like.
import type { Chunk } from '../../../src/capabilities/index.ts';
import type { RunEvent } from '../../../src/event.ts';
import type { Call, RuntimeAdapter } from '../../../src/runtime.ts';
import { createUpstream } from '../../../src/upstream.ts';
import type { Reply, Transport, UpstreamLimits } from '../../../src/upstream.ts';
import { createAnswer } from './answer.ts';
import type { Answer } from './answer.ts';
import { createEmbed } from './embed.ts';
import { cancelled, notOpenAI, toRefusal } from './failure.ts';
import { toModels } from './models.ts';
import { refusedKnobs } from './quirks.ts';
import type { Flavour, Knobs } from './quirks.ts';
import { createRelay } from './relay.ts';
import { readAnswer } from './stream.ts';
import { toChatRequest, toGenerateRequest } from './translate.ts';
import type { Asked, Target } from './translate.ts';
import type { WireModels } from './wire.ts';

export interface OpenAIOptions {
  name: string;
  /** With its version, e.g. `http://127.0.0.1:8080/v1`. */
  baseUrl: string;
  apiKey?: string;
  /** Sent with every request. */
  headers?: Record<string, string>;
  transport: Transport;
  limits: UpstreamLimits;
  /** Default 90; 10 for xai, which is far away and costs money. */
  priority?: number;
  /** Default `generic`. */
  flavour?: Flavour;
  /** Instead of what the server lists. */
  models?: string[];
}

/** How often a request is sent again without what the server refused in it. */
const MAX_CONCESSIONS = 3;

export function createOpenAI(options: OpenAIOptions): RuntimeAdapter {
  const { name, flavour = 'generic', limits, apiKey, headers } = options;
  const upstream = createUpstream({
    ...options,
    headers: { ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}), ...headers },
  });

  /** Servers differ in what they refuse, so it is they who say what has to be left out. */
  async function open({ path, body, warnings }: Asked, call: Call): Promise<Reply> {
    let json = body;
    for (let left = MAX_CONCESSIONS; ; left--) {
      const reply = await upstream.send(path, { json, signal: call.signal });
      if (reply.status === 200) return reply;
      const error = await toRefusal(upstream, reply);
      const refused = error.code === 'invalid_request' && left > 0 ? refusedKnobs(json, error.message) : [];
      if (refused.length === 0) throw error;
      warnings.push(...refused.map((knob) => `${name} refuses ${knob}; it was left out.`));
      json = Object.fromEntries(Object.entries(json).filter(([knob]) => !refused.includes(knob)));
    }
  }

  async function* answerText<Result>(
    input: Knobs & { echo?: boolean | undefined },
    call: Call,
    translate: (target: Target) => Asked,
    toResult: (answer: Answer) => Result,
  ): AsyncGenerator<RunEvent<Chunk<'text.chat'>, Result>> {
    const asked = translate({ source: name, model: call.model.id, flavour });
    const reply = await open(asked, call);
    for (const warning of asked.warnings) yield { type: 'warning', warning };
    const answer = createAnswer({ input, promptChars: asked.promptChars, source: name });
    for await (const piece of readAnswer(reply, upstream, limits.maxReplyBytes)) {
      // One read can hold many pieces; a caller who left gets none of the rest.
      if (call.signal.aborted) throw cancelled();
      const chunk = answer.add(piece);
      if (chunk !== undefined) yield { type: 'chunk', chunk };
    }
    const last = answer.finish();
    if (last !== undefined) yield { type: 'chunk', chunk: last };
    for (const warning of answer.warnings()) yield { type: 'warning', warning };
    yield { type: 'result', result: toResult(answer) };
  }

  async function list(signal: AbortSignal) {
    const { data } = await upstream.control<WireModels>('/models', { signal });
    if (!Array.isArray(data)) throw notOpenAI(name);
    return data;
  }

  return {
    name,
    priority: options.priority ?? (flavour === 'xai' ? 10 : 90),
    models: async (signal) => toModels(options.models?.map((id) => ({ id })) ?? (await list(signal))),
    handles: {
      'text.generate': (input, call) =>
        answerText(
          input,
          call,
          (target) => toGenerateRequest(input, target),
          (answer) => answer.textResult(),
        ),
      'text.chat': (input, call) =>
        answerText(
          input,
          call,
          (target) => toChatRequest(input, target),
          (answer) => answer.chatResult(),
        ),
      ...(flavour === 'xai' ? {} : { 'text.embed': createEmbed(upstream) }),
    },
    // xAI refuses knobs that are common elsewhere: its requests are translated, which leaves them out and says so.
    ...(flavour === 'xai' ? {} : { relays: { openai: createRelay(upstream, limits.maxReplyBytes) } }),
    async health(signal) {
      await list(signal);
    },
  };
}
