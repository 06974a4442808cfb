// ffmpeg, where it is installed: looked for once, told exactly what to read and write in a folder of its own, and stopped in time.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GatewayError } from '../../src/error.ts';
import { createLane } from './lane.ts';

export interface Ffmpeg {
  /** Names of the encoders that it was built with; none where there is no ffmpeg. */
  encoders(): Promise<Set<string>>;
  /**
   * The bytes, read as `input` says, written as `output` says. Undefined where ffmpeg fails, takes too long or makes too much.
   * Throws client_closed.
   */
  run(bytes: Uint8Array, input: string[], output: string[], signal: AbortSignal): Promise<Bytes | undefined>;
}

type Bytes = Uint8Array<ArrayBuffer>;

const LONGEST_MS = 600_000;
const LOOK_MS = 10_000;
const MAX_OUTPUT = 1 << 30;
/** It takes every core it gets. */
const AT_A_TIME = 1;
/** What a program needs to start, and none of this gateway's secrets. */
const ENVIRONMENT = ['PATH', 'LD_LIBRARY_PATH', 'SystemRoot', 'TEMP', 'TMP'];

export function createFfmpeg(command = 'ffmpeg'): Ffmpeg {
  const inLane = createLane(AT_A_TIME);
  let looking: Promise<Set<string>> | undefined;

  async function look(): Promise<Set<string>> {
    const { code, text } = await execute(command, ['-hide_banner', '-encoders'], { ms: LOOK_MS, keep: 1 << 20 });
    return new Set(code === 0 ? [...text.matchAll(/^ [VAS][.A-Z]{5} (\w\S*)/gm)].map(([, name]) => name!) : []);
  }

  return {
    encoders: () => (looking ??= look()),
    run: (bytes, input, output, signal) =>
      inLane(async () => {
        throwIfLeft(signal);
        const folder = await mkdtemp(join(tmpdir(), 'hono-ai-media-'));
        try {
          await writeFile(join(folder, 'in'), bytes, { mode: 0o600 });
          // The input is one file: nothing in it leads to another one, or out to the network.
          const reading = words('-hide_banner -nostdin -loglevel error -y -protocol_whitelist file');
          const writing = words(`-map_metadata -1 -fs ${MAX_OUTPUT} file:out`);
          const args = [...reading, ...input, '-i', 'file:in', ...output, ...writing];
          const { code } = await execute(command, args, { ms: LONGEST_MS, keep: 0, folder, signal });
          throwIfLeft(signal);
          const { size } = await stat(join(folder, 'out')).catch(() => ({ size: 0 }));
          if (code !== 0) return undefined;
          return size > 0 && size < MAX_OUTPUT ? new Uint8Array(await readFile(join(folder, 'out'))) : undefined;
        } finally {
          await rm(folder, { recursive: true, force: true });
        }
      }),
  };
}

/** Arguments, none of which holds a space. */
export function words(text: string): string[] {
  return text.split(' ');
}

interface ExecuteOptions {
  ms: number;
  /** Bytes of its output that are kept. */
  keep: number;
  folder?: string;
  signal?: AbortSignal;
}

/** Resolves when it has ended, however it did; `code` is undefined where it could not be started or was stopped. */
function execute(command: string, args: string[], { ms, keep, folder, signal }: ExecuteOptions) {
  return new Promise<{ code: number | undefined; text: string }>((resolve) => {
    const env = Object.fromEntries(
      ENVIRONMENT.flatMap((name) => [[name, process.env[name] ?? '']]).filter(([, to]) => to),
    );
    const child = spawn(command, args, {
      env,
      stdio: ['ignore', keep > 0 ? 'pipe' : 'ignore', 'ignore'],
      windowsHide: true,
      ...(folder === undefined ? {} : { cwd: folder }),
    });
    let text = '';
    const stop = () => child.kill('SIGKILL');
    const timer = setTimeout(stop, ms);
    const end = (code: number | undefined) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      resolve({ code, text });
    };
    child.stdout?.setEncoding('utf8').on('data', (piece: string) => {
      if (text.length < keep) text += piece;
    });
    child.once('error', () => end(undefined));
    child.once('close', (code) => end(code ?? undefined));
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();
  });
}

function throwIfLeft(signal: AbortSignal): void {
  if (signal.aborted) throw new GatewayError('client_closed', 'The request was cancelled.', { cause: signal.reason });
}
