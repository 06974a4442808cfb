// Translates music.generate into a task for ACE-Step, within what the server takes.
import type { Input } from '../../../src/capabilities/index.ts';

/** What one request asks of the server. */
export interface AskedTask {
  json: Record<string, unknown>;
  seed: number;
  format: 'mp3' | 'wav' | 'flac';
  warnings: string[];
}

/** The server's own limits: seconds, beats a minute, and steps of the distilled and of the full models. */
const SECONDS = [10, 600] as const;
const BPM = [30, 300] as const;
const TURBO_STEPS = [1, 20] as const;
const STEPS = [1, 200] as const;

export function toTask(input: Input<'music.generate'>, model: string): AskedTask {
  const { prompt, lyrics, seconds, bpm, key, time_signature, language, guidance_scale, format = 'mp3' } = input;
  const warnings: string[] = [];
  const within = (what: string, value: number | undefined, [low, high]: readonly [number, number]) => {
    if (value === undefined || (value >= low && value <= high)) return value;
    const nearest = value < low ? low : high;
    warnings.push(`${model} takes ${what} of ${low} to ${high}: ${nearest} instead of ${value}.`);
    return nearest;
  };
  const turbo = model.includes('turbo');
  const steps = within('steps', input.steps ?? input.num_inference_steps, turbo ? TURBO_STEPS : STEPS);
  if (turbo && guidance_scale !== undefined) {
    warnings.push(`${model} is distilled and has no guidance: guidance_scale was ignored.`);
  }
  // Reported with the answer, so that a good one can be had again.
  const seed = input.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  // What the server cannot write is made of what loses nothing.
  const made = format === 'ogg' ? 'flac' : format;
  const json = {
    model,
    prompt,
    lyrics: lyrics?.trim() ? lyrics : '[instrumental]',
    audio_format: made,
    audio_duration: within('seconds', seconds, SECONDS),
    bpm: within('bpm', bpm, BPM),
    key_scale: key,
    time_signature,
    vocal_language: language,
    inference_steps: steps,
    guidance_scale: turbo ? undefined : guidance_scale,
    use_random_seed: false,
    seed,
    // Two, if it is not said.
    batch_size: 1,
  };
  return { json, seed, format: made, warnings };
}
