// text.story: a topic and an audience in, a story out.
import { z } from 'zod';
import { GatewayError } from '../../error.ts';
import type { RunEvent } from '../../event.ts';
import { defineCapability, type Ask } from '../define.ts';
import { audiences, styles, unsafeForChildren } from './audience.ts';
import { textChat } from './chat.ts';
import { generated, modelField, samplingFields, streamField, text, type FinishReason, type Usage } from './fields.ts';
import { textGenerate } from './generate.ts';

/** How often an unsafe children's story is written anew before the gateway gives up. */
const ATTEMPTS = 4;

const input = z.object({
  prompt: text.min(1).max(20_000).describe('What the story is about.'),
  audience: z.enum(audiences).default('children').describe('Who the story is for.'),
  length: z.enum(['short', 'medium', 'long']).default('medium'),
  system: text.optional().describe('Replaces the audience’s system prompt; the safety bound for children stays.'),
  ...modelField,
  ...samplingFields,
  ...streamField,
});
type StoryInput = z.output<typeof input>;

const result = z.object({ text: z.string(), audience: z.enum(audiences), ...generated });
const chunk = z.object({ text: z.string() });
type StoryEvent = RunEvent<z.output<typeof chunk>, z.output<typeof result>>;

export const textStory = defineCapability({
  id: 'text.story',
  path: '/text/story',
  summary: 'Tell a story for an audience',
  description:
    'Each audience has its own system prompt (or opening, for base models) and sampling; every knob can be overridden. A story for children is checked before any of it is sent: it streams as progress and arrives whole.',
  input,
  result,
  chunk,
  cli: {
    command: ['text', 'story'],
    argument: 'prompt',
    showChunk: (chunk) => chunk.text,
    showResult: (result) => result.text,
  },
  derive: {
    from: ['text.chat', 'text.generate'],
    run: (input, ask) => (input.audience === 'children' ? guarded : tell)(input, ask),
  },
});

/** The children's bound: nothing leaves before the whole story was checked, whoever wrote it. */
async function* guarded(input: StoryInput, ask: Ask): AsyncGenerator<StoryEvent> {
  const topic = unsafeForChildren(input.prompt);
  if (topic !== undefined) {
    throw new GatewayError('invalid_request', `“${topic}” is not a topic for a children’s story.`, {
      param: 'prompt',
      hint: 'Ask for audience "young" or "adult", or choose another topic.',
    });
  }
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    // Another seed each time: the same one would write the same story again.
    const seed = input.seed === undefined ? undefined : (input.seed + attempt) % Number.MAX_SAFE_INTEGER;
    let written = 0;
    for await (const event of tell({ ...input, seed }, ask)) {
      if (event.type === 'chunk') {
        written++;
        yield {
          type: 'progress',
          done: written,
          total: input.max_tokens ?? styles.children.tokens[input.length],
          unit: 'tokens',
        };
      } else if (event.type !== 'result') {
        yield event;
      } else if (unsafeForChildren(event.result.text) === undefined) {
        yield { type: 'chunk', chunk: { text: event.result.text } };
        if (attempt > 0)
          yield {
            type: 'warning',
            warning: `The first ${attempt} version(s) were not fit for children and were discarded.`,
          };
        yield event;
        return;
      }
    }
  }
  throw new GatewayError('unusable_output', `${ask.model.id} wrote nothing fit for children in ${ATTEMPTS} attempts.`, {
    hint: 'Try another topic or a better model.',
    retry: false,
  });
}

async function* tell(input: StoryInput, ask: Ask): AsyncGenerator<StoryEvent> {
  const { prompt, audience, length, system, stream: _, ...overrides } = input;
  const style = styles[audience];
  const topic = prompt.trim().replace(/[.!?]+$/, '');
  const knobs = { ...style.sampling, max_tokens: style.tokens[length], ...defined(overrides) };
  if (ask.offers('text.chat')) {
    const messages = [
      { role: 'system' as const, content: system ?? style.system },
      { role: 'user' as const, content: `${style.ask} ${topic}.` },
    ];
    for await (const event of ask.run(textChat, { ...knobs, messages })) {
      if (event.type === 'chunk') {
        if (event.chunk.text) yield { type: 'chunk', chunk: { text: event.chunk.text } };
      } else if (event.type === 'result') {
        const { message, ...rest } = event.result;
        yield finished(message.content, audience, rest);
      } else yield event;
    }
    return;
  }
  // A base model continues a text: the audience's opening sets the tone and is part of the story.
  const opening = style.opening(topic);
  yield { type: 'chunk', chunk: { text: opening } };
  const raw = { ...knobs, raw: true, prompt: system ? `${system}\n\n${opening}` : opening };
  for await (const event of ask.run(textGenerate, raw)) {
    if (event.type === 'chunk') {
      if (event.chunk.text) yield { type: 'chunk', chunk: { text: event.chunk.text } };
    } else if (event.type === 'result') {
      const { text, reasoning: _, ...rest } = event.result;
      yield finished(opening + text, audience, rest);
    } else yield event;
  }
}

function finished(
  written: string,
  audience: StoryInput['audience'],
  rest: { finish_reason: FinishReason; usage: Usage; seed?: number | undefined },
): StoryEvent {
  const text = rest.finish_reason === 'length' ? toFullSentence(written.trim()) : written.trim();
  return { type: 'result', result: { text, audience, ...rest } };
}

/** A story that ran out of tokens ends at its last full sentence, if it has one. */
function toFullSentence(text: string): string {
  const end = /^[\s\S]*[.!?…]["”’)]*(?=\s|$)/.exec(text);
  return end ? end[0] : text;
}

function defined<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
