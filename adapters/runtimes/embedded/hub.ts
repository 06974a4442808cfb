// Fetches the files of a model from the Hugging Face hub: one download however many wait, and stopped when nobody waits.
import { join } from 'node:path';
import { GatewayError } from '../../../src/error.ts';
import type { ProgressEvent, StatusEvent } from '../../../src/event.ts';
import { createHub as openHub, type Hub, type HubPlace } from '../../downloads/hub.ts';
import type { Downloads, Wanted } from '../../downloads/index.ts';
import { createChannel } from './channel.ts';
import { ANY_WEIGHTS, type Entry, weightsFile } from './catalogue.ts';
import { showPath } from './models.ts';

export interface HubOptions {
  cacheDir: string;
  url: string;
  downloads: Downloads;
}

type Event = ProgressEvent | StatusEvent;

interface Download {
  abort: AbortController;
  readers: Set<ReturnType<typeof createChannel<Event>>>;
  last: ProgressEvent | undefined;
}

const SMALL_FILES = [
  { path: 'config.json', required: true },
  { path: 'tokenizer.json', required: true },
  { path: 'tokenizer_config.json', required: false },
  { path: 'generation_config.json', required: false },
];

/** Its presence tells that a model makes sentence vectors. */
const POOLING = '1_Pooling/config.json';

export type ModelHub = ReturnType<typeof createHub>;

export function createHub(options: HubOptions) {
  const downloads = new Map<string, Download>();
  const hub = openHub(options.downloads, { url: options.url });

  /** Ends when the model is on disk. Callers who ask for the same model share one download. */
  async function* fetchModel(entry: Entry, signal: AbortSignal): AsyncGenerator<Event, void> {
    signal.throwIfAborted();
    const download = downloads.get(entry.id) ?? begin(entry);
    const channel = createChannel<Event>();
    download.readers.add(channel);
    if (download.last) channel.push(download.last);
    const leave = () => channel.fail(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    try {
      yield* channel.events();
    } finally {
      signal.removeEventListener('abort', leave);
      download.readers.delete(channel);
      if (download.readers.size === 0) {
        if (downloads.get(entry.id) === download) downloads.delete(entry.id);
        download.abort.abort();
      }
    }
  }

  function begin(entry: Entry): Download {
    const download: Download = { abort: new AbortController(), readers: new Set(), last: undefined };
    downloads.set(entry.id, download);
    const settle = (tell: (channel: ReturnType<typeof createChannel<Event>>) => void) => {
      if (downloads.get(entry.id) === download) downloads.delete(entry.id);
      download.readers.forEach(tell);
    };
    work(entry, download).then(
      () => settle((channel) => channel.end()),
      (error: unknown) => settle((channel) => channel.fail(toModelError(error, entry.id, options.cacheDir))),
    );
    return download;
  }

  async function work(entry: Entry, download: Download): Promise<void> {
    const { signal } = download.abort;
    const files = await plan(hub, options, entry, signal);
    for await (const event of options.downloads.fetch(files, { signal, source: 'embedded' })) {
      if (event.type === 'progress') download.last = event;
      for (const channel of download.readers) channel.push(event);
    }
  }

  return {
    fetchModel,
    url: hub.url,
    parse: hub.parse,
    /** The files of a known model, in the order in which they are fetched. */
    plan: (entry: Entry, signal: AbortSignal) => plan(hub, options, entry, signal),
    /** The same of a repository that nobody here knows. */
    planRepo: (place: HubPlace, signal: AbortSignal) => planRepo(hub, options.cacheDir, place, signal),
    /** Undefined where the hub does not tell, or cannot be asked. */
    license: (id: string, signal: AbortSignal) =>
      hub.info(id, signal).then(
        ({ license }) => license,
        () => undefined,
      ),
    close() {
      for (const { abort, readers } of downloads.values()) {
        abort.abort();
        for (const channel of readers) channel.fail(new GatewayError('draining', 'The gateway is shutting down.'));
      }
      downloads.clear();
    },
  };
}

/** Which files the hub has, before anything is fetched. The weights come last: a folder that has them is complete. */
async function plan(hub: Hub, options: HubOptions, entry: Entry, signal: AbortSignal): Promise<Wanted[]> {
  const root = join(options.cacheDir, ...entry.id.split('/'));
  const find = async (path: string): Promise<Wanted | undefined> => {
    const url = hub.urlOf(entry.id, 'main', path);
    try {
      const { size, sha256 } = await options.downloads.look(url, signal);
      return { url, root, path, size, sha256 };
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'model_not_found') return undefined;
      throw error;
    }
  };
  const files: Wanted[] = [];
  for (const { path, required } of SMALL_FILES) {
    const file = await find(path);
    if (file) files.push(file);
    else if (required) throw noSuchFile(entry.id, path);
  }
  for (const weights of entry.weights) {
    const file = await find(weightsFile(weights));
    if (file) return [...files, file];
  }
  throw noSuchFile(entry.id, 'onnx/');
}

async function planRepo(hub: Hub, cacheDir: string, { repo, revision }: HubPlace, signal: AbortSignal) {
  const root = join(cacheDir, ...repo.split('/'));
  const listed = new Map((await hub.files(repo, revision, signal)).map((file) => [file.path, file]));
  for (const { path, required } of SMALL_FILES) if (required && !listed.has(path)) throw notLaidOut(repo, path);
  const weights = ANY_WEIGHTS.map(weightsFile).find((path) => listed.has(path));
  if (weights === undefined) throw notLaidOut(repo, 'onnx/');
  // Large weights lie beside the graph that names them.
  const parts = [...listed.keys()].filter((path) => path.startsWith(`${weights}_data`)).toSorted();
  const small = [...SMALL_FILES.map(({ path }) => path), POOLING].filter((path) => listed.has(path));
  return [...small, ...parts, weights].map((path): Wanted => {
    const { size, sha256 } = listed.get(path)!;
    return { url: hub.urlOf(repo, revision, path), root, path, size, sha256 };
  });
}

/** Says of which model, and what else helps than the network. */
function toModelError(error: unknown, id: string, cacheDir: string): unknown {
  if (!(error instanceof GatewayError) || error.code === 'model_not_found' || error.code === 'client_closed')
    return error;
  const { code, message, retry, retryAfter, cause } = error;
  const copy = `Or copy the model to ${showPath(join(cacheDir, id))}.`;
  return new GatewayError(code, `${id} could not be downloaded. ${message}`, {
    source: 'embedded',
    hint: error.hint === undefined ? copy : `${error.hint} ${copy}`,
    cause,
    ...(retry === undefined ? {} : { retry }),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  });
}

function noSuchFile(id: string, path: string): GatewayError {
  return new GatewayError('model_not_found', `The Hugging Face hub has no ${path} for ${id}.`, {
    source: 'embedded',
    hint: 'Check HF_ENDPOINT: a mirror may not carry this model.',
  });
}

function notLaidOut(id: string, path: string): GatewayError {
  return new GatewayError('not_supported', `${id} has no ${path}, which the embedded engine needs.`, {
    source: 'embedded',
    param: 'model',
    hint: 'Look for an ONNX version of it, for example at huggingface.co/onnx-community.',
  });
}
