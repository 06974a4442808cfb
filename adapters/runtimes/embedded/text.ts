// Translates text.generate and text.chat into tasks for a model worker, and its answers back.
import { type Message, textOf } from '../../../src/capabilities/text/chat.ts';
import { toUsage } from '../../../src/capabilities/text/fields.ts';
import type { Input, Result } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Entry } from './catalogue.ts';
import type { Generated, GenerateTask, TextFiles, Sampling, TemplateMessage } from './wire.ts';

type GenerateInput = Input<'text.generate'>;
type ChatInput = Input<'text.chat'>;

const MAX_TOKENS = 256;
const DEFAULTS: Omit<Sampling, 'seed'> = {
  temperature: 0.7,
  topK: 0,
  topP: 0.95,
  minP: 0,
  repeatPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

export interface Prepared {
  task: GenerateTask;
  /** What was asked for and cannot be honoured. */
  warnings: string[];
}

export function prepareGenerate(input: GenerateInput, entry: Entry, files: TextFiles): Prepared {
  if (input.images?.length) throw noPictures('images');
  const warnings = unhonoured(input, entry);
  if (input.suffix) warnings.push(`${entry.id} cannot fill a gap: suffix was ignored.`);
  const raw = input.raw === true || input.echo === true || entry.kind === 'base';
  if (input.echo && !input.raw && entry.kind !== 'base')
    warnings.push('With echo the prompt is sent as it is, without chat template.');
  if (raw && input.system) warnings.push('A prompt that is sent as it is takes no system text: system was ignored.');
  const messages: TemplateMessage[] = [{ role: 'user', content: input.prompt }];
  if (!raw && input.system) messages.unshift({ role: 'system', content: input.system });
  if (!raw) warnSystem(messages, entry, warnings);
  return { task: toTask(input, entry, files, raw ? input.prompt : messages, input.echo === true), warnings };
}

export function prepareChat(input: ChatInput, entry: Entry, files: TextFiles): Prepared {
  if (input.messages.some(hasPicture)) throw noPictures('messages');
  const warnings = unhonoured(input, entry);
  if (input.tools?.length) warnings.push(`${entry.id} cannot call tools: tools were ignored.`);
  if (input.reasoning_effort && input.reasoning_effort !== 'none') {
    warnings.push(`${entry.id} does not reason: reasoning_effort was ignored.`);
  }
  const messages = input.messages.map(({ role, content }) => ({ role, content: textOf(content) }));
  warnSystem(messages, entry, warnings);
  return { task: toTask(input, entry, files, messages, false), warnings };
}

export function toGenerateResult(generated: Generated, task: GenerateTask): Result<'text.generate'> {
  return { text: generated.text, ...common(generated, task) };
}

export function toChatResult(generated: Generated, task: GenerateTask): Result<'text.chat'> {
  return { message: { role: 'assistant', content: generated.text }, ...common(generated, task) };
}

function common({ finish, promptTokens, completionTokens, logprobs }: Generated, task: GenerateTask) {
  return {
    finish_reason: finish,
    usage: toUsage(promptTokens, completionTokens),
    seed: task.sampling.seed,
    ...(logprobs && { logprobs }),
  };
}

function toTask(
  input: GenerateInput | ChatInput,
  entry: Entry,
  model: TextFiles,
  prompt: GenerateTask['prompt'],
  echo: boolean,
): GenerateTask {
  const defaults = { ...DEFAULTS, ...entry.defaults };
  return {
    kind: 'generate',
    model,
    prompt,
    echo,
    maxTokens: input.max_tokens ?? MAX_TOKENS,
    stop: input.stop === undefined ? [] : [input.stop].flat(),
    logprobs: input.logprobs ? (input.top_logprobs ?? 0) : undefined,
    sampling: {
      temperature: input.temperature ?? defaults.temperature,
      topK: input.top_k ?? defaults.topK,
      topP: input.top_p ?? defaults.topP,
      minP: input.min_p ?? defaults.minP,
      repeatPenalty: input.repeat_penalty ?? defaults.repeatPenalty,
      presencePenalty: input.presence_penalty ?? defaults.presencePenalty,
      frequencyPenalty: input.frequency_penalty ?? defaults.frequencyPenalty,
      // Reported with the answer, so that a good one can be had again.
      seed: input.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!,
    },
  };
}

function unhonoured(input: GenerateInput | ChatInput, entry: Entry): string[] {
  const warnings: string[] = [];
  if (input.response_format && input.response_format.type !== 'text') {
    warnings.push(`${entry.id} cannot be held to JSON: response_format was ignored.`);
  }
  if (input.context !== undefined) {
    warnings.push(`The context of ${entry.id} is fixed at ${entry.context} tokens: context was ignored.`);
  }
  if (input.keep_alive !== undefined) {
    warnings.push('Embedded models are unloaded after a fixed idle time: keep_alive was ignored.');
  }
  return warnings;
}

function warnSystem(messages: TemplateMessage[], entry: Entry, warnings: string[]): void {
  if (entry.ignoresSystem && messages.some(({ role, content }) => role === 'system' && content !== '')) {
    warnings.push(`${entry.id} is too small for instructions: the system message was ignored.`);
  }
}

function hasPicture({ content }: Message): boolean {
  return typeof content !== 'string' && content.some(({ type }) => type === 'image_url');
}

function noPictures(param: string): GatewayError {
  return new GatewayError('not_supported', 'Embedded models cannot see pictures.', {
    source: 'embedded',
    param,
    hint: 'Use a vision model on Ollama, for example: ollama pull gemma3',
  });
}
