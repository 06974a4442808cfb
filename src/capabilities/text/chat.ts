// text.chat: messages in, the next message out; tools, JSON output, pictures in, reasoning out.
import { z } from 'zod';
import { defineCapability } from '../define.ts';
import { generated, modelField, responseFormat, samplingFields, streamField, text, tokenLogprob } from './fields.ts';

export const contentPart = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), text }),
  z.object({
    type: z.literal('image_url'),
    image_url: z.object({ url: z.string().max(64_000_000), detail: z.string().optional() }),
  }),
]);
export type ContentPart = z.output<typeof contentPart>;

/** `arguments` is JSON text, as the model wrote it. */
export const toolCall = z.object({
  id: z.string(),
  type: z.literal('function').default('function'),
  function: z.object({ name: z.string(), arguments: z.string() }),
});
export type ToolCall = z.output<typeof toolCall>;

export const message = z.object({
  role: z.enum(['system', 'user', 'assistant', 'tool']),
  content: z
    .union([text, z.array(contentPart).max(1024)])
    .nullish()
    .transform((content) => content ?? ''),
  name: z.string().optional(),
  reasoning: z.string().optional(),
  tool_calls: z.array(toolCall).max(256).optional(),
  tool_call_id: z.string().optional(),
});
export type Message = z.output<typeof message>;

export const tool = z.object({
  type: z.literal('function'),
  function: z.object({
    name: z.string().min(1).max(128),
    description: z.string().optional(),
    parameters: z.record(z.string(), z.unknown()).optional(),
    strict: z.boolean().nullish(),
  }),
});
export type Tool = z.output<typeof tool>;

export const toolChoice = z.union([
  z.enum(['none', 'auto', 'required']),
  z.object({ type: z.literal('function'), function: z.object({ name: z.string() }) }),
]);

export const reasoningEffort = z.enum(['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max']);

export const textChat = defineCapability({
  id: 'text.chat',
  path: '/text/chat',
  summary: 'Answer a conversation',
  description:
    'Messages in OpenAI shape in, the assistant’s next message out, with tools, JSON-schema output, pictures and reasoning where the model has them.',
  input: z.object({
    messages: z.array(message).min(1).max(10_000),
    tools: z.array(tool).max(512).optional(),
    tool_choice: toolChoice.optional(),
    parallel_tool_calls: z.boolean().optional(),
    response_format: responseFormat.optional(),
    reasoning_effort: reasoningEffort.optional(),
    ...modelField,
    ...samplingFields,
    ...streamField,
  }),
  result: z.object({
    message: z.object({
      role: z.literal('assistant'),
      content: z.string(),
      reasoning: z.string().optional(),
      tool_calls: z.array(toolCall).optional(),
    }),
    ...generated,
  }),
  chunk: z.object({
    text: z.string().optional(),
    reasoning: z.string().optional(),
    /** `id` and `name` come with the first piece of a call only; `arguments` are pieces of JSON text. */
    tool_calls: z
      .array(
        z.object({
          index: z.int(),
          id: z.string().optional(),
          name: z.string().optional(),
          arguments: z.string().optional(),
        }),
      )
      .optional(),
    logprobs: z.array(tokenLogprob).optional(),
  }),
  cli: {
    command: ['text', 'chat'],
    argument: 'messages',
    showChunk: (chunk) => chunk.text ?? '',
    showResult: (result) => result.message.content || JSON.stringify(result.message.tool_calls ?? [], null, 2),
  },
});

/** The text of a message, its pictures left out. */
export function textOf(content: Message['content']): string {
  if (typeof content === 'string') return content;
  return content.map((part) => (part.type === 'text' ? part.text : '')).join('');
}
