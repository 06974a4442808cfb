// Where files go: folders made one by one so that no link leads out of them, and the room that is left there.
import { lstat, mkdir, open, realpath, stat, statfs } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { GatewayError } from '../../src/error.ts';
import { noRoom } from './failures.ts';

/** Left free beside what is fetched: this share of it, at most so many bytes. */
const MARGIN = 0.05;
const MAX_MARGIN = 512 * 1024 ** 2;

/** The path of a file below a root. Throws invalid_request where a link below the root leads out of it; makes nothing. */
export async function locate(root: string, parts: string[]): Promise<string> {
  await checkInside(root, join(root, ...parts.slice(0, -1)));
  return join(resolve(root), ...parts);
}

/** Makes the folders above a file, each looked at before something is made in it. */
export async function makeFolders(root: string, parts: string[]): Promise<void> {
  await mkdir(root, { recursive: true });
  let folder = resolve(root);
  for (const part of parts.slice(0, -1)) {
    folder = join(folder, part);
    await mkdir(folder).catch((error: { code?: string }) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await checkInside(root, folder);
  }
}

/** Throws storage_full where the files do not fit; `bytes` that are still to come, by the folder that they go to. */
export async function checkRoom(wanted: { folder: string; bytes: number }[], label: string): Promise<void> {
  const disks = new Map<number | string, { folder: string; bytes: number }>();
  for (const { folder, bytes } of wanted) {
    const there = await nearest(folder);
    const device = (await stat(there).catch(() => undefined))?.dev ?? there;
    disks.set(device, { folder: there, bytes: bytes + (disks.get(device)?.bytes ?? 0) });
  }
  for (const { folder, bytes } of disks.values()) {
    if (bytes === 0) continue;
    const left = await freeIn(folder);
    const need = Math.ceil(bytes + Math.min(bytes * MARGIN, MAX_MARGIN));
    if (left !== undefined && left < need) throw noRoom(label, need, left);
  }
}

export async function freeIn(folder: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(await nearest(folder));
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

/** What was renamed is still there after a power cut. Not every system can be asked for that. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close().catch(() => {});
}

async function checkInside(root: string, folder: string): Promise<void> {
  const there = await nearest(folder);
  const base = await nearest(root);
  // Nothing of the root is there yet, so there is no link in it either.
  if (base !== resolve(root)) return;
  const [real, realRoot] = await Promise.all([realpath(there), realpath(base)]);
  if (real === realRoot || real.startsWith(realRoot.endsWith(sep) ? realRoot : realRoot + sep)) return;
  throw new GatewayError('invalid_request', 'A file cannot be kept there: a link leads out of the folder.', {
    hint: 'Name the folder that the link leads to, or remove the link.',
    retry: false,
  });
}

/** The folder itself or the next one above it that is there; a link that leads nowhere counts as there. */
async function nearest(folder: string): Promise<string> {
  for (let at = resolve(folder); ; at = dirname(at)) {
    if (at === dirname(at)) return at;
    const found = await lstat(at).catch((error: { code?: string }) => {
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
    });
    if (found) return at;
  }
}
