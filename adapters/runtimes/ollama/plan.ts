// What getting a model takes: its files, which of them are here, and what its memory is estimated from, all before the first byte.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { PulledFile } from '../../../src/capabilities/model/fields.ts';
import type { PullPlan } from '../../../src/puller.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Downloads } from '../../downloads/index.ts';
import { readGguf, toParameters } from '../../weights/index.ts';
import type { ReadRange } from '../../weights/index.ts';
import { hasBlob } from './hand-over.ts';
import { toBlob } from './pull-stream.ts';
import type { Layer, LayerConfig, Registry } from './registry.ts';
import type { FromLibrary, Resolved, WantedFile } from './resolve.ts';
import { toLicense } from './wire.ts';

export interface PlanParts {
  upstream: Upstream;
  downloads: Downloads;
  registry: Registry;
  /** Milliseconds for what is only good to know. */
  headerMs: number;
  /** Where Ollama keeps its models, where that is on this machine. */
  modelsDir: string | undefined;
}

type Facts = PullPlan['facts'];

const LICENSE_BYTES = 2048;
const CONFIG_BYTES = 64 * 1024;
/** Models of tensors come in thousands of layers; those are not asked for one by one. */
const ASKED_LAYERS = 64;

/** Bytes that Ollama still has to get, and that are free for them; undefined where nobody knows one of the two. */
export async function roomFor(
  resolved: Resolved,
  { upstream, downloads, modelsDir, headerMs }: PlanParts,
  signal: AbortSignal,
): Promise<{ needed: number; free: number } | undefined> {
  const free = modelsDir === undefined ? undefined : await downloads.free(modelsDir);
  if (free === undefined || modelsDir === undefined) return undefined;
  const files = toFiles(resolved);
  const { here } = await findPresent(files, upstream, AbortSignal.any([signal, AbortSignal.timeout(headerMs)]));
  // What has come of a pull that was cut takes its room already.
  const come = await Promise.all(files.map(({ name }) => takenBy(join(modelsDir, 'blobs', `${name}-partial`))));
  const needed = files.map(({ size = 0 }, index) => (here[index] ? 0 : Math.max(0, size - come[index]!)));
  return { needed: needed.reduce((sum, each) => sum + each, 0), free };
}

/** Throws nothing but the signal's reason: what cannot be found out is left out. */
export async function plan(resolved: Resolved, parts: PlanParts, signal: AbortSignal): Promise<PullPlan> {
  const files = toFiles(resolved);
  const soon = AbortSignal.any([signal, AbortSignal.timeout(parts.headerMs)]);
  const [present, facts, free] = await Promise.all([
    findPresent(files, parts.upstream, soon),
    resolved.how === 'library' ? libraryFacts(resolved, parts, soon) : fileFacts(resolved.files, parts, soon),
    parts.modelsDir === undefined ? undefined : parts.downloads.free(parts.modelsDir),
  ]);
  signal.throwIfAborted();
  const known = files.length > 0 && files.every(({ size }) => size !== undefined);
  const bytes = files.reduce((sum, { size = 0 }, index) => sum + (present.here[index] ? 0 : size), 0);
  const size = files.reduce((sum, file) => sum + (file.size ?? 0), 0);
  const license = resolved.license ?? facts.license;
  return {
    model: resolved.name,
    files: files.map((file, index) => ({ ...file, present: present.here[index] ?? false })),
    ...(known ? { bytes } : {}),
    ...(free === undefined ? {} : { free }),
    ...(license === undefined ? {} : { license }),
    source: resolved.source,
    facts: { ...(known ? { size } : {}), ...facts.facts },
    warnings: [...resolved.warnings, ...present.warnings, ...facts.warnings],
  };
}

export function toFiles(resolved: Resolved): PulledFile[] {
  if (resolved.how === 'library') {
    return (resolved.manifest?.layers ?? []).map(({ digest, size }) => toBlob(digest.slice('sha256:'.length), size));
  }
  return resolved.files.map(({ name, size, sha256 }) =>
    sha256 !== undefined && size !== undefined
      ? toBlob(sha256, size)
      : { name, ...(size === undefined ? {} : { size }), ...(sha256 === undefined ? {} : { sha256 }) },
  );
}

async function findPresent(
  files: PulledFile[],
  upstream: Upstream,
  signal: AbortSignal,
): Promise<{ here: boolean[]; warnings: string[] }> {
  if (files.length > ASKED_LAYERS) return { here: [], warnings: [] };
  try {
    const here = await Promise.all(
      files.map(async ({ sha256 }) => sha256 !== undefined && hasBlob(upstream, sha256, signal)),
    );
    return { here, warnings: [] };
  } catch {
    return { here: [], warnings: [`${upstream.name} does not answer: start it before you pull.`] };
  }
}

interface Found {
  facts: Facts;
  license: string | undefined;
  warnings: string[];
}

const nothing: Found = { facts: {}, license: undefined, warnings: [] };

/** None of it is needed: what cannot be read is left out. */
async function libraryFacts(
  { manifest, library }: FromLibrary,
  { registry }: PlanParts,
  signal: AbortSignal,
): Promise<Found> {
  if (!manifest) return nothing;
  const layer = (role: string) => manifest.layers.find((each) => each.role === role);
  const read = async <T>(of: Layer | undefined, most: number, convert: (text: string) => T): Promise<T | undefined> => {
    if (!of) return undefined;
    try {
      return convert(new TextDecoder().decode(await registry.read(library, of, 0, most, signal)));
    } catch {
      return undefined;
    }
  };
  const model = layer('model');
  const [config, license, header] = await Promise.all([
    read(layer('config'), CONFIG_BYTES, (text) => Object(JSON.parse(text)) as LayerConfig),
    read(layer('license'), LICENSE_BYTES, toLicense),
    model ? ggufFacts((start, end) => registry.read(library, model, start, end, signal)) : {},
  ]);
  const parameters = toParameters(config?.model_type);
  const { file_type: quantization } = config ?? {};
  return {
    facts: {
      ...header,
      ...(parameters === undefined ? {} : { parameters }),
      ...(typeof quantization === 'string' && quantization.length < 20 ? { quantization } : {}),
    },
    license,
    warnings: layer('tensor') ? ['It runs on Apple’s MLX only; another tag of it may not.'] : [],
  };
}

async function fileFacts([file]: WantedFile[], { downloads }: PlanParts, signal: AbortSignal): Promise<Found> {
  if (!file) return nothing;
  return { ...nothing, facts: await ggufFacts((start, end) => downloads.range(file.url, start, end, signal)) };
}

/** Such files are as long as the whole from the beginning, with holes. */
function takenBy(path: string): Promise<number> {
  return stat(path).then(
    ({ blocks }) => blocks * 512,
    () => 0,
  );
}

async function ggufFacts(read: ReadRange): Promise<Facts> {
  try {
    const { parameters, quantization, contextWindow, kvPerToken } = await readGguf(read, { brief: true });
    return Object.fromEntries(
      Object.entries({ parameters, quantization, contextWindow, kvPerToken }).filter(
        ([, value]) => value !== undefined,
      ),
    );
  } catch {
    return {};
  }
}
