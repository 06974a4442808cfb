// What each node class of a fake ComfyUI does: enough of the real thing that sizes, seeds, prompts, masks and files count.
import sharp from 'sharp';
import type { Disk, StoredFile } from './disk.ts';
import { RaisedError } from './raised.ts';
import { save } from './savers.ts';
import { composite, decoded, fixed, generated, grow, scaled, scaledLevels } from './values.ts';
import type { Conditioning, Latent, Mask, Pictures, Thing, Value, Video } from './values.ts';

/** Inputs of one node: links resolved to values, the rest as they were sent. */
export type Inputs = Record<string, unknown>;

export interface NodeContext {
  disk: Disk;
  prompt: string;
  ffmpeg: boolean;
  /** Reports step `value` of `max` of a sampler after the time that one takes. Throws where the work was interrupted. */
  step(value: number, max: number, preview?: () => Promise<Pictures>): Promise<void>;
  /** The same for work that takes no time here. */
  tick(value: number, max: number): void;
}

export interface NodeResult {
  outputs: Value[];
  /** What an output node says of its files. */
  ui?: Record<string, unknown>;
}

type Run = (inputs: Inputs, context: NodeContext) => NodeResult | Promise<NodeResult>;

const PREFERRED =
  '672x1568 688x1504 720x1456 752x1392 800x1328 832x1248 880x1184 944x1104 1024x1024 1104x944 1184x880 1248x832 1328x800 1392x752 1456x720 1504x688 1568x672'
    .split(' ')
    .map((size) => size.split('x').map(Number) as [number, number]);

const one = (value: Value): NodeResult => ({ outputs: [value] });
const text = (inputs: Inputs, name: string): string => String(inputs[name] ?? '');
const number = (inputs: Inputs, name: string): number => Number(inputs[name] ?? 0);

const RUNS: Record<string, Run> = {
  EmptyImage(inputs) {
    const shape = sizeOf(inputs);
    const colour = number(inputs, 'color');
    const rgb = [(colour >> 16) & 255, (colour >> 8) & 255, colour & 255] as const;
    const pixels = async () => new Uint8Array(shape.width * shape.height * 3).map((_, at) => rgb[at % 3]!);
    return one({ kind: 'pictures', ...shape, pixels, colour: async () => rgb });
  },
  EmptyLatentImage: (inputs) => one(emptyLatent(inputs)),
  EmptyLTXVLatentVideo: (inputs) => one({ ...emptyLatent(inputs), count: framesOf(number(inputs, 'length'), 8) }),
  Wan22ImageToVideoLatent(inputs) {
    const start = inputs['start_image'] as Pictures | undefined;
    const latent = { ...emptyLatent(inputs), count: framesOf(number(inputs, 'length'), 4) };
    return one(start ? { ...latent, source: scaled(start, latent.width, latent.height) } : latent);
  },
  EmptyAceStepLatentAudio: (inputs) => one(soundLatent(inputs)),
  'EmptyAceStep1.5LatentAudio': (inputs) => one(soundLatent(inputs)),
  CLIPTextEncode: (inputs) => one({ kind: 'conditioning', text: text(inputs, 'text') }),
  TextEncodeQwenImageEditPlus(inputs) {
    const pictures = inputs['image1'] as Pictures | undefined;
    return one({ kind: 'conditioning', text: text(inputs, 'prompt'), ...(pictures && { pictures }) });
  },
  TextEncodeAceStepAudio: (inputs) => one(musicText(inputs, ['tags', 'lyrics'])),
  'TextEncodeAceStepAudio1.5': (inputs) =>
    one(musicText(inputs, ['tags', 'lyrics', 'bpm', 'keyscale', 'timesignature', 'language', 'seed'])),
  ConditioningZeroOut: () => one({ kind: 'conditioning', text: '' }),
  LTXVConditioning: (inputs) => ({ outputs: [inputs['positive'] as Value, inputs['negative'] as Value] }),
  LTXVScheduler: (inputs) => one({ kind: 'thing', name: 'sigmas', steps: number(inputs, 'steps') }),
  KSampler: (inputs, context) =>
    sample(inputs, context, {
      steps: number(inputs, 'steps'),
      seed: text(inputs, 'seed'),
      denoise: number(inputs, 'denoise'),
    }),
  SamplerCustom: (inputs, context) =>
    sample(inputs, context, {
      steps: (inputs['sigmas'] as Thing).steps ?? 1,
      seed: text(inputs, 'noise_seed'),
      denoise: 1,
    }),
  VAEDecode: (inputs) => one(decoded(inputs['samples'] as Latent)),
  VAEDecodeTiled: (inputs) => one(decoded(inputs['samples'] as Latent)),
  VAEDecodeAudio(inputs) {
    const latent = inputs['samples'] as Latent;
    return one({ kind: 'sound', seconds: latent.seconds ?? 1, key: latent.made?.key ?? '' });
  },
  VAEEncode: (inputs) => one(encoded(inputs['pixels'] as Pictures)),
  VAEEncodeForInpaint(inputs) {
    const mask = grow(inputs['mask'] as Mask, number(inputs, 'grow_mask_by'), true);
    return one({ ...encoded(inputs['pixels'] as Pictures), mask });
  },
  SetLatentNoiseMask: (inputs) => one({ ...(inputs['samples'] as Latent), mask: inputs['mask'] as Mask }),
  GrowMask: (inputs) =>
    one(grow(inputs['mask'] as Mask, number(inputs, 'expand'), inputs['tapered_corners'] !== false)),
  LoadImage: async (inputs, { disk }) => {
    const file = disk.named(text(inputs, 'image'))!;
    return { outputs: [await loadPictures(file), await loadMask(file, 'alpha', true)] };
  },
  LoadImageMask: async (inputs, { disk }) =>
    one(await loadMask(disk.named(text(inputs, 'image'))!, text(inputs, 'channel'))),
  ImageScale: (inputs) => one(scaleTo(inputs['image'] as Pictures, number(inputs, 'width'), number(inputs, 'height'))),
  ImageScaleToTotalPixels(inputs) {
    const pictures = inputs['image'] as Pictures;
    const round = number(inputs, 'resolution_steps') || 1;
    const factor = Math.sqrt((number(inputs, 'megapixels') * 1024 * 1024) / (pictures.width * pictures.height));
    const fit = (side: number) => Math.max(round, Math.round((side * factor) / round) * round);
    return one(scaled(pictures, fit(pictures.width), fit(pictures.height)));
  },
  FluxKontextImageScale(inputs) {
    const pictures = inputs['image'] as Pictures;
    const aspect = pictures.width / pictures.height;
    const [width, height] = PREFERRED.toSorted(
      (a, b) => Math.abs(aspect - a[0] / a[1]) - Math.abs(aspect - b[0] / b[1]),
    )[0]!;
    return one(scaled(pictures, width, height));
  },
  ImageCompositeMasked: (inputs) => one(pasted(inputs)),
  ImageUpscaleWithModel: async (inputs, context) => {
    const pictures = inputs['image'] as Pictures;
    const factor = Number(
      /(?:^|[^\d])([248])x|x([248])/i
        .exec((inputs['upscale_model'] as Thing).name)
        ?.slice(1)
        .find(Boolean) ?? 4,
    );
    const tiles = Math.ceil(pictures.width / 480) * Math.ceil(pictures.height / 480) * pictures.count;
    for (let tile = 1; tile <= tiles; tile++) context.tick(tile, tiles);
    return one(scaled(pictures, pictures.width * factor, pictures.height * factor));
  },
  CreateVideo: (inputs) =>
    one({ kind: 'video', pictures: inputs['images'] as Pictures, fps: number(inputs, 'fps') } satisfies Video),
};

