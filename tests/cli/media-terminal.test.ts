// Pictures drawn in terminals, decoded back from what was written; and players that are started.
import { chmodSync, existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { detectProtocol } from '../../cli/graphics.ts';
import { toSixel } from '../../cli/sixel.ts';
import { call, createHome, type CallOptions } from '../support/command-line.ts';
import { hush, openDarkroom, type Darkroom } from './darkroom.ts';

const before = process.cwd();
let home: ReturnType<typeof createHome>;
let room: Darkroom;

beforeEach(() => {
  home = createHome();
  room = openDarkroom();
  process.chdir(home.folder);
});
afterEach(() => {
  process.chdir(before);
  home.remove();
});

const run = (argv: string[], options: CallOptions = {}) =>
  call(argv, { runtimes: [room.runtime], ...options, env: { ...home.env, ...options.env } });
const gen = (...flags: string[]) => ['image', 'gen', 'a fox', '-o', 'fox.png', '--force', ...flags];

/** What a terminal would make of sixels: the colour of each pixel, undefined where none was drawn. */
function fromSixel(text: string) {
  const [, size, body] = /^\x1bP[\d;]*q"1;1;(\d+;\d+)([\s\S]*)\x1b\\\n?$/.exec(text)!;
  const [width, height] = size!.split(';').map(Number) as [number, number];
  const pixels = Array.from({ length: height }, () => Array<string | undefined>(width).fill(undefined));
  const colours = new Map<string, string>();
  let [x, y, colour] = [0, 0, ''];
  const tokens = /#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|(\$)|(-)/gy;
  let end = 0;
  for (const match of body!.matchAll(tokens)) {
    end = match.index + match[0].length;
    const [, defined, red, green, blue, chosen, count, repeated, single, back] = match;
    if (defined !== undefined) colours.set(defined, `${red},${green},${blue}`);
    else if (chosen !== undefined) colour = colours.get(chosen)!;
    else if (back !== undefined) x = 0;
    else if (repeated !== undefined || single !== undefined) {
      const bits = (repeated ?? single)!.charCodeAt(0) - 63;
      for (let times = Number(count ?? 1); times > 0; times--, x++) {
        for (let row = 0; row < 6; row++) if (bits & (1 << row)) pixels[y + row]![x] = colour;
      }
    } else [x, y] = [0, y + 6];
  }
  expect(end).toBe(body!.length);
  return { width, height, pixels };
}

describe('a terminal that shows pictures', () => {
  it('gets a PNG in pieces of 4096 with kitty’s protocol', async () => {
    const argv = gen('--size', '700x300');
    const { code, stdout } = await run(argv, { tty: true, env: { TERM: 'xterm-kitty' } });
    expect(code).toBe(0);
    expect(stdout.startsWith('\x1b]8;;file://')).toBe(true);
    const pieces = [...stdout.matchAll(/\x1b_G([^;]*);([^\x1b]*)\x1b\\/g)];
    expect(pieces[0]![1]).toMatch(/^a=T,f=100,q=2,c=44,m=/);
    expect(pieces.map(([, about]) => /m=(\d)/.exec(about!)![1])).toEqual([...pieces.slice(1).map(() => '1'), '0']);
    const bytes = Buffer.from(pieces.map(([, , data]) => data).join(''), 'base64');
    expect(await sharp(bytes).metadata()).toMatchObject({ format: 'png', width: 700, height: 300 });
  });

  it('gets large ones in several pieces, none too long, and no wider than it is', async () => {
    const noise = Buffer.from(Array.from({ length: 2000 * 50 * 3 }, (_, at) => (at * 7919 * (at % 13)) % 256));
    room.runtime.handles['image.generate'] = async function* () {
      const bytes = await sharp(noise, { raw: { width: 2000, height: 50, channels: 3 } })
        .webp({ lossless: true })
        .toBuffer();
      yield { type: 'result', result: {}, files: [{ bytes: new Uint8Array(bytes) }] };
    };
    const { stdout } = await run(['image', 'gen', 'noise', '-o', 'noise', '--show', 'kitty'], { tty: true });
    const pieces = [...stdout.matchAll(/\x1b_G([^;]*);([^\x1b]*)\x1b\\/g)];
    expect(pieces.length).toBeGreaterThan(10);
    expect(Math.max(...pieces.map(([, , data]) => data!.length))).toBe(4096);
    expect(pieces.slice(0, -1).every(([, about, data]) => about!.endsWith('m=1') && data!.length === 4096)).toBe(true);
    expect(pieces[0]![1]).toContain('c=79,');
    const shown = await sharp(Buffer.from(pieces.map(([, , data]) => data).join(''), 'base64')).metadata();
    expect(shown).toMatchObject({ format: 'png', width: 1600, height: 40 });
  });

  it('gets a file inline with iTerm2’s', async () => {
    const { stdout } = await run(gen('--output-format', 'webp'), { tty: true, env: { TERM_PROGRAM: 'iTerm.app' } });
    const [, about, data] = /\x1b\]1337;File=([^:]*):([^\x07]*)\x07/.exec(stdout)!;
    const bytes = Buffer.from(data!, 'base64');
    expect(about).toBe(`size=${bytes.byteLength};width=2;preserveAspectRatio=1;inline=1`);
    expect(await sharp(bytes).metadata()).toMatchObject({ format: 'png', width: 32, height: 16 });
  });

  it('gets sixels that are the picture, no wider than 800', async () => {
    const { stdout } = await run(gen('--size', '1600x20'), { tty: true, env: { TERM: 'foot' } });
    const { width, height, pixels } = fromSixel(stdout.slice(stdout.indexOf('\x1bP')));
    expect([width, height]).toEqual([800, 10]);
    expect(new Set(pixels.flat()).has(undefined)).toBe(false);
    expect(pixels.every((row) => row[10] === '100,0,0' && row[790] === '0,0,100')).toBe(true);
  });

  it('keeps what was there where a picture is transparent', () => {
    const data = new Uint8Array(7 * 9 * 4);
    const dot = (x: number, y: number) => data.set([255, 255, 255, 255], (y * 7 + x) * 4);
    dot(0, 0);
    dot(3, 6);
    dot(6, 8);
    const { pixels } = fromSixel(toSixel({ data, width: 7, height: 9 }));
    const drawn = pixels.flatMap((row, y) => row.flatMap((colour, x) => (colour ? [[x, y, colour]] : [])));
    expect(drawn).toEqual([
      [0, 0, '100,100,100'],
      [3, 6, '100,100,100'],
      [6, 8, '100,100,100'],
    ]);
  });

  it('gets none with --show never, with JSON, with -q, or where nobody looks', async () => {
    const env = { KITTY_WINDOW_ID: '1', TERM: 'xterm-kitty' };
    for (const flags of [['--show', 'never'], ['--json'], ['-q'], ['--show=auto', '--json-stream']]) {
      expect((await run(gen(...flags), { tty: true, env })).stdout).not.toContain('\x1b_G');
    }
    const piped = await run(gen(), { env });
    expect(piped).toMatchObject({ stdout: 'fox.png\n', code: 0 });
    expect(piped.stderr).not.toContain('\x1b');
    const asked = await run(gen('--show', 'kitty'), { env });
    expect(asked.stdout).toBe('fox.png\n');
    expect(asked.stderr).toContain('\x1b_Ga=T');
  });

  it.each([
    [{ TERM: 'xterm-kitty' }, 'kitty'],
    [{ TERM: 'xterm-ghostty' }, 'kitty'],
    [{ TERM: 'xterm-256color', LC_TERMINAL: 'iTerm2' }, 'iterm'],
    [{ TERM: 'xterm-256color', TERM_PROGRAM: 'WezTerm' }, 'iterm'],
    [{ TERM: 'foot-extra' }, 'sixel'],
    [{ TERM: 'xterm-256color' }, undefined],
    [{ TERM: 'xterm-256color', TERM_PROGRAM: 'vscode' }, undefined],
    [{ TERM: 'tmux-256color', KITTY_WINDOW_ID: '1' }, undefined],
    [{ TERM: 'xterm-kitty', TMUX: '/tmp/tmux-1000/default,1,0' }, undefined],
    [{}, undefined],
  ])('is known by %j: %s', (env, protocol) => {
    expect(detectProtocol(env)).toBe(protocol);
  });
});

