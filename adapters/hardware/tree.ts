// Small text files below /sys and /proc: read within limits, and never an error; what is not there is undefined.
import { access, open, readdir } from 'node:fs/promises';

export interface Tree {
  /** Without the white space around it; undefined where it is empty or cannot be read. */
  text(path: string): Promise<string | undefined>;
  /** A whole number in decimal, undefined where it is none or outside the limits (default: any that is not negative). */
  number(path: string, limits?: Limits): Promise<number | undefined>;
  /** Names in a folder, in the order of their numbers. */
  list(path: string): Promise<string[]>;
  has(path: string): Promise<boolean>;
  /** Whether the engine itself has refused to read: Deno or Node, started without the permission. */
  denied(): boolean;
}

export interface Limits {
  min?: number;
  max?: number;
}

/** Nothing that is read here is larger. */
const MAX_BYTES = 64 * 1024;
/** How Deno's and Node's own permissions say no, unlike the system's. */
const REFUSALS = /^(NotCapable|PermissionDenied|ERR_ACCESS_DENIED)$/;

export function createTree(root: string): Tree {
  let denied = false;

  async function attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      const { name, code } = error as { name?: string; code?: string };
      if (REFUSALS.test(name ?? '') || REFUSALS.test(code ?? '')) denied = true;
      return undefined;
    }
  }

  const text = async (path: string) => (await attempt(() => readSmall(root + path)))?.trim() || undefined;

  return {
    text,
    number: async (path, limits) => toNumber(await text(path), limits),
    async list(path) {
      const names = (await attempt(() => readdir(root + path))) ?? [];
      return names.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    },
    has: async (path) => (await attempt(() => access(root + path).then(() => true))) ?? false,
    denied: () => denied,
  };
}

/** Undefined for whatever is no number within the limits: drivers write `N/A`, `ERR!`, nothing, or what a register happened to hold. */
export function toNumber(text: string | undefined, { min = 0, max = Number.MAX_SAFE_INTEGER }: Limits = {}) {
  if (text === undefined || !/^-?\d{1,16}(\.\d{1,9})?$/.test(text)) return undefined;
  const value = Number(text);
  return value >= min && value <= max ? value : undefined;
}

/** Files of the kernel tell no true size, so they are read until they end. */
async function readSmall(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const bytes = Buffer.allocUnsafe(MAX_BYTES);
    let length = 0;
    while (length < MAX_BYTES) {
      const { bytesRead } = await file.read(bytes, length, MAX_BYTES - length, null);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return bytes.toString('utf8', 0, length);
  } finally {
    await file.close();
  }
}
