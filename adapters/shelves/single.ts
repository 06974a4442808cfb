// One file of weights that somebody names by address: where it is got, what it is called here, and what it is.
import { toFileName } from '../../src/artifacts/names.ts';
import { pullKinds, type PullKind } from '../../src/capabilities/model/fields.ts';
import { GatewayError } from '../../src/error.ts';
import type { PullWant } from '../../src/puller.ts';
import type { Hub, HubPlace } from '../downloads/hub.ts';
import type { Downloads } from '../downloads/index.ts';
import { readSafetensors } from '../weights/index.ts';
import { isPickle, isWeights, kindOfName, kindOfPlace, kindOfTensors } from './kinds.ts';

export interface Single {
  url: string;
  /** What it is called here. */
  name: string;
  /** Its place in its repository, or in the address. */
  path: string;
  size?: number;
  sha256?: string;
  /** Where it comes from, for people. */
  source: string;
}

export interface SingleParts {
  hub: Hub;
  downloads: Downloads;
  signal: AbortSignal;
  /** Name of the runtime, for errors. */
  source: string;
}

/** Names under which libraries keep every model alike. */
const NAMELESS = /^(diffusion_pytorch_model|pytorch_model|pytorch_lora_weights|model|adapter_model)(\.fp16)?\./i;
/** Files that an error names. */
const TOLD = 6;

/** Whether it names a file of weights, or a repository that may hold one. */
export function namesSingle(want: PullWant, hub: Hub): 'file' | 'repository' | undefined {
  const address = toAddress(want);
  if (address === undefined) return undefined;
  const place = hub.parse(address);
  if (place) return place.path !== undefined && isWeights(place.path) ? 'file' : 'repository';
  if (!URL.canParse(address)) return undefined;
  const named = want.source !== undefined && isWeights(want.model);
  return named || isWeights(new URL(address).pathname) ? 'file' : undefined;
}

/** Throws invalid_request, model_not_found, and what the hub throws. */
export async function toSingle(want: PullWant, parts: SingleParts): Promise<Single> {
  const address = toAddress(want)!;
  const place = parts.hub.parse(address);
  const found = place ? await inRepository(place, parts) : { url: address, path: toPath(address) };
  const name = toName(want, found.path, place);
  if (name === undefined || !isWeights(name)) throw nameless(parts.source);
  if (isWeights(found.path) && toEnding(found.path) !== toEnding(name)) {
    throw new GatewayError(
      'invalid_request',
      `The file is a ${toEnding(found.path)}, its name says ${toEnding(name)}.`,
      {
        param: 'model',
        source: parts.source,
        hint: 'Give it a name with the ending that it has.',
      },
    );
  }
  if (isPickle(name) && want.sha256 === undefined) {
    throw new GatewayError('invalid_request', `${name} is a pickle: it may run code when it is loaded.`, {
      param: 'sha256',
      source: parts.source,
      hint: 'Take a .safetensors file, or give the sha256 of exactly this one.',
    });
  }
  const { sha256 = found.sha256 } = want;
  return { ...found, name, source: address, ...(sha256 === undefined ? {} : { sha256 }) };
}

/** `known`: what is known of such a file already. Throws invalid_request where nothing tells it. */
export async function toKind(
  { name, path, url }: Single,
  want: PullWant,
  { downloads, signal, source, known }: SingleParts & { known?: (name: string) => PullKind | undefined },
): Promise<PullKind> {
  const kind = want.kind === 'gguf' ? undefined : want.kind;
  const told = kind ?? known?.(name) ?? kindOfPlace(path);
  if (told) return told;
  const tensors = /\.(safetensors|sft)$/i.test(name) ? await readTensors(url, downloads, signal) : [];
  const seen = kindOfTensors(tensors) ?? kindOfName(path.split('/').at(-1)!) ?? kindOfName(name);
  if (seen) return seen;
  // What is quantized like a language model and is none is what paints.
  if (/\.gguf$/i.test(name)) return 'diffusion_model';
  throw new GatewayError('invalid_request', `What ${name} is cannot be seen.`, {
    param: 'kind',
    source,
    hint: `Say it as kind: ${pullKinds.join(', ')}.`,
  });
}

function toAddress({ model, source }: PullWant): string | undefined {
  if (source !== undefined) return source;
  return /^(hf:|hf\.co\/|huggingface\.co\/|https:\/\/)/i.test(model) ? model : undefined;
}

function toPath(address: string): string {
  const { pathname } = new URL(address);
  try {
    return decodeURIComponent(pathname);
  } catch {
    return pathname;
  }
}

/** A file, or the one file of weights that a repository or a folder of it holds. */
async function inRepository(
  { repo, revision, path }: HubPlace,
  { hub, signal, source }: SingleParts,
): Promise<{ url: string; path: string; size?: number; sha256?: string }> {
  if (path !== undefined && isWeights(path)) return { url: hub.urlOf(repo, revision, path), path };
  const inside = (await hub.files(repo, revision, signal)).filter(
    (file) => isWeights(file.path) && (path === undefined || file.path.startsWith(`${path}/`)),
  );
  const safe = inside.filter((file) => !isPickle(file.path));
  const top = safe.filter((file) => !file.path.slice(path === undefined ? 0 : path.length + 1).includes('/'));
  const [only] = [inside, safe, top].find(({ length }) => length === 1) ?? [];
  if (only) {
    const { size, sha256 } = only;
    return { url: hub.urlOf(repo, revision, only.path), path: only.path, size, ...(sha256 ? { sha256 } : {}) };
  }
  const files = inside.slice(0, TOLD).map((file) => file.path);
  throw new GatewayError(
    inside.length === 0 ? 'model_not_found' : 'invalid_request',
    inside.length === 0 ? `${repo} holds no file of weights.` : `${repo} holds ${inside.length} files of weights.`,
    {
      param: 'source',
      source,
      ...(files.length > 0
        ? { hint: `Name one, as hf:${repo}/FILE: ${files.join(', ')}${inside.length > TOLD ? ', …' : ''}.` }
        : {}),
    },
  );
}

function toName(want: PullWant, path: string, place: HubPlace | undefined): string | undefined {
  if (want.source !== undefined && isWeights(want.model)) return toFileName(want.model);
  const last = path.split('/').at(-1)!;
  const owner = place && NAMELESS.test(last) ? `${place.repo.split('/')[1]}-` : '';
  return toFileName(owner + last);
}

function toEnding(name: string): string {
  return name.slice(name.lastIndexOf('.')).toLowerCase();
}

/** None where it cannot be read: its name may still say what it is. */
async function readTensors(url: string, downloads: Downloads, signal: AbortSignal): Promise<string[]> {
  try {
    return (await readSafetensors((start, end) => downloads.range(url, start, end, signal))).tensors;
  } catch (error) {
    if (signal.aborted) throw error;
    return [];
  }
}

function nameless(source: string): GatewayError {
  return new GatewayError('invalid_request', 'The address does not say what the file is called.', {
    param: 'model',
    source,
    hint: 'Give its name as model, with its ending: my-lora.safetensors.',
  });
}
