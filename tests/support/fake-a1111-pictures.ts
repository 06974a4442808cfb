// The pictures of the fake AUTOMATIC1111: of the asked size, seed and prompt, and of what they start from.
import sharp from 'sharp';
import { composite, fixed, generated, scaled, scaledLevels } from './fake-comfyui/values.ts';
import type { Pictures } from './fake-comfyui/values.ts';
import { withTexts } from './media/index.ts';

export type Body = Record<string, unknown>;
export type Kind = 'txt2img' | 'img2img';

export async function makeResult(
  kind: Kind,
  body: Body,
  { seed, model }: { seed: number; model: string },
): Promise<object> {
  const size = sizeOf(body);
  const count = Number(body['batch_size'] ?? 1) * Number(body['n_iter'] ?? 1);
  const images: string[] = [];
  const infotexts: string[] = [];
  for (let index = 0; index < count; index++) {
    const made = generated(JSON.stringify([body['prompt'], body['negative_prompt'], seed + index, model]), {
      ...size,
      count: 1,
    });
    const pictures = kind === 'img2img' ? await derived(body, made) : made;
    const settings = `Steps: ${body['steps'] ?? 50}, Sampler: ${body['sampler_name'] ?? 'Euler'}, Seed: ${seed + index}, Size: ${size.width}x${size.height}`;
    infotexts.push(`${body['prompt'] ?? ''}\nNegative prompt: ${body['negative_prompt'] ?? ''}\n${settings}`);
    const raw = { ...size, channels: 3 as const };
    const png = await sharp(await pictures.pixels(0), { raw })
      .png({ compressionLevel: 1 })
      .toBuffer();
    images.push(Buffer.from(withTexts(png, { parameters: infotexts[index]! })).toString('base64'));
  }
  const seeds = infotexts.map((_, index) => seed + index);
  const info = {
    prompt: body['prompt'] ?? '',
    seed,
    all_seeds: seeds,
    ...size,
    sd_model_name: model.split('.')[0],
    infotexts,
  };
  return {
    images: body['send_images'] === false ? [] : images,
    parameters: { ...body, init_images: null },
    info: JSON.stringify(info),
  };
}

/** The given picture and the new one mixed; with a mask only where it is white (or black, where it is turned round). */
async function derived(body: Body, made: Pictures): Promise<Pictures> {
  const { width, height } = made;
  const source = await openPicture((body['init_images'] as string[])[0]!);
  const from = scaled(source, width, height);
  const share = Number(body['denoising_strength'] ?? 0.75);
  const mask = typeof body['mask'] === 'string' ? await openPicture(body['mask']) : undefined;
  const invert = Number(body['inpainting_mask_invert'] ?? 0) === 1;
  const pixels = async (): Promise<Uint8Array> => {
    const [old, next] = await Promise.all([from.pixels(0), made.pixels(0)]);
    const mixed = old.map((value, at) => value * (1 - share) + next[at]! * share);
    if (!mask) return mixed;
    const whole = await mask.pixels(0);
    const levels = async () =>
      new Uint8Array(whole.length / 3).map((_, at) => (invert ? 255 - whole[at * 3]! : whole[at * 3]!));
    return composite(
      old,
      mixed,
      await scaledLevels({ kind: 'mask', width: mask.width, height: mask.height, levels }, width, height),
    );
  };
  return fixed(width, height, [pixels]);
}

async function openPicture(base64: string): Promise<Pictures> {
  const bytes = Buffer.from(base64.replace(/^data:[^,]*,/, ''), 'base64');
  const { data, info } = await sharp(bytes)
    .rotate()
    .flatten()
    .toColourspace('srgb')
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  return fixed(info.width, info.height, [async () => new Uint8Array(data)]);
}

export async function smallPicture(body: Body, seed: number): Promise<string> {
  const [r, g, b] = await generated(JSON.stringify([body['prompt'], seed]), { width: 64, height: 64, count: 1 }).colour(
    0,
  );
  const picture = sharp({ create: { width: 64, height: 64, channels: 3, background: { r, g, b } } });
  return (await picture.png().toBuffer()).toString('base64');
}

function sizeOf(body: Body): { width: number; height: number } {
  const side = (name: string) => Math.max(64, Math.floor(Number(body[name] ?? 512) / 8) * 8);
  return { width: side('width'), height: side('height') };
}
