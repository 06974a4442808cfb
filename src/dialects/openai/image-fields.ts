// What OpenAI's image routes take, and what it becomes: fields with the same meaning pass, the others are said to do nothing.
import { z } from 'zod';
import { fileField } from '../../capabilities/file.ts';
import { diffusionFields, outputFields, prompt } from '../../capabilities/image/fields.ts';
import type { AskedNote } from './from-job.ts';

const anything = z.string().max(256).optional();

const common = {
  model: z.string().max(512).optional().describe('The default if absent, or if it is a name that only OpenAI has.'),
  n: z.int().min(1).max(10).default(1).describe('How many to make.'),
  size: z
    .string()
    .regex(/^(auto|\d{1,5}x\d{1,5})?$/, 'WIDTHxHEIGHT, for example 1024x1024, or auto')
    .optional()
    .describe('WIDTHxHEIGHT in pixels; auto or absent leaves it to the model.'),
  response_format: z
    .enum(['b64_json', 'url'])
    .optional()
    .describe('b64_json if absent; url where the model is called dall-e-….'),
  ...outputFields,
  quality: anything.describe('Taken and given back; steps says how much work is done.'),
  background: anything.describe('Pictures are opaque; transparent gives a warning.'),
  style: anything.describe('Does nothing here; say it in the prompt.'),
  moderation: anything.describe('Does nothing here.'),
  user: anything,
  safety_identifier: anything,
  ...diffusionFields,
};

const streaming = {
  stream: z.boolean().default(false).describe('Answer as server-sent events.'),
  partial_images: z.int().min(0).max(3).default(0).describe('At most so many first looks while it is made.'),
};

const strength = z.number().min(0).max(1).optional().describe('0 keeps the picture, 1 makes a new one.');

export const generationRequest = z.object({
  prompt: prompt.min(1).describe('What is to be seen.'),
  ...common,
  ...streaming,
});

export const editRequest = z.object({
  image: z.array(fileField('image', 'The picture to change, or several.')).min(1).max(16),
  prompt: prompt.min(1).describe('What to change.'),
  mask: fileField('image', 'What is transparent in it may change. As large as the first picture.').optional(),
  strength,
  input_fidelity: anything.describe('Does nothing here; strength says how far to go.'),
  ...common,
  ...streaming,
});

export const variationRequest = z.object({
  image: fileField('image', 'The picture to vary.'),
  prompt: prompt.optional().describe('What it shows, where that helps.'),
  strength,
  ...common,
});

/** What the three have in common, once checked. */
export type ImageAsked = z.output<typeof variationRequest> &
  Partial<Pick<z.output<typeof editRequest>, 'stream' | 'partial_images' | 'input_fidelity'>>;

/** What a job remembers for its answer. */
export interface ImageNote extends AskedNote {
  /** The bytes in the answer, or links. */
  inline: boolean;
  quality: string;
}

const QUALITIES: Record<string, string> = { standard: 'medium', hd: 'high', xhigh: 'high', max: 'high' };

export function toImageNote(asked: ImageAsked, warnings: string[]): ImageNote {
  const { response_format, stream, quality, background, style, input_fidelity, model = '' } = asked;
  const said = [...warnings];
  if (background === 'transparent') said.push('background: what is made is opaque.');
  if (style) said.push('style does nothing here: say it in the prompt.');
  if (input_fidelity) said.push('input_fidelity does nothing here: strength says how far to go from the picture.');
  // The old models answered with links, and their clients count on it; events carry bytes.
  const usual = /^dall-e-[23]/.test(model) && !stream ? 'url' : 'b64_json';
  return {
    warnings: said,
    inline: (response_format ?? usual) === 'b64_json',
    quality: quality ? (QUALITIES[quality] ?? quality) : 'auto',
  };
}
