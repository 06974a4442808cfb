// Ollama's native wire: the shapes it reads and writes, and what its failures mean.
import { GatewayError } from '../../../src/error.ts';
import type { ErrorDetails } from '../../../src/error.ts';
import { errorText } from '../../../src/upstream.ts';
import type { Upstream } from '../../../src/upstream.ts';

export interface SamplingOptions {
  num_ctx?: number;
  num_predict?: number;
  seed?: number;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  repeat_penalty?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  stop?: string[];
}

/** What chat and generate requests share. */
export interface TextRequest {
  model: string;
  stream: true;
  format?: 'json' | Record<string, unknown>;
  think?: boolean | 'low' | 'medium' | 'high';
  /** Seconds; negative is for ever. */
  keep_alive?: number;
  logprobs?: true;
  top_logprobs?: number;
  options?: SamplingOptions;
}

export interface ChatRequest extends TextRequest {
  messages: WireMessage[];
  tools?: WireTool[];
}

export interface GenerateRequest extends TextRequest {
  prompt: string;
  suffix?: string;
  system?: string;
  raw?: true;
  images?: string[];
}

export interface WireMessage {
  role: 'system' | 'user' | 'assistant' | 'tool';
  content: string;
  thinking?: string;
  /** Bare base64. */
  images?: string[];
  tool_calls?: WireToolCall[];
  tool_name?: string;
  tool_call_id?: string;
}

export interface WireTool {
  type: 'function';
  function: { name: string; description?: string; parameters: Record<string, unknown> };
}

/** `arguments` is an object in both directions. */
export interface WireToolCall {
  id?: string;
  function: { name: string; arguments?: unknown };
}

/** One line of a streamed answer. Counters that are 0 are left out. */
export interface Part {
  message?: { content?: string; thinking?: string; tool_calls?: WireToolCall[] };
  response?: string;
  thinking?: string;
  logprobs?: WireLogprob[];
  done?: boolean;
  done_reason?: 'stop' | 'length' | 'load' | 'unload';
  prompt_eval_count?: number;
  eval_count?: number;
  error?: unknown;
}

interface WireAlternative {
  token: string;
  logprob: number;
  bytes?: number[];
}

export interface WireLogprob extends WireAlternative {
  top_logprobs?: WireAlternative[];
}

export interface EmbedReply {
  embeddings?: number[][];
  prompt_eval_count?: number;
}

/** An entry of /api/tags. Older servers leave out the capabilities and the context length. */
export interface TaggedModel {
  name: string;
  modified_at?: string;
  size?: number;
  digest?: string;
  details?: ModelDetails;
  capabilities?: string[];
  /** Present on models that run in the cloud. */
  remote_host?: string;
}

export interface ModelDetails {
  family?: string;
  families?: string[] | null;
  parameter_size?: string;
  quantization_level?: string;
  context_length?: number;
}

export interface ShowReply {
  capabilities?: string[];
  license?: string;
  details?: ModelDetails;
  model_info?: Record<string, unknown>;
}

/** An entry of /api/ps. `size_vram` is 0 where the model runs on the CPU only. */
export interface RunningModel {
  name: string;
  digest?: string;
  /** Bytes, of which `size_vram` are on the card. */
  size?: number;
  size_vram?: number;
  /** RFC 3339; centuries away where it stays for ever. */
  expires_at?: string;
  context_length?: number;
}

/** The last is what Ollama makes of a runner that died without a word, for which memory is the usual reason. */
const OUT_OF_MEMORY =
  /out[ _]?of[ _]?(device|host|pool)?[ _]?memory|(insufficient|not enough|more system) memory|(unable|failed) to allocate|alloc(ation)? .{0,40}failed|_ALLOC_FAILED|signal: killed|resource limitations/i;

/** A line of a streamed answer → its value; throws for a line that is a failure or no JSON object. */
export function toPart(line: string, upstream: Upstream, model: string): Part {
  let part: Part | null;
  try {
    part = JSON.parse(line) as Part | null;
  } catch (cause) {
    throw notOllama(upstream.name, cause);
  }
  if (typeof part !== 'object' || part === null) throw notOllama(upstream.name);
  if (part.error !== undefined) throw toFailure(upstream, 500, line, model);
  return part;
}

/** What an answer other than 200 (or an error line within a 200) stands for. */
export function toFailure(upstream: Upstream, status: number, body: string, model: string): GatewayError {
  const source = upstream.name;
  const message = errorText(body);
  if (OUT_OF_MEMORY.test(message)) {
    return new GatewayError('insufficient_vram', `${source} has not enough memory for ${model}.`, {
      source,
      retryAfter: 10,
      retry: false,
      hint: 'Ask for a smaller context, a smaller model or a smaller quantisation of it.',
    });
  }
  if (status === 404) {
    // The router's own 404 is plain text: then the path is unknown, not the model.
    if (!body.trimStart().startsWith('{')) return notOllama(source);
    return new GatewayError('model_not_found', `${source} has no model ${model}.`, { source, hint: pullHint(model) });
  }
  if (status === 403) {
    const hint =
      'Bound to loopback it takes local Host headers only: set OLLAMA_HOST=0.0.0.0 where it runs; cloud models may be off.';
    return new GatewayError('provider_auth', `${source} refused the request.`, { source, hint, retry: false });
  }
  if (status === 499) {
    return new GatewayError('upstream_terminated', `${source} cancelled the request itself.`, { source, retry: false });
  }
  const missing = /does not support (tools|thinking|insert|vision|chat|generate|completion|embedding)/.exec(
    message,
  )?.[1];
  if (status === 400 && missing !== undefined) return unsupported(model, missing, { source });
  return upstream.failure(status, JSON.stringify({ error: message }));
}

export function unsupported(model: string, what: string, details: ErrorDetails): GatewayError {
  const params: Record<string, string> = {
    tools: 'tools',
    thinking: 'reasoning_effort',
    insert: 'suffix',
    vision: 'images',
  };
  const param = params[what];
  return new GatewayError('unsupported_parameter', `${model} does not support ${what}.`, {
    ...(param === undefined ? {} : { param }),
    hint: 'Choose a model whose entry in the model list has it.',
    ...details,
  });
}

export function notOllama(source: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_invalid', `${source} did not answer as Ollama does.`, {
    source,
    retry: false,
    cause,
    hint: 'Check that the configured address is that of an Ollama server, without a path.',
  });
}

export function pullHint(model: string): string {
  return `ollama pull ${model}`;
}

/** The name with its tag: `llama3.2` and `llama3.2:latest` are one model. */
export function toFullName(model: string): string {
  return model.includes(':', model.lastIndexOf('/') + 1) ? model : `${model}:latest`;
}

/** A licence's text → what people call it, or its first line. */
export function toLicense(text: unknown): string | undefined {
  if (typeof text !== 'string') return undefined;
  const head = text.slice(0, 2000);
  if (/apache license\s+version 2\.0/i.test(head)) return 'apache-2.0';
  if (/^\s*(the )?mit license/i.test(head)) return 'mit';
  const line = head
    .split(/[\r\n]+/)
    .map((each) => each.replace(/[\p{Cc}\p{Cf}\s]+/gu, ' ').trim())
    .find((each) => /\p{L}/u.test(each));
  return line?.slice(0, 100);
}
