// Pictures and films over sd-server's own API, whose jobs can be cancelled; a server without it is asked as any other of its family.
import { fromBase64 } from '../../../src/base64.ts';
import type { CapabilityId, Input, Result } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { ErrorCode } from '../../../src/error.ts';
import type { RunEvent } from '../../../src/event.ts';
import type { Call, Handler, Handlers, Model } from '../../../src/runtime.ts';
import { createUpstream } from '../../../src/upstream.ts';
import type { UpstreamOptions } from '../../../src/upstream.ts';
import { toFamily } from './image-knobs.ts';
import type { Wanted } from './image-knobs.ts';
import { readPictures } from './images.ts';
import { collectPictures, invalid, takePictures } from './made.ts';
import type { Batch, Maker, PictureEvent } from './made.ts';
import { toFilmBody, toPicturesBody } from './sdcpp-body.ts';
import type { Given } from './sdcpp-body.ts';
import { createSdcppJobs, NoJobs } from './sdcpp-jobs.ts';
import type { WireSdcpp } from './wire.ts';

type Made = 'image.generate' | 'image.edit' | 'image.vary' | 'video.generate';
type FilmEvent = RunEvent<never, Result<'video.generate'>>;

export interface Sdcpp {
  /** What else the server's model can, where it is one with an API of its own. */
  complete(models: Model[], signal: AbortSignal): Promise<Model[]>;
  /** The same handlers, but that its model is asked by that API where there is one. */
  over(others: Handlers): Handlers;
}

/** The most pictures of one job, where the server does not say. */
const MOST = 8;
const MAX_SILENCE_MS = 30_000;
/** No such route, or none that is open beside OpenAI's. */
const WITHOUT = new Set<ErrorCode>(['model_not_found', 'invalid_request', 'provider_auth', 'upstream_invalid']);

/** `options.baseUrl` is the one of OpenAI's routes; `owners`: which program each model is said to belong to. */
export function createSdcpp(options: UpstreamOptions, maker: Maker, owners: ReadonlyMap<string, string>): Sdcpp {
  const { name, limits } = options;
  const upstream = createUpstream({ ...options, baseUrl: besideV1(options.baseUrl) });
  const jobs = createSdcppJobs(upstream, Math.min(MAX_SILENCE_MS, limits.idleMs));
  const isIts = ({ id }: Model) => toFamily(id, owners.get(id)) === 'sd-cpp';
  let known: WireSdcpp | undefined;

  /** Undefined where it has no such API; empty where it cannot be asked just now, which its first job will tell. */
  async function learn(signal: AbortSignal): Promise<WireSdcpp | undefined> {
    known = undefined;
    try {
      const said = await upstream.control<unknown>('/capabilities', { signal });
      if (typeof said === 'object' && said !== null && !Array.isArray(said)) known = said;
      return known;
    } catch (thrown) {
      if (!(thrown instanceof GatewayError)) throw thrown;
      return WITHOUT.has(thrown.code) ? undefined : {};
    }
  }

  async function* draw(input: Wanted, given: Given, knows: WireSdcpp, call: Call): AsyncGenerator<PictureEvent> {
    const { body, warnings, seed } = toPicturesBody(input, given, knows, name);
    const batch: Batch = {
      source: name,
      n: input.n,
      most: toMost(knows),
      seed,
      async *draw(count, made) {
        for (const warning of warnings.splice(0)) yield { type: 'warning', warning };
        const wanted = { ...body, seed: seed + made, batch_count: count };
        const { images } = yield* jobs.run('img_gen', wanted, call.signal);
        const inOrder = images?.toSorted((one, other) => (one?.index ?? 0) - (other?.index ?? 0));
        return takePictures(maker, inOrder, call.signal);
      },
    };
    yield* collectPictures(batch, call.signal);
  }

  const own: { [Id in Made]: (input: Input<Id>, knows: WireSdcpp, call: Call) => ReturnType<Handler<Id>> } = {
    'image.generate': (input, knows, call) => draw(input, {}, knows, call),
    async *'image.edit'({ image, mask, ...wanted }, knows, call) {
      const references = await readPictures(image, call, maker);
      const given: Given = { first: references[0]!, references };
      if (mask !== undefined) given.mask = await maker.tools.toMask(await (await call.file(mask)).bytes());
      yield* draw(wanted, given, knows, call);
    },
    async *'image.vary'({ image, ...wanted }, knows, call) {
      const [first] = await readPictures([image], call, maker);
      yield* draw(wanted, { first: first! }, knows, call);
    },
    async *'video.generate'(input, knows, call): AsyncGenerator<FilmEvent> {
      const [first] = input.image === undefined ? [] : await readPictures([input.image], call, maker);
      const { body, warnings, seed } = toFilmBody(input, first ? { first } : {}, knows, name);
      for (const warning of warnings) yield { type: 'warning', warning };
      const { b64_json } = yield* jobs.run('vid_gen', body, call.signal);
      const bytes = b64_json ? fromBase64(b64_json) : undefined;
      if (!bytes) throw invalid(name, 'a film without bytes');
      yield { type: 'result', result: { seed }, files: [{ bytes }] };
    },
  };

  function choose<Id extends Made>(id: Id, other: Handler<Id>): Handler<Id> {
    return async function* (input, call) {
      const knows = isIts(call.model) ? (known ?? (await learn(call.signal))) : undefined;
      if (!knows) return yield* other(input, call);
      try {
        yield* own[id](input, knows, call);
      } catch (thrown) {
        if (!(thrown instanceof NoJobs)) throw thrown;
        // Another, older server answers there now.
        known = undefined;
        yield* other(input, call);
      }
    };
  }

  return {
    async complete(models, signal) {
      const knows = models.some(isIts) ? await learn(signal) : undefined;
      return models.map((model) => (knows && isIts(model) ? { ...model, ...toAbilities(knows) } : model));
    },
    over: (others) => ({
      ...others,
      'image.generate': choose('image.generate', others['image.generate']!),
      'image.edit': choose('image.edit', others['image.edit']!),
      'image.vary': choose('image.vary', others['image.vary']!),
      'video.generate': choose('video.generate', others['video.generate']!),
    }),
  };
}

function toAbilities({ supported_modes: modes, features_by_mode }: WireSdcpp): Partial<Model> {
  if (!Array.isArray(modes)) return {};
  const takes = (mode: string, picture: string) => features_by_mode?.[mode]?.[picture] !== false;
  const capabilities: CapabilityId[] = [];
  if (modes.includes('img_gen')) {
    capabilities.push('image.generate');
    if (takes('img_gen', 'init_image')) capabilities.push('image.edit', 'image.vary');
  }
  if (modes.includes('vid_gen')) capabilities.push('video.generate');
  return { capabilities, mask: takes('img_gen', 'mask_image'), animate: takes('vid_gen', 'init_image') };
}

/** Where a job that has begun cannot be stopped, nobody who leaves costs more than the picture that is begun. */
function toMost({ features_by_mode, limits }: WireSdcpp): number {
  if (features_by_mode?.['img_gen']?.['cancel_generating'] !== true) return 1;
  return Math.max(1, limits?.max_batch_count ?? MOST);
}

function besideV1(baseUrl: string): string {
  return `${baseUrl.replace(/\/+$/, '').replace(/\/v1$/, '')}/sdcpp/v1`;
}
