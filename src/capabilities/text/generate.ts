// text.generate: a prompt in, text out.
import { z } from 'zod';
import { defineCapability } from '../define.ts';
import { generated, modelField, responseFormat, samplingFields, streamField, text, tokenLogprob } from './fields.ts';

export const textGenerate = defineCapability({
  id: 'text.generate',
  path: '/text/gen',
  summary: 'Generate text from a prompt',
  description:
    'One prompt in, one text out. Chat models get the prompt in their chat template; `raw` sends it as it is, and `suffix` asks for what belongs between prompt and suffix.',
  input: z.object({
    prompt: text.describe('What to write about, or the text to continue.'),
    system: text.optional().describe('Instructions that come before the prompt.'),
    suffix: text.optional().describe('Text that follows the gap to fill, on models that can fill in the middle.'),
    images: z
      .array(z.string().max(64_000_000))
      .max(16)
      .optional()
      .describe('Pictures as data: URLs, for vision models.'),
    raw: z.boolean().optional().describe('Skip the chat template.'),
    echo: z.boolean().optional().describe('Put the prompt (and its log-probabilities) before the answer.'),
    response_format: responseFormat.optional(),
    ...modelField,
    ...samplingFields,
    ...streamField,
  }),
  result: z.object({ text: z.string(), reasoning: z.string().optional(), ...generated }),
  chunk: z.object({
    text: z.string().optional(),
    reasoning: z.string().optional(),
    logprobs: z.array(tokenLogprob).optional(),
  }),
  cli: {
    command: ['text', 'gen'],
    argument: 'prompt',
    showChunk: (chunk) => chunk.text ?? '',
    showResult: (result) => result.text,
  },
});
