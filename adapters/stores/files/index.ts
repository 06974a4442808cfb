// Blobs as files under their SHA-256: written aside, made safe, then moved into place, so that no half file is ever seen.
import { constants, type Dirent } from 'node:fs';
import { chmod, lstat, mkdir, open, opendir, rename, rm, statfs, utimes, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../../../src/error.ts';
import type { BlobStore, Failpoint } from '../../../src/store.ts';
import { makeFolder, openTempFolder, storing, toStorageError, type Temp } from './temp.ts';

export interface FileBlobsOptions {
  /** Everything is kept below; created for this user alone. */
  dir: string;
  failpoint?: Failpoint;
}

const HASH = /^[0-9a-f]{64}$/;
const PART = /^[0-9a-f]{2}$/;
const READ_BYTES = 128 * 1024;

/** Throws `storage_unavailable` where the folder cannot be made. */
export async function openFileBlobs({ dir, failpoint = () => {} }: FileBlobsOptions): Promise<BlobStore> {
  await storing(makeFolder(dir));
  const temps = await storing(openTempFolder(join(dir, 'tmp')));

  async function settle(temp: Temp): Promise<void> {
    const [outer, inner, path] = toPaths(dir, temp.hash);
    const known = await lstat(path).catch(() => undefined);
    if (known?.isFile() && known.size === temp.size) {
      // The time tells the sweep that somebody counts on it now.
      const now = new Date();
      await utimes(path, now, now);
      return temp.drop();
    }
    for (const folder of [outer, inner]) {
      if (await mkdir(folder, { recursive: true, mode: 0o700 })) await chmod(folder, 0o700);
      await expectFolders(folder);
    }
    await rename(temp.path, path);
    failpoint('renamed');
    await temp.drop();
    for (const folder of [inner, outer, dir]) await syncFolder(folder);
  }

  return {
    name: 'files',
    async write(source, options) {
      const temp = await temps.write(source, options);
      failpoint('temp written');
      try {
        await options.onHash?.(temp.hash);
        await settle(temp);
      } catch (error) {
        await temp.drop().catch(() => {});
        throw toStorageError(error);
      }
      return { hash: temp.hash, size: temp.size, head: temp.head };
    },
    async read(hash, range) {
      const [outer, inner, path] = toPaths(dir, hash);
      let file: FileHandle;
      try {
        await expectFolders(outer, inner);
        file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
      } catch (error) {
        const { code } = error as { code?: string };
        if (code === 'ENOENT' || code === 'ELOOP' || code === 'ENOTDIR') return undefined;
        throw toStorageError(error);
      }
      const { size } = await file.stat();
      return readFile(file, range?.start ?? 0, Math.min(range?.end ?? size, size));
    },
    async delete(hash) {
      const [outer, inner, path] = toPaths(dir, hash);
      if (await hasFolders(outer, inner)) await storing(rm(path, { force: true }));
    },
    async *list() {
      await storing(temps.clear());
      for await (const outer of folders(dir)) {
        for await (const inner of folders(join(dir, outer))) {
          for await (const { name } of entries(join(dir, outer, inner))) {
            if (!HASH.test(name) || !name.startsWith(outer + inner)) continue;
            const known = await lstat(join(dir, outer, inner, name)).catch(() => undefined);
            if (known?.isFile()) yield { hash: name, size: known.size, modifiedAt: known.mtimeMs };
          }
        }
      }
    },
    async free() {
      try {
        const { bavail, bsize } = await statfs(dir);
        return bavail * bsize;
      } catch {
        return undefined;
      }
    },
  };
}

/** The two folders and the file. A hash is checked before it becomes a part of any path. */
function toPaths(dir: string, hash: string): [outer: string, inner: string, path: string] {
  if (!HASH.test(hash)) throw new GatewayError('invalid_request', 'That is not the SHA-256 of a file.');
  const outer = join(dir, hash.slice(0, 2));
  const inner = join(outer, hash.slice(2, 4));
  return [outer, inner, join(inner, hash)];
}

/** The bytes as the reader takes them. The file stays open, so that they are whole even when it is deleted meanwhile. */
function readFile(file: FileHandle, start: number, end: number): AsyncIterableIterator<Uint8Array> {
  let at = start;
  let closing: Promise<void> | undefined;
  const close = () => (closing ??= file.close());
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      if (at >= end || closing) {
        await close();
        return { done: true, value: undefined };
      }
      const bytes = new Uint8Array(Math.min(READ_BYTES, end - at));
      try {
        const { bytesRead } = await file.read(bytes, 0, bytes.byteLength, at);
        // Less than there was: half a file must never look whole.
        if (bytesRead === 0) throw new GatewayError('storage_unavailable', 'The file is damaged.');
        at += bytesRead;
        return { done: false, value: bytes.subarray(0, bytesRead) };
      } catch (error) {
        await close().catch(() => {});
        throw toStorageError(error);
      }
    },
    async return() {
      await close();
      return { done: true, value: undefined };
    },
  };
}

async function* folders(path: string): AsyncGenerator<string> {
  for await (const entry of entries(path)) if (entry.isDirectory() && PART.test(entry.name)) yield entry.name;
}

async function* entries(path: string): AsyncGenerator<Dirent> {
  let folder;
  try {
    folder = await opendir(path);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return;
    throw toStorageError(error);
  }
  yield* folder;
}

/** A link put in a folder's place would lead the bytes elsewhere. */
async function expectFolders(...paths: string[]): Promise<void> {
  for (const path of paths) {
    if (!(await lstat(path)).isDirectory()) throw Object.assign(new Error('not a folder'), { code: 'ENOTDIR' });
  }
}

async function hasFolders(...paths: string[]): Promise<boolean> {
  return expectFolders(...paths).then(
    () => true,
    () => false,
  );
}

/** A name is on disk only when its folder is. */
async function syncFolder(path: string): Promise<void> {
  let folder: FileHandle;
  try {
    folder = await open(path, constants.O_RDONLY);
  } catch (error) {
    // Windows opens no folders; its file system keeps names with the files.
    if ((error as { code?: string }).code === 'EPERM' || (error as { code?: string }).code === 'EISDIR') return;
    throw error;
  }
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
