// Plays films and sounds with the first player that is installed.
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import type { Flag, Invocation } from './command.ts';
import type { Io } from './io.ts';

export const playFlags: Record<string, Flag> = {
  play: { type: 'boolean', description: 'Play it, with the first of ffplay, mpv, paplay, aplay, afplay and cvlc.' },
};

interface Player {
  command: string;
  args: (film: boolean) => string[];
  /** What it can play. */
  takes: RegExp;
}

const PLAYERS: Player[] = [
  {
    command: 'ffplay',
    args: (film) => ['-autoexit', '-loglevel', 'error', ...(film ? [] : ['-nodisp'])],
    takes: /./,
  },
  { command: 'mpv', args: (film) => ['--really-quiet', ...(film ? [] : ['--no-video'])], takes: /./ },
  { command: 'paplay', args: () => [], takes: /^(audio|application)\/(x-)?(wav|wave|flac|ogg|opus)$/ },
  { command: 'aplay', args: () => ['-q'], takes: /^audio\/(x-)?wave?$/ },
  { command: 'afplay', args: () => [], takes: /^audio\/((x-)?(wave?|flac)|mpeg|mp4)$/ },
  { command: 'cvlc', args: () => ['--play-and-exit', '--quiet'], takes: /./ },
];

/** One after the other. A file that nothing here can play is told, and nothing fails for it. */
export async function playFiles({ io, out }: Invocation, files: { path: string; media_type: string }[]): Promise<void> {
  for (const { path, media_type } of files) {
    if (io.signal.aborted) return;
    const players = PLAYERS.filter(({ takes }) => takes.test(media_type));
    let played = false;
    for (const player of players) {
      const program = find(player.command, io.env);
      if (program === undefined) continue;
      const args = [...player.args(media_type.startsWith('video/')), resolve(path)];
      played = await play(program, args, io);
      if (played || io.signal.aborted) break;
      out.note(`${player.command} could not play ${path}.`);
    }
    if (played || io.signal.aborted) continue;
    out.note(`${path} was not played: none of ${players.map(({ command }) => command).join(', ')} does it here.`);
  }
}

/** Whether it ended well; also when it was stopped. */
function play(program: string, args: string[], { env, signal }: Io): Promise<boolean> {
  return new Promise((settle) => {
    const child = spawn(program, args, { stdio: 'ignore', env: env as NodeJS.ProcessEnv });
    const stop = () => void child.kill();
    const end = (well: boolean) => {
      signal.removeEventListener('abort', stop);
      settle(well);
    };
    signal.addEventListener('abort', stop, { once: true });
    child.once('error', () => end(false));
    child.once('exit', (code) => end(code === 0));
    if (signal.aborted) stop();
  });
}

/** Its path, where it is among the programs of this machine. */
function find(command: string, env: Io['env']): string | undefined {
  const ending = process.platform === 'win32' ? '.exe' : '';
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue;
    const path = join(folder, command + ending);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here; perhaps in the next folder.
    }
  }
  return undefined;
}
