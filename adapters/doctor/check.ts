// What a check of the doctor is given, and what it finds.
import { access, readdir, readFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import type { Config } from '../../src/config.ts';
import type { Finding } from '../../src/doctor.ts';
import type { Hardware } from '../../src/hardware.ts';
import type { RuntimeStatus } from '../../src/catalog.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import type { StoreHealth } from '../../src/store.ts';
import type { Env } from '../settings.ts';

export interface DoctorOptions {
  config: Config;
  env: Env;
  stateDir: string;
  /** Where downloaded models are kept. */
  cacheDir: string;
  hardware: Hardware;
  runtimes: RuntimeAdapter[];
  /** How the runtimes stand, from the lists that the gateway keeps. */
  statuses(): Promise<RuntimeStatus[]>;
  health(): Promise<StoreHealth>;
  version: string;
  /** In place of /; for tests. */
  root?: string;
}

/** A finding before anybody has tried to mend it. */
export type Draft = Omit<Finding, 'fix' | 'fixable'> & {
  fix?: string;
  /** Mends it without asking anybody and without privileges; throws where it cannot. */
  mend?: () => Promise<void>;
};

export type Check = (options: DoctorOptions, signal: AbortSignal) => Promise<Draft[]>;

/** Undefined where it cannot be read. */
export async function readText(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}

export async function listNames(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

export async function may(path: string, what: 'exist' | 'use'): Promise<boolean> {
  const mode = what === 'exist' ? constants.F_OK : constants.R_OK | constants.W_OK;
  return access(path, mode).then(
    () => true,
    () => false,
  );
}

/** A program by its name, in the folders of PATH. */
export async function findProgram(name: string, { env }: Pick<DoctorOptions, 'env'>): Promise<string | undefined> {
  for (const folder of (env['PATH'] ?? '').split(':').filter(Boolean)) {
    const path = `${folder}/${name}`;
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

/** A is older than B: `0.12.3` and `0.13.0`. What is no version is older than nothing. */
export function isOlder(a: string, b: string): boolean {
  const parts = (text: string) => (/\d+(\.\d+)*/.exec(text)?.[0] ?? '').split('.').map(Number);
  const [left, right] = [parts(a), parts(b)];
  // Programs that somebody built themselves often call themselves 0.0.0.
  if (left.some(Number.isNaN) || !/[1-9]/.test(a)) return false;
  for (let at = 0; at < Math.max(left.length, right.length); at++) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