/** Runs one node; the names of the classes are those of the real one. */
export async function runNode(
  type: string,
  inputs: Inputs,
  outputs: unknown[],
  context: NodeContext,
): Promise<NodeResult> {
  const run = RUNS[type];
  if (run) return run(inputs, context);
  const saved = await save(type, inputs, context);
  if (saved) return saved;
  // Loaders, patches and schedules: things that only have a name here. One that passes something on, passes the same thing on.
  const names = Object.values(inputs).map((value) =>
    typeof value === 'object' ? ((value as Thing | null)?.name ?? '') : String(value),
  );
  return {
    outputs: outputs.map((output) => {
      const given = Object.values(inputs).find((value) => kindOf(String(output)) === (value as Value | null)?.kind);
      return (given as Value | undefined) ?? { kind: 'thing', name: `${type} ${names.join(' ')}` };
    }),
  };
}

async function sample(
  inputs: Inputs,
  context: NodeContext,
  { steps, seed, denoise }: { steps: number; seed: string; denoise: number },
): Promise<NodeResult> {
  const latent = inputs['latent_image'] as Latent;
  const positive = inputs['positive'] as Conditioning;
  const negative = inputs['negative'] as Conditioning;
  const settings = ['cfg', 'sampler_name', 'scheduler'].map((name) => text(inputs, name));
  const model = (inputs['model'] as Thing).name;
  const key = JSON.stringify([seed, positive.text, negative.text, steps, denoise, model, ...settings]);
  const reference = positive.pictures && !latent.source;
  const source = latent.source ?? positive.pictures;
  const keep = positive.pictures ? 0.5 : latent.source && denoise === 1 && latent.count > 1 ? 0.6 : 1 - denoise;
  const result: Latent = { ...latent, made: { key, keep }, ...(reference && source ? { source } : {}) };
  const preview = async () => generated(key, { width: latent.width, height: latent.height, count: 1 });
  const seen = latent.seconds === undefined ? preview : undefined;
  for (let value = 1; value <= steps; value++) await context.step(value, steps, seen);
  return { outputs: [result, result] };
}

