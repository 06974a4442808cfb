#!/usr/bin/env node
// The entry of the command line on Node, Bun and Deno: the process as the command line sees it.
import { fstatSync } from 'node:fs';
import { main } from './cli.ts';
import { exitCodes } from './exit.ts';
import type { Io, Sink } from './io.ts';

const stop = new AbortController();
let readerLeft = false;

for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    // Asked twice, people mean it.
    if (stop.signal.aborted) process.exit(exitCodes.cancelled);
    stop.abort();
  });
}
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // `… | head` has seen enough: no failure, but nothing to work for either.
  readerLeft = error.code === 'EPIPE';
  if (readerLeft) return stop.abort(error);
  process.stderr.write(`hono-ai: standard output cannot be written: ${error.code}\n`);
  process.exit(exitCodes.failure);
});
process.stderr.on('error', () => {});

const code = await main(process.argv.slice(2), createIo());
await flush(process.stdout);
process.exit(code);

function createIo(): Io {
  return {
    stdin: {
      isTTY: process.stdin.isTTY === true,
      redirected: isRedirected(),
      async read() {
        const pieces: Uint8Array[] = [];
        for await (const piece of process.stdin) pieces.push(Buffer.from(piece as Uint8Array));
        return Buffer.concat(pieces);
      },
    },
    stdout: toSink(process.stdout),
    stderr: toSink(process.stderr),
    env: process.env,
    signal: stop.signal,
  };
}

function toSink(stream: NodeJS.WriteStream): Sink {
  return {
    isTTY: stream.isTTY === true,
    // A terminal may say that it has none.
    columns: stream.columns || 80,
    write: (data) => void stream.write(data),
  };
}

function isRedirected(): boolean {
  try {
    const stat = fstatSync(0);
    return stat.isFIFO() || stat.isFile();
  } catch {
    return false;
  }
}

/** Pipes are written behind our back on some systems; process.exit would drop what is left. */
function flush(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (readerLeft) resolve();
    else stream.write('', () => resolve());
  });
}
