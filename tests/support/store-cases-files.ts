// Folders, disks and processes for the tests of the SQLite store's file.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import { engines, root } from './gateway.ts';

/** A folder that is gone when the test ends. */
export function toFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sqlite-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A disk of a few megabytes; undefined where this user may mount none. */
export function toSmallDisk(megabytes: number): { folder: string; remount(mode: 'ro' | 'rw'): void } | undefined {
  const folder = toFolder();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  onTestFinished(() => void execFileSync('umount', ['-l', folder]));
  return { folder, remount: (mode) => void execFileSync('mount', ['-o', `remount,${mode}`, folder]) };
}

export interface Child {
  process: ChildProcess;
  /** What it said so far, word by word: `[what, id]`. */
  said: [what: string, id: string][];
  /** What it wrote about failures. */
  stderr(): string;
  /** Its exit code; null where it was killed. */
  ended: Promise<number | null>;
}

/** Starts `store-cases-child.ts`. */
export function startChild(...args: string[]): Child {
  const script = join(root, 'tests/support/store-cases-child.ts');
  const child = spawn(engines.node.command, [script, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const said: [string, string][] = [];
  let errors = '';
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => said.push(line.split(' ') as [string, string]));
  child.stderr.on('data', (bytes: Buffer) => (errors += bytes.toString()));
  const ended = Promise.all([once(child, 'exit'), once(lines, 'close')]).then(([[code]]) => code as number | null);
  onTestFinished(() => void child.kill('SIGKILL'));
  return { process: child, said, stderr: () => errors, ended };
}