function pasted(inputs: Inputs): Pictures {
  const under = inputs['destination'] as Pictures;
  const given = inputs['source'] as Pictures;
  const mask = inputs['mask'] as Mask | undefined;
  const over = inputs['resize_source'] ? scaled(given, under.width, under.height) : given;
  if (over.width > under.width || over.height > under.height) {
    throw new RaisedError('RuntimeError', 'The size of tensor a must match the size of tensor b');
  }
  const [left, top] = [number(inputs, 'x'), number(inputs, 'y')];
  const frames = Array.from({ length: under.count }, (_, index) => async () => {
    const [base, top0] = await Promise.all([under.pixels(index), over.pixels(index)]);
    const levels = mask
      ? await scaledLevels(mask, over.width, over.height)
      : new Uint8Array(over.width * over.height).fill(255);
    if (left === 0 && top === 0 && over.width === under.width && over.height === under.height)
      return composite(base, top0, levels);
    const out = base.slice();
    const columns = Math.min(over.width, under.width - left);
    for (let y = 0; y < over.height && y + top < under.height; y++) {
      const from = y * over.width;
      const to = ((y + top) * under.width + left) * 3;
      const row = composite(
        base.subarray(to, to + columns * 3),
        top0.subarray(from * 3, (from + columns) * 3),
        levels.subarray(from, from + columns),
      );
      out.set(row, to);
    }
    return out;
  });
  return fixed(under.width, under.height, frames);
}

async function loadPictures(file: StoredFile): Promise<Pictures> {
  const { width, height } = await openPicture(file);
  const pixels = async () =>
    new Uint8Array(await sharp(file.bytes).rotate().flatten().removeAlpha().toColourspace('srgb').raw().toBuffer());
  return fixed(width, height, [pixels]);
}

/** The channel as a mask; alpha is turned round, and where there is none LoadImage gives 64×64 of nothing. */
async function loadMask(file: StoredFile, channel: string, plain = false): Promise<Mask> {
  const { width, height, hasAlpha } = await openPicture(file);
  if (plain && !hasAlpha) return { kind: 'mask', width: 64, height: 64, levels: async () => new Uint8Array(64 * 64) };
  const at = ['red', 'green', 'blue', 'alpha'].indexOf(channel);
  const levels = async () => {
    const raw = await sharp(file.bytes).rotate().toColourspace('srgb').ensureAlpha().raw().toBuffer();
    return new Uint8Array(width * height).map((_, index) =>
      at === 3 ? 255 - raw[index * 4 + 3]! : raw[index * 4 + at]!,
    );
  };
  return { kind: 'mask', width, height, levels };
}

async function openPicture(file: StoredFile): Promise<{ width: number; height: number; hasAlpha: boolean }> {
  const meta = await sharp(file.bytes)
    .metadata()
    .catch(() => undefined);
  if (!meta) throw new RaisedError('PIL.UnidentifiedImageError', "cannot identify image file '/ComfyUI/input/file'");
  const turned = (meta.orientation ?? 1) >= 5;
  const [width, height] = turned ? [meta.height, meta.width] : [meta.width, meta.height];
  return { width, height, hasAlpha: meta.hasAlpha };
}

function scaleTo(pictures: Pictures, width: number, height: number): Pictures {
  if (width === 0 && height === 0) return pictures;
  const wide = width || Math.max(1, Math.round((pictures.width * height) / pictures.height));
  const high = height || Math.max(1, Math.round((pictures.height * width) / pictures.width));
  return scaled(pictures, wide, high);
}

/** A latent holds whole blocks of 8 pixels; what is beyond is lost. */
function encoded(pictures: Pictures): Latent {
  const [width, height] = [pictures.width - (pictures.width % 8), pictures.height - (pictures.height % 8)];
  return { kind: 'latent', width, height, count: pictures.count, source: pictures };
}

function emptyLatent(inputs: Inputs): Latent {
  const { width, height, count } = sizeOf(inputs);
  return { kind: 'latent', width: width - (width % 8), height: height - (height % 8), count };
}

function sizeOf(inputs: Inputs): { width: number; height: number; count: number } {
  return { width: number(inputs, 'width'), height: number(inputs, 'height'), count: number(inputs, 'batch_size') || 1 };
}

function soundLatent(inputs: Inputs): Latent {
  return {
    kind: 'latent',
    width: 0,
    height: 0,
    count: number(inputs, 'batch_size'),
    seconds: number(inputs, 'seconds'),
  };
}

/** Video latents hold a whole number of groups of frames, and one. */
function framesOf(length: number, group: number): number {
  return Math.floor((length - 1) / group) * group + 1;
}

function musicText(inputs: Inputs, names: string[]): Conditioning {
  return { kind: 'conditioning', text: names.map((name) => `${name}: ${text(inputs, name)}`).join('\n') };
}

function kindOf(type: string): string | undefined {
  return {
    IMAGE: 'pictures',
    MASK: 'mask',
    LATENT: 'latent',
    CONDITIONING: 'conditioning',
    AUDIO: 'sound',
    VIDEO: 'video',
  }[type];
}
