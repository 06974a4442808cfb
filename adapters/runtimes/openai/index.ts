// The OpenAI-compatible runtime: texts, vectors, pictures and films over llama-server, vLLM, LM Studio, LocalAI, sd-server, OpenAI, xAI and their like.
import type { Chunk } from '../../../src/capabilities/index.ts';
import type { RunEvent } from '../../../src/event.ts';
import type { MediaTools } from '../../../src/media.ts';
import type { Call, Handlers, RuntimeAdapter } from '../../../src/runtime.ts';
import { createUpstream } from '../../../src/upstream.ts';
import type { Transport, UpstreamLimits } from '../../../src/upstream.ts';
import { createAnswer } from './answer.ts';
import type { Answer } from './answer.ts';
import { createAsk } from './ask.ts';
import { createEmbed } from './embed.ts';
import { cancelled, notOpenAI } from './failure.ts';
import { createFetch } from './fetch.ts';
import { createImages } from './images.ts';
import type { Maker } from './made.ts';
import { createManagers } from './managers/index.ts';
import { toModels } from './models.ts';
import { TEXT_OPTIONAL } from './quirks.ts';
import type { Flavour, Knobs } from './quirks.ts';
import { createRelay } from './relay.ts';
import { createSdcpp } from './sdcpp.ts';
import { readAnswer } from './stream.ts';
import { toChatRequest, toGenerateRequest } from './translate.ts';
import type { Asked, Target } from './translate.ts';
import { createVideos } from './videos.ts';
import type { WireModels } from './wire.ts';
import { createXaiImages } from './xai-images.ts';
import { createXaiVideos } from './xai-videos.ts';

export interface OpenAIOptions {
  name: string;
  /** With its version, e.g. `http://127.0.0.1:8080/v1`. */
  baseUrl: string;
  apiKey?: string;
  /** Sent with every request. */
  headers?: Record<string, string>;
  transport: Transport;
  limits: UpstreamLimits;
  tools: MediaTools;
  /** Default 90; 10 for xai, which is far away and costs money. */
  priority?: number;
  /** Default `generic`. */
  flavour?: Flavour;
  /** Milliseconds before a film is first looked at; default 250. Later looks are further apart. */
  pauseMs?: number;
  /** Instead of what the server lists. */
  models?: string[];
  /** Milliseconds between two looks at a model that is loaded or got; default 400. */
  lookMs?: number;
}

export function createOpenAI(options: OpenAIOptions): RuntimeAdapter {
  const { name, flavour = 'generic', limits, apiKey, tools, pauseMs = 250 } = options;
  const headers = { ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}), ...options.headers };
  const upstream = createUpstream({ ...options, headers });
  const ask = createAsk(upstream);
  const maker: Maker = { upstream, ask, tools, pauseMs, fetch: createFetch({ ...options, headers }, flavour) };
  /** Which program a model is said to belong to: some are asked in words of their own. */
  const owners = new Map<string, string>();
  const sdcpp = createSdcpp({ ...options, headers }, maker, owners);
  const managers = createManagers({ ...options, headers, pauseMs: options.lookMs ?? 400, list });

  async function* answerText<Result>(
    input: Knobs & { echo?: boolean | undefined },
    call: Call,
    translate: (target: Target) => Asked,
    toResult: (answer: Answer) => Result,
  ): AsyncGenerator<RunEvent<Chunk<'text.chat'>, Result>> {
    const asked = translate({ source: name, model: call.model.id, flavour });
    const reply = await ask(asked, { optional: TEXT_OPTIONAL }, call.signal);
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
    const listed = await upstream.control<WireModels>('/models', { signal }).catch((thrown: unknown) => {
      if (!signal.aborted) managers.forget();
      throw thrown;
    });
    if (!Array.isArray(listed.data)) throw notOpenAI(name);
    for (const wire of listed.data) if (wire?.id && wire.owned_by) owners.set(wire.id, wire.owned_by);
    return listed;
  }

  async function models(signal: AbortSignal) {
    if (options.models) return toModels({ data: options.models.map((id) => ({ id })) }, flavour);
    const listed = await list(signal);
    const found = toModels(listed, flavour);
    return flavour === 'xai' ? found : managers.complete(found, listed, signal);
  }

  const text: Handlers = {
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
  };
  const common = {
    name,
    priority: options.priority ?? (flavour === 'xai' ? 10 : 90),
    async health(signal: AbortSignal) {
      await list(signal);
    },
  };
  // xAI refuses knobs that are common elsewhere: its requests are translated, which leaves them out and says so.
  if (flavour === 'xai') return { ...common, models, handles: { ...text, ...toXai(maker) } };
  const ready = ({ signal }: Call) => managers.wake(signal);
  const { uses, puller } = managers;
  const adapter: RuntimeAdapter = {
    ...common,
    models: async (signal) => sdcpp.complete(await models(signal), signal),
    handles: uses.counting({ ...text, ...sdcpp.over(toGeneric(maker, owners, limits)) }, ready),
    relays: { openai: uses.countingRelay(createRelay(upstream, limits.maxReplyBytes), ready) },
    puller,
  };
  // Which program it is, and so whether there is any, is known only after it was asked.
  return Object.defineProperty(adapter, 'memory', { get: managers.memory, enumerable: true });
}

function toXai(maker: Maker): Handlers {
  return { ...createXaiImages(maker), 'video.generate': createXaiVideos(maker) };
}

function toGeneric(maker: Maker, owners: ReadonlyMap<string, string>, { maxReplyBytes }: UpstreamLimits): Handlers {
  return {
    'text.embed': createEmbed(maker.upstream),
    ...createImages(maker, owners),
    'video.generate': createVideos(maker, maxReplyBytes),
  };
}
