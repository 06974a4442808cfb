// Looks at a database file before SQLite touches it: what is not ours, broken or out of reach is refused and stays as it is.
import { accessSync, closeSync, constants, openSync, readSync, realpathSync, statSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { ConfigError } from '../../../src/config.ts';
import { APPLICATION_ID } from './schema.ts';

const HEADER_BYTES = 100;
const WAL_HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const RESTORE = 'Restore it from a backup, or move it away to start with an empty one.';

/** Where SQLite's locks and shared memory do not hold: magic numbers of statfs(2). */
const networks = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB'],
  [0x01021997, '9P'],
]);

/**
 * Where the file really is, and whether it is there. Throws a ConfigError, naming the file and the remedy, for a folder
 * that is missing, read-only or on a network, and for a file that is no database of ours or not a whole one.
 */
export function inspect(path: string, toFileSystem = fileSystemOf): { path: string; exists: boolean } {
  const real = toRealPath(path);
  const folder = dirname(real);
  if (sizeOf(folder) === undefined) throw new ConfigError(`${path}: its folder is not there. Create it.`);
  const network = networks.get(toFileSystem(folder) ?? 0);
  if (network) throw new ConfigError(`${path}: is on ${network}, where SQLite loses data. Use a local disk.`);
  refuseReadOnly(folder, `${path}: its folder cannot be written. Give this user write access to ${folder}.`);
  const size = sizeOf(real);
  if (size === undefined) {
    if ((sizeOf(`${real}-wal`) ?? 0) > 0)
      throw new ConfigError(`${path}: is gone, but its journal ${real}-wal is there. ${RESTORE}`);
    return { path: real, exists: false };
  }
  refuseReadOnly(real, `${path}: cannot be written. Give this user write access to it.`);
  inspectHeader(path, real);
  return { path: real, exists: true };
}

function inspectHeader(path: string, real: string): void {
  if (!statSync(real).isFile()) throw new ConfigError(`${path}: is not a file. Name another file.`);
  const header = Buffer.alloc(HEADER_BYTES);
  const file = openSync(real, 'r');
  let read: number;
  try {
    read = readSync(file, header, 0, HEADER_BYTES, 0);
  } finally {
    closeSync(file);
  }
  // A database is made elsewhere and moved here whole, so an empty file is one that has lost its content.
  if (read === 0) throw new ConfigError(`${path}: is empty: its content was lost. ${RESTORE}`);
  if (read < HEADER_BYTES || header.toString('latin1', 0, 16) !== 'SQLite format 3\0')
    throw new ConfigError(`${path}: is damaged, or not a database. ${RESTORE}`);
  if (header.readUInt32BE(68) !== APPLICATION_ID)
    throw new ConfigError(`${path}: is a database of another program. Name another file, or move it away.`);
  const pageSize = header.readUInt16BE(16) === 1 ? 65_536 : header.readUInt16BE(16);
  // The header's count of pages stands only where the two change counters agree.
  const pages = header.readUInt32BE(24) === header.readUInt32BE(92) ? header.readUInt32BE(28) : 0;
  // A checkpoint that was cut short leaves pages in the journal alone. Journal first: what leaves it is in the file by then.
  const journal = Math.max(0, (sizeOf(`${real}-wal`) ?? 0) - WAL_HEADER_BYTES) / (pageSize + FRAME_HEADER_BYTES);
  if (Math.floor(sizeOf(real)! / pageSize) + journal < pages)
    throw new ConfigError(`${path}: is cut short: pages are missing. ${RESTORE}`);
}

function toRealPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function refuseReadOnly(path: string, message: string): void {
  try {
    accessSync(path, constants.W_OK);
  } catch (cause) {
    throw new ConfigError(message, { cause });
  }
}

function sizeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size;
}

function fileSystemOf(folder: string): number | undefined {
  try {
    return statfsSync(folder).type;
  } catch {
    return undefined;
  }
}
