// image.generate, image.edit and image.vary over /images/*: sd-server, LocalAI, vLLM-Omni, OpenAI itself and their like.
import type { Input } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Picture } from '../../../src/media.ts';
import type { Call, Handlers } from '../../../src/runtime.ts';
import type { FormFile, Request } from './ask.ts';
import { PICTURE_LEEWAY, toBody, toFamily } from './image-knobs.ts';
import type { Family, Wanted } from './image-knobs.ts';
import { makePictures } from './made.ts';
import type { Maker, Order, PictureEvent } from './made.ts';

type Owners = ReadonlyMap<string, string>;
type ImageHandlers = Required<Pick<Handlers, 'image.generate' | 'image.edit' | 'image.vary'>>;

/** The most that one request may ask for. */
const MOST = 10;
const MAX_FILES: Partial<Record<Family, number>> = { 'dall-e': 1 };

/** `owners`: which program each model is said to belong to. */
export function createImages(maker: Maker, owners: Owners): ImageHandlers {
  const { name } = maker.upstream;
  const familyOf = (call: Call) => toFamily(call.model.id, owners.get(call.model.id));

  async function* make(path: string, input: Wanted, call: Call, files?: FormFile[]): AsyncGenerator<PictureEvent> {
    const family = familyOf(call);
    const { body, warnings, seed } = toBody(input, family, call.model.id, name);
    let told = warnings;
    const toRequest: Order['toRequest'] = (n, made): Request => {
      const counted =
        seed === undefined || made === 0
          ? body
          : toBody({ ...input, seed: seed + made }, family, call.model.id, name).body;
      const request = { path, body: { ...counted, n }, ...(files ? { files } : {}), warnings: told };
      told = [];
      return request;
    };
    const most = /dall-e-3/i.test(call.model.id) ? 1 : MOST;
    yield* makePictures(maker, { n: input.n, most, toRequest, leeway: PICTURE_LEEWAY, seed }, call);
  }

  async function* edit(input: Input<'image.edit'>, call: Call): AsyncGenerator<PictureEvent> {
    const family = familyOf(call);
    const { image, mask, ...wanted } = input;
    assertCount(image, MAX_FILES[family], call, name);
    const pictures = await readPictures(image, call, maker);
    const files = pictures.map((picture, at) => toFile(pictures.length > 1 ? 'image[]' : 'image', at, picture));
    if (mask !== undefined) files.push(await readMask(mask, family, call));
    if (family === 'sd-cpp' && wanted.output_format === 'webp') delete wanted.output_format;
    yield* make('/images/edits', wanted, call, files);
  }

  async function readMask(mask: string, family: Family, call: Call): Promise<FormFile> {
    const bytes = await (await call.file(mask)).bytes();
    // sd-server and vLLM-Omni take white for “may change”, OpenAI takes what is transparent.
    const grey = family === 'sd-cpp' || family === 'vllm';
    const picture = await (grey ? maker.tools.toMask(bytes) : maker.tools.toAlphaMask(bytes));
    return {
      field: family === 'vllm' ? 'mask_image' : 'mask',
      name: 'mask.png',
      type: 'image/png',
      bytes: picture.bytes,
    };
  }

  async function* vary({ image, ...wanted }: Input<'image.vary'>, call: Call): AsyncGenerator<PictureEvent> {
    const { prompt, ...rest } = wanted;
    if (prompt) yield { type: 'warning', warning: `${call.model.id} varies without a prompt; it was left out.` };
    const pictures = await readPictures([image], call, maker);
    yield* make('/images/variations', rest, call, [toFile('image', 0, pictures[0]!)]);
  }

  return {
    'image.generate': (input, call) => make('/images/generations', input, call),
    'image.edit': edit,
    'image.vary': vary,
  };
}

/** Upright, and without what a camera wrote beside the picture. */
export async function readPictures(ids: string[], call: Call, { tools }: Pick<Maker, 'tools'>): Promise<Picture[]> {
  const pictures: Picture[] = [];
  for (const id of ids) pictures.push(await tools.toPng(await (await call.file(id)).bytes()));
  return pictures;
}

export function assertCount(image: string[], most: number | undefined, call: Call, source: string): void {
  if (most === undefined || image.length <= most) return;
  const pictures = most === 1 ? 'one picture' : `${most} pictures`;
  throw new GatewayError('invalid_request', `image: ${call.model.id} takes ${pictures} at most.`, {
    param: 'image',
    source,
  });
}

function toFile(field: string, at: number, { bytes }: Picture): FormFile {
  return { field, name: `image-${at + 1}.png`, type: 'image/png', bytes };
}
