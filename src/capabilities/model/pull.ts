// model.pull: a name in, the model on this machine out.
import { z } from 'zod';
import { defineCapability } from '../define.ts';
import { pulledFile, wanted } from './fields.ts';

const WEEK_MS = 7 * 86_400_000;

export const modelPull = defineCapability({
  id: 'model.pull',
  path: '/models/pull',
  summary: 'Get a model',
  description:
    'Fetches a model for the runtime that can run it: from Ollama’s library, from Hugging Face, from an address, or all that a workflow needs. It is a job of the gateway, which goes on when you leave: the answer is 202 at once, or events with `stream`. Asked for twice, it is fetched once. What was cut goes on where it was.',
  input: z.strictObject({
    ...wanted,
    stream: z.boolean().default(false).describe('Tell how far it is as server-sent events.'),
  }),
  result: z.object({
    files: z.array(pulledFile),
    already: z.boolean().describe('It was here; nothing was fetched.'),
  }),
  chunk: z.never(),
  own: { attempts: 100, runMs: WEEK_MS },
  cli: {
    command: ['models', 'pull'],
    argument: 'model',
    showChunk: () => '',
    showResult: () => '',
  },
});
