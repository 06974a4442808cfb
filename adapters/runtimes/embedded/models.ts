// Which models there are: the built-in ones, the known ones of the hub, and whatever lies in the user's folder.
import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, relative, sep } from 'node:path';
import type { Model } from '../../../src/runtime.ts';
import { ANY_WEIGHTS, capabilitiesOf, catalogue, type Entry, type Weights, weightsFile } from './catalogue.ts';
import type { ModelFiles } from './wire.ts';

const NOT_DOWNLOADED = 1;
const LOCAL_RANK = 40;
/** The scores of a whole prompt are held in memory at once, so a context costs more than the model's limit tells. */
const MAX_CONTEXT = 4096;
const ENCODERS =
  /^(bert|roberta|xlm-roberta|distilbert|mpnet|albert|electra|deberta|deberta-v2|nomic_bert|modernbert|new)$/;
export interface Found {
  entry: Entry;
  /** Absent while a hub model is not on disk. */
  files: ModelFiles | undefined;
  /** Bytes on disk. */
  size: number | undefined;
}

export interface Places {
  modelsDir: string;
  cacheDir: string;
  localDir: string | undefined;
}

/** Every model, with its files where it has them. A broken or unreadable folder is left out, never an error. */
export async function findModels(places: Places): Promise<Found[]> {
  const known = await Promise.all(
    catalogue.map(async (entry) => {
      const dir = join(entry.origin === 'builtin' ? places.modelsDir : places.cacheDir, ...entry.id.split('/'));
      if (entry.kind === 'picture') return toPainter(entry, join(dir, 'model_q8.onnx'));
      return toFound(entry, dir, await presentWeights(entry.weights, dir));
    }),
  );
  const ids = new Set(catalogue.map(({ id }) => id));
  const [local, pulled] = await Promise.all([
    places.localDir ? findLocal(places.localDir) : [],
    findLocal(places.cacheDir),
  ]);
  const own = new Set(local.map(({ entry }) => entry.id));
  // The same model in the user's folder is the one to use: that is how it gets to a machine without a network.
  const copied = new Map(local.filter(({ entry }) => ids.has(entry.id)).map((found) => [found.entry.id, found]));
  return [
    ...known.map((found) => {
      const copy = copied.get(found.entry.id);
      return copy ? { entry: found.entry, files: copy.files, size: copy.size } : found;
    }),
    ...local.filter(({ entry }) => !ids.has(entry.id)),
    ...pulled.flatMap((found) =>
      found.files?.format === 'onnx' && !ids.has(found.entry.id) && !own.has(found.entry.id)
        ? [{ ...found, entry: { ...found.entry, origin: 'hub' as const } }]
        : [],
    ),
  ];
}

export function toModel({ entry, files, size }: Found, loaded: boolean): Model {
  const ready = files !== undefined || entry.id === 'tiny-embed';
  return {
    id: entry.id,
    capabilities: capabilitiesOf(entry),
    vision: false,
    state: loaded ? 'loaded' : ready ? 'ready' : 'available',
    ...(entry.alias && { aliases: [entry.alias] }),
    ...(entry.tiny && { tiny: true }),
    // llama.cpp's binding gives no log-probabilities; the other engine scores any prompt.
    ...((entry.kind === 'chat' || entry.kind === 'base') && files?.format !== 'gguf' && { echo: true }),
    ...(entry.context > 0 && { contextWindow: entry.context }),
    ...(size !== undefined && { size }),
    // The WebAssembly engine computes in main memory.
    ...(files?.format !== 'gguf' && { vram: 0 }),
    ...(entry.origin === 'hub' && { source: `https://huggingface.co/${entry.id}` }),
    ...(files?.format === 'onnx' && { quantization: files.dtype }),
    rank: ready ? entry.rank : NOT_DOWNLOADED,
  };
}

/** A folder as a person would write it: the user's name is nobody else's business. */
export function showPath(path: string): string {
  const home = homedir();
  return path === home || path.startsWith(home + sep) ? `~${path.slice(home.length)}` : path;
}

function toFound(entry: Entry, dir: string, present: { weights: Weights; size: number } | undefined): Found {
  if (!present) return { entry, files: undefined, size: undefined };
  const { id, context } = entry;
  return {
    entry,
    files: { format: 'onnx', id, dir, ...present.weights, context, small: entry.tiny === true },
    size: present.size,
  };
}

async function toPainter(entry: Entry, path: string): Promise<Found> {
  const size = await sizeOf(path);
  if (!size) return { entry, files: undefined, size: undefined };
  return { entry, files: { format: 'flow', id: entry.id, path, small: true }, size };
}

/** The first weights that are there, beside the two files without which nothing loads. */
async function presentWeights(weights: Weights[], dir: string) {
  if (!(await sizeOf(join(dir, 'config.json'))) || !(await sizeOf(join(dir, 'tokenizer.json')))) return undefined;
  for (const each of weights) {
    const size = await sizeOf(join(dir, weightsFile(each)));
    if (size) return { weights: each, size };
  }
  return undefined;
}

/** Folders up to `org/name` deep, and GGUF files beside them. */
async function findLocal(root: string): Promise<Found[]> {
  const found: Found[] = [];
  async function visit(dir: string, depth: number): Promise<void> {
    for (const item of await readdir(dir, { withFileTypes: true }).catch(() => [])) {
      const path = join(dir, item.name);
      const id = relative(root, path).split(sep).join('/');
      if (item.name.endsWith('.gguf')) {
        const size = await sizeOf(path);
        if (size) found.push(toGguf(id, path, size));
      } else if (!item.name.startsWith('.') && (await isFolder(path))) {
        const model = await readFolder(id, path);
        if (model) found.push(model);
        else if (depth < 2) await visit(path, depth + 1);
      }
    }
  }
  await visit(root, 1);
  return found.toSorted((a, b) => (a.entry.id < b.entry.id ? -1 : 1));
}

function toGguf(id: string, path: string, size: number): Found {
  const rank = hasLlama() ? LOCAL_RANK : NOT_DOWNLOADED;
  const entry: Entry = { id, kind: 'chat', origin: 'local', context: MAX_CONTEXT, weights: [], rank };
  return { entry, files: { format: 'gguf', id, path, context: MAX_CONTEXT, small: false }, size };
}

/** A file that nothing here can open must not become the default. */
function hasLlama(): boolean {
  return existsSync(new URL('../../../node_modules/node-llama-cpp/package.json', import.meta.url));
}

async function readFolder(id: string, dir: string): Promise<Found | undefined> {
  const config = await readJson(join(dir, 'config.json'));
  if (!config || config['is_encoder_decoder'] === true) return undefined;
  const present = await presentWeights(ANY_WEIGHTS, dir);
  if (!present) return undefined;
  const tokenizer = await readJson(join(dir, 'tokenizer_config.json'));
  const embeds = ENCODERS.test(String(config['model_type'])) || (await isFolder(join(dir, '1_Pooling')));
  const limit = [config['max_position_embeddings'], config['n_positions']].find((each) => typeof each === 'number');
  const entry: Entry = {
    id,
    kind: embeds ? 'embed' : tokenizer?.['chat_template'] ? 'chat' : 'base',
    origin: 'local',
    context: Math.min(limit ?? MAX_CONTEXT, MAX_CONTEXT),
    weights: ANY_WEIGHTS,
    rank: LOCAL_RANK,
  };
  return toFound(entry, dir, present);
}

async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

async function sizeOf(path: string): Promise<number> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ? found.size : 0;
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}
