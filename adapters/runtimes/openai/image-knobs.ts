// What makers of pictures in this family call the knobs of diffusion, which of them they have, and which of them they read from the prompt.
import type { Input } from '../../../src/capabilities/index.ts';
import { toKnobs, toSize } from '../../../src/capabilities/image/fields.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Leeway } from './ask.ts';
import type { Body } from './quirks.ts';

/** gpt-image and dall-e are OpenAI's own; of `other` nobody knows what they are. */
export type Family = 'sd-cpp' | 'vllm' | 'gpt-image' | 'dall-e' | 'other';

export type Wanted = Omit<Input<'image.generate'>, 'model' | 'stream' | 'prompt'> & {
  prompt?: string | undefined;
  strength?: number | undefined;
};

export interface Knobbed {
  body: Body;
  warnings: string[];
  /** Where the server is known to keep to it. */
  seed?: number;
}

/** A knob's name in a request → its name here. */
const WIRE_NAMES = {
  negative_prompt: 'negative_prompt',
  num_inference_steps: 'steps',
  step: 'steps',
  guidance_scale: 'guidance_scale',
  true_cfg_scale: 'true_cfg_scale',
  seed: 'seed',
  strength: 'strength',
} as const;

const SILENT = ['response_format', 'output_format', 'output_compression', 'step'];
export const PICTURE_LEEWAY: Leeway = { optional: [...SILENT, ...Object.keys(WIRE_NAMES)], silent: SILENT };

const BLOCK = 'sd_cpp_extra_args';
const BLOCK_TAG = new RegExp(`<[\\s/]*${BLOCK}`, 'i');
const UINT32 = 2 ** 32;

export function toFamily(id: string, owner: string | undefined): Family {
  if (id === 'sd-cpp-local' || owner === 'sd-cpp-local') return 'sd-cpp';
  if (/^vllm/i.test(owner ?? '')) return 'vllm';
  if (/gpt-image/i.test(id)) return 'gpt-image';
  return /dall-e/i.test(id) ? 'dall-e' : 'other';
}

/** Everything but the pictures that are given. Throws invalid_request. */
export function toBody(input: Wanted, family: Family, model: string, source: string): Knobbed {
  assertPlain(input.prompt, source);
  const size = toSize(input);
  const body: Body = {
    model,
    prompt: input.prompt,
    size: size && `${size.width}x${size.height}`,
    // gpt-image knows nothing else and refuses to be asked.
    response_format: family === 'gpt-image' ? undefined : 'b64_json',
  };
  if (family !== 'dall-e') {
    body['output_format'] = input.output_format;
    body['output_compression'] = input.output_format === 'png' ? undefined : input.output_compression;
  }
  if (family === 'sd-cpp') return toBlock(input, body);
  return toFields(input, family, body, model, source);
}

/** The same again with the same seed: one is chosen where the caller has none. */
export function toSeed({ seed }: { seed?: number | undefined }): number {
  return seed ?? Math.floor(Math.random() * UINT32);
}

/** sd-server reads what OpenAI has no words for from a block of JSON in the prompt. */
function toBlock(input: Wanted, body: Body): Knobbed {
  const seed = toSeed(input);
  // Nothing in it may end the block.
  const block = JSON.stringify(toSdcppFields(input, seed)).replaceAll('<', '\\u003c');
  return { body: { ...body, prompt: `${input.prompt ?? ''} <${BLOCK}>${block}</${BLOCK}>` }, warnings: [], seed };
}

type Diffusion = Parameters<typeof toKnobs>[0] & Pick<Wanted, 'strength'>;

/** The knobs in sd-server's own words, which its prompts' blocks and its jobs share. */
export function toSdcppFields(input: Diffusion, seed: number): Body {
  const { negative_prompt, sampler, scheduler, steps, loras, guidance } = toKnobs(input);
  const both = input.true_cfg_scale !== undefined && input.guidance_scale !== undefined;
  const sampling = {
    sample_steps: steps,
    sample_method: sampler,
    scheduler,
    guidance:
      guidance === undefined
        ? undefined
        : { txt_cfg: guidance, ...(both ? { distilled_guidance: input.guidance_scale } : {}) },
  };
  return {
    seed,
    negative_prompt,
    strength: input.strength,
    sample_params: sampling,
    lora: loras?.map(({ name, strength }) => ({ path: name, multiplier: strength })),
    embed_image_metadata: false,
  };
}

function toFields(input: Wanted, family: Family, body: Body, model: string, source: string): Knobbed {
  const { sampler, scheduler, loras, steps } = toKnobs(input);
  const warnings: string[] = [];
  const drop = (name: string) => warnings.push(`${name} cannot be chosen for ${model} here; it was left out.`);
  for (const [name, value] of Object.entries({ sampler, scheduler, loras })) if (value !== undefined) drop(name);
  const values = { ...input, steps };
  const wanted = Object.entries(WIRE_NAMES).filter(([, own]) => values[own] !== undefined);
  const names = [...new Set(wanted.map(([, own]) => own))];
  if (family === 'gpt-image' || family === 'dall-e') {
    for (const name of names) drop(name);
    return { body, warnings };
  }
  const fields = Object.fromEntries(wanted.map(([name, own]) => [name, values[own]]));
  if (family === 'other') {
    // Sent by the names that servers have for them; one that does not know them may well say nothing.
    if (names.length > 0) warnings.push(`It is not known whether ${source} heeds ${names.join(', ')}.`);
    return { body: { ...body, ...fields }, warnings };
  }
  delete fields['step'];
  const seed = toSeed(input) % UINT32;
  return { body: { ...body, ...fields, seed }, warnings, seed };
}

/** A caller's prompt must not set what the gateway has checked; an sd-server may stand behind any name. */
export function assertPlain(prompt: string | undefined, source: string): void {
  if (prompt === undefined || !BLOCK_TAG.test(prompt)) return;
  throw new GatewayError('invalid_request', `prompt: <${BLOCK}> is not for prompts.`, {
    param: 'prompt',
    source,
    hint: 'Use the fields of the request: seed, steps, guidance_scale, negative_prompt, sampler, scheduler, loras.',
  });
}
