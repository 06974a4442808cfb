// A request of any capability → what a binding speaks of: values by parameter, each with the field that said it.
import type { CapabilityId } from '../../../src/capabilities/index.ts';
import { toKnobs, toSize, type Lora } from '../../../src/capabilities/image/fields.ts';
import type { Param } from './binding.ts';

export interface Asked {
  value: string | number;
  /** As the caller called it, for errors. */
  field: string;
}

export interface Request {
  values: Map<Param, Asked>;
  loras: Lora[];
  /** Of the files that come out; undefined where anything will do. */
  format: string | undefined;
  /** What the workflow does not make is brought to the nearest that it does. */
  fits: boolean;
}

/** Fields that mean the same in a request and in a binding. */
const SAME = [
  'prompt',
  'strength',
  'frames',
  'fps',
  'seconds',
  'motion',
  'lyrics',
  'bpm',
  'key',
  'time_signature',
  'language',
  'scale',
] as const;

/** Throws invalid_request for half a size. */
export function toRequest(capability: CapabilityId, input: object): Request {
  const given = input as Record<string, unknown>;
  const values = new Map<Param, Asked>();
  const put = (param: Param, value: unknown, field: string) => {
    if (typeof value === 'number' || (typeof value === 'string' && value !== '')) values.set(param, { value, field });
  };
  for (const name of SAME) put(name, given[name], name);
  const size = toSize(given);
  const named = typeof given['size'] === 'string' && given['size'] !== 'auto';
  put('width', size?.width, named ? 'size' : 'width');
  put('height', size?.height, named ? 'size' : 'height');
  const knobs = toKnobs(given as Parameters<typeof toKnobs>[0]);
  put('negative_prompt', knobs.negative_prompt, 'negative_prompt');
  put('seed', knobs.seed, 'seed');
  put('sampler', knobs.sampler, 'sampler');
  put('scheduler', knobs.scheduler, 'scheduler');
  put('steps', knobs.steps, given['steps'] === undefined ? 'num_inference_steps' : 'steps');
  put('guidance', knobs.guidance, given['true_cfg_scale'] === undefined ? 'guidance_scale' : 'true_cfg_scale');
  // One is what comes anyway.
  if (given['n'] !== 1) put('n', given['n'], 'n');
  const format = capability.startsWith('image.') ? given['output_format'] : given['format'];
  return {
    values,
    loras: knobs.loras ?? [],
    format: typeof format === 'string' ? format : undefined,
    fits: given['fit'] === true,
  };
}
