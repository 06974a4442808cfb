// What the gateway is asked → what Ollama is asked, and a warning for each knob that Ollama does not have.
import { GatewayError } from '../../../src/error.ts';
import type { Input } from '../../../src/capabilities/index.ts';
import { textOf } from '../../../src/capabilities/text/chat.ts';
import type { Message, Tool } from '../../../src/capabilities/text/chat.ts';
import type { ResponseFormat } from '../../../src/capabilities/text/fields.ts';
import type { Call, Model } from '../../../src/runtime.ts';
import { unsupported } from './wire.ts';
import type { ChatRequest, GenerateRequest, SamplingOptions, TextRequest, WireMessage, WireTool } from './wire.ts';

export interface Asked<Request> {
  request: Request;
  warnings: string[];
}

/** The knobs that text.chat and text.generate share. */
export type Knobs = Omit<Input<'text.generate'>, 'prompt' | 'system' | 'suffix' | 'images' | 'raw' | 'echo'>;

/** What a request needs of its call: the model, and the seconds that it shall stay in memory. */
export type Ask = Pick<Call, 'model' | 'keep'>;

export function toChatRequest(input: Input<'text.chat'>, ask: Ask, source: string): Asked<ChatRequest> {
  const { model } = ask;
  const warnings: string[] = [];
  const messages = toMessages(input.messages, source);
  const picture = messages.findIndex((message) => message.images !== undefined);
  if (picture !== -1 && model.vision === false)
    throw unsupported(model.id, 'pictures', { param: `messages.${picture}.content`, source });
  if (input.messages.some((message) => message.role !== 'tool' && message.name !== undefined)) {
    warnings.push('Ollama messages have no `name`; it was left out.');
  }
  const tools = input.tool_choice === 'none' ? [] : (input.tools ?? []);
  if (tools.length > 0) warnings.push(...toolWarnings(input));
  const think = toThink(input.reasoning_effort, model, warnings);
  const request: ChatRequest = { ...toTextRequest(input, ask), messages };
  if (tools.length > 0) request.tools = tools.map(toTool);
  if (think !== undefined) request.think = think;
  return { request, warnings };
}

export function toGenerateRequest(input: Input<'text.generate'>, ask: Ask, source: string): Asked<GenerateRequest> {
  const { model } = ask;
  const warnings: string[] = [];
  if (input.echo) warnings.push('Ollama cannot echo the prompt; the answer comes alone.');
  const images = input.images?.map((url, index) => toBareBase64(url, `images.${index}`, source)) ?? [];
  if (images.length > 0 && model.vision === false) throw unsupported(model.id, 'pictures', { param: 'images', source });
  const request: GenerateRequest = { ...toTextRequest(input, ask), prompt: input.prompt };
  if (input.system !== undefined) request.system = input.system;
  if (input.suffix) request.suffix = input.suffix;
  if (input.raw) request.raw = true;
  if (images.length > 0) request.images = images;
  return { request, warnings };
}

function toTextRequest(input: Knobs, { model, keep }: Ask): TextRequest {
  const request: TextRequest = { model: model.id, stream: true };
  const format = toFormat(input.response_format);
  const options = toOptions(input);
  if (format !== undefined) request.format = format;
  const keepAlive = input.keep_alive ?? keep;
  if (keepAlive !== undefined) request.keep_alive = keepAlive;
  if (wantsLogprobs(input)) {
    request.logprobs = true;
    if (input.top_logprobs !== undefined) request.top_logprobs = input.top_logprobs;
  }
  if (Object.keys(options).length > 0) request.options = options;
  return request;
}

export function wantsLogprobs(input: Knobs): boolean {
  return input.logprobs === true || (input.top_logprobs ?? 0) > 0;
}

