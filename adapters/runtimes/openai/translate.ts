// What the gateway is asked → the request bodies of an OpenAI-compatible server.
import type { Input } from '../../../src/capabilities/index.ts';
import { textOf } from '../../../src/capabilities/text/chat.ts';
import type { Message } from '../../../src/capabilities/text/chat.ts';
import type { ResponseFormat } from '../../../src/capabilities/text/fields.ts';
import { GatewayError } from '../../../src/error.ts';
import { assertInline } from './pictures.ts';
import { toEffort, toKnobs } from './quirks.ts';
import type { Body, Flavour } from './quirks.ts';

export interface Asked {
  path: '/chat/completions' | '/completions';
  body: Body;
  warnings: string[];
  /** Characters of the prompt, for an estimate where the server does not count. */
  promptChars: number;
}

export interface Target {
  /** The runtime's name. */
  source: string;
  model: string;
  flavour: Flavour;
}

// Always streamed: only so is a silent server told from a slow one, and a caller who leaves saves the rest.
const STREAMED = { stream: true, stream_options: { include_usage: true } };

export function toChatRequest(input: Input<'text.chat'>, target: Target): Asked {
  const warnings: string[] = [];
  const { tools, tool_choice, parallel_tool_calls, response_format, reasoning_effort } = input;
  if (target.flavour === 'generic') assertInlinePictures(input.messages, target.source);
  const body: Body = {
    model: target.model,
    messages: input.messages.map(toWireMessage),
    ...STREAMED,
    ...toKnobs(input, target.model, target.flavour, warnings),
    ...toEffort(reasoning_effort, target.flavour, warnings),
    ...toFormat(response_format),
  };
  if (tools?.length) {
    body['tools'] = tools.map(({ function: { strict, ...rest } }) => ({
      type: 'function',
      function: { ...rest, ...(strict ? { strict } : {}) },
    }));
    if (tool_choice !== undefined) body['tool_choice'] = tool_choice;
    if (parallel_tool_calls !== undefined) body['parallel_tool_calls'] = parallel_tool_calls;
  }
  const promptChars = input.messages.reduce((sum, { content }) => sum + textOf(content).length, 0);
  return { path: '/chat/completions', body, warnings, promptChars };
}

/** A prompt is a conversation of one message, unless it has to reach the model as it stands. */
export function toGenerateRequest(input: Input<'text.generate'>, target: Target): Asked {
  const bare = (['raw', 'suffix', 'echo'] as const).find((name) => input[name]);
  if (bare === undefined) return toChatRequest(toConversation(input), target);
  if (target.flavour === 'xai') {
    throw new GatewayError(
      'unsupported_parameter',
      `${target.model} takes conversations only; ${bare} needs a bare prompt.`,
      {
        param: bare,
        source: target.source,
        hint: `Leave ${bare} out, or choose a local model.`,
      },
    );
  }
  const { prompt, system, suffix, echo, images, response_format } = input;
  const warnings: string[] = [];
  if (images?.length) warnings.push(`Pictures cannot go with ${bare}; they were left out.`);
  if (system !== undefined) warnings.push(`With ${bare} there is no chat template: system was put before the prompt.`);
  const { logprobs, top_logprobs, ...knobs } = toKnobs(input, target.model, target.flavour, warnings);
  const text = system === undefined ? prompt : `${system}\n\n${prompt}`;
  const body: Body = { model: target.model, prompt: text, ...STREAMED, ...knobs, ...toFormat(response_format) };
  // Here it is the number of alternatives that asks for log-probabilities; some take 0 for "none at all".
  if (logprobs) body['logprobs'] = Math.max(1, (top_logprobs as number | undefined) ?? 1);
  if (suffix) body['suffix'] = suffix;
  if (echo) {
    body['echo'] = true;
    // Scoring a prompt makes no token of its own.
    if (input.max_tokens === 0) body['max_tokens'] = 0;
  }
  return { path: '/completions', body, warnings, promptChars: text.length };
}

function toConversation({ prompt, system, images, ...knobs }: Input<'text.generate'>): Input<'text.chat'> {
  const pictures = (images ?? []).map((url) => ({ type: 'image_url' as const, image_url: { url } }));
  const content = pictures.length === 0 ? prompt : [{ type: 'text' as const, text: prompt }, ...pictures];
  const messages: Message[] = [{ role: 'user', content }];
  if (system !== undefined) messages.unshift({ role: 'system', content: system });
  return { ...knobs, messages };
}

function toWireMessage({ reasoning, content, tool_calls, ...message }: Message): Body {
  return {
    ...message,
    // Some chat templates fail on null, and none minds an empty text.
    content,
    ...(reasoning === undefined ? {} : { reasoning_content: reasoning }),
    ...(tool_calls?.length ? { tool_calls } : {}),
  };
}

function toFormat(format: ResponseFormat | undefined): Body {
  if (format === undefined || format.type === 'text') return {};
  if (format.type === 'json_object') return { response_format: format };
  const { name = 'answer', schema, strict } = format.json_schema;
  return { response_format: { type: 'json_schema', json_schema: { name, schema, ...(strict ? { strict } : {}) } } };
}

function assertInlinePictures(messages: Message[], source: string): void {
  for (const [index, { content }] of messages.entries()) {
    if (typeof content === 'string') continue;
    for (const [at, part] of content.entries()) {
      if (part.type === 'image_url')
        assertInline(part.image_url.url, `messages.${index}.content.${at}.image_url`, source);
    }
  }
}
