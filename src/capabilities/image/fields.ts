// Fields that several image and video capabilities share, under the names the field uses for them.
import { z } from 'zod';
import { GatewayError } from '../../error.ts';
import { modelField, seedField, streamField } from '../text/fields.ts';

const MAX_PROMPT = 32_000;
const MAX_SIDE = 16_384;
/** Of pictures that models are to change: smaller ones are less than one of their cells. */
export const MIN_SIDE = 16;

export const prompt = z.string().max(MAX_PROMPT);

/** Names of files on a runtime's disk, as its loaders list them; a path that climbs is none. */
export const fileName = z
  .string()
  .min(1)
  .max(255)
  .regex(/^(?!.*(?:^|[/\\])\.\.(?:[/\\]|$))(?![/\\]|[a-z]:)[^\0-\x1f]+$/i, 'a name as the runtime lists it');

const side = z.int().min(1).max(MAX_SIDE);

export const sizeFields = {
  size: z
    .string()
    .regex(/^(auto|\d{1,5}x\d{1,5})$/, 'WIDTHxHEIGHT, for example 1024x1024, or auto')
    .optional()
    .describe('WIDTHxHEIGHT in pixels; auto or absent leaves it to the model.'),
  width: side.optional().describe('In pixels; instead of size, with height.'),
  height: side.optional().describe('In pixels; instead of size, with width.'),
  fit: z
    .boolean()
    .optional()
    .describe('Where the model does not make that size (or length), make the nearest, with a warning.'),
};

export const diffusionFields = {
  negative_prompt: prompt.optional().describe('What is not to be seen.'),
  steps: z.int().min(1).max(1000).optional().describe('Sampling steps.'),
  num_inference_steps: z.int().min(1).max(1000).optional().describe('The same as steps.'),
  guidance_scale: z.number().min(0).max(100).optional().describe('How closely to follow the prompt.'),
  true_cfg_scale: z.number().min(0).max(100).optional().describe('The same for models with guidance of their own.'),
  ...seedField,
  sampler: z.string().min(1).max(64).optional().describe('As the model’s runtime names it, for example euler.'),
  scheduler: z.string().min(1).max(64).optional().describe('As the model’s runtime names it, for example karras.'),
  loras: z
    .array(z.union([fileName, z.object({ name: fileName, strength: z.number().min(-10).max(10).default(1) })]))
    .max(8)
    .optional()
    .describe('Names, or {name, strength}: small networks that change a model’s style.'),
};

export const outputFields = {
  output_format: z.enum(['png', 'jpeg', 'webp']).optional().describe('What the model makes if absent, mostly png.'),
  output_compression: z.int().min(0).max(100).optional().describe('Quality of jpeg and webp, 0 to 100.'),
};

const countField = { n: z.int().min(1).max(16).default(1).describe('How many to make.') };

/** What handlers tell of pictures and films beside the files themselves. */
export const madeFields = {
  seed: z.int().optional().describe('With this seed and the same request the same comes out again.'),
  revised_prompt: z.string().optional().describe('What the runtime made of the prompt.'),
  cost_usd: z.number().optional().describe('What a remote runtime charges for it.'),
};

export const common = { ...modelField, ...streamField };

/** Of everything that paints. */
export const paintFields = { ...sizeFields, ...countField, ...diffusionFields, ...outputFields, ...common };

type Sized = { size?: string | undefined; width?: number | undefined; height?: number | undefined };

/** Undefined where the model may choose. Throws invalid_request for half a size or two that differ. */
export function toSize({ size, width, height }: Sized): { width: number; height: number } | undefined {
  if ((width === undefined) !== (height === undefined)) {
    const param = width === undefined ? 'width' : 'height';
    throw new GatewayError('invalid_request', `${param}: width and height go together.`, { param });
  }
  const named = size === undefined || size === 'auto' ? undefined : size.split('x').map(Number);
  if (!named) return width === undefined ? undefined : { width, height: height! };
  const [wide, high] = named as [number, number];
  if (wide < 1 || high < 1 || wide > MAX_SIDE || high > MAX_SIDE) {
    throw new GatewayError('invalid_request', `size: sides are 1 to ${MAX_SIDE} pixels.`, { param: 'size' });
  }
  if (width !== undefined && (width !== wide || height !== high)) {
    throw new GatewayError('invalid_request', 'size and width, height say different things.', { param: 'size' });
  }
  return { width: wide, height: high };
}

export interface Lora {
  name: string;
  strength: number;
}

type Knobs = { [Name in keyof typeof diffusionFields]?: z.output<(typeof diffusionFields)[Name]> | undefined };

/** The knobs of diffusion under one name each. */
export function toKnobs(input: Knobs) {
  const { steps, num_inference_steps, guidance_scale, true_cfg_scale, loras, ...rest } = input;
  return {
    negative_prompt: rest.negative_prompt,
    seed: rest.seed,
    sampler: rest.sampler,
    scheduler: rest.scheduler,
    steps: steps ?? num_inference_steps,
    /** Classifier-free guidance: what samplers call cfg. */
    guidance: true_cfg_scale ?? guidance_scale,
    loras: loras?.map((lora): Lora => (typeof lora === 'string' ? { name: lora, strength: 1 } : lora)),
  };
}
