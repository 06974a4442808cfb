// video.generate: a prompt, and perhaps a first picture, in; a film out.
import { z } from 'zod';
import { defineMaker } from '../define.ts';
import { fileField } from '../file.ts';
import { common, diffusionFields, madeFields, prompt, sizeFields } from '../image/fields.ts';

export const videoFormats = ['mp4', 'webm', 'gif', 'webp'] as const;

export const videoGenerate = defineMaker({
  id: 'video.generate',
  path: '/video/gen',
  summary: 'Make a film from a prompt, or from a picture',
  description: 'A film of some seconds. With a picture it begins with that one.',
  makes: 'video',
  input: z.object({
    prompt: prompt.min(1).describe('What is to be seen, and what happens.'),
    image: fileField('image', 'The picture it begins with.').optional(),
    seconds: z.number().positive().max(600).optional().describe('How long it is; frames says the same in pictures.'),
    frames: z.int().min(1).max(10_000).optional().describe('How many pictures it has.'),
    fps: z.number().min(1).max(120).optional().describe('Pictures a second.'),
    motion: z
      .number()
      .min(0)
      .max(2)
      .optional()
      .describe('How much moves, on models that can be told; 1 is as trained.'),
    ...sizeFields,
    ...diffusionFields,
    format: z.enum(videoFormats).optional().describe('What the model makes if absent, mostly mp4.'),
    ...common,
  }),
  result: z.object(madeFields),
  needs: (input) => (input?.image === undefined ? [] : ['animate']),
  cli: { command: ['video', 'gen'], argument: 'prompt' },
});
