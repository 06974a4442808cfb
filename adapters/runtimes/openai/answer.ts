// The pieces of an answer → the gateway's chunks as they come, and the result when the last has come.
import type { Chunk, Result } from '../../../src/capabilities/index.ts';
import { toUsage } from '../../../src/capabilities/text/fields.ts';
import type { FinishReason, TokenLogprob, Usage } from '../../../src/capabilities/text/fields.ts';
import { createCalls } from './calls.ts';
import { wantsLogprobs } from './quirks.ts';
import type { Knobs } from './quirks.ts';
import type { WireAnswer, WireChoice, WireColumns, WireMessage, WireUsage } from './wire.ts';

type ChatChunk = Chunk<'text.chat'>;

export interface AnswerOptions {
  input: Knobs & { echo?: boolean | undefined };
  promptChars: number;
  /** The runtime's name. */
  source: string;
}

export interface Answer {
  /** What a piece adds; undefined where that is nothing. */
  add(piece: WireAnswer): ChatChunk | undefined;
  /** What the end adds. */
  finish(): ChatChunk | undefined;
  /** What was asked for and did not come. */
  warnings(): string[];
  chatResult(): Result<'text.chat'>;
  textResult(): Result<'text.generate'>;
}

export function createAnswer({ input, promptChars, source }: AnswerOptions): Answer {
  let text = '';
  let reasoning = '';
  let reason: string | undefined;
  let counted: WireUsage | undefined;
  let pieces = 0;
  const logprobs: TokenLogprob[] = [];
  const { calls, ...callPieces } = createCalls();
  /** No token was wanted, but one had to be asked for. */
  const muted = input.max_tokens === 0 && !input.echo;

  function add({ choices, usage }: WireAnswer): ChatChunk | undefined {
    if (usage) counted = usage;
    const choice = choices?.find(({ index = 0 }) => index === 0);
    if (!choice) return undefined;
    if (choice.finish_reason) reason = choice.finish_reason;
    if (muted) return undefined;
    const chunk = toChunk(choice);
    if (Object.keys(chunk).length === 0) return undefined;
    pieces++;
    return chunk;
  }

  function toChunk(choice: WireChoice): ChatChunk {
    // A stream may end with the whole message once more.
    const message = choice.delta ?? (pieces === 0 ? choice.message : undefined) ?? {};
    const said = toText(message) || choice.text;
    const thought = message.reasoning_content || message.reasoning;
    const called = message.tool_calls ?? (message.function_call ? [{ index: 0, function: message.function_call }] : []);
    const scored = toLogprobs(choice, input.top_logprobs ?? 0);
    const chunk: ChatChunk = {};
    if (said) text += chunk.text = said;
    if (thought) reasoning += chunk.reasoning = thought;
    if (called.length > 0) chunk.tool_calls = called.map(callPieces.add);
    if (scored.length > 0) logprobs.push(...(chunk.logprobs = scored));
    return chunk;
  }

  function warnings(): string[] {
    const found: string[] = [];
    if (!counted) found.push(`${source} does not count tokens; usage is an estimate.`);
    if (wantsLogprobs(input) && logprobs.length === 0 && text !== '') {
      found.push(`${source} reported no log-probabilities.`);
    }
    return found;
  }

  const thoughts = () => (reasoning === '' ? {} : { reasoning });
  const common = () => ({
    finish_reason: muted ? ('length' as const) : toFinish(reason, calls.length > 0),
    usage: muted ? toUsage(toCounts(counted, promptChars, 0).prompt_tokens, 0) : toCounts(counted, promptChars, pieces),
    ...(input.seed === undefined ? {} : { seed: input.seed }),
    ...(logprobs.length === 0 ? {} : { logprobs }),
  });

  return {
    add,
    finish() {
      const tool_calls = callPieces.finish();
      return tool_calls.length === 0 ? undefined : { tool_calls };
    },
    warnings,
    chatResult: () => ({
      message: {
        role: 'assistant',
        content: text,
        ...thoughts(),
        ...(calls.length === 0 ? {} : { tool_calls: calls }),
      },
      ...common(),
    }),
    textResult: () => ({ text, ...thoughts(), ...common() }),
  };
}

function toText({ content, refusal }: WireMessage): string {
  if (Array.isArray(content)) return content.map((part) => part.text ?? '').join('');
  return content || refusal || '';
}

function toFinish(reason: string | undefined, called: boolean): FinishReason {
  if (reason === 'length' || reason === 'content_filter') return reason;
  // Some say `stop` after a call, which would make an agent end its turn without calling anything.
  return called || reason === 'tool_calls' || reason === 'function_call' ? 'tool_calls' : 'stop';
}

/** Where nothing was counted, a piece is about a token and four characters of the prompt are one. */
function toCounts(usage: WireUsage | undefined, promptChars: number, pieces: number): Usage {
  if (!usage) return toUsage(Math.ceil(promptChars / 4), pieces);
  const prompt = toCount(usage.prompt_tokens);
  const completion = toCount(usage.completion_tokens);
  const thought = toCount(usage.completion_tokens_details?.reasoning_tokens);
  // xAI may leave the reasoning out of completion_tokens; the total tells.
  const apart = thought > 0 && usage.total_tokens === prompt + completion + thought;
  return toUsage(prompt, apart ? completion + thought : completion);
}

function toCount(value: number | undefined): number {
  return typeof value === 'number' && value > 0 ? Math.trunc(value) : 0;
}

function toLogprobs({ logprobs }: WireChoice, most: number): TokenLogprob[] {
  if (!logprobs) return [];
  if (!logprobs.content) return fromColumns(logprobs, most);
  return logprobs.content.map(({ token, logprob, bytes, top_logprobs }) => ({
    token,
    logprob,
    bytes: bytes ?? null,
    top_logprobs: (top_logprobs ?? []).slice(0, most).map(({ token, logprob, bytes }) => ({
      token,
      logprob,
      bytes: bytes ?? null,
    })),
  }));
}

function fromColumns({ tokens = [], token_logprobs = [], top_logprobs }: WireColumns, most: number): TokenLogprob[] {
  return tokens.flatMap((token, index) => {
    const logprob = token_logprobs[index];
    // The first token of an echoed prompt follows nothing, so it has no probability.
    if (typeof logprob !== 'number') return [];
    const others = Object.entries(top_logprobs?.[index] ?? {}).slice(0, most);
    return [{ token, logprob, top_logprobs: others.map(([token, logprob]) => ({ token, logprob })) }];
  });
}
