// What SQLite says when it cannot → what the gateway says.
import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { GatewayError } from '../../../src/error.ts';

const BUSY = 5;
const LOCKED = 6;
const READONLY = 8;
const IO = 10;
const CORRUPT = 11;
const FULL = 13;
const CANNOT_OPEN = 14;
const NOT_A_DATABASE = 26;

/** Less is no room: SQLite's journal alone takes more. */
const ROOM = 1024 * 1024;

/** The primary result code, where the error is one of SQLite's. */
export function toSqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  const { errcode, code } = error as { errcode?: unknown; code?: unknown };
  if (typeof errcode === 'number') return errcode & 0xff;
  // Deno gives no number for what goes wrong while a file is opened.
  if (code !== 'ERR_SQLITE_ERROR') return undefined;
  if (/not a database/.test(error.message)) return NOT_A_DATABASE;
  return /unable to open/.test(error.message) ? CANNOT_OPEN : undefined;
}

export const isBusy = (error: unknown): boolean => [BUSY, LOCKED].includes(toSqliteCode(error) ?? -1);
export const isReadOnly = (error: unknown): boolean => [READONLY, CANNOT_OPEN].includes(toSqliteCode(error) ?? -1);
export const isBroken = (error: unknown): boolean => [CORRUPT, NOT_A_DATABASE].includes(toSqliteCode(error) ?? -1);

/** The store is closed; whatever is asked now has come too late. */
export function closed(): GatewayError {
  return new GatewayError('storage_unavailable', 'The store is closed.', { retryAfter: 5 });
}

/** Anything thrown while the database at `path` was used → `storage_full`, `storage_unavailable`, or what it was. */
export function toStoreError(error: unknown, path: string): unknown {
  const code = toSqliteCode(error);
  if (code === undefined) return error;
  if (code === FULL || ((code === IO || code === CANNOT_OPEN) && isFull(path))) {
    return new GatewayError('storage_full', 'There is no room left to keep this safely.', {
      hint: 'Free space on the disk of the state directory.',
      cause: error,
    });
  }
  if (code === BUSY || code === LOCKED) {
    return new GatewayError('storage_unavailable', 'The store is busy.', {
      hint: 'Another program holds the database for long; try again.',
      retryAfter: 1,
      cause: error,
    });
  }
  if ([READONLY, IO, CANNOT_OPEN, CORRUPT, NOT_A_DATABASE].includes(code)) {
    return new GatewayError('storage_unavailable', 'The store cannot be used.', {
      hint: 'The log holds what is wrong with the database or its disk.',
      retryAfter: 10,
      cause: error,
    });
  }
  return error;
}

/** Bytes that are free beside the database; undefined where the system does not say. */
export function toFree(path: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(dirname(path));
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

function isFull(path: string): boolean {
  const free = toFree(path);
  return free !== undefined && free < ROOM;
}
