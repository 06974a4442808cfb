// What the tests of downloads share: bytes that compress badly, a folder, downloads that hurry, and all that one of them said.
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createDownloads, type Downloads, type DownloadsOptions, type Wanted } from '../../adapters/downloads/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { ProgressEvent, StatusEvent } from '../../src/event.ts';

export const MB = 1_000_000;

export function makeBytes(size: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < size; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

export async function openFolder() {
  const path = await mkdtemp(join(tmpdir(), 'hono-ai-downloads-'));
  return {
    path,
    /** Relative paths of everything that is no folder. */
    async files() {
      const found = await readdir(path, { recursive: true, withFileTypes: true });
      return found
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name).slice(path.length + 1))
        .toSorted();
    },
    remove: () => rm(path, { recursive: true, force: true }),
  };
}

export function open(options: Partial<DownloadsOptions> = {}): Downloads {
  return createDownloads({ tokens: {}, trusted: [], allow: [], stallMs: 400, tries: 3, backoffMs: 10, ...options });
}

export async function run(downloads: Downloads, files: Wanted[], signal = new AbortController().signal) {
  const progress: ProgressEvent[] = [];
  const status: string[] = [];
  const events = downloads.fetch(files, { signal, source: 'comfyui' });
  for (;;) {
    const { done, value } = await events.next();
    if (done) return { files: value, progress, status };
    if (value.type === 'progress') progress.push(value);
    else status.push((value as StatusEvent).message ?? '');
  }
}

export async function failure(work: Promise<unknown>): Promise<GatewayError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof GatewayError) return error;
  throw new Error('it should have failed with a GatewayError', { cause: error });
}
