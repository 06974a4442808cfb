// What servers of this family call the same knob, and which of them they refuse.
import type { Input } from '../../../src/capabilities/index.ts';

export type Flavour = 'generic' | 'xai';
export type Body = Record<string, unknown>;
export type Knobs = Omit<Input<'text.generate'>, 'prompt' | 'system' | 'suffix' | 'images' | 'raw' | 'echo'>;

/** Reasoning models of xAI answer these with an error. */
const XAI_REASONING_REFUSES = ['presence_penalty', 'frequency_penalty', 'stop'] as const;
const XAI_UNKNOWN = ['top_k', 'min_p', 'repeat_penalty'] as const;
const XAI_MAX_TOP_LOGPROBS = 8;

/** What a text can do without, so that a server which refuses one of them can be asked again without it. */
export const TEXT_OPTIONAL = [
  'stream_options',
  'chat_template_kwargs',
  'reasoning_effort',
  'parallel_tool_calls',
  'top_k',
  'min_p',
  'repeat_penalty',
  'repetition_penalty',
  'presence_penalty',
  'frequency_penalty',
  'seed',
];

/** The knobs in the server's words. What it cannot be asked for is said in `warnings`. */
export function toKnobs(input: Knobs, model: string, flavour: Flavour, warnings: string[]): Body {
  const { context, keep_alive, max_tokens, top_logprobs, repeat_penalty } = input;
  const dropped = new Set<string>();
  if (context !== undefined) dropped.add('context');
  if (keep_alive !== undefined) dropped.add('keep_alive');
  if (flavour === 'xai') {
    for (const name of XAI_UNKNOWN) if (input[name] !== undefined) dropped.add(name);
    for (const name of isReasoning(model) ? XAI_REASONING_REFUSES : [])
      if (input[name] !== undefined) dropped.add(name);
  }
  for (const name of dropped) warnings.push(`${name} cannot be chosen for ${model} here; it was left out.`);
  const wanted: Body = {
    // Not every server takes a zero for "none": one token is asked for, and the answer drops it.
    [flavour === 'xai' ? 'max_completion_tokens' : 'max_tokens']: max_tokens === 0 ? 1 : max_tokens,
    seed: toSeed(input.seed),
    temperature: input.temperature,
    top_p: input.top_p,
    top_k: input.top_k,
    min_p: input.min_p,
    repeat_penalty,
    // What vLLM calls the same.
    repetition_penalty: flavour === 'xai' ? undefined : repeat_penalty,
    presence_penalty: input.presence_penalty,
    frequency_penalty: input.frequency_penalty,
    stop: input.stop,
  };
  if (wantsLogprobs(input)) {
    const most = flavour === 'xai' ? XAI_MAX_TOP_LOGPROBS : Infinity;
    if ((top_logprobs ?? 0) > most) warnings.push(`top_logprobs is at most ${most} for ${model}.`);
    wanted['logprobs'] = true;
    if (top_logprobs !== undefined) wanted['top_logprobs'] = Math.min(top_logprobs, most);
  }
  return Object.fromEntries(
    Object.entries(wanted).filter(([name, value]) => value !== undefined && !dropped.has(name)),
  );
}

/** How much to reason, for servers that each have their own way to say it. */
export function toEffort(effort: Input<'text.chat'>['reasoning_effort'], flavour: Flavour, warnings: string[]): Body {
  if (effort === undefined) return {};
  if (flavour === 'xai') {
    const known = effort === 'minimal' ? 'low' : effort === 'max' ? 'xhigh' : effort;
    if (known !== effort) warnings.push(`reasoning_effort ${effort} was taken as ${known}.`);
    return { reasoning_effort: known };
  }
  // llama.cpp and vLLM switch reasoning off in the chat template; where that is unknown it is ignored.
  return effort === 'none' ? { chat_template_kwargs: { enable_thinking: false } } : { reasoning_effort: effort };
}

export function wantsLogprobs({ logprobs, top_logprobs }: Knobs): boolean {
  return logprobs === true || (top_logprobs ?? 0) > 0;
}

/** The knobs of `body` that a refusal complains of and that may be left out. */
export function refusedKnobs(body: Body, message: string, optional: readonly string[]): string[] {
  return optional.filter((name) => body[name] !== undefined && new RegExp(`\\b${name}\\b`).test(message));
}

/** llama.cpp keeps 32 bits of a seed and takes all ones for "any", so larger seeds are folded below that. */
function toSeed(seed: number | undefined): number | undefined {
  return seed === undefined ? undefined : seed % 0xffffffff;
}

function isReasoning(model: string): boolean {
  return /(^|\/)grok-(?:[4-9]|build)/.test(model) && !model.includes('non-reasoning');
}
