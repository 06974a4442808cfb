// Fields about models and the files that they are made of.
import { z } from 'zod';

/** A name of a model: no control characters, no way to be taken for something else. */
export const modelName = z
  .string()
  .min(1)
  .max(300)
  .regex(/^[^\p{Cc}\p{Cf}\s][^\p{Cc}\p{Cf}]*$/u, 'a name without control characters');

/** What a single file is, where that decides where it goes. */
export const pullKinds = [
  'checkpoint',
  'diffusion_model',
  'text_encoder',
  'vae',
  'lora',
  'controlnet',
  'upscaler',
  'motion_module',
  'motion_lora',
  'clip_vision',
  'embedding',
  'gguf',
] as const;
export type PullKind = (typeof pullKinds)[number];

export const pulledFile = z.object({
  name: z.string(),
  folder: z.string().optional().describe('Below the models of the runtime, where it has folders.'),
  size: z.int().min(0).optional().describe('Bytes.'),
  sha256: z.string().optional(),
});
export type PulledFile = z.output<typeof pulledFile>;

/** What is to be got, and from where. */
export const wanted = {
  model: modelName.describe(
    'A name in a library (qwen3:8b), a recipe (sdxl, animatediff), a repository of Hugging Face (hf.co/org/repo:Q4_K_M), or what a file shall be called.',
  ),
  runtime: z.string().max(64).optional().describe('For whom; found by the name and the source if absent.'),
  source: z
    .string()
    .max(2000)
    .optional()
    .describe('Where it is: an https address, or hf:org/repo[@revision][/path/of/file].'),
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/i, '64 hexadecimal digits')
    .transform((text) => text.toLowerCase())
    .optional()
    .describe('Of the file that source names.'),
  kind: z.enum(pullKinds).optional().describe('What the file is, where that cannot be seen: it decides the folder.'),
};
