// What the gateway is asked → the bodies of txt2img and img2img.
import { toBase64 } from '../../../src/base64.ts';
import { toKnobs, toSize } from '../../../src/capabilities/image/fields.ts';
import type { Input } from '../../../src/capabilities/index.ts';
import type { MediaTools, Picture } from '../../../src/media.ts';
import type { Call, Model } from '../../../src/runtime.ts';
import type { Names } from './names.ts';

export type Body = Record<string, unknown>;

export interface Request {
  path: '/sdapi/v1/txt2img' | '/sdapi/v1/img2img';
  /** For one picture. */
  body: Body;
  /** The first of them; absent where the server is to choose. */
  seed?: number;
  warnings: string[];
}

type Drawing = Input<'image.generate'>;
type Changing = Input<'image.edit'>;
type Varying = Input<'image.vary'>;

/** What its own page sets; without them the API would take twice as many steps, and half the size of newer models. */
const STEPS = 20;
const SIDE = 512;
const LARGE_SIDE = 1024;
const LARGE = /xl|pony|illustrious|noob|flux|sd3|sd_3|qwen|hidream|lumina|chroma/i;
/** A picture that is larger is made smaller first: the network sees all of it at once. */
const MAX_PIXELS = 2_097_152;
const EDIT_STRENGTH = 0.75;
const VARY_STRENGTH = 0.5;

export interface Parts {
  names: Names;
  tools: MediaTools;
  /** As the server names the checkpoint. */
  title: string;
  source: string;
}

/** What is made where a request does not say: one by one. */
export function toUsual(model: string): NonNullable<Model['usual']> {
  const like = { steps: STEPS, batch: 1 };
  return { 'image.generate': { ...toSide(model), ...like }, 'image.edit': like, 'image.vary': like };
}

function toSide(model: string): { width: number; height: number } {
  const side = LARGE.test(model) ? LARGE_SIDE : SIDE;
  return { width: side, height: side };
}

export async function toDrawing(input: Drawing, call: Call, parts: Parts): Promise<Request> {
  const { body, warnings, seed } = await toCommon(input, call, parts);
  const asked = toSize(input) ?? toSide(call.model.id);
  return { path: '/sdapi/v1/txt2img', body: { ...body, ...inEights(asked, warnings) }, warnings, ...seed };
}

export async function toChanging(input: Changing, call: Call, parts: Parts): Promise<Request> {
  const [first] = input.image;
  const picture = await parts.tools.toPng(await (await call.file(first!)).bytes());
  const request = await toRepainting(input, { picture, strength: input.strength ?? EDIT_STRENGTH }, call, parts);
  if (input.image.length > 1)
    request.warnings.push(`${parts.source} changes one picture: only the first was looked at.`);
  if (input.mask === undefined) return request;
  const mask = await parts.tools.toMask(await (await call.file(input.mask)).bytes());
  const masked = {
    mask: toBase64(mask.bytes),
    mask_blur: 4,
    // What was there is where it starts; white is repainted; and the whole picture is seen, not a crop of it.
    inpainting_fill: 1,
    inpainting_mask_invert: 0,
    inpaint_full_res: false,
  };
  return { ...request, body: { ...request.body, ...masked } };
}

export async function toVarying(input: Varying, call: Call, parts: Parts): Promise<Request> {
  const picture = await parts.tools.toPng(await (await call.file(input.image)).bytes());
  const drawing = { ...input, prompt: input.prompt ?? '' };
  return toRepainting(drawing, { picture, strength: input.strength ?? VARY_STRENGTH }, call, parts);
}

async function toRepainting(
  input: Drawing,
  { picture, strength }: { picture: Picture; strength: number },
  call: Call,
  parts: Parts,
): Promise<Request> {
  const { body, warnings, seed } = await toCommon(input, call, parts);
  const asked = toSize(input);
  const shrink = Math.min(1, Math.sqrt(MAX_PIXELS / (picture.width * picture.height)));
  const own = { width: Math.floor(picture.width * shrink), height: Math.floor(picture.height * shrink) };
  if (!asked && shrink < 1) warnings.push(`The picture was made smaller, to ${own.width}x${own.height}.`);
  const repainting = {
    ...body,
    ...inEights(asked ?? own, asked ? warnings : []),
    init_images: [toBase64(picture.bytes)],
    denoising_strength: strength,
    // Where its shape is another, it is cropped, not squeezed.
    resize_mode: 1,
  };
  return { path: '/sdapi/v1/img2img', body: repainting, warnings, ...seed };
}

async function toCommon(input: Drawing, { signal }: Call, { names, title, source }: Parts) {
  const { negative_prompt, steps = STEPS, guidance, seed, sampler, scheduler, loras = [] } = toKnobs(input);
  const warnings: string[] = [];
  const found: Record<string, string> = {};
  if (sampler !== undefined) found['sampler_name'] = (await names.find('samplers', sampler, signal)) ?? sampler;
  if (scheduler !== undefined) {
    const name = await names.find('schedulers', scheduler, signal);
    if (name === undefined) warnings.push(`This version of ${source} has no schedulers to choose from.`);
    else found['scheduler'] = name;
  }
  const styles: string[] = [];
  for (const { name, strength } of loras) styles.push(`<lora:${await names.lora(name, signal)}:${strength}>`);
  const body: Body = {
    // Weights in parentheses and networks in angle brackets are what its users write; none of it is changed.
    prompt: [input.prompt, ...styles].filter(Boolean).join(' '),
    ...(negative_prompt === undefined ? {} : { negative_prompt }),
    steps,
    ...(guidance === undefined ? {} : { cfg_scale: guidance }),
    ...found,
    override_settings: { sd_model_checkpoint: title },
    // Or the model would be changed twice for each picture.
    override_settings_restore_afterwards: false,
    n_iter: 1,
    batch_size: 1,
    send_images: true,
    save_images: false,
  };
  return { body, warnings, seed: seed === undefined ? {} : { seed } };
}

/** Sides in multiples of eight, which is what a cell of the network stands for. */
function inEights({ width, height }: { width: number; height: number }, warnings: string[]) {
  const round = (side: number) => Math.max(64, Math.round(side / 8) * 8);
  const size = { width: round(width), height: round(height) };
  if (size.width !== width || size.height !== height)
    warnings.push(`The size is ${size.width}x${size.height}: sides come in steps of 8 pixels, from 64.`);
  return size;
}
