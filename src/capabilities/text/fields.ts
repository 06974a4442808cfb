// Fields that several text capabilities share, under the names the field uses for them.
import { z } from 'zod';

/** Larger than any prompt a home model takes, small enough that one request cannot fill the memory. */
const MAX_TEXT = 8_000_000;

export const text = z.string().max(MAX_TEXT);

export const modelField = {
  model: z
    .string()
    .min(1)
    .max(512)
    .optional()
    .describe('Model id or alias; the default for this capability if absent.'),
};

export const streamField = {
  stream: z.boolean().default(false).describe('Answer as server-sent events while it is made.'),
};

export const seedField = {
  seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER).optional().describe('Same seed, same answer.'),
};

/** Sampling knobs. A runtime that cannot honour one says so in `warnings`. */
export const samplingFields = {
  ...seedField,
  max_tokens: z.int().min(0).max(1_000_000).optional().describe('Most tokens to generate.'),
  temperature: z.number().min(0).max(2).optional().describe('0 always takes the likeliest token.'),
  top_p: z.number().min(0).max(1).optional().describe('Nucleus: smallest set of tokens with this probability.'),
  top_k: z.int().min(0).max(100_000).optional().describe('Only the k likeliest tokens; 0 is off.'),
  min_p: z.number().min(0).max(1).optional().describe('Only tokens at least this likely, relative to the likeliest.'),
  repeat_penalty: z.number().min(0.1).max(10).optional().describe('Above 1 makes repetition less likely.'),
  presence_penalty: z.number().min(-2).max(2).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
  stop: z
    .union([z.string().min(1), z.array(z.string().min(1)).max(16)])
    .optional()
    .describe('Text that ends the answer; it is not part of it.'),
  logprobs: z.boolean().optional().describe('Report the log-probability of each token.'),
  top_logprobs: z.int().min(0).max(20).optional().describe('Also report this many alternatives per token.'),
  context: z.int().min(64).max(4_194_304).optional().describe('Context window in tokens, where it can be chosen.'),
  keep_alive: z.int().min(-1).max(604_800).optional().describe('Seconds the model stays loaded; -1 is for ever.'),
};

/** `text`, any JSON, or JSON that fits a schema. */
export const responseFormat = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text') }),
  z.object({ type: z.literal('json_object') }),
  z.object({
    type: z.literal('json_schema'),
    json_schema: z.object({
      name: z.string().max(64).optional(),
      schema: z.record(z.string(), z.unknown()),
      strict: z.boolean().nullish(),
    }),
  }),
]);
export type ResponseFormat = z.output<typeof responseFormat>;

export const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
});
export type Usage = z.output<typeof usage>;

export const finishReason = z.enum(['stop', 'length', 'tool_calls', 'content_filter']);
export type FinishReason = z.output<typeof finishReason>;

const alternative = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()).nullish() });

/** Natural logarithms. */
export const tokenLogprob = alternative.extend({ top_logprobs: z.array(alternative) });
export type TokenLogprob = z.output<typeof tokenLogprob>;

export const generated = {
  finish_reason: finishReason,
  usage,
  seed: z.int().optional().describe('The seed that was used, where the runtime tells or took one.'),
  logprobs: z.array(tokenLogprob).optional(),
};

export function toUsage(promptTokens: number, completionTokens: number): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}
