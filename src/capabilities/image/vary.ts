// image.vary: a picture in, pictures like it out.
import { z } from 'zod';
import { defineMaker } from '../define.ts';
import { fileField } from '../file.ts';
import { madeFields, MIN_SIDE, paintFields, prompt } from './fields.ts';

export const imageVary = defineMaker({
  id: 'image.vary',
  path: '/image/vary',
  summary: 'Make pictures like one that is given',
  description: 'The same picture, told anew. A prompt may say what it shows; strength how far to go from it.',
  makes: 'image',
  input: z.object({
    image: fileField('image', 'The picture to vary.', { minSide: MIN_SIDE }),
    prompt: prompt.optional().describe('What the picture shows, where that helps.'),
    strength: z.number().min(0).max(1).optional().describe('0 keeps the picture, 1 makes a new one.'),
    ...paintFields,
  }),
  result: z.object(madeFields),
  cli: { command: ['image', 'vary'], argument: 'image' },
});
