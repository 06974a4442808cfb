// A folder of models of which is known beforehand what can be in it: got from the hub by name, found, and removed.
import { readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../../src/error.ts';
import type { Puller, PullEvent, PullWant } from '../../src/puller.ts';
import { createHub, type Hub, type HubFile } from '../downloads/hub.ts';
import type { Downloads } from '../downloads/index.ts';
import { isSafePath } from '../downloads/names.ts';
import { fetchAll, ofOneFile, removeFile, weigh, type ModelFile } from './files.ts';
import { isPickle } from './kinds.ts';

/** Files of one repository of the hub. */
export interface ShelfPart {
  /** `org/name`. */
  repo: string;
  /** One file by its name, or those whose paths fit; they keep their paths. */
  files: string | RegExp;
  /** Folder that they are put into; the folder of models itself if absent. */
  into?: string;
}

export interface ShelfModel {
  id: string;
  title: string;
  aliases?: string[];
  parts: ShelfPart[];
  license: string;
  /** Bytes, about: told before anybody is asked. */
  size?: number;
  /** Bytes of VRAM while it runs; 0 for what runs on the processor. */
  vram?: number;
  /** What has to be done once it is here. */
  after?: string;
}

export interface Shelf {
  /** The runtime, or what stands in for one. */
  runtime: string;
  /** What its folder is called there, for people. */
  folder: string;
  capabilities: string[];
  /** How surely it is this one that gets a model of these names, where another knows the name as well; default 100. */
  claim?: number;
  models: ShelfModel[];
}

export interface ShelfOptions {
  /** Folder on this machine; without it nothing can be got, and a search says how it could. */
  dir: string | undefined;
  downloads: Downloads;
  /** The Hugging Face hub or its mirror. */
  hubUrl: string;
}

/** Files below a folder that are looked at. */
const MAX_FILES = 20_000;
const REVISION = 'main';
/** A claim of whom the folder is not known. */
const NO_FOLDER = 40;

export function createShelf(shelf: Shelf, { dir, downloads, hubUrl }: ShelfOptions): Puller {
  const { runtime, models, capabilities } = shelf;
  const hub = createHub(downloads, { url: hubUrl });

  function find(want: PullWant): ShelfModel | undefined {
    if (want.source !== undefined) return ofSource(want.source);
    return models.find(({ id, aliases = [] }) => id === want.model || aliases.includes(want.model));
  }

  /** The model that is this file of the hub, or this whole repository. */
  function ofSource(source: string): ShelfModel | undefined {
    const place = hub.parse(source);
    if (!place) return undefined;
    return models.find(({ parts: [first, ...others] }) => {
      if (first!.repo !== place.repo) return false;
      return place.path === undefined ? others.length > 0 : others.length === 0 && first!.files === place.path;
    });
  }

  function expectFolder(): string {
    if (dir !== undefined) return dir;
    throw new GatewayError('not_supported', `Where ${runtime} keeps its models is not known.`, {
      source: runtime,
      hint: `Set ${toSetting(shelf)}.`,
    });
  }

  /** Throws model_not_found, not_supported, and what the hub throws. */
  async function toFiles(want: PullWant, signal: AbortSignal): Promise<{ model: ShelfModel; files: ModelFile[] }> {
    const model = find(want);
    if (!model) throw unknown(want.model, shelf);
    const { sha256 } = want;
    if (sha256 !== undefined && (model.parts.length > 1 || typeof model.parts[0]!.files !== 'string')) {
      throw ofOneFile(runtime);
    }
    const root = await toRoot(expectFolder());
    const lists = new Map<string, Promise<HubFile[]>>();
    const list = (repo: string) => {
      const listed = lists.get(repo) ?? hub.files(repo, REVISION, signal);
      lists.set(repo, listed);
      return listed;
    };
    const files = (await Promise.all(model.parts.map((part) => toFilesOf(part, root, hub, list)))).flat();
    return { model, files: sha256 === undefined ? files : [{ ...files[0]!, sha256 }] };
  }

  const isHere = async (model: ShelfModel, local: string[]) =>
    model.parts.every((part) => local.some((path) => isOf(part, path)));

  return {
    runtime,
    claims(want) {
      if (!find(want)) return undefined;
      // Without its folder it can only say what is lacking, which is better than what others know of the name.
      return dir === undefined ? NO_FOLDER : (shelf.claim ?? 100);
    },
    async plan(want, signal) {
      const { model, files } = await toFiles(want, signal);
      const { size, bytes, free, warnings, files: weighed } = await weigh(files, downloads, signal);
      return {
        model: model.id,
        files: weighed,
        ...(bytes === undefined ? {} : { bytes }),
        ...(free === undefined ? {} : { free }),
        license: model.license,
        source: toSource(model, hub),
        facts: {
          ...(size === undefined ? {} : { size }),
          ...(model.vram === undefined ? {} : { vram: model.vram }),
        },
        warnings: [...toWarnings(model, files), ...warnings],
      };
    },
    async *pull(want, signal): AsyncGenerator<PullEvent> {
      const { model, files } = await toFiles(want, signal);
      for (const warning of toWarnings(model, files)) yield { type: 'warning', warning };
      const fetched = yield* fetchAll(files, downloads, { signal, source: runtime });
      yield { type: 'pulled', model: model.id, ...fetched };
    },
    async search(words) {
      const local = dir === undefined ? [] : await listLocal(dir);
      const wanted = words.toLowerCase().split(/\s+/);
      const found = models.filter(({ id, title, aliases = [] }) => {
        const text = [runtime, id, title, ...aliases].join(' ').toLowerCase();
        return wanted.every((word) => text.includes(word));
      });
      return Promise.all(
        found.map(async (model) => ({
          model: model.id,
          title: dir === undefined ? `${model.title} (set ${toSetting(shelf)} first)` : model.title,
          capabilities,
          ...(model.size === undefined ? {} : { size: model.size }),
          ...(model.vram === undefined ? {} : { vram: model.vram }),
          license: model.license,
          source: toSource(model, hub),
          present: await isHere(model, local),
        })),
      );
    },
    async remove(name) {
      const model = find({ model: name });
      if (!model) throw unknown(name, shelf);
      const root = await toRoot(expectFolder());
      const local = await listLocal(root);
      const others = models.filter((other) => other !== model);
      const used: ShelfModel[] = [];
      for (const other of others) if (await isHere(other, local)) used.push(other);
      const needs = (each: ShelfModel, path: string) => each.parts.some((part) => isOf(part, path));
      const own = local.filter((path) => needs(model, path));
      const mine = own.filter((path) => !used.some((other) => needs(other, path)));
      if (own.length === 0) throw notHere(model.id, runtime);
      if (mine.length === 0) throw isShared(model.id, used, runtime);
      let freed = 0;
      for (const path of mine) freed += await removeFile(root, path, runtime);
      return { freed, files: mine.map((path) => ({ name: path })) };
    },
  };
}

/** The files of a part as the hub lists them; of one that is named nobody is asked. */
async function toFilesOf(
  part: ShelfPart,
  root: string,
  hub: Hub,
  list: (repo: string) => Promise<HubFile[]>,
): Promise<ModelFile[]> {
  const { repo, files, into } = part;
  const toFile = (path: string) => {
    const place = into === undefined ? path : `${into}/${path}`;
    return { url: hub.urlOf(repo, REVISION, path), root, path: place, name: place };
  };
  if (typeof files === 'string') return [toFile(files)];
  const listed = (await list(repo)).filter(({ path }) => files.test(path));
  if (listed.length > 0) return listed.map(({ path, size, sha256 }) => ({ ...toFile(path), size, sha256 }));
  throw new GatewayError('model_not_found', `${repo} does not hold what is looked for any more.`, {
    hint: 'Report it: the hub has changed.',
  });
}

function isOf({ files, into }: ShelfPart, path: string): boolean {
  if (into !== undefined && !path.startsWith(`${into}/`)) return false;
  const rest = into === undefined ? path : path.slice(into.length + 1);
  return typeof files === 'string' ? files === rest : files.test(rest);
}

/** Paths of the files below a folder; what is no plain file, and what no download may have made, is left out. */
async function listLocal(dir: string): Promise<string[]> {
  const found: string[] = [];
  const visit = async (way: string): Promise<void> => {
    const entries = await readdir(join(dir, way), { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const path = way === '' ? entry.name : `${way}/${entry.name}`;
      if (found.length >= MAX_FILES || !isSafePath(path)) continue;
      if (entry.isDirectory()) await visit(path);
      else if (entry.isFile()) found.push(path);
    }
  };
  await visit('');
  return found;
}

/** The folder itself may be a link: it is the one that was named. */
async function toRoot(dir: string): Promise<string> {
  return realpath(dir).catch(() => dir);
}

function toWarnings({ after }: ShelfModel, files: ModelFile[]): string[] {
  const code = files.filter(({ name }) => name.endsWith('.py'));
  return [
    ...(code.length > 0 ? ['It brings code of its own, which the server runs.'] : []),
    ...(files.some(({ name }) => /\.(pt|pth|ckpt)$/i.test(name) && isPickle(name))
      ? ['Some of its files are pickles: what they hold is run when they are loaded.']
      : []),
    ...(after === undefined ? [] : [after]),
  ];
}

function toSource({ parts }: ShelfModel, { url }: Hub): string {
  return `${url}/${parts[0]!.repo}`;
}

function toSetting({ runtime, folder }: Shelf): string {
  return `HONO_AI_MODEL_DIRS=${runtime}:/path/to/${folder}`;
}

function unknown(name: string, { runtime, models }: Shelf): GatewayError {
  const known = models.slice(0, 6).map(({ id }) => id);
  return new GatewayError('model_not_found', `${runtime} has no model ${name} that could be got.`, {
    param: 'model',
    source: runtime,
    hint: `There are ${known.join(', ')}${models.length > known.length ? ', …' : ''}.`,
  });
}

function notHere(model: string, source: string): GatewayError {
  return new GatewayError('model_not_found', `No file of ${model} is in the folder of ${source}.`, {
    param: 'model',
    source,
    hint: `See that HONO_AI_MODEL_DIRS names the right one: ${source}:/folder.`,
  });
}

function isShared(model: string, others: ShelfModel[], source: string): GatewayError {
  const names = others.map(({ id }) => id);
  return new GatewayError('conflict', `Every file of ${model} is needed by ${names.join(', ')} as well.`, {
    param: 'model',
    source,
    hint: `Remove ${names[0]} first.`,
  });
}
