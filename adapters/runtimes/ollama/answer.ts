// The lines of Ollama's answer → the gateway's chunks as they come, and the result when the last line has come.
import type { Chunk, Input, Result } from '../../../src/capabilities/index.ts';
import type { ToolCall } from '../../../src/capabilities/text/chat.ts';
import { toUsage } from '../../../src/capabilities/text/fields.ts';
import type { TokenLogprob } from '../../../src/capabilities/text/fields.ts';
import { wantsLogprobs } from './translate.ts';
import type { Knobs } from './translate.ts';
import type { Part, WireLogprob, WireToolCall } from './wire.ts';

export interface Answer<Chunk, Result> {
  /** What a line adds; undefined where that is nothing. */
  add(part: Part): Chunk | undefined;
  /** What was asked for and did not come. */
  warnings(last: Part): string[];
  result(last: Part): Result;
}

export function createChatAnswer(input: Input<'text.chat'>): Answer<Chunk<'text.chat'>, Result<'text.chat'>> {
  const spoken = createSpoken(input);
  const calls: ToolCall[] = [];

  /** Calls come whole, over one line or several; some versions number or name none of them. */
  function addCalls(wireCalls: WireToolCall[]): Chunk<'text.chat'>['tool_calls'] {
    return wireCalls.map(({ id: given, function: { name, arguments: value } }) => {
      const id = given && !calls.some((call) => call.id === given) ? given : newCallId();
      const text = typeof value === 'string' ? value : JSON.stringify(value ?? {});
      const index = calls.push({ id, type: 'function', function: { name, arguments: text } }) - 1;
      return { index, id, name, arguments: text };
    });
  }

  return {
    add(part) {
      const message = part.message;
      if (message === undefined || spoken.muted) return undefined;
      const chunk = spoken.add(message.content, message.thinking, part.logprobs);
      if (!message.tool_calls?.length) return chunk;
      return { ...chunk, tool_calls: addCalls(message.tool_calls) };
    },
    warnings: spoken.warnings,
    result(last) {
      const { text, reasoning, ...rest } = spoken.result(last);
      const message: Result<'text.chat'>['message'] = { role: 'assistant', content: text };
      if (reasoning !== undefined) message.reasoning = reasoning;
      if (calls.length === 0) return { message, ...rest };
      // Ollama says `stop` here, which would make an agent end its turn without calling anything.
      return { message: { ...message, tool_calls: calls }, ...rest, finish_reason: 'tool_calls' };
    },
  };
}

export function createGenerateAnswer(input: Knobs): Answer<Chunk<'text.generate'>, Result<'text.generate'>> {
  const spoken = createSpoken(input);
  return {
    add: (part) => (spoken.muted ? undefined : spoken.add(part.response, part.thinking, part.logprobs)),
    warnings: spoken.warnings,
    result: spoken.result,
  };
}

/** Text, reasoning and log-probabilities: what chat and generate have in common. */
function createSpoken(input: Knobs) {
  let text = '';
  let reasoning = '';
  const logprobs: TokenLogprob[] = [];
  /** No token was wanted, but one had to be asked for. */
  const muted = input.max_tokens === 0;

  function add(
    newText: string | undefined,
    newReasoning: string | undefined,
    newLogprobs: WireLogprob[] | undefined,
  ): Chunk<'text.generate'> | undefined {
    const chunk: Chunk<'text.generate'> = {};
    if (newText) {
      text += newText;
      chunk.text = newText;
    }
    if (newReasoning) {
      reasoning += newReasoning;
      chunk.reasoning = newReasoning;
    }
    if (newLogprobs?.length) {
      chunk.logprobs = newLogprobs.map((each) => toLogprob(each, input.top_logprobs ?? 0));
      logprobs.push(...chunk.logprobs);
    }
    return newText || newReasoning || chunk.logprobs ? chunk : undefined;
  }

  function warnings(last: Part): string[] {
    const found: string[] = [];
    if (last.done_reason === 'load' || last.done_reason === 'unload') {
      found.push('Ollama takes an empty prompt as a request to load or unload the model; nothing was generated.');
    }
    if (wantsLogprobs(input) && text !== '' && logprobs.length === 0) {
      found.push('This version of Ollama reports no log-probabilities.');
    }
    return found;
  }

  function result(last: Part): Result<'text.generate'> {
    return {
      text,
      ...(reasoning === '' ? {} : { reasoning }),
      finish_reason: muted || last.done_reason === 'length' ? 'length' : 'stop',
      usage: toUsage(last.prompt_eval_count ?? 0, muted ? 0 : (last.eval_count ?? 0)),
      ...(input.seed === undefined ? {} : { seed: input.seed }),
      ...(logprobs.length === 0 ? {} : { logprobs }),
    };
  }

  return { muted, add, warnings, result };
}

/** Ollama reports one alternative even where none was wanted. */
function toLogprob({ token, logprob, bytes, top_logprobs = [] }: WireLogprob, alternatives: number): TokenLogprob {
  return { token, logprob, bytes: bytes ?? null, top_logprobs: top_logprobs.slice(0, alternatives) };
}

function newCallId(): string {
  return `call_${crypto.randomUUID().replaceAll('-', '').slice(0, 24)}`;
}
