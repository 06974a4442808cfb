// music.generate: tags or a prompt, and perhaps lyrics, in; a piece of music out.
import { z } from 'zod';
import { defineMaker } from '../define.ts';
import { common, diffusionFields, madeFields, prompt } from '../image/fields.ts';

export const musicFormats = ['mp3', 'wav', 'flac', 'ogg'] as const;

const { steps, num_inference_steps, guidance_scale, seed } = diffusionFields;

export const musicGenerate = defineMaker({
  id: 'music.generate',
  path: '/music/gen',
  summary: 'Make music from tags or a description, with lyrics or without',
  description: 'A piece of music of some seconds to some minutes.',
  makes: 'audio',
  input: z.object({
    prompt: prompt.min(1).describe('Style, mood, instruments: a description or tags, comma-separated.'),
    lyrics: prompt.optional().describe('What is sung; [verse] and [chorus] part it. Instrumental if absent.'),
    seconds: z.number().min(1).max(600).optional().describe('How long it is.'),
    bpm: z.int().min(20).max(400).optional().describe('Beats a minute.'),
    key: z.string().max(32).optional().describe('For example “E minor”.'),
    time_signature: z.enum(['2', '3', '4', '6']).optional().describe('Beats in a bar.'),
    language: z.string().max(16).optional().describe('Of the lyrics, for example en.'),
    steps,
    num_inference_steps,
    guidance_scale,
    seed,
    format: z.enum(musicFormats).optional().describe('What the model makes if absent, mostly mp3.'),
    ...common,
  }),
  result: z.object(madeFields),
  cli: { command: ['music', 'gen'], argument: 'prompt' },
});
