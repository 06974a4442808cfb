// OpenAI completions ⇄ text.generate.
import { z } from 'zod';
import { textGenerate } from '../../capabilities/text/generate.ts';
import type { TokenLogprob } from '../../capabilities/text/fields.ts';
import type { Output } from '../../capabilities/index.ts';
import { GatewayError } from '../../error.ts';
import { sumUsage, type Head } from './chat.ts';

export const completionRequest = textGenerate.input
  .omit({ system: true, images: true, logprobs: true, top_logprobs: true, response_format: true })
  .extend({
    prompt: z.union([z.string(), z.array(z.string())]),
    logprobs: z.int().min(0).max(20).optional(),
    n: z.int().min(1).max(8).optional(),
    stream_options: z.object({ include_usage: z.boolean().optional() }).optional(),
  });

export const completion = z.object({
  id: z.string(),
  object: z.literal('text_completion'),
  created: z.int(),
  model: z.string(),
  choices: z.array(z.object({ index: z.int(), text: z.string(), finish_reason: z.string() })),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() }),
});

type Json = Record<string, unknown>;

/** One capability input per prompt. */
export function toGenerateInputs(body: Json): Json[] {
  const { prompt } = body;
  const prompts = Array.isArray(prompt) ? prompt : [prompt ?? ''];
  if (prompts.length === 0 || prompts.length > 64) {
    throw new GatewayError('invalid_request', 'prompt: 1 to 64 prompts.', { param: 'prompt' });
  }
  if (prompts.some((one) => typeof one !== 'string')) {
    throw new GatewayError('unsupported_parameter', 'Prompts of token numbers are not supported.', {
      param: 'prompt',
      hint: 'Send text: token numbers mean something else to every model.',
    });
  }
  const input: Json = {};
  for (const [name, value] of Object.entries(body)) if (value !== null && name !== 'n') input[name] = value;
  const wanted = input['logprobs'];
  delete input['logprobs'];
  if (typeof wanted === 'number') Object.assign(input, { logprobs: true, top_logprobs: wanted });
  // A completion continues the text as it stands; only filling a gap needs the model's own template.
  if (input['suffix'] === undefined) input['raw'] ??= true;
  return prompts.map((one) => ({ ...input, prompt: one }));
}

export function toCompletion(head: Head, outputs: Output<'text.generate'>[]) {
  return {
    id: head.id,
    object: 'text_completion',
    created: head.created,
    model: outputs[0]!.model,
    choices: outputs.map(({ text, logprobs, finish_reason }, index) => ({
      text,
      index,
      logprobs: logprobs ? toLogprobs(logprobs) : null,
      finish_reason,
    })),
    usage: sumUsage(outputs.map((output) => output.usage)),
  };
}

export function toCompletionChunk(
  head: Head,
  model: string,
  index: number,
  text: string,
  finish: string | null,
  logprobs?: TokenLogprob[],
) {
  return {
    id: head.id,
    object: 'text_completion',
    created: head.created,
    model,
    choices: [{ text, index, logprobs: logprobs ? toLogprobs(logprobs) : null, finish_reason: finish }],
  };
}

/** The older, columnar shape. */
function toLogprobs(tokens: TokenLogprob[]) {
  let offset = 0;
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ top_logprobs }) =>
      Object.fromEntries(top_logprobs.map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset: tokens.map(({ token }) => (offset += token.length) - token.length),
  };
}