describe('other terminals', () => {
  it('get the path as a link, and dumb ones the path', async () => {
    const { stdout } = await run(gen(), { tty: true, env: { TERM: 'xterm-256color' } });
    const address = `file://${realpathSync(home.folder)}/fox.png`;
    expect(stdout).toBe(`\x1b]8;;${address}\x1b\\fox.png\x1b]8;;\x1b\\\n`);
    expect((await run(gen(), { tty: true, env: { TERM: 'dumb' } })).stdout).toBe('fox.png\n');
  });
});

describe('--play', () => {
  /** A player that writes down what it was told to play. */
  function install(command: string, script = 'printf "%s\\n" "$0" "$@" > "$HOME/played"'): string {
    const folder = join(home.folder, 'bin');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, command), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, command), 0o755);
    return folder;
  }
  const played = () => readFileSync('played', 'utf8').trim().split('\n');
  const music = ['music', 'gen', 'techno', '-o', 'a song.wav', '--force', '--play'];

  it('hands the file to the first player that is there, without a shell', async () => {
    const bin = install('mpv');
    const { code, stdout, stderr } = await run(music, { env: { PATH: `/nowhere:${bin}` } });
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: 'a song.wav\n' });
    const song = join(realpathSync(home.folder), 'a song.wav');
    expect(played()).toEqual([join(bin, 'mpv'), '--really-quiet', '--no-video', song]);
    expect(readFileSync(song).equals(hush())).toBe(true);
    install('ffplay');
    await run(music, { env: { PATH: bin } });
    expect(played()).toEqual([join(bin, 'ffplay'), '-autoexit', '-loglevel', 'error', '-nodisp', song]);
    await run(['video', 'gen', 'a fox', '-o', 'fox.gif', '--play'], { env: { PATH: bin } });
    expect(played()[3]).toBe('error');
  });

  it('goes on to the next where one fails, and takes none that cannot play the format', async () => {
    install('ffplay', 'exit 1');
    const bin = install('aplay');
    const { code, stderr } = await run(music, { env: { PATH: bin } });
    expect(code).toBe(0);
    expect(stderr).toContain('ffplay could not play a song.wav.');
    expect(played()[0]).toBe(join(bin, 'aplay'));
  });

  it('says where the file is when nothing can play it', async () => {
    const { code, stdout, stderr } = await run(music, { env: { PATH: join(home.folder, 'bin') } });
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'a song.wav\n' });
    expect(stderr).toContain('a song.wav was not played: none of ffplay, mpv, paplay');
    expect((await run([...music, '-o', '-'])).code).toBe(2);
  });

  it('stops on Ctrl-C, and what was made stays', async () => {
    const bin = install('mpv', 'echo > "$HOME/played"; exec sleep 30');
    const stop = new AbortController();
    const begun = performance.now();
    const running = run(music, { env: { PATH: `${bin}:${process.env['PATH']}` }, signal: stop.signal });
    const look = setInterval(() => existsSync('played') && stop.abort(), 20);
    expect((await running).code).toBe(130);
    clearInterval(look);
    expect(performance.now() - begun).toBeLessThan(15_000);
    expect(existsSync('a song.wav')).toBe(true);
  });
});
