// image.generate: a prompt in, pictures out.
import { z } from 'zod';
import { defineMaker } from '../define.ts';
import { madeFields, paintFields, prompt } from './fields.ts';

export const imageGenerate = defineMaker({
  id: 'image.generate',
  path: '/image/gen',
  summary: 'Make pictures from a prompt',
  description:
    'Pictures come as artifacts with signed links, or with their bytes where job.response_format is b64_json.',
  makes: 'image',
  input: z.object({
    prompt: prompt.min(1).describe('What is to be seen.'),
    ...paintFields,
  }),
  result: z.object(madeFields),
  cli: { command: ['image', 'gen'], argument: 'prompt' },
});
