// image.upscale: a picture in, a larger one out.
import { z } from 'zod';
import { defineMaker } from '../define.ts';
import { fileField } from '../file.ts';
import { common, madeFields, outputFields } from './fields.ts';

export const imageUpscale = defineMaker({
  id: 'image.upscale',
  path: '/image/upscale',
  summary: 'Make a picture larger',
  description: 'By a network that was trained for it, not by stretching.',
  makes: 'image',
  input: z.object({
    image: fileField('image', 'The picture to make larger.'),
    scale: z
      .number()
      .min(1)
      .max(8)
      .optional()
      .describe('How many times as wide and high; what the model does if absent.'),
    ...outputFields,
    ...common,
  }),
  result: z.object(madeFields),
  cli: { command: ['image', 'upscale'], argument: 'image' },
});
