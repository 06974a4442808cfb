// Bytes from the gateway → files: under names that cannot lead elsewhere, whole or not at all, and never over what is there.
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream, existsSync, mkdirSync, statSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { toFileName } from '../src/artifacts/names.ts';
import type { Flag } from './command.ts';
import { CommandFailure, exitCodes, usageError } from './exit.ts';

export const saveFlags: Record<string, Flag> = {
  output: {
    type: 'string',
    alias: 'o',
    valueHint: 'FILE|DIR|-',
    description: 'Where to: a file, a folder (a new one ends with /), or - for standard output.',
    completes: 'file',
  },
  force: { type: 'boolean', description: 'Write over files that are there.' },
};

export interface Piece {
  /** As the gateway names it. */
  name: string;
  /** For a name that has nothing in it. */
  id: string;
}

/** Where `-o` points. */
export type Place = { kind: 'stdout' } | { kind: 'file'; path: string } | { kind: 'folder'; path: string };

/** Throws a usage error where several would have to share one file. */
export function toPlace(output: string | undefined, count: number): Place {
  if (output === undefined) return { kind: 'folder', path: '.' };
  const many = usageError(`There are ${count} files.`, 'Give a folder: -o out/');
  if (output === '-') {
    if (count > 1) throw many;
    return { kind: 'stdout' };
  }
  if (/[/\\]$/.test(output) || isFolder(output)) return { kind: 'folder', path: output };
  if (count > 1) throw many;
  return { kind: 'file', path: output };
}

/** A path for each, no two the same; with `fresh`, none that is there already. */
export function toPaths(place: Exclude<Place, { kind: 'stdout' }>, pieces: Piece[], fresh = false): string[] {
  if (place.kind === 'file') return pieces.map(() => place.path);
  const taken = new Set<string>();
  const isTaken = (path: string) => taken.has(path.toLowerCase()) || (fresh && existsSync(path));
  return pieces.map((piece) => {
    const name = toLocalName(piece);
    const end = extname(name);
    let path = join(place.path, name);
    // Some file systems do not tell A from a.
    for (let number = 2; isTaken(path); number++) {
      path = join(place.path, `${basename(name, end)}-${number}${end}`);
    }
    taken.add(path.toLowerCase());
    return path;
  });
}

/** One part of a path that every system takes, and no program takes for a flag or a home. */
export function toLocalName({ name, id }: Piece): string {
  return toFileName(name)?.replace(/^[-~]+/, '') || id;
}

/** Throws a CommandFailure; nothing is left behind then. Bytes that are not those of `sha256` are a failure too. */
export async function saveFile(
  path: string,
  openBody: () => Promise<AsyncIterable<Uint8Array>>,
  { force, sha256, onBytes }: { force: boolean; sha256?: string; onBytes?: (count: number) => void },
): Promise<number> {
  const part = join(dirname(path), `.${randomUUID()}.part`);
  let reserved = false;
  try {
    mkdirSync(dirname(path), { recursive: true });
    // Taking the name first tells at once that it is taken, and nobody else can take it in between.
    if (!force) {
      await (await open(path, 'wx')).close();
      reserved = true;
    }
    const size = await writeAll(part, await openBody(), sha256, onBytes);
    await rename(part, path);
    return size;
  } catch (error) {
    await rm(part, { force: true }).catch(() => {});
    if (reserved) await rm(path, { force: true }).catch(() => {});
    throw toSaveFailure(path, error);
  }
}

async function writeAll(
  path: string,
  body: AsyncIterable<Uint8Array>,
  sha256: string | undefined,
  onBytes: (count: number) => void = () => {},
): Promise<number> {
  const hash = createHash('sha256');
  let size = 0;
  async function* count() {
    for await (const piece of body) {
      hash.update(piece);
      size += piece.byteLength;
      onBytes(size);
      yield piece;
    }
  }
  await pipeline(count, createWriteStream(path, { flags: 'wx' }));
  if (sha256 !== undefined && hash.digest('hex') !== sha256) {
    throw new CommandFailure(exitCodes.unavailable, 'What came is not what the gateway keeps.', {
      code: 'upstream_invalid',
      hint: 'Something on the way changed or cut it; try again.',
    });
  }
  return size;
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

export function isThere(path: string): CommandFailure {
  return new CommandFailure(exitCodes.failure, `${path} is there already.`, {
    code: 'exists',
    hint: 'Write over it with --force, or elsewhere with -o.',
  });
}

function toSaveFailure(path: string, error: unknown): unknown {
  const { code } = error as { code?: string };
  if (error instanceof CommandFailure || code === undefined || !/^E[A-Z]+$/.test(code)) return error;
  if (code === 'EEXIST') return isThere(path);
  return new CommandFailure(exitCodes.failure, `${path} cannot be written: ${code}.`, { code: 'cannot_write' });
}
