// Models as callers see and manage them: the shapes of requests and answers.
import { z } from 'zod';
import { modelName, pulledFile } from '../capabilities/model/fields.ts';

const bytes = z.int().min(0);
export const modelStates = ['available', 'pulling', 'ready', 'loading', 'loaded', 'unavailable'] as const;
export type ModelState = (typeof modelStates)[number];

export const fits = ['fits', 'fits_alone', 'too_big'] as const;
export type Fit = (typeof fits)[number];

export const vramView = z.object({
  bytes,
  basis: z
    .enum(['measured', 'estimated', 'told'])
    .describe('measured on this card; estimated from its weights; told by its runtime or workflow.'),
  context: z.int().nullable().describe('Tokens of context that this is for.'),
});
export type Vram = z.output<typeof vramView>;

/** In the shapes of OpenAI and Anthropic at once, and what neither of them has. */
export const modelCard = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.string(),
  type: z.literal('model'),
  display_name: z.string(),
  created_at: z.string(),
  capabilities: z.array(z.string()),
  modalities: z.object({ input: z.array(z.string()), output: z.array(z.string()) }),
  context_window: z.int().nullable(),
  state: z.enum(modelStates).describe('available: can be pulled; unavailable: its runtime is down.'),
  runtime: z.string(),
  size: bytes.nullable().describe('Bytes on disk.'),
  vram: vramView.nullable(),
  fit: z
    .enum(fits)
    .nullable()
    .describe('fits: beside what is on the card now; fits_alone: once all else has left; too_big: not wholly.'),
  quantization: z.string().nullable(),
  parameters: z.number().nullable(),
  license: z.string().nullable(),
  source: z.string().nullable(),
  pinned: z.boolean(),
});
export type ModelCard = z.output<typeof modelCard>;

export const modelDetails = modelCard.extend({
  digest: z.string().nullable(),
  aliases: z.array(z.string()).describe('Other names that lead here.'),
  default_for: z.array(z.string()).describe('Capabilities that it answers where no model is named.'),
  policy: z.object({ pinned: z.boolean(), preload: z.boolean(), ttl_s: z.number().nullable() }),
  pull: z.string().nullable().describe('What gets it, where it is not here.'),
  why: z.string().nullable().describe('What is wrong, where something is.'),
});

/** One model, several in order, or whichever of several is in memory. */
export const choice = z.union([
  modelName,
  z.array(modelName).min(1).max(16),
  z.strictObject({
    models: z.array(modelName).min(1).max(16),
    prefer: z
      .enum(['order', 'warm'])
      .default('order')
      .describe('warm: one that is in memory goes first; the others in their order.'),
  }),
]);
export type Choice = z.output<typeof choice>;

export const aliasMap = z.record(modelName, choice);
export const aliasPatch = z.record(modelName, choice.nullable());

export const pullStates = ['queued', 'running', 'paused', 'waiting'] as const;

export const pullView = z.object({
  id: z.string(),
  object: z.literal('pull'),
  model: z.string(),
  runtime: z.string(),
  state: z.enum(pullStates).describe('waiting: cut off, and tried again in a moment.'),
  done: bytes,
  total: bytes.nullable(),
  percent: z.number().nullable(),
  bytes_per_s: z.number().nullable(),
  eta_s: z.number().nullable(),
  file: z.string().nullable(),
  message: z.string().nullable(),
  callers: z.int().describe('Jobs and requests that wait for it.'),
  tries: z.int(),
});
export type PullView = z.output<typeof pullView>;

export const planView = z.object({
  object: z.literal('pull.plan'),
  model: z.string(),
  runtime: z.string(),
  files: z.array(pulledFile.extend({ present: z.boolean() })),
  bytes: bytes.nullable().describe('Still to come.'),
  free: bytes.nullable().describe('Room where they go.'),
  vram: vramView.nullable(),
  fit: z.enum(fits).nullable(),
  license: z.string().nullable(),
  source: z.string().nullable(),
  warnings: z.array(z.string()),
});
export type PlanView = z.output<typeof planView>;

export const offerView = z.object({
  model: z.string().describe('What to pull.'),
  runtime: z.string(),
  title: z.string().nullable(),
  capabilities: z.array(z.string()),
  size: bytes.nullable(),
  vram: bytes.nullable(),
  fit: z.enum(fits).nullable(),
  license: z.string().nullable(),
  source: z.string().nullable(),
  present: z.boolean(),
});

export const loadInput = z.strictObject({
  model: modelName,
  keep_s: z
    .number()
    .min(-1)
    .max(31_536_000)
    .optional()
    .describe('Seconds to stay in memory when idle, -1 for ever; as its policy or its runtime has it if absent.'),
});

export const unloadInput = z.strictObject({
  model: modelName.optional().describe('All that are not in use if absent.'),
});

export const policyInput = z.strictObject({
  model: modelName,
  pinned: z.boolean().optional().describe('Never unloaded to make room.'),
  preload: z.boolean().optional().describe('Loaded when the gateway starts.'),
  ttl_s: z.number().min(1).max(31_536_000).nullable().optional().describe('Unloaded after so long without use.'),
});

export const residentView = z.object({
  model: z.string(),
  runtime: z.string(),
  state: z.enum(['loading', 'loaded']),
  vram: bytes,
  ram: bytes.nullable(),
  on_card: z.number().nullable().describe('Share of it that is on the card, 0 to 1.'),
  context_window: z.int().nullable(),
  in_use: z.int(),
  idle_s: z.number().nullable(),
  expires_at: z.string().nullable(),
  pinned: z.boolean(),
  preload: z.boolean(),
  warning: z.string().nullable(),
});
export type ResidentView = z.output<typeof residentView>;

export const loadView = z.object({
  model: z.string(),
  runtime: z.string(),
  state: z.enum(['loaded', 'ready']),
  vram: bytes.nullable(),
  took_ms: z.number(),
  evicted: z.array(z.string()).describe('What had to leave for it.'),
  warnings: z.array(z.string()),
});
export type LoadView = z.output<typeof loadView>;

/** Of requests that ask how much memory a model would take. */
export const contextQuery = z.coerce
  .number()
  .int()
  .min(1)
  .max(100_000_000)
  .optional()
  .describe('Tokens of context to estimate its memory for.');
