// What people write for a model → how it is got: by Ollama from a library or the hub, or by the gateway as a file that Ollama is given.
import { GatewayError } from '../../../src/error.ts';
import type { PullWant } from '../../../src/puller.ts';
import type { Hub, HubPlace } from '../../downloads/hub.ts';

/** A name in a registry that speaks as Ollama's does. */
export interface LibraryName {
  /** Undefined for Ollama's own. */
  host: string | undefined;
  namespace: string;
  model: string;
  tag: string;
}

/** `name`: what Ollama will call it. */
export type Place =
  | { how: 'library'; name: string; library: LibraryName }
  /** A repository of the hub; which of its files only the hub can tell. */
  | { how: 'repository'; name: string; hub: HubPlace }
  | { how: 'file'; name: string; url: string; hub?: HubPlace };

export interface Naming {
  source: string;
  hub: Hub;
  /** Hosts, beside Ollama's own, whose names Ollama may be asked to pull. */
  hosts: ReadonlySet<string>;
}

const OWN_HOSTS = new Set(['registry.ollama.ai', 'ollama.com', 'registry.ollama.com']);
const PART = /^[A-Za-z0-9_][\w.-]{0,79}$/;
const NAMESPACE = /^[A-Za-z0-9_][\w-]{0,79}$/;
const HOST = /^[A-Za-z0-9][\w.-]{0,200}(:\d{1,5})?$/;
const ADDRESS = /^(hf:|hf\.co\/|huggingface\.co\/|https?:\/\/)/i;
const WEIGHTS = /\.(safetensors|sft|ckpt|pt|pth|bin|onnx)$/i;

/** Undefined for a name that Ollama would refuse. */
export function parseName(text: string): LibraryName | undefined {
  const colon = text.indexOf(':', text.lastIndexOf('/') + 1);
  const tag = colon === -1 ? 'latest' : text.slice(colon + 1);
  const parts = (colon === -1 ? text : text.slice(0, colon)).split('/');
  const model = parts.pop() ?? '';
  const namespace = parts.pop() ?? 'library';
  const named = parts.pop();
  if (parts.length > 0 || !PART.test(model) || !PART.test(tag) || !NAMESPACE.test(namespace)) return undefined;
  if (named === undefined) return { host: undefined, namespace, model, tag };
  const host = named.toLowerCase();
  if (!HOST.test(host)) return undefined;
  return { host: OWN_HOSTS.has(host) ? undefined : host, namespace, model, tag };
}

/** As Ollama itself writes it: without what goes without saying, but always with the tag. */
export function showName({ host, namespace, model, tag }: LibraryName): string {
  if (host !== undefined) return `${host}/${namespace}/${model}:${tag}`;
  return `${namespace === 'library' ? '' : `${namespace}/`}${model}:${tag}`;
}

/** How surely Ollama is meant; nobody is asked. `known`: whether a name stands in the list of well-known ones. */
export function claimOf(want: PullWant, hub: Hub, known: (name: LibraryName) => boolean): number | undefined {
  const ours = want.kind === 'gguf';
  if (want.kind !== undefined && !ours) return undefined;
  const address = addressOf(want);
  if (address === undefined) {
    if (WEIGHTS.test(want.model)) return undefined;
    const name = parseName(want.model);
    if (!name) return undefined;
    if (known(name)) return 100;
    return want.model.includes(':') ? 50 : 10;
  }
  const place = hub.parse(address);
  const file = place ? place.path : toPath(address);
  if (file !== undefined && file !== '') {
    if (/\.gguf$/i.test(file)) return ours ? 80 : 60;
    return ours && !WEIGHTS.test(file) ? 60 : undefined;
  }
  if (!place) return undefined;
  if (ours || place.quant !== undefined) return 80;
  return /gguf/i.test(place.repo) ? 60 : 5;
}

/** Throws invalid_request, not_supported. */
export function placeOf(want: PullWant, { hub, hosts, source }: Naming): Place {
  const address = addressOf(want);
  if (address === undefined) {
    const library = parseName(want.model);
    if (!library) throw badName(source);
    if (want.sha256 !== undefined) throw noFile(source);
    if (library.host !== undefined && !hosts.has(library.host)) throw strangeHost(library.host, source);
    return { how: 'library', name: showName(library), library };
  }
  const place = hub.parse(address);
  const asked = address === want.model ? undefined : parseName(want.model.replace(/\.gguf$/i, ''));
  if (place && place.path === undefined) {
    if (want.sha256 !== undefined) throw noFile(source);
    const own = `hf.co/${place.repo}:${place.quant ?? 'latest'}`;
    return { how: 'repository', name: asked ? showName(asked) : own, hub: place };
  }
  const url = place ? hub.urlOf(place.repo, place.revision, place.path!) : address;
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url)) throw badName(source);
  const name = asked ?? toName(toPath(url));
  if (!name) throw badName(source);
  return { how: 'file', name: showName(name), url, ...(place ? { hub: place } : {}) };
}

function addressOf({ model, source }: PullWant): string | undefined {
  return source ?? (ADDRESS.test(model) ? model : undefined);
}

/** The name of a file → a name for a model. */
function toName(path: string): LibraryName | undefined {
  const bare = (path.split('/').at(-1) ?? '').replace(/\.gguf$/i, '');
  return parseName(
    bare
      .replaceAll(/[^\w.-]+/g, '-')
      .replace(/^[^A-Za-z0-9_]+/, '')
      .slice(0, 80),
  );
}

function toPath(address: string): string {
  if (!URL.canParse(address)) return '';
  const { pathname } = new URL(address);
  try {
    return decodeURIComponent(pathname);
  } catch {
    return pathname;
  }
}

function badName(source: string): GatewayError {
  return new GatewayError('invalid_request', 'Ollama has no models of such a name.', {
    param: 'model',
    source,
    hint: 'Write name:tag as in Ollama’s library, hf.co/org/repo:quantization, or give the address of a .gguf file as source.',
  });
}

function noFile(source: string): GatewayError {
  return new GatewayError('invalid_request', 'A sha256 says what one file holds, and this names none.', {
    param: 'sha256',
    source,
    hint: 'Leave it out: Ollama checks the digests of its library. Or name the file as source.',
  });
}

function strangeHost(host: string, source: string): GatewayError {
  return new GatewayError('not_supported', `Ollama is not asked to pull from ${host}.`, {
    param: 'model',
    source,
    hint: 'Set ollama_registry to it, or give the address of a .gguf file as source.',
  });
}
