// image.edit: pictures and a prompt in, changed pictures out; with a mask only where it marks.
import { z } from 'zod';
import { defineMaker } from '../define.ts';
import { fileField } from '../file.ts';
import { madeFields, MIN_SIDE, paintFields, prompt } from './fields.ts';

export const imageEdit = defineMaker({
  id: 'image.edit',
  path: '/image/edit',
  summary: 'Change a picture by prompt',
  description:
    'One picture or several and what to make of them. With a mask only what it marks changes: what is transparent in it, or white where it has no transparency.',
  makes: 'image',
  input: z.object({
    image: z
      .array(fileField('image', 'The picture to change; more are for models that combine them.', { minSide: MIN_SIDE }))
      .min(1)
      .max(16),
    prompt: prompt.min(1).describe('What to change, or what is to be seen.'),
    mask: fileField('image', 'What may change: transparent, or white. As large as the first picture.', {
      sizeOf: 'image',
    }).optional(),
    strength: z.number().min(0).max(1).optional().describe('0 keeps the picture, 1 makes a new one.'),
    ...paintFields,
  }),
  result: z.object(madeFields),
  needs: (input) => (input?.mask === undefined ? [] : ['mask']),
  cli: { command: ['image', 'edit'], argument: 'prompt' },
});
