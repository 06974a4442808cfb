// A place that a model is got from → what exactly is fetched, by Ollama itself or by the gateway for it.
import { GatewayError } from '../../../src/error.ts';
import type { PullWant } from '../../../src/puller.ts';
import type { Hub } from '../../downloads/hub.ts';
import type { Downloads } from '../../downloads/index.ts';
import { chooseFiles } from './gguf-files.ts';
import type { LibraryName, Place } from './names.ts';
import type { Manifest, Registry } from './registry.ts';

/** A file that the gateway fetches, or whose header it looks at. */
export interface WantedFile {
  url: string;
  name: string;
  size: number | undefined;
  sha256: string | undefined;
}

interface Common {
  /** What it will be called in Ollama. */
  name: string;
  license: string | undefined;
  /** For people. */
  source: string;
  warnings: string[];
}

/** Ollama pulls `asked`; the manifest is undefined where its registry could not be asked. */
export interface FromLibrary extends Common {
  how: 'library';
  asked: string;
  insecure: boolean;
  library: LibraryName;
  manifest: Manifest | undefined;
}

/** Ollama pulls `asked` from the hub; no files where the hub could not be asked. */
export interface FromHub extends Common {
  how: 'hub';
  asked: string;
  files: WantedFile[];
}

export interface FromFiles extends Common {
  how: 'files';
  files: WantedFile[];
}

export type Resolved = FromLibrary | FromHub | FromFiles;

export interface ResolveParts {
  source: string;
  hub: Hub;
  downloads: Downloads;
  registry: Registry;
  /** Hosts that are spoken to without TLS. */
  insecure: ReadonlySet<string>;
}

/** The only hub that Ollama itself knows. */
const OFFICIAL = 'https://huggingface.co';
/** Failures of the way there: Ollama may have a better one. */
const AWAY = new Set([
  'upstream_unavailable',
  'upstream_timeout',
  'upstream_idle',
  'upstream_terminated',
  'overloaded',
]);

/** Throws model_not_found, not_supported, model_unavailable, upstream_invalid. */
export async function resolve(
  place: Place,
  want: PullWant,
  parts: ResolveParts,
  signal: AbortSignal,
): Promise<Resolved> {
  if (place.how === 'library') return fromLibrary(place, parts, signal);
  if (place.how === 'repository') return fromRepository(place, parts, signal);
  const { url, name, hub } = place;
  const { size, sha256 } = await parts.downloads.look(url, signal);
  if (sha256 !== undefined && want.sha256 !== undefined && sha256 !== want.sha256) throw otherFile(parts.source);
  const license = hub && (await parts.hub.info(hub.repo, signal).catch(() => undefined))?.license;
  const file = { url, name: `${name.replaceAll(/[^\w.-]+/g, '-')}.gguf`, size, sha256: want.sha256 ?? sha256 };
  return { how: 'files', name, files: [file], license, source: withoutSecrets(url), warnings: [] };
}

async function fromLibrary(
  { name, library }: Place & { how: 'library' },
  { registry, insecure }: ResolveParts,
  signal: AbortSignal,
): Promise<FromLibrary> {
  const { host, namespace, model } = library;
  const common = {
    how: 'library' as const,
    name,
    asked: name,
    library,
    license: undefined,
    insecure: host !== undefined && insecure.has(host),
    source: host === undefined ? `https://ollama.com/${namespace}/${model}` : `${host}/${namespace}/${model}`,
  };
  try {
    return { ...common, manifest: await registry.manifest(library, signal), warnings: [] };
  } catch (error) {
    const code = error instanceof GatewayError ? error.code : undefined;
    if (code === 'model_not_found') throw unknown(name, registry.name);
    if (signal.aborted || code === undefined || !mayPass(code)) throw error;
    const warnings = ['The registry cannot be asked from here, so nobody can say how large this is.'];
    return { ...common, manifest: undefined, warnings };
  }
}

async function fromRepository(
  { name, hub: { repo, quant, revision } }: Place & { how: 'repository' },
  { hub, source }: ResolveParts,
  signal: AbortSignal,
): Promise<Resolved> {
  const common = { name, source: `${OFFICIAL}/${repo}` };
  const official = hub.url === OFFICIAL && revision === 'main';
  const asked = `hf.co/${repo}:${quant ?? 'latest'}`;
  try {
    const [files, info] = await Promise.all([hub.files(repo, revision, signal), hub.info(repo, signal)]);
    const chosen = chooseFiles(files, repo, quant, source);
    const wanted = [...chosen.weights, ...(chosen.projector ? [chosen.projector] : [])].map((file): WantedFile => ({
      url: hub.urlOf(repo, revision, file.path),
      name: file.path.split('/').at(-1)!,
      size: file.size,
      sha256: file.sha256,
    }));
    const found = { ...common, license: info.license, files: wanted, warnings: [] };
    // Ollama has no token for what is gated, knows no mirror, and takes no model in parts from the hub.
    if (!official || info.gated || chosen.weights.length > 1) return { how: 'files', ...found };
    return { how: 'hub', ...found, asked };
  } catch (error) {
    const code = error instanceof GatewayError ? error.code : undefined;
    if (signal.aborted || code === undefined || !official || !mayPass(code)) throw error;
    const warnings = ['The hub cannot be asked from here, so nobody can say how large this is.'];
    return { how: 'hub', ...common, license: undefined, files: [], warnings, asked };
  }
}

function mayPass(code: string): boolean {
  return AWAY.has(code) || code === 'model_unavailable' || code === 'rate_limited' || code === 'upstream_error';
}

function unknown(name: string, source: string): GatewayError {
  return new GatewayError('model_not_found', `There is no model ${name} in the registry.`, {
    param: 'model',
    source,
    hint: 'Look for its name with `models search`, or at ollama.com/library.',
  });
}

function otherFile(source: string): GatewayError {
  return new GatewayError('digest_mismatch', 'The file that is offered there is not the one that sha256 names.', {
    param: 'sha256',
    source,
    retry: false,
    hint: 'Check the address and the hash.',
  });
}

/** What stands behind the question mark may be a key. */
function withoutSecrets(address: string): string {
  const url = new URL(address);
  return `${url.origin}${url.pathname}`;
}
