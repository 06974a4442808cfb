// Ollama's library from the outside: what a name holds and how large that is, before anybody pulls it.
import { GatewayError } from '../../../src/error.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Downloads } from '../../downloads/index.ts';
import type { LibraryName } from './names.ts';

export interface Layer {
  /** `sha256:` and 64 hexadecimal digits. */
  digest: string;
  /** Bytes. */
  size: number;
  /** `model`, `projector`, `license`, `template`, `params`, `config`, … */
  role: string;
}

export interface Manifest {
  layers: Layer[];
}

/** The little that a model's configuration tells. */
export interface LayerConfig {
  model_type?: string;
  file_type?: string;
}

export interface Registry {
  readonly name: string;
  /** Throws model_not_found, upstream_unavailable, and upstream_invalid for one that nobody should pull. */
  manifest(name: LibraryName, signal: AbortSignal): Promise<Manifest>;
  read(name: LibraryName, layer: Layer, start: number, end: number, signal: AbortSignal): Promise<Uint8Array>;
}

const ACCEPT = 'application/vnd.docker.distribution.manifest.v2+json';
const DIGEST = /^sha256:[0-9a-f]{64}$/;
/** Models of tensors come in one layer each. */
const MAX_LAYERS = 5000;
const MAX_BYTES = 16 * 1024 ** 4;

/** `upstream` asks the registry, whose address `url` is. */
export function createRegistry(upstream: Upstream, url: string, downloads: Downloads): Registry {
  const base = url.replace(/\/+$/, '');
  return {
    name: upstream.name,
    async manifest(name, signal) {
      const path = `/v2/${name.namespace}/${name.model}/manifests/${encodeURIComponent(name.tag)}`;
      return toManifest(await upstream.control<unknown>(path, { headers: { accept: ACCEPT }, signal }), upstream.name);
    },
    read: ({ namespace, model }, { digest, size }, start, end, signal) =>
      downloads.range(`${base}/v2/${namespace}/${model}/blobs/${digest}`, start, Math.min(end, size), signal),
  };
}

function toManifest(value: unknown, source: string): Manifest {
  const { layers, config } = Object(value) as { layers?: unknown; config?: unknown };
  if (!Array.isArray(layers) || layers.length === 0 || layers.length > MAX_LAYERS) throw hostile(source);
  const found = layers.map((layer) => toLayer(layer, source));
  // Stand-ins for models that run in the cloud may have no configuration of their own.
  if (typeof config === 'object' && config !== null && (config as { digest?: unknown }).digest !== '') {
    found.push({ ...toLayer(config, source), role: 'config' });
  }
  // Names may stand twice for the same bytes.
  const layersByDigest = new Map(found.map((layer) => [layer.digest, layer]));
  return { layers: [...layersByDigest.values()] };
}

function toLayer(value: unknown, source: string): Layer {
  const { digest, size, mediaType } = Object(value) as Record<string, unknown>;
  if (typeof digest !== 'string' || !DIGEST.test(digest)) throw hostile(source);
  if (!Number.isSafeInteger(size) || (size as number) < 0 || (size as number) > MAX_BYTES) throw hostile(source);
  const role = /^application\/vnd\.ollama\.image\.([a-z]{1,20})$/.exec(String(mediaType))?.[1] ?? 'other';
  return { digest, size: size as number, role };
}

/** Old versions of Ollama wrote wherever a digest led them. */
function hostile(source: string): GatewayError {
  return new GatewayError('upstream_invalid', `${source} describes this model in a way that is not safe to follow.`, {
    source,
    retry: false,
    hint: 'Do not pull it; check the address of the registry in the configuration.',
  });
}
