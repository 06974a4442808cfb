// How models are got for Ollama: by itself from its library and the hub, or by the gateway from anywhere else.
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../../../src/error.ts';
import type { Puller, PullEvent } from '../../../src/puller.ts';
import { createUpstream } from '../../../src/upstream.ts';
import type { Upstream, UpstreamOptions } from '../../../src/upstream.ts';
import { createHub } from '../../downloads/hub.ts';
import type { Downloads } from '../../downloads/index.ts';
import { handOver, hasBlob } from './hand-over.ts';
import { libraryNames } from './library.ts';
import type { Memory } from './memory.ts';
import { claimOf, placeOf } from './names.ts';
import { plan, roomFor, toFiles } from './plan.ts';
import { followPull, toKeepFailure } from './pull-stream.ts';
import { createRegistry } from './registry.ts';
import { resolve } from './resolve.ts';
import type { FromFiles, FromHub, FromLibrary } from './resolve.ts';
import { searchModels } from './search.ts';
import { toFullName } from './wire.ts';
import type { TaggedModel } from './wire.ts';

export interface PullOptions {
  downloads: Downloads;
  /** The Hugging Face hub, or a mirror of it. */
  hubUrl: string;
  /** Address of Ollama's registry. */
  registry: string;
  /** A folder of ours for files on their way to Ollama. */
  tempDir: string;
  /** Milliseconds without anything new until a pull is given up. */
  stallMs: number;
  /** Where Ollama keeps its models, where that is on this machine. */
  modelsDir?: string | undefined;
}

interface Parts extends PullOptions, Omit<UpstreamOptions, 'name'> {
  name: string;
  upstream: Upstream;
  memory: Memory;
}

/** A pull is silent while a large file is hashed; its own watch ends it. Blobs are sent before a word is answered. */
const LONG_MS = 24 * 3_600_000;

