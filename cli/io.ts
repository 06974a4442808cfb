// What the command line sees of the process around it, so that a test can be that process.
import type { RuntimeAdapter } from '../src/runtime.ts';

export interface Sink {
  write(data: string | Uint8Array): void;
  isTTY: boolean;
  columns: number;
}

export interface Source {
  isTTY: boolean;
  /** A shell put a pipe or a file here. A socket or /dev/null that merely was inherited is not an offer of text. */
  redirected: boolean;
  /** All of it. */
  read(): Promise<Uint8Array>;
}

export interface Io {
  stdin: Source;
  stdout: Sink;
  stderr: Sink;
  env: Record<string, string | undefined>;
  /** Ctrl-C, or SIGTERM: stop what is going on. */
  signal: AbortSignal;
  /** In place of those the configuration names; for tests. */
  runtimes?: RuntimeAdapter[];
}
