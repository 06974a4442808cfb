// The command line for tests: in this process with a pretended terminal, or as a process of its own.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { main } from '../../cli/cli.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { engines, root, type Engine } from './gateway.ts';

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

export interface CallOptions {
  runtimes?: RuntimeAdapter[];
  env?: Record<string, string>;
  /** What is piped in. Without it standard input is a terminal where `tty` is set, else a socket that says nothing. */
  stdin?: string | Uint8Array;
  tty?: boolean;
  signal?: AbortSignal;
  /** Called with everything that standard output has got so far. */
  onOutput?: (stdout: string) => void;
  /** Called with everything that standard error has got so far. */
  onNote?: (stderr: string) => void;
  /** Called with each thing that is written to standard output, as it is. */
  onWrite?: (data: string | Uint8Array) => void;
}

/** A home of its own: no settings of this machine, no gateway of another test. */
export function createHome() {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-cli-'));
  const env = {
    HOME: folder,
    XDG_CONFIG_HOME: folder,
    HONO_AI_STATE_DIR: join(folder, 'state'),
    HONO_AI_DISCOVER: 'false',
    HONO_AI_LOG_LEVEL: 'silent',
    NO_COLOR: '1',
  };
  return { folder, env, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

export async function call(argv: string[], options: CallOptions = {}): Promise<Ran> {
  const { runtimes, env = {}, stdin, tty = false, signal = new AbortController().signal } = options;
  const { onOutput, onNote, onWrite } = options;
  const decoder = new TextDecoder();
  let stdout = '';
  let stderr = '';
  const toText = (data: string | Uint8Array) => (typeof data === 'string' ? data : decoder.decode(data));
  const code = await main(argv, {
    stdin: {
      isTTY: tty && stdin === undefined,
      redirected: stdin !== undefined,
      read: async () => (typeof stdin === 'string' ? new TextEncoder().encode(stdin) : (stdin ?? new Uint8Array())),
    },
    stdout: {
      isTTY: tty,
      columns: 80,
      write: (data) => {
        onWrite?.(data);
        stdout += toText(data);
        onOutput?.(stdout);
      },
    },
    stderr: {
      isTTY: tty,
      columns: 80,
      write: (data) => {
        stderr += toText(data);
        onNote?.(stderr);
      },
    },
    env,
    signal,
    ...(runtimes ? { runtimes } : {}),
  });
  return { code, stdout, stderr };
}

export interface Started {
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Resolves when standard output or error holds the text. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  done: Promise<Ran>;
}

export function start(argv: string[], env: Record<string, string>, engine: Engine = 'node', stdin = ''): Started {
  const { command, args } = engines[engine];
  return startProcess(command, [...args, join(root, 'cli/main.ts'), ...argv], env, stdin);
}

export function startProcess(command: string, args: string[], env: Record<string, string>, stdin = ''): Started {
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  // Deno keeps its cache of compiled modules in the home directory.
  const child = spawn(command, args, {
    cwd: root,
    env: { PATH, NODE_COMPILE_CACHE, ...env } as NodeJS.ProcessEnv,
    stdio: 'pipe',
  });
  const said = { stdout: '', stderr: '' };
  const waiting = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]!.on('data', (bytes: Buffer) => {
      said[name] += bytes.toString();
      for (const look of waiting) look();
    });
  }
  child.stdin!.on('error', () => {});
  child.stdin!.end(stdin);
  const done = new Promise<Ran>((resolve) => {
    child.once('close', (code) => resolve({ code: code ?? -1, ...said }));
  });
  return {
    child,
    stdout: () => said.stdout,
    stderr: () => said.stderr,
    done,
    says: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = pattern.exec(said.stdout) ?? pattern.exec(said.stderr);
          if (!found) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
        void done.then(({ code, stdout, stderr }) =>
          reject(new Error(`ended with ${code} without saying ${pattern}: ${stdout}${stderr}`)),
        );
      }),
  };
}
