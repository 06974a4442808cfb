// A temporary file that takes bytes as they come: counted, hashed, safe on disk when done, and gone when anything goes wrong.
import { createHash, randomUUID } from 'node:crypto';
import { chmod, lstat, mkdir, open, readdir, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../../../src/error.ts';

/** What a file begins with, enough to tell what it is. */
const HEAD_BYTES = 4096;
/** Leftovers of a process that died are younger only where another process still writes. */
const STALE_MS = 3_600_000;

export interface Temp {
  path: string;
  /** SHA-256, lower-case hexadecimal. */
  hash: string;
  size: number;
  head: Uint8Array;
  /** Forgets the file, which somebody moved, or deletes it. */
  drop(): Promise<void>;
}

export interface TempFolder {
  /**
   * Throws `body_too_large` beyond `limit` bytes, `client_closed` when the signal aborts, `storage_full`, `storage_unavailable`,
   * and what the source throws; nothing is left then.
   */
  write(source: AsyncIterable<Uint8Array>, options: { limit: number; signal?: AbortSignal }): Promise<Temp>;
  /** Deletes what processes that died have left. */
  clear(): Promise<void>;
}

export async function openTempFolder(dir: string): Promise<TempFolder> {
  await makeFolder(dir);
  // A clock that steps ahead must not make our own file look stale.
  const mine = new Set<string>();
  return {
    async write(source, { limit, signal }) {
      const name = randomUUID();
      const path = join(dir, name);
      const drop = async () => {
        mine.delete(name);
        await rm(path, { force: true });
      };
      mine.add(name);
      try {
        const file = await storing(openNew(path));
        try {
          const written = await copy(source, file, limit, signal);
          await storing(file.sync());
          return { path, ...written, drop };
        } finally {
          await file.close();
        }
      } catch (error) {
        await drop().catch(() => {});
        throw error;
      }
    },
    async clear() {
      const before = Date.now() - STALE_MS;
      for (const name of await readdir(dir)) {
        if (mine.has(name)) continue;
        const known = await lstat(join(dir, name)).catch(() => undefined);
        if (known?.isFile() && known.mtimeMs < before) await rm(join(dir, name), { force: true });
      }
    },
  };
}

async function copy(
  source: AsyncIterable<Uint8Array>,
  file: FileHandle,
  limit: number,
  signal: AbortSignal | undefined,
): Promise<Pick<Temp, 'hash' | 'size' | 'head'>> {
  const hash = createHash('sha256');
  const head = new Uint8Array(HEAD_BYTES);
  let size = 0;
  for await (const piece of whileWanted(source, signal)) {
    if (size + piece.byteLength > limit) throw tooLarge(limit);
    if (size < HEAD_BYTES) head.set(piece.subarray(0, HEAD_BYTES - size), size);
    size += piece.byteLength;
    hash.update(piece);
    for (let from = 0; from < piece.byteLength;) {
      from += (await storing(file.write(piece, from))).bytesWritten;
    }
  }
  return { hash: hash.digest('hex'), size, head: head.slice(0, Math.min(size, HEAD_BYTES)) };
}

/** The source, until the signal aborts: one that is silent for ever must not hold the file open. */
async function* whileWanted(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  if (!signal) return yield* source;
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  let stop = () => {};
  const onAbort = () => stop();
  signal.addEventListener('abort', onAbort);
  try {
    for (;;) {
      if (signal.aborted) throw unwanted(signal);
      // A promise of its own for each piece: one that outlives them, in a race, would keep every piece in memory.
      const step = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
        stop = () => reject(unwanted(signal));
        iterator.next().then(resolve, reject);
      });
      if (step.done) {
        ended = true;
        return;
      }
      yield step.value;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    // Not awaited: it may be waiting for the very piece that never comes.
    if (!ended) void iterator.return?.()?.catch(() => {});
  }
}

function unwanted(signal: AbortSignal): GatewayError {
  return new GatewayError('client_closed', 'The file was not wanted any more.', { cause: signal.reason });
}

/** Nobody else may read it, whatever the umask, and no name can be guessed or waited for. */
async function openNew(path: string): Promise<FileHandle> {
  const file = await open(path, 'wx', 0o600);
  await file.chmod(0o600);
  return file;
}

/** For its owner alone, whatever the umask, also where it has been there before. */
export async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
}

/** A failure of the disk, in words for the caller. */
export async function storing<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw toStorageError(error);
  }
}

export function toStorageError(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  const code = (error as { code?: string }).code ?? '';
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG') {
    return new GatewayError('storage_full', 'There is no room for this file.', {
      hint: 'Delete files that are not needed, or free space on the disk of the state directory.',
      cause: error,
    });
  }
  return new GatewayError('storage_unavailable', 'The file could not be stored.', { retryAfter: 10, cause: error });
}

export function tooLarge(limit: number): GatewayError {
  return new GatewayError('body_too_large', `The file is larger than ${limit} bytes.`, {
    hint: 'Send less, or raise HONO_AI_MAX_UPLOAD.',
  });
}
