// OpenAI chat completions ⇄ text.chat.
import { z } from 'zod';
import { message, textChat, toolCall } from '../../capabilities/text/chat.ts';
import type { Chunk, Input, Output } from '../../capabilities/index.ts';
import { GatewayError } from '../../error.ts';

/** What the documents say; what is read is lenient (see `toChatInput`). */
export const chatRequest = textChat.input.extend({
  max_completion_tokens: z.int().optional(),
  n: z.int().min(1).max(8).optional(),
  stream_options: z.object({ include_usage: z.boolean().optional() }).optional(),
  messages: z.array(message.extend({ role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']) })),
});

export const chatCompletion = z.object({
  id: z.string(),
  object: z.literal('chat.completion'),
  created: z.int(),
  model: z.string(),
  choices: z.array(
    z.object({
      index: z.int(),
      message: z.object({
        role: z.literal('assistant'),
        content: z.string().nullable(),
        reasoning_content: z.string().optional(),
        tool_calls: z.array(toolCall).optional(),
      }),
      finish_reason: z.enum(['stop', 'length', 'tool_calls', 'content_filter']),
    }),
  ),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() }),
});

/** The knobs that are OpenAI's own and mean nothing to a home runtime; accepted, as clients send many. */
const RENAMED = new Set(['max_completion_tokens', 'messages', 'n', 'stream_options', 'functions', 'function_call']);

type Json = Record<string, unknown>;

/** An OpenAI body → what the capability's schema then checks: nulls are absences, old names become today's. */
export function toChatInput(body: Json): Json {
  const input: Json = {};
  for (const [name, value] of Object.entries(body)) {
    if (value !== null && !RENAMED.has(name)) input[name] = value;
  }
  input['max_tokens'] ??= body['max_completion_tokens'] ?? undefined;
  if (Array.isArray(body['functions']))
    input['tools'] ??= body['functions'].map((fn) => ({ type: 'function', function: fn }));
  if (typeof input['tool_choice'] === 'object') input['tool_choice'] = toToolChoice(input['tool_choice'] as Json);
  if (typeof input['logprobs'] !== 'boolean') delete input['logprobs'];
  input['messages'] = Array.isArray(body['messages']) ? body['messages'].map(toMessage) : body['messages'];
  return input;
}

function toMessage(raw: unknown, index: number): unknown {
  if (typeof raw !== 'object' || raw === null) return raw;
  const { role, content, reasoning_content, function_call, name, tool_calls, tool_call_id, ...rest } = raw as Json;
  const calls = function_call ? [{ id: `call_${index}`, type: 'function', function: function_call }] : tool_calls;
  return {
    role: role === 'developer' ? 'system' : role === 'function' ? 'tool' : role,
    content: Array.isArray(content)
      ? content.map((part, at) => toPart(part, `messages.${index}.content.${at}`))
      : content,
    ...(name ? { name } : {}),
    ...(calls ? { tool_calls: calls } : {}),
    ...(tool_call_id ? { tool_call_id } : {}),
    ...((reasoning_content ?? rest['reasoning']) ? { reasoning: reasoning_content ?? rest['reasoning'] } : {}),
  };
}

function toPart(part: unknown, param: string): unknown {
  if (typeof part === 'string') return { type: 'text', text: part };
  if (typeof part !== 'object' || part === null) return part;
  const { type } = part as Json;
  if (type === 'refusal') return { type: 'text', text: (part as Json)['refusal'] };
  if (type === 'input_text' || type === 'output_text') return { type: 'text', text: (part as Json)['text'] };
  if (type === 'input_audio' || type === 'file') {
    throw new GatewayError('unsupported_parameter', `Content of type ${type} is not supported.`, {
      param,
      hint: 'Send text and image_url parts; transcribe sound first.',
    });
  }
  return part;
}

function toToolChoice(choice: Json): unknown {
  // A subset of the tools cannot be told to any home runtime; the model chooses among those sent.
  return choice['type'] === 'allowed_tools'
    ? ((choice['allowed_tools'] as Json | undefined)?.['mode'] ?? 'auto')
    : choice;
}

type ChatOutput = Output<'text.chat'>;

export interface Head {
  id: string;
  created: number;
}

export function toChatCompletion(head: Head, outputs: ChatOutput[]) {
  const usage = sumUsage(outputs.map((output) => output.usage));
  return {
    id: head.id,
    object: 'chat.completion',
    created: head.created,
    model: outputs[0]!.model,
    choices: outputs.map((output, index) => ({ index, ...toChoice(output) })),
    usage: {
      ...usage,
      completion_tokens_details: { reasoning_tokens: 0 },
      prompt_tokens_details: { cached_tokens: 0 },
    },
    system_fingerprint: null,
    ...(outputs[0]!.warnings.length > 0 ? { warnings: outputs[0]!.warnings } : {}),
  };
}

function toChoice({ message, finish_reason, logprobs }: ChatOutput) {
  const { content, reasoning, tool_calls } = message;
  return {
    message: {
      role: 'assistant',
      content: content === '' && tool_calls ? null : content,
      refusal: null,
      annotations: [],
      ...(reasoning ? { reasoning_content: reasoning } : {}),
      ...(tool_calls ? { tool_calls } : {}),
    },
    logprobs: logprobs ? { content: logprobs, refusal: null } : null,
    finish_reason,
  };
}

export function sumUsage(usages: { prompt_tokens: number; completion_tokens?: number; total_tokens: number }[]) {
  const sum = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
  for (const usage of usages) {
    sum.prompt_tokens += usage.prompt_tokens;
    sum.completion_tokens += usage.completion_tokens ?? 0;
    sum.total_tokens += usage.total_tokens;
  }
  return sum;
}

/**
 * Encodes the chunks of one answer. What is the same in every chunk is written once: at a thousand tokens a second the
 * envelope would cost more than the tokens.
 */
export function createChunkEncoder(head: Head, model: string, index: number, includeUsage: boolean) {
  const before = `data: {"id":${JSON.stringify(head.id)},"object":"chat.completion.chunk","created":${head.created},"model":${JSON.stringify(model)},"system_fingerprint":null,"choices":[{"index":${index},"delta":`;
  const usageNull = includeUsage ? ',"usage":null' : '';
  const after = `,"logprobs":null,"finish_reason":null}]${usageNull}}\n\n`;
  const delta = (fields: string, logprobs = 'null', finish = 'null') =>
    `${before}${fields},"logprobs":${logprobs},"finish_reason":${finish}}]${usageNull}}\n\n`;
  return {
    first: () => delta('{"role":"assistant","content":"","refusal":null}'),
    chunk(chunk: Chunk<'text.chat'>): string {
      const { text, reasoning, tool_calls, logprobs } = chunk;
      if (text !== undefined && reasoning === undefined && !tool_calls && !logprobs) {
        return `${before}{"content":${JSON.stringify(text)}}${after}`;
      }
      const fields = JSON.stringify({
        ...(text === undefined ? {} : { content: text }),
        ...(reasoning === undefined ? {} : { reasoning_content: reasoning }),
        ...(tool_calls ? { tool_calls: tool_calls.map(toToolDelta) } : {}),
      });
      return delta(fields, logprobs ? JSON.stringify({ content: logprobs, refusal: null }) : 'null');
    },
    last: (finish: string) => delta('{}', 'null', JSON.stringify(finish)),
    usage: (usage: object) =>
      `data: ${JSON.stringify({ id: head.id, object: 'chat.completion.chunk', created: head.created, model, system_fingerprint: null, choices: [], usage })}\n\n`,
  };
}

function toToolDelta(call: NonNullable<Chunk<'text.chat'>['tool_calls']>[number]) {
  const { index, id, name } = call;
  return {
    index,
    ...(id === undefined ? {} : { id, type: 'function' }),
    function: { ...(name === undefined ? {} : { name }), arguments: call.arguments ?? '' },
  };
}

/** Which of `n` answers this is decides its seed: the same seed would give the same answer n times. */
export function forChoice(input: Input<'text.chat'>, index: number): Input<'text.chat'> {
  return input.seed === undefined || index === 0 ? input : { ...input, seed: input.seed + index };
}
