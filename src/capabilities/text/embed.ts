// text.embed: texts in, one vector per text out.
import { z } from 'zod';
import { defineCapability } from '../define.ts';
import { modelField, text } from './fields.ts';

export const textEmbed = defineCapability({
  id: 'text.embed',
  path: '/text/embed',
  summary: 'Turn text into vectors',
  description:
    'One L2-normalised vector per input text. Vectors of different models must never be mixed: compare `model` and `dimensions`.',
  input: z.object({
    input: z.union([text, z.array(text).min(1).max(4096)]).describe('A text, or several.'),
    dimensions: z.int().min(1).max(65_536).optional().describe('Shorter vectors, on models that can.'),
    ...modelField,
  }),
  result: z.object({
    embeddings: z.array(z.array(z.number())),
    dimensions: z.int(),
    usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
  }),
  chunk: z.never(),
  cli: {
    command: ['text', 'embed'],
    argument: 'input',
    showChunk: () => '',
    showResult: (result) => result.embeddings.map((vector) => JSON.stringify(vector)).join('\n'),
  },
});