export function createPuller(options: Parts): Puller {
  const { name: source, downloads, tempDir, stallMs, modelsDir, upstream, memory, limits, transport } = options;
  const hub = createHub(downloads, { url: options.hubUrl });
  const patient = createUpstream({ ...options, limits: { ...limits, firstByteMs: LONG_MS, idleMs: LONG_MS } });
  const library = createUpstream({ name: 'Ollama’s registry', baseUrl: options.registry, transport, limits });
  const registry = createRegistry(library, options.registry, downloads);
  const { host, protocol } = new URL(options.registry);
  const naming = { source, hub, hosts: new Set([host]) };
  const parts = {
    source,
    hub,
    downloads,
    registry,
    upstream,
    modelsDir,
    headerMs: limits.controlMs * 2,
    insecure: new Set(protocol === 'http:' ? [host] : []),
  };

  async function* fromElsewhere(found: FromLibrary | FromHub, signal: AbortSignal): AsyncGenerator<PullEvent> {
    await checkRoom(found, signal);
    const asked = { model: found.asked, insecure: found.how === 'library' && found.insecure };
    const before = await digestOf(found.name, signal);
    const files = yield* followPull(patient, asked, { signal, stallMs });
    if (toFullName(found.name) !== toFullName(found.asked)) await rename(found.asked, found.name, signal);
    const told = found.how === 'library' && found.manifest ? toFiles(found) : files;
    // Ollama tells nothing of what comes within a moment, so that its progress would look as if nothing had come.
    const already = before !== undefined && before === (await digestOf(found.name, signal));
    yield { type: 'pulled', model: toFullName(found.name), files: told, already };
  }

  /** Of what the name stands for now; undefined where it is not there, or Ollama does not say. */
  async function digestOf(name: string, signal: AbortSignal): Promise<string | undefined> {
    const listed = await listModels(signal).catch(() => []);
    return listed.find((each) => toFullName(each.name) === toFullName(name))?.digest;
  }

  async function listModels(signal: AbortSignal): Promise<TaggedModel[]> {
    return (await upstream.control<{ models?: TaggedModel[] | null }>('/api/tags', { signal })).models ?? [];
  }

  async function* fromFiles({ name, files }: FromFiles, signal: AbortSignal): AsyncGenerator<PullEvent> {
    const root = join(tempDir, toKey(files.map(({ url }) => url).join('\n')));
    const here = await Promise.all(
      files.map(({ sha256 }) => sha256 !== undefined && hasBlob(upstream, sha256, signal)),
    );
    const wanted = files.map((file) => ({ ...file, root, path: file.name }));
    const fetched = yield* downloads.fetch(
      wanted.filter((_, index) => !here[index]),
      { signal, source },
    );
    const come = fetched.values();
    const local = wanted.map(({ name, path, size = 0, sha256 = '' }, index) => {
      const facts = here[index] ? { size, sha256 } : come.next().value!;
      return { name, path: join(root, path), size: facts.size, sha256: facts.sha256 };
    });
    yield* handOver(patient, { model: name, files: local }, signal);
    await rm(root, { recursive: true, force: true });
    const told = local.map(({ name: file, size, sha256 }) => ({ name: file, size, sha256 }));
    yield { type: 'pulled', model: toFullName(name), files: told };
  }

  async function checkRoom(found: FromLibrary | FromHub, signal: AbortSignal): Promise<void> {
    const room = await roomFor(found, parts, signal);
    if (!room || room.needed <= room.free) return;
    const [needed, free] = [room.needed, room.free].map((bytes) => (bytes / 1e9).toFixed(1));
    throw new GatewayError('storage_full', `${found.name} takes ${needed} GB more; ${free} GB are free.`, {
      source,
      hint: 'Remove models that are not used (`models rm`), or set OLLAMA_MODELS to a larger disk.',
    });
  }

  /** Both names share their blobs, so this moves no bytes. */
  async function rename(from: string, to: string, signal: AbortSignal): Promise<void> {
    const reply = await upstream.send('/api/copy', { json: { source: from, destination: to }, signal });
    const body = await reply.text();
    if (reply.status !== 200) throw toKeepFailure(upstream, reply.status, body, to);
    await deleteModel(from, signal);
  }

  async function deleteModel(model: string, signal: AbortSignal): Promise<void> {
    const json = { model, name: model };
    const reply = await upstream.send('/api/delete', { method: 'DELETE', json, signal });
    const body = await reply.text();
    if (reply.status !== 200) throw toKeepFailure(upstream, reply.status, body, model);
  }

  return {
    runtime: source,
    claims: (want) => claimOf(want, hub, ({ host, namespace, model }) => isKnown(host, namespace, model)),
    async plan(want, signal) {
      return plan(await resolve(placeOf(want, naming), want, parts, signal), parts, signal);
    },
    async *pull(want, signal) {
      const found = await resolve(placeOf(want, naming), want, parts, signal);
      for (const warning of found.how === 'files' ? found.warnings : []) yield { type: 'warning', warning };
      yield* found.how === 'files' ? fromFiles(found, signal) : fromElsewhere(found, signal);
    },
    search: (words, signal) => searchModels(words, { upstream, hub }, signal),
    async remove(model, signal) {
      const found = (await listModels(signal)).find(({ name }) => toFullName(name) === toFullName(model));
      // Deleted, it would still hold the card for as long as it was told to stay.
      const loaded = (await memory.running(signal).catch(() => [])).some(
        (each) => toFullName(each.name) === toFullName(model),
      );
      if (loaded) await memory.gpu.evict(model, signal).catch(inUse(model));
      await deleteModel(model, signal);
      return {
        freed: found?.size,
        files: found ? [{ name: found.name, ...(found.size === undefined ? {} : { size: found.size }) }] : [],
      };
    },
  };

  function inUse(model: string) {
    return (error: unknown) => {
      if (!(error instanceof GatewayError && error.code === 'insufficient_vram')) throw error;
      throw new GatewayError('conflict', `${model} is answering somebody.`, {
        source,
        hint: 'Delete it when that is done.',
        cause: error,
      });
    };
  }
}

function isKnown(host: string | undefined, namespace: string, model: string): boolean {
  return host === undefined && namespace === 'library' && libraryNames.has(model.toLowerCase());
}

function toKey(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
