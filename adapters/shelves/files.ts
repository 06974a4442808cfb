// Files of models in folders of this machine: what getting them takes, getting them, finding and removing them.
import { lstat, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { PulledFile } from '../../src/capabilities/model/fields.ts';
import { GatewayError } from '../../src/error.ts';
import type { ProgressEvent, StatusEvent } from '../../src/event.ts';
import type { Downloads } from '../downloads/index.ts';
import { toParts, UNFINISHED } from '../downloads/names.ts';

/** A file that is to be had, and where it goes. */
export interface ModelFile {
  url: string;
  /** Folder on this machine that it stays within, and its place there, `/` between the parts. */
  root: string;
  path: string;
  /** As callers are told. */
  name: string;
  folder?: string | undefined;
  size?: number | undefined;
  sha256?: string | undefined;
  /** As `Wanted` has it. */
  replace?: boolean | undefined;
}

export interface Weighed {
  files: (PulledFile & { present: boolean })[];
  /** Bytes of all, and of those still to come; undefined where one is not known. */
  size: number | undefined;
  bytes: number | undefined;
  /** Bytes that are free in the fullest of the folders. */
  free: number | undefined;
  warnings: string[];
}

/** Milliseconds until a server that tells no size is let be. */
const LOOK_MS = 3000;

/** What it takes to have them all. Throws what a look at a file throws that nobody has, or that may not be got. */
export async function weigh(files: ModelFile[], downloads: Downloads, signal: AbortSignal): Promise<Weighed> {
  const warnings: string[] = [];
  const weighed = await Promise.all(
    files.map(async (file) => {
      const { name, folder } = file;
      const found = await findFile(file.root, file.path);
      // What has the name of something that is named only now may be something else.
      const asks = file.size === undefined && (!found || file.replace === false);
      const told = asks ? await look(file, downloads, signal, warnings) : file;
      const size = told.size ?? found?.size;
      const present = found !== undefined && found.size === size;
      if (found && !present && file.replace === false) warnings.push(`There is another file called ${name} already.`);
      const sha256 = file.sha256 ?? told.sha256;
      return {
        name,
        present,
        ...(folder === undefined ? {} : { folder }),
        ...(size === undefined ? {} : { size }),
        ...(sha256 === undefined ? {} : { sha256 }),
      };
    }),
  );
  const lacking = weighed.filter(({ present }) => !present);
  const roots = [...new Set(files.filter((_, index) => !weighed[index]!.present).map(({ root }) => root))];
  const free = (await Promise.all(roots.map((root) => downloads.free(root)))).flatMap((bytes) => bytes ?? []);
  return {
    files: weighed,
    size: sum(weighed),
    bytes: sum(lacking),
    free: free.length > 0 ? Math.min(...free) : undefined,
    warnings,
  };
}

/** Throws what `Downloads.fetch` does. */
export async function* fetchAll(
  files: ModelFile[],
  downloads: Downloads,
  options: { signal: AbortSignal; source: string },
): AsyncGenerator<ProgressEvent | StatusEvent, { files: PulledFile[]; already: boolean }> {
  if (files.length === 0) return { files: [], already: true };
  const fetched = yield* downloads.fetch(
    files.map(({ url, root, path, size, sha256, replace }) => ({ url, root, path, size, sha256, replace })),
    options,
  );
  const told = files.map(({ name, folder }, index) => ({
    name,
    ...(folder === undefined ? {} : { folder }),
    ...(fetched[index] ? { size: fetched[index].size, sha256: fetched[index].sha256 } : {}),
  }));
  return { files: told, already: fetched.every(({ already }) => already) };
}

/** For models whose files the caller cannot have a hash of. */
export function ofOneFile(source: string): GatewayError {
  return new GatewayError('invalid_request', 'A SHA-256 is of one file, and this model has several.', {
    param: 'sha256',
    source,
    hint: 'Leave it out, or name the file with source: each is held to the hash that its server tells.',
  });
}

/** A file that really lies there: neither it nor a folder on the way is a link to somewhere else. */
export async function findFile(root: string, path: string): Promise<{ size: number } | undefined> {
  const parts = toParts(path);
  for (let depth = 1; depth <= parts.length; depth++) {
    const about = await lstat(join(root, ...parts.slice(0, depth))).catch(() => undefined);
    const isLast = depth === parts.length;
    if (!about || (isLast ? !about.isFile() : !about.isDirectory())) return undefined;
    if (isLast) return { size: about.size };
  }
  return undefined;
}

/** With what is left of a download beside it; the bytes that became free, 0 where it is not there. Throws storage_unavailable. */
export async function removeFile(root: string, path: string, source: string): Promise<number> {
  const found = await findFile(root, path);
  if (!found) return 0;
  const whole = join(root, ...toParts(path));
  try {
    await unlink(whole);
    for (const ending of [UNFINISHED.part, UNFINISHED.facts]) await rm(whole + ending, { force: true });
  } catch (cause) {
    throw new GatewayError('storage_unavailable', 'A file of the model cannot be removed.', {
      source,
      cause,
      hint: 'See that the gateway may write to the folder of models.',
    });
  }
  return found.size;
}

/** Where it is not known, the plan still tells the rest. */
async function look(
  { url, name }: ModelFile,
  downloads: Downloads,
  signal: AbortSignal,
  warnings: string[],
): Promise<{ size: number | undefined; sha256?: string | undefined }> {
  try {
    return await downloads.look(url, AbortSignal.any([signal, AbortSignal.timeout(LOOK_MS)]));
  } catch (error) {
    if (signal.aborted) throw error;
    const code = error instanceof GatewayError ? error.code : undefined;
    if (code === 'model_not_found' || code === 'invalid_request') throw error;
    const why =
      error instanceof GatewayError ? [error.message, error.hint].filter(Boolean).join(' ') : 'Nobody answers.';
    warnings.push(`How large ${name} is cannot be told: ${why}`);
    return { size: undefined };
  }
}

function sum(files: { size?: number }[]): number | undefined {
  return files.reduce<number | undefined>(
    (total, { size }) => (total === undefined || size === undefined ? undefined : total + size),
    0,
  );
}
