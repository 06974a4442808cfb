// How models get to the embedded runtime: those that it knows by name, and ONNX repositories of Hugging Face that are laid out like them.
import { rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { PulledFile } from '../../../src/capabilities/model/fields.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Offer, Puller, PullEvent, PullPlan, PullWant } from '../../../src/puller.ts';
import type { HubPlace } from '../../downloads/hub.ts';
import type { Downloads, Wanted } from '../../downloads/index.ts';
import { capabilitiesOf, catalogue, type Entry } from './catalogue.ts';
import type { ModelHub } from './hub.ts';
import { folderOf, sizeOf } from './memory.ts';
import type { Found } from './models.ts';

export interface PullerParts {
  hub: ModelHub;
  downloads: Downloads;
  cacheDir: string;
  /** Every model of the runtime. */
  list(): Promise<Found[]>;
  /** Throws conflict while it is in use. */
  evict(model: string, signal: AbortSignal): Promise<void>;
}

/** What somebody wants, told apart. */
type Aim = { entry: Entry } | { place: HubPlace };

const source = 'embedded';
const KNOWN = 100;
const ITS_KIND = 60;
const A_TRY = 10;
/** Who publishes what is laid out for this engine. */
const ONNX = /^(?:Xenova|onnx-community|HuggingFaceTB)\/|onnx/i;

export function createPuller({ hub, downloads, cacheDir, list, evict }: PullerParts): Puller {
  function aim(want: PullWant): Aim | undefined {
    if (want.sha256 !== undefined || want.kind !== undefined) return undefined;
    const place = hub.parse(want.source ?? want.model);
    const name = place ? place.repo : want.source === undefined ? want.model : undefined;
    if (name !== undefined && place?.path === undefined && (place?.revision ?? 'main') === 'main') {
      const entry = catalogue.find(({ id, alias }) => id === name || alias === name);
      if (entry) return { entry };
    }
    return place && place.path === undefined && place.quant === undefined ? { place } : undefined;
  }

  function aimed(want: PullWant): Aim {
    const found = aim(want);
    if (found) return found;
    throw new GatewayError('not_supported', 'The embedded runtime gets its own models and ONNX repositories.', {
      source,
      param: 'model',
      hint: `Name one of ${offered().join(', ')}, or a repository such as hf:onnx-community/Qwen2.5-0.5B-Instruct.`,
    });
  }

  const filesOf = (target: Aim, signal: AbortSignal) =>
    'entry' in target ? hub.plan(target.entry, signal) : hub.planRepo(target.place, signal);

  async function findLocal(id: string): Promise<Found | undefined> {
    return (await list()).find(({ entry }) => entry.id === id || entry.alias === id);
  }

  const isHere = (found: Found | undefined) => found !== undefined && (found.files !== undefined || isBuiltin(found));

  return {
    runtime: source,
    claims(want) {
      const target = aim(want);
      if (!target) return undefined;
      if ('entry' in target) return KNOWN;
      if (/gguf|mlx/i.test(target.place.repo)) return undefined;
      return ONNX.test(target.place.repo) ? ITS_KIND : A_TRY;
    },

    async plan(want, signal): Promise<PullPlan> {
      const target = aimed(want);
      const id = idOf(target);
      const found = await findLocal(id);
      const facts = found?.size === undefined ? {} : { size: found.size };
      if (isHere(found)) return { model: id, files: [], bytes: 0, facts, warnings: [] };
      const place = { model: id, source: `${hub.url}/${id}` };
      const free = await downloads.free(cacheDir);
      const room = free === undefined ? {} : { free };
      try {
        const [wanted, license] = await Promise.all([filesOf(target, signal), hub.license(id, signal)]);
        const files = await Promise.all(wanted.map(toPlanned));
        const size = sum(files);
        const bytes = sum(files.filter(({ present }) => !present));
        const terms = license === undefined ? {} : { license };
        return { ...place, ...room, ...terms, files, bytes, facts: { size }, warnings: [] };
      } catch (thrown) {
        if (!(thrown instanceof GatewayError) || LASTING.has(thrown.code)) throw thrown;
        const warnings = [`Its size is not known now: ${thrown.message}`];
        return { ...place, ...room, files: [], facts: {}, warnings };
      }
    },

    async *pull(want, signal): AsyncGenerator<PullEvent> {
      if (signal.aborted) throw left();
      const target = aimed(want);
      const id = idOf(target);
      if (isHere(await findLocal(id))) {
        if ('place' in target && target.place.revision !== 'main') yield { type: 'warning', warning: isOther(id) };
        return yield { type: 'pulled', model: id, files: [] };
      }
      yield { type: 'status', state: 'running', message: `Downloading ${id}` };
      let files: PulledFile[] = [];
      if ('entry' in target) yield* unlessLeft(hub.fetchModel(target.entry, signal), signal);
      else {
        const wanted = await hub.planRepo(target.place, signal);
        const fetched = yield* downloads.fetch(wanted, { signal, source });
        files = fetched.map(({ size, sha256 }, at) => ({ name: wanted[at]!.path, folder: id, size, sha256 }));
      }
      const now = await findLocal(id);
      if (!now?.files) throw cannotRun(id);
      if (files.length === 0) files = [{ name: id, ...(now.size === undefined ? {} : { size: now.size }) }];
      yield { type: 'pulled', model: id, files };
    },

    async search(words): Promise<Offer[]> {
      const parts = words.toLowerCase().split(/\s+/);
      const found = (await list()).filter(
        ({ entry: { id, alias = '', origin } }) =>
          origin === 'hub' && parts.every((part) => `${id} ${alias}`.toLowerCase().includes(part)),
      );
      return found.map(({ entry, files, size }) => ({
        model: entry.id,
        ...(entry.alias === undefined ? {} : { title: entry.alias }),
        capabilities: capabilitiesOf(entry),
        ...(size === undefined ? {} : { size }),
        source: `${hub.url}/${entry.id}`,
        present: files !== undefined,
        popularity: entry.rank,
      }));
    },

    async remove(model, signal) {
      const found = await findLocal(model);
      if (found && isBuiltin(found))
        throw kept(`${model} ships with the gateway.`, 'It takes a few megabytes and no memory until it is asked.');
      const folder = found && folderOf(found);
      if (!found || folder === undefined) throw unknown(model);
      const { id } = found.entry;
      const own = join(cacheDir, ...id.split('/'));
      // The folder of the user's own models is the user's.
      if (folder !== own) {
        throw kept(`${model} lies in your own folder of models.`, 'Delete it there, where HONO_AI_MODELS_DIR points.');
      }
      await evict(id, signal);
      const freed = await sizeOf(own);
      await rm(own, { recursive: true, force: true });
      // One that still holds other models stays.
      if (id.includes('/')) await rmdir(dirname(own)).catch(() => {});
      return { freed, files: [{ name: id, size: freed }] };
    },
  };
}

/** An abort has one name for callers, whatever its reason is called. */
async function* unlessLeft<T>(events: AsyncGenerator<T, void>, signal: AbortSignal): AsyncGenerator<T, void> {
  try {
    yield* events;
  } catch (thrown) {
    if (signal.aborted && !(thrown instanceof GatewayError)) throw left();
    throw thrown;
  }
}

function left(): GatewayError {
  return new GatewayError('client_closed', 'The download was stopped; what has come is kept.', { source });
}

const isOther = (id: string) => `${id} is here already, perhaps of another revision: delete it first to get this one.`;

/** Trying again later would not help. */
const LASTING = new Set(['model_not_found', 'not_supported', 'invalid_request', 'client_closed']);

const isBuiltin = ({ entry }: Found): boolean => entry.origin === 'builtin';

const idOf = (target: Aim): string => ('entry' in target ? target.entry.id : target.place.repo);

function offered(): string[] {
  return catalogue.flatMap(({ alias, origin }) => (origin === 'hub' && alias !== undefined ? [alias] : []));
}

async function toPlanned({ root, path, size, sha256 }: Wanted): Promise<PullPlan['files'][number]> {
  const found = await stat(join(root, ...path.split('/'))).catch(() => undefined);
  return {
    name: path,
    ...(size === undefined ? {} : { size }),
    ...(sha256 === undefined ? {} : { sha256 }),
    present: found !== undefined && found.size === size,
  };
}

const sum = (files: { size?: number | undefined }[]): number => files.reduce((total, { size = 0 }) => total + size, 0);

function unknown(model: string): GatewayError {
  return new GatewayError('model_not_found', `The embedded runtime has no files of ${model}.`, {
    source,
    param: 'model',
  });
}

function kept(message: string, hint: string): GatewayError {
  return new GatewayError('conflict', message, { source, param: 'model', hint });
}

function cannotRun(id: string): GatewayError {
  return new GatewayError('not_supported', `${id} is here now, but the embedded engine cannot run it.`, {
    source,
    hint: 'It runs language models with a decoder only, and encoders for embeddings.',
  });
}