function toOptions(input: Knobs): SamplingOptions {
  // A zero would mean "no limit" to some versions: one token is asked for, and the answer drops it.
  const options: Record<keyof SamplingOptions, SamplingOptions[keyof SamplingOptions]> = {
    num_ctx: input.context,
    num_predict: input.max_tokens === 0 ? 1 : input.max_tokens,
    seed: toSeed(input.seed),
    temperature: input.temperature,
    top_p: input.top_p,
    top_k: input.top_k,
    min_p: input.min_p,
    repeat_penalty: input.repeat_penalty,
    presence_penalty: input.presence_penalty,
    frequency_penalty: input.frequency_penalty,
    stop: typeof input.stop === 'string' ? [input.stop] : input.stop,
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** The runner keeps 32 bits of a seed and takes all ones for "any", so larger seeds are folded below that. */
function toSeed(seed: number | undefined): number | undefined {
  return seed === undefined ? undefined : seed % 0xffffffff;
}

function toFormat(format: ResponseFormat | undefined): TextRequest['format'] {
  if (format?.type === 'json_object') return 'json';
  return format?.type === 'json_schema' ? format.json_schema.schema : undefined;
}

function toThink(
  effort: Input<'text.chat'>['reasoning_effort'],
  model: Model,
  warnings: string[],
): TextRequest['think'] {
  if (effort === undefined) return undefined;
  if (effort === 'none') return false;
  if (!model.reasoning) {
    warnings.push(`${model.id} does not reason; reasoning_effort was left out.`);
    return undefined;
  }
  if (effort === 'minimal') return 'low';
  return effort === 'xhigh' || effort === 'max' ? 'high' : effort;
}

function toolWarnings(input: Input<'text.chat'>): string[] {
  const warnings: string[] = [];
  const choice = input.tool_choice;
  if (choice !== undefined && choice !== 'auto')
    warnings.push('Ollama cannot be made to call a tool; tool_choice was taken as auto.');
  if (input.parallel_tool_calls === false)
    warnings.push('Ollama cannot be kept to one tool call; parallel_tool_calls was left out.');
  if (input.tools?.some((tool) => tool.function.strict)) warnings.push('Ollama does not enforce strict tool schemas.');
  return warnings;
}

function toTool({ function: { name, description, parameters } }: Tool): WireTool {
  return {
    type: 'function',
    function: {
      name,
      ...(description === undefined ? {} : { description }),
      parameters: parameters ?? { type: 'object', properties: {} },
    },
  };
}

function toMessages(messages: Message[], source: string): WireMessage[] {
  /** Ollama wants a tool's name beside its answer, where OpenAI gives the id of the call only. */
  const toolNames = new Map<string, string>();
  return messages.map((message, index) => {
    const wire: WireMessage = { role: message.role, content: textOf(message.content) };
    const images = toImages(message, `messages.${index}.content`, source);
    if (images.length > 0) wire.images = images;
    if (message.reasoning) wire.thinking = message.reasoning;
    if (message.tool_calls?.length) {
      wire.tool_calls = message.tool_calls.map(({ id, function: { name, arguments: text } }, call) => {
        toolNames.set(id, name);
        const param = `messages.${index}.tool_calls.${call}.function.arguments`;
        return { id, function: { name, arguments: toArguments(text, param, source) } };
      });
    }
    if (message.role === 'tool') {
      const name = toolNames.get(message.tool_call_id ?? '') ?? message.name;
      if (name !== undefined) wire.tool_name = name;
      if (message.tool_call_id !== undefined) wire.tool_call_id = message.tool_call_id;
    }
    return wire;
  });
}

function toArguments(text: string, param: string, source: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text.trim() || '{}');
  } catch {
    // Falls through to the same refusal as JSON of another kind.
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new GatewayError('invalid_request', 'The arguments of a tool call must be a JSON object.', {
    param,
    source,
    hint: 'Send the arguments as the model gave them, or repair their JSON.',
  });
}

function toImages(message: Message, param: string, source: string): string[] {
  if (typeof message.content === 'string') return [];
  return message.content.flatMap((part, index) =>
    part.type === 'image_url' ? [toBareBase64(part.image_url.url, `${param}.${index}.image_url.url`, source)] : [],
  );
}

function toBareBase64(url: string, param: string, source: string): string {
  // No regular expression over the whole: pictures run to megabytes.
  const comma = url.indexOf(',');
  if (/^data:/i.test(url) && /;base64$/i.test(url.slice(Math.max(0, comma - 7), Math.max(0, comma))))
    return url.slice(comma + 1);
  throw new GatewayError('invalid_request', 'Pictures must come as base64 data: URLs.', {
    param,
    source,
    hint: 'Fetch the picture yourself and send it as data:image/png;base64,…',
  });
}
