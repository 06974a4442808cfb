// What OpenAI's video routes take, and what xAI's clients send to the same place, as the input of video.generate.
import { z } from 'zod';
import { fileField } from '../../capabilities/file.ts';
import { diffusionFields, prompt } from '../../capabilities/image/fields.ts';
import { videoGenerate } from '../../capabilities/video/generate.ts';
import type { AppContext } from '../../http/context.ts';
import { isForm, readMedia, toCapabilityInput, toReference } from './media-request.ts';

const { frames, fps, motion, format } = videoGenerate.input.shape;

const length = z.coerce.number().positive().max(600);

const common = {
  prompt: prompt.min(1).describe('What is to be seen, and what happens.'),
  model: z.string().max(512).optional().describe('The default if absent, or if it is a name that only OpenAI has.'),
  size: z
    .string()
    .regex(/^(auto|\d{1,5}x\d{1,5})?$/, 'WIDTHxHEIGHT, for example 1280x720')
    .optional()
    .describe('WIDTHxHEIGHT in pixels; auto or absent leaves it to the model.'),
  frames,
  fps,
  motion,
  format,
  ...diffusionFields,
};

const reference = fileField('image', 'The picture the film begins with.').optional();

export const videoRequest = z.object({
  ...common,
  seconds: length.optional().describe('How long it is; a number or its digits.'),
  input_reference: reference,
});

/** In forms, members of an object have fields of their own. */
export const videoForm = videoRequest.extend({
  'input_reference[image_url]': z.string().optional(),
  'input_reference[file_id]': z.string().optional(),
});

/** As xAI spells it. */
export const generationsRequest = z.object({
  ...common,
  seconds: length.optional(),
  duration: length.optional().describe('The same as seconds.'),
  image: reference,
  resolution: z
    .string()
    .regex(/^\d{2,4}p$/, 'for example 720p')
    .optional()
    .describe('The shorter side, instead of size.'),
  aspect_ratio: z
    .string()
    .regex(/^\d{1,2}:\d{1,2}$/, 'for example 16:9')
    .optional()
    .describe('With resolution; 16:9 if absent.'),
});

export interface VideoAsked {
  input: Record<string, unknown>;
  model: string | undefined;
  warnings: string[];
}

/** Throws what `readMedia` throws. */
export async function readVideo(c: AppContext): Promise<VideoAsked> {
  const { input_reference, seconds, model, ...rest } = await readMedia(c, isForm(c) ? videoForm : videoRequest);
  const image = input_reference ?? (await settleReference(c, rest as Record<string, unknown>));
  return { input: toCapabilityInput('video.generate', { ...rest, seconds, image }), model, warnings: [] };
}

/** Throws what `readMedia` throws. */
export async function readGenerations(c: AppContext): Promise<VideoAsked> {
  const { duration, resolution, aspect_ratio, model, ...rest } = await readMedia(c, generationsRequest);
  const size = rest.size ?? (resolution === undefined ? undefined : toSides(resolution, aspect_ratio));
  const lost = aspect_ratio !== undefined && size === undefined;
  return {
    input: toCapabilityInput('video.generate', { ...rest, size, seconds: rest.seconds ?? duration }),
    model,
    warnings: lost ? ['aspect_ratio does nothing without resolution.'] : [],
  };
}

/** A picture that a form names in members of its own, as an artifact of the caller. */
async function settleReference(c: AppContext, fields: Record<string, unknown>): Promise<string | undefined> {
  const named = fields['input_reference[image_url]'] || fields['input_reference[file_id]'];
  if (!named) return undefined;
  const given = { input_reference: toReference(named) as string };
  const { input } = await c.var.app.inputs.settle(c.var.caller, videoRequest, given);
  return input.input_reference;
}

/** Video models want sides that 16 divides. */
function toSides(resolution: string, ratio = '16:9'): string {
  const [wide, high] = ratio.split(':').map(Number) as [number, number];
  const short = Number.parseInt(resolution);
  const scale = short / Math.max(1, Math.min(wide, high));
  const side = (part: number) => Math.max(16, Math.round((part * scale) / 16) * 16);
  return `${side(wide)}x${side(high)}`;
}
