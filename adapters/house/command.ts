// Commands that the operator has set: split into words without a shell, run in a group of their own within a limit, none of our secrets in them.
import { spawn, type ChildProcess } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';

export type Env = Record<string, string | undefined>;

export interface RunOptions {
  env: Env;
  /** Longest time that it may take, in milliseconds; then all of its group is ended. */
  ms: number;
  /** The same at once. */
  signal?: AbortSignal;
}

export interface Ran {
  /** Undefined where it could not be started, or was ended. */
  code: number | undefined;
  /** It took too long. */
  late: boolean;
  /** The end of what it wrote, fit to be shown. */
  output: string;
}

const SECRET = /^HONO_AI_|KEY|TOKEN|SECRET|PASS/i;
/** Characters of what it wrote that are kept. */
const KEPT = 4096;
const LINES = 10;
/** From its end until what it wrote has been read, in milliseconds; what it has left running may hold its output open for ever. */
const READ_MS = 100;

/** Words between spaces; what stands in quotes of either kind is one, or a part of one. Undefined where a quote does not end. */
export function toWords(line: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (const char of line) {
    if (quote !== '') {
      if (char === quote) quote = '';
      else word += char;
    } else if (char === '"' || char === "'") {
      quote = char;
      word ??= '';
    } else if (/\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + char;
  }
  if (quote !== '') return undefined;
  if (word !== undefined) words.push(word);
  return words;
}

/** The program that a first word names: as a path, or in the folders of PATH; undefined where there is none. */
export async function findCommand(name: string, env: Env): Promise<string | undefined> {
  const folders = (env['PATH'] ?? env['Path'] ?? '').split(delimiter).filter(Boolean);
  const isPath = isAbsolute(name) || /[/\\]/.test(name);
  for (const path of isPath ? [name] : folders.map((folder) => join(folder, name))) {
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found && name !== '') return path;
  }
  return undefined;
}

/** What programs of this machine get to know of this process. */
export function withoutSecrets(env: Env): Env {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !SECRET.test(name)));
}

/** Resolves when it has ended, however it did. What it leaves running on purpose goes on. Never throws. */
export function runCommand([program = '', ...args]: readonly string[], { env, ms, signal }: RunOptions): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>();
  let child: ChildProcess | undefined;
  let output = '';
  let late = false;
  let isOver = false;
  const stop = () => {
    if (child?.exitCode === null && child.signalCode === null) killGroup(child);
    end(undefined);
  };
  const timer = setTimeout(() => {
    late = true;
    stop();
  }, ms);
  const end = (code: number | undefined) => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
    process.removeListener('exit', stop);
    // Nothing of it keeps this process alive any more.
    for (const pipe of [child?.stdout, child?.stderr]) (pipe as { unref?(): void } | null | undefined)?.unref?.();
    // What never began has nothing to let go of, and Deno throws there.
    if (child?.pid !== undefined) child.unref();
    resolve({ code, late, output: toTail(output) });
  };
  try {
    child = start(program, args, env);
  } catch {
    end(undefined);
    return promise;
  }
  for (const pipe of [child.stdout, child.stderr]) {
    // Read to the end also when nobody listens any more: what it has left running would die of a pipe that is closed.
    pipe?.setEncoding('utf8').on('data', (piece: string) => {
      if (!isOver) output = (output + piece).slice(-KEPT);
    });
    pipe?.on('error', () => {});
  }
  child.once('error', () => end(undefined));
  child.once('close', (code) => end(code ?? undefined));
  child.once('exit', (code) => setTimeout(end, READ_MS, code ?? undefined));
  process.once('exit', stop);
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  return promise;
}

/** In a group of its own, so that all of it can be ended. */
function start(program: string, args: readonly string[], env: Env): ChildProcess {
  return spawn(program, args, {
    env: withoutSecrets(env) as NodeJS.ProcessEnv,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: process.platform !== 'win32',
    windowsHide: true,
  });
}

function killGroup(child: ChildProcess): void {
  try {
    if (process.platform === 'win32') child.kill('SIGKILL');
    else if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has gone by itself.
  }
}

function toTail(output: string): string {
  const lines = output.split('\n').map((line) => line.replace(/[^\P{Cc}\t]/gu, '').trimEnd());
  return lines.filter(Boolean).slice(-LINES).join('\n');
}
