// text.edit: a text and an instruction in, the edited text and what changed out.
import { createTwoFilesPatch, diffWordsWithSpace } from 'diff';
import { z } from 'zod';
import { GatewayError } from '../../error.ts';
import { defineCapability, type Ask } from '../define.ts';
import { textChat } from './chat.ts';
import { generated, modelField, samplingFields, streamField, text } from './fields.ts';

const SYSTEM =
  'You edit texts. You get an instruction and a text between <text> and </text>. Answer with the whole edited text and nothing else: no comment, no quotes, no tags. Change only what the instruction asks for.';

const input = z.object({
  text: text.min(1).describe('The text to edit.'),
  instruction: text.min(1).describe('What to change.'),
  system: text.optional().describe('Replaces the built-in editing instructions.'),
  ...modelField,
  ...samplingFields,
  ...streamField,
});

export const textEdit = defineCapability({
  id: 'text.edit',
  path: '/text/edit',
  summary: 'Edit a text by instruction',
  description: 'The whole edited text, a unified diff by lines, and the changes by words.',
  input,
  result: z.object({
    text: z.string(),
    diff: z.string().describe('Unified diff from the original to the edited text; empty when nothing changed.'),
    changes: z.array(z.object({ op: z.enum(['equal', 'insert', 'delete']), text: z.string() })),
    ...generated,
  }),
  chunk: z.object({ text: z.string() }),
  cli: {
    command: ['text', 'edit'],
    argument: 'text',
    showChunk: (chunk) => chunk.text,
    showResult: (result) => result.text,
  },
  derive: { from: ['text.chat'], run: edit },
});

async function* edit(fields: z.output<typeof input>, ask: Ask) {
  const { text, instruction, system, stream: _, ...knobs } = fields;
  if (ask.model.tiny) {
    yield { type: 'warning' as const, warning: `${ask.model.id} is too small to follow editing instructions.` };
  }
  const messages = [
    { role: 'system' as const, content: system ?? SYSTEM },
    { role: 'user' as const, content: `Instruction: ${instruction}\n\n<text>\n${text}\n</text>` },
  ];
  for await (const event of ask.run(textChat, { temperature: 0.2, ...knobs, messages })) {
    if (event.type === 'chunk') {
      if (event.chunk.text) yield { type: 'chunk' as const, chunk: { text: event.chunk.text } };
    } else if (event.type === 'result') {
      const { message, ...rest } = event.result;
      const edited = unwrap(message.content, text);
      if (edited === '')
        throw new GatewayError('unusable_output', 'The model answered with no text.', { retry: false });
      yield { type: 'result' as const, result: { text: edited, ...difference(text, edited), ...rest } };
    } else yield event;
  }
}

/** Models like to wrap what they were told not to wrap: tags and fences go, unless the original had them. */
function unwrap(answer: string, original: string): string {
  let edited = answer;
  const tagged = /^\s*<text>\n?([\s\S]*?)\n?<\/text>\s*$/.exec(edited);
  if (tagged && !original.includes('<text>')) edited = tagged[1]!;
  const fenced = /^\s*```[\w-]*\n([\s\S]*?)\n?```\s*$/.exec(edited);
  if (fenced && !original.trimStart().startsWith('```')) edited = fenced[1]!;
  // An answer's own surrounding blank space means nothing; the original's does.
  const body = edited.trim();
  if (body === '') return '';
  return /^\s*/.exec(original)![0] + body + /\s*$/.exec(original)![0];
}

function difference(before: string, after: string) {
  const op = (part: { added?: boolean; removed?: boolean }) =>
    part.added ? ('insert' as const) : part.removed ? ('delete' as const) : ('equal' as const);
  return {
    diff: before === after ? '' : createTwoFilesPatch('original', 'edited', before, after),
    changes: diffWordsWithSpace(before, after).map((part) => ({ op: op(part), text: part.value })),
  };
}
