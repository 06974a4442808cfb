// What is asked of an sd-server → the bodies of its jobs, within what it says of itself; a warning for each knob that it would pass over.
import { toBase64 } from '../../../src/base64.ts';
import type { Input } from '../../../src/capabilities/index.ts';
import { toKnobs, toSize } from '../../../src/capabilities/image/fields.ts';
import type { Picture } from '../../../src/media.ts';
import { assertPlain, toSdcppFields, toSeed } from './image-knobs.ts';
import type { Wanted } from './image-knobs.ts';
import type { Body } from './quirks.ts';
import type { WireSdcpp } from './wire.ts';

export interface JobBody {
  body: Body;
  warnings: string[];
  seed: number;
}

/** The pictures that come with a request. */
export interface Given {
  /** The one that is changed, and whose size is kept. */
  first?: Picture;
  /** For models that look at pictures instead of painting over one. */
  references?: Picture[];
  /** White may change. */
  mask?: Picture;
}

/** More steps are cut by the server without a word. */
const MAX_STEPS = 100;
const FPS = 16;
const FILM_FORMATS = ['webm', 'avi'];

/** Throws invalid_request. */
export function toPicturesBody(input: Wanted, given: Given, knows: WireSdcpp, source: string): JobBody {
  assertPlain(input.prompt, source);
  const { body, warnings, seed } = toCommon(input, given, knows, source);
  const { output_format: format, output_compression } = input;
  // What it does not make is made of a PNG afterwards.
  const own = format !== undefined && (knows.output_formats_by_mode?.['img_gen'] ?? ['png', 'jpeg']).includes(format);
  Object.assign(body, {
    mask_image: given.mask && toBase64(given.mask.bytes),
    ref_images: given.references?.map(({ bytes }) => toBase64(bytes)),
    output_format: own ? format : undefined,
    output_compression: own && format !== 'png' ? output_compression : undefined,
  });
  return { body, warnings, seed };
}

/** Throws invalid_request. */
export function toFilmBody(input: Input<'video.generate'>, given: Given, knows: WireSdcpp, source: string): JobBody {
  assertPlain(input.prompt, source);
  const { body, warnings, seed } = toCommon(input, given, knows, source);
  const { seconds, frames, format } = input;
  if (input.motion !== undefined) warnings.push(`motion cannot be chosen on ${source}; it was left out.`);
  const fps = input.fps === undefined ? undefined : Math.max(1, Math.round(input.fps));
  if (fps !== input.fps) warnings.push(`${source} makes whole pictures a second: ${fps} were asked for.`);
  const rate = fps ?? knows.defaults_by_mode?.['vid_gen']?.fps ?? FPS;
  const wanted = frames ?? (seconds === undefined ? undefined : seconds * rate);
  // Its models make one picture and then four at a time.
  const count = wanted === undefined ? undefined : 4 * Math.max(0, Math.round((wanted - 1) / 4)) + 1;
  if (frames !== undefined && count !== frames)
    warnings.push(`${source} makes ${count} pictures instead of ${frames}.`);
  const formats = knows.output_formats_by_mode?.['vid_gen'] ?? [];
  const own = [format, ...FILM_FORMATS].find((name) => name !== undefined && formats.includes(name));
  Object.assign(body, { video_frames: count, fps, output_format: own });
  return { body, warnings, seed };
}

type Diffusion = Parameters<typeof toSdcppFields>[0] & Parameters<typeof toSize>[0] & { prompt?: string | undefined };

function toCommon(input: Diffusion, { first }: Given, knows: WireSdcpp, source: string): JobBody {
  const warnings: string[] = [];
  const seed = toSeed(input);
  const body = {
    prompt: input.prompt ?? '',
    ...toSdcppFields(toKnown(input, knows, source, warnings), seed),
    ...(toSize(input) ?? (first && toSizeOf(first, knows))),
    init_image: first && toBase64(first.bytes),
  };
  return { body, warnings, seed };
}

/** It passes over names that it does not know, so that nobody would learn of it. */
function toKnown(input: Diffusion, knows: WireSdcpp, source: string, warnings: string[]): Diffusion {
  const known = { ...input };
  for (const [knob, names] of [
    ['sampler', knows.samplers],
    ['scheduler', knows.schedulers],
  ] as const) {
    const name = input[knob];
    if (name === undefined || !Array.isArray(names) || names.includes(name)) continue;
    warnings.push(`${source} has no ${knob} ${name}; it was left out. It has ${names.join(', ')}.`);
    delete known[knob];
  }
  const { steps, loras } = toKnobs(input);
  if (steps !== undefined && steps > MAX_STEPS) {
    warnings.push(`${source} takes ${MAX_STEPS} steps at most: they were asked for.`);
    known.steps = MAX_STEPS;
  }
  // Callers know it by the name; the server finds it by the path below its folder.
  const toPath = (name: string) => knows.loras?.find((lora) => lora?.name === name)?.path ?? name;
  if (loras) known.loras = loras.map(({ name, strength }) => ({ name: toPath(name), strength }));
  return known;
}

/** Without it the server would make its own size of whatever it is given. */
function toSizeOf({ width, height }: Picture, { limits }: WireSdcpp): { width: number; height: number } {
  const scale = Math.min(1, (limits?.max_width ?? width) / width, (limits?.max_height ?? height) / height);
  return { width: Math.round(width * scale), height: Math.round(height * scale) };
}
