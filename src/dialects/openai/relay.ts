// A request whose model speaks OpenAI itself: the caller's bytes go there, the answer's bytes come back.
import type { CapabilityId } from '../../capabilities/index.ts';
import { GatewayError, toGatewayError } from '../../error.ts';
import { clientSignal, type AppContext } from '../../http/context.ts';
import { respond, respondEvents, toErrorBody } from '../../http/respond.ts';
import { runHeaders } from '../../http/serve.ts';
import type { Relayed } from '../../gateway.ts';
import { readText } from '../../upstream.ts';

type Json = Record<string, unknown>;

/** What runtimes know, OpenAI's and the common extensions; anything else stays here. */
const FORWARDED = new Set(
  `model messages prompt input suffix echo best_of stream stream_options n temperature top_p top_k min_p typical_p seed stop
  max_tokens max_completion_tokens presence_penalty frequency_penalty repeat_penalty repetition_penalty logit_bias logprobs top_logprobs
  tools tool_choice parallel_tool_calls functions function_call response_format reasoning_effort reasoning chat_template_kwargs
  thinking_budget cache_prompt grammar json_schema guided_json dimensions encoding_format user metadata verbosity service_tier
  safety_identifier prompt_cache_key modalities store prediction`.split(/\s+/),
);

export interface RelayCall {
  capability: CapabilityId;
  path: string;
  body: Json;
  bytes: Uint8Array<ArrayBuffer>;
}

/** undefined where the model's runtime does not speak OpenAI: then the request is translated. */
export async function relay(
  c: AppContext,
  { capability, path, body, bytes }: RelayCall,
): Promise<Response | undefined> {
  const { gateway, config } = c.var.app;
  const stream = body['stream'] === true;
  const gone = new AbortController();
  const client = clientSignal(c);
  if (client.aborted) gone.abort();
  else client.addEventListener('abort', () => gone.abort(), { once: true });
  const model = typeof body['model'] === 'string' ? body['model'] : undefined;
  const sent = gateway.relay(
    'openai',
    capability,
    model,
    (modelId) => ({ path, stream, body: toBytes(body, bytes, modelId) }),
    { signal: gone.signal, requestId: c.var.requestId },
  );
  if (!stream) {
    const relayed = await sent;
    if (!relayed) return undefined;
    try {
      const text = await readText(relayed.reply.body, config.max_reply, relayed.runtime);
      return respond(c, text, { contentType: 'application/json', headers: toHeaders(c, relayed) });
    } finally {
      relayed.release();
    }
  }
  // A cold model may take minutes to its first byte: the stream then opens with heartbeats.
  const relayed = await within(config.heartbeat_ms, sent);
  if (relayed === undefined) return undefined;
  return respondEvents(c, {
    headers: () => (relayed === 'late' ? {} : toHeaders(c, relayed)),
    body: passOn(sent),
    onError: (error) => `data: ${JSON.stringify(toErrorBody(error, c.var.requestId))}\n\n`,
    onGone: () => gone.abort(),
  });
}

async function* passOn(sent: Promise<Relayed | undefined>): AsyncGenerator<Uint8Array> {
  const relayed = await sent;
  if (!relayed) throw new GatewayError('upstream_unavailable', 'The runtime cannot be reached.');
  try {
    yield* relayed.reply.body;
  } catch (error) {
    throw toGatewayError(error);
  } finally {
    relayed.release();
  }
}

function toHeaders(c: AppContext, { warnings, model, runtime, reason = '' }: Relayed): Record<string, string> {
  return runHeaders(c, { target: { model, runtime, reason }, warnings });
}

/** The caller's own bytes, unless the model is known there by another name or something in them is not for the runtime. */
function toBytes(body: Json, bytes: Uint8Array<ArrayBuffer>, modelId: string): Uint8Array<ArrayBuffer> {
  const foreign = Object.keys(body).some((name) => !FORWARDED.has(name));
  if (!foreign && body['model'] === modelId) return bytes;
  const known = foreign ? Object.fromEntries(Object.entries(body).filter(([name]) => FORWARDED.has(name))) : body;
  return new TextEncoder().encode(JSON.stringify({ ...known, model: modelId }));
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T | 'late'> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<'late'>((resolve) => (timer = setTimeout(resolve, ms, 'late')));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
