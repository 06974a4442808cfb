// image.generate and image.edit over xAI: shapes instead of sizes, pictures inside JSON, and the price of each answer.
import type { Input } from '../../../src/capabilities/index.ts';
import { toSize } from '../../../src/capabilities/image/fields.ts';
import { toDataUrl } from '../../../src/base64.ts';
import { GatewayError } from '../../../src/error.ts';
import type { MediaTools, Picture } from '../../../src/media.ts';
import type { Call, Handlers } from '../../../src/runtime.ts';
import type { Leeway, Request } from './ask.ts';
import { assertCount, readPictures } from './images.ts';
import { makePictures } from './made.ts';
import type { Maker, PictureEvent } from './made.ts';
import type { Body } from './quirks.ts';
import { toShape } from './shape.ts';
import type { Shapes } from './shape.ts';

/** The most that one request may ask for, and bring. */
const MOST = 10;
const MAX_FILES = 3;
/** Larger ones are sent as JPEG: bytes of a PNG, before base64. */
const MAX_PNG = 8_000_000;
const JPEG_QUALITY = 95;

const SHAPES: Shapes = {
  ratios: '1:1 3:4 4:3 9:16 16:9 2:3 3:2 9:19.5 19.5:9 9:20 20:9 1:2 2:1 21:9 5:2'.split(' '),
  resolutions: { '1k': 1024, '1.5k': 1536, '2k': 2048 },
  side: 'square',
};
const LEEWAY: Leeway = { optional: ['aspect_ratio', 'resolution'] };

/** What other makers of pictures and films have, and xAI does not. */
const UNKNOWN = [
  'negative_prompt',
  'steps',
  'num_inference_steps',
  'guidance_scale',
  'true_cfg_scale',
  'seed',
  'sampler',
  'scheduler',
  'loras',
  'strength',
  'motion',
] as const;

type Drawn = Pick<Handlers, 'image.generate' | 'image.edit'>;

export function createXaiImages(maker: Maker): Required<Drawn> {
  const { name } = maker.upstream;

  async function* make(
    path: string,
    input: Omit<Input<'image.generate'>, 'model'>,
    call: Call,
    given: Body,
  ): AsyncGenerator<PictureEvent> {
    const warnings = unknownKnobs(input, call.model.id);
    const shape = toPictureShape(input, name, warnings);
    let told = warnings;
    const toRequest = (n: number): Request => {
      const common = { model: call.model.id, prompt: input.prompt, ...given, n, ...shape };
      const request = { path, body: { ...common, response_format: 'b64_json' }, warnings: told };
      told = [];
      return request;
    };
    yield* makePictures(maker, { n: input.n, most: MOST, toRequest, leeway: LEEWAY }, call);
  }

  return {
    'image.generate': (input, call) => make('/images/generations', input, call, {}),
    async *'image.edit'({ image, mask, ...input }, call) {
      if (mask !== undefined) throw noMask(call.model.id, name);
      assertCount(image, MAX_FILES, call, name);
      const pictures = [];
      for (const picture of await readPictures(image, call, maker)) {
        pictures.push({ type: 'image_url', url: await toInline(picture, maker.tools, call.signal) });
      }
      const given = pictures.length === 1 ? { image: pictures[0] } : { images: pictures };
      yield* make('/images/edits', input, call, given);
    },
  };
}

/** A warning for each knob that is set and that xAI does not have. */
export function unknownKnobs(input: Partial<Record<(typeof UNKNOWN)[number], unknown>>, model: string): string[] {
  const set = UNKNOWN.filter((knob) => input[knob] !== undefined);
  return set.map((knob) => `${knob} cannot be chosen for ${model}; it was left out.`);
}

export async function toInline(picture: Picture, tools: MediaTools, signal: AbortSignal): Promise<string> {
  const { bytes } = picture;
  const to = { format: 'jpeg', quality: JPEG_QUALITY };
  const smaller = bytes.byteLength > MAX_PNG ? await tools.convert(bytes, to, signal) : undefined;
  return smaller ? toDataUrl('image/jpeg', smaller) : toDataUrl('image/png', bytes);
}

function toPictureShape(input: Parameters<typeof toSize>[0], source: string, warnings: string[]): Body {
  const size = toSize(input);
  if (!size) return {};
  const shape = toShape(size, SHAPES);
  const exact = size.width === size.height && size.width === SHAPES.resolutions[shape.resolution];
  if (!exact) {
    warnings.push(
      `${source} has shapes, not sizes: ${size.width}x${size.height} was asked for as ${shape.aspect_ratio} at ${shape.resolution}.`,
    );
  }
  return { ...shape };
}

function noMask(model: string, source: string): GatewayError {
  return new GatewayError('unsupported_parameter', `${model} changes whole pictures; it takes no mask.`, {
    param: 'mask',
    source,
    hint: 'Say in the prompt what is to change, or choose a model that takes masks.',
  });
}
