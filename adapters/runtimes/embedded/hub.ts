// Fetches the files of a model from the Hugging Face hub: one download however many wait, checked, and stopped when nobody waits.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../../../src/error.ts';
import type { ProgressEvent } from '../../../src/event.ts';
import { createChannel } from './channel.ts';
import { downloadFile, findFile, type RemoteFile } from './download.ts';
import { noSuchFile, toDownloadError } from './hub-error.ts';
import { type Entry, weightsFile } from './models.ts';

export interface HubOptions {
  cacheDir: string;
  /** Default https://huggingface.co. */
  url: string;
  token: string | undefined;
  /** Milliseconds without a byte, or without an answer, until a download is given up. */
  stallMs: number;
}

interface Download {
  abort: AbortController;
  readers: Set<ReturnType<typeof createChannel<ProgressEvent>>>;
  last: ProgressEvent | undefined;
}

const SMALL_FILES = [
  { path: 'config.json', required: true },
  { path: 'tokenizer.json', required: true },
  { path: 'tokenizer_config.json', required: false },
  { path: 'generation_config.json', required: false },
];
/** A waiting caller hears of a download this often, in milliseconds. */
const REPORT_EVERY = 200;

export function createHub(options: HubOptions) {
  const downloads = new Map<string, Download>();

  /** Ends when the model is on disk. Callers who ask for the same model share one download. */
  async function* fetchModel(entry: Entry, signal: AbortSignal): AsyncGenerator<ProgressEvent, void> {
    signal.throwIfAborted();
    const download = downloads.get(entry.id) ?? begin(entry);
    const channel = createChannel<ProgressEvent>();
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
    const settle = (tell: (channel: ReturnType<typeof createChannel<ProgressEvent>>) => void) => {
      if (downloads.get(entry.id) === download) downloads.delete(entry.id);
      download.readers.forEach(tell);
    };
    downloadModel(options, entry, download).then(
      () => settle((channel) => channel.end()),
      (error: unknown) => settle((channel) => channel.fail(toDownloadError(error, entry.id, options.cacheDir))),
    );
    return download;
  }

  return {
    fetchModel,
    close() {
      for (const { abort, readers } of downloads.values()) {
        abort.abort();
        for (const channel of readers) channel.fail(new GatewayError('draining', 'The gateway is shutting down.'));
      }
      downloads.clear();
    },
  };
}

async function downloadModel(options: HubOptions, entry: Entry, download: Download): Promise<void> {
  const dir = join(options.cacheDir, ...entry.id.split('/'));
  const files = await plan(options, entry, download.abort.signal);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  let reported = 0;
  const report = (bytes: number) => {
    done += bytes;
    if (Date.now() - reported < REPORT_EVERY && done < total) return;
    reported = Date.now();
    download.last = { type: 'progress', done, total: Math.max(total, done), unit: 'bytes' };
    for (const channel of download.readers) channel.push(download.last);
  };
  // The weights come last: a folder that has them is complete.
  for (const file of files) {
    const target = join(dir, ...file.path.split('/'));
    const present = await stat(target).catch(() => undefined);
    if (present?.size === file.size) report(file.size);
    else await downloadFile(options, entry.id, file, target, download.abort.signal, report);
  }
}

/** Asks which files the hub has and how large they are, before anything is fetched. */
async function plan(options: HubOptions, entry: Entry, signal: AbortSignal): Promise<RemoteFile[]> {
  const files: RemoteFile[] = [];
  for (const { path, required } of SMALL_FILES) {
    const file = await findFile(options, entry.id, path, signal);
    if (file) files.push(file);
    else if (required) throw noSuchFile(entry.id, path);
  }
  for (const weights of entry.weights) {
    const file = await findFile(options, entry.id, weightsFile(weights), signal);
    if (file) return [...files, file];
  }
  throw noSuchFile(entry.id, 'onnx/');
}
