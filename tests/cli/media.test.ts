// Pictures, films and music as commands: what is asked, watched, saved and told, in this process and through a socket.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { call, createHome, type CallOptions } from '../support/command-line.ts';
import { eventually } from '../support/eventually.ts';
import { hush, openDarkroom, paint, type Darkroom } from './darkroom.ts';
import { serveHere, type ServedHere } from './serve-here.ts';

const before = process.cwd();
let home: ReturnType<typeof createHome>;
let room: Darkroom;
let gateway: ServedHere | undefined;

beforeEach(() => {
  home = createHome();
  room = openDarkroom();
  process.chdir(home.folder);
});
afterEach(async () => {
  await gateway?.close();
  gateway = undefined;
  process.chdir(before);
  home.remove();
});

const run = (argv: string[], options: CallOptions = {}) =>
  call(argv, { runtimes: [room.runtime], ...options, env: { ...home.env, ...options.env } });
const serve = async () => (gateway = await serveHere(home.env, room.runtime));

async function look(path: string) {
  const { format, width, height } = await sharp(readFileSync(path)).metadata();
  return { format, width, height };
}

describe('image gen', () => {
  it('saves into this folder, prints the path alone, and says what made it', async () => {
    const { code, stdout, stderr } = await run(['image', 'gen', 'a', 'red', 'fox', '--size', '48x24', '--seed', '5']);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^job_[0-9a-f]{32}-1\.png\n$/);
    expect(await look(stdout.trim())).toEqual({ format: 'png', width: 48, height: 24 });
    expect(stderr).toBe('enlarger on darkroom, 48x24, seed 5\n');
    expect(room.asked[0]).toMatchObject({
      capability: 'image.generate',
      input: { prompt: 'a red fox', size: '48x24', seed: 5, n: 1 },
    });
  });

  it('takes its prompt from a pipe, and flags of all kinds', async () => {
    const flags = '--steps 4 --negative-prompt blur --loras style.safetensors --output-compression 50 -q'.split(' ');
    const { code, stderr } = await run(['image', 'gen', ...flags], { stdin: 'a fox\n' });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(room.asked[0]!.input).toMatchObject({
      prompt: 'a fox',
      steps: 4,
      negative_prompt: 'blur',
      loras: ['style.safetensors'],
    });
  });

  it.each([
    ['fox.webp', 'webp'],
    ['fox.JPG', 'jpeg'],
    ['fox.png', 'png'],
    ['fox.v2', undefined],
  ])('-o %s asks for the format of its name', async (name, format) => {
    const { code, stdout } = await run(['image', 'gen', 'a fox', '-o', name]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${name}\n` });
    expect(room.asked[0]!.input['output_format']).toBe(format);
    expect((await look(name)).format).toBe(format ?? 'png');
  });

  it('lets a flag say more than the name', async () => {
    expect((await run(['image', 'gen', 'a fox', '-o', 'fox.png', '--output-format', 'webp'])).code).toBe(0);
    expect((await look('fox.png')).format).toBe('webp');
  });

  it('saves several into a folder, each under a name of its own', async () => {
    mkdirSync('out');
    writeFileSync('out/fox.png', 'mine');
    const { code, stdout } = await run(['image', 'gen', 'name:fox.png', '--n', '2', '-o', 'out']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'out/fox-2.png\nout/fox-3.png\n' });
    expect(readFileSync('out/fox.png', 'utf8')).toBe('mine');
    expect((await look('out/fox-3.png')).width).toBe(32);
    expect((await run(['image', 'gen', 'name:fox.png', '-o', 'out', '--force'])).stdout).toBe('out/fox.png\n');
    expect((await look('out/fox.png')).width).toBe(32);
  });

  it('gives the bytes themselves to a pipe with -o -', async () => {
    const written: (string | Uint8Array)[] = [];
    const { code } = await run(['image', 'gen', 'a fox', '-o', '-'], { onWrite: (data) => written.push(data) });
    expect(code).toBe(0);
    const bytes = Buffer.concat(written.map((data) => Buffer.from(data as Uint8Array)));
    expect((await sharp(bytes).metadata()).width).toBe(32);
    expect(readdirSync('.').filter((name) => name.endsWith('.png'))).toEqual([]);
  });

  it.each([
    [['-o', '-', '--n', '2'], 'There are 2 files'],
    [['-o', 'fox.png', '--n', '2'], 'There are 2 files'],
    [['-o', '-', '--json'], 'cannot both be'],
    [['-o', 'fox.gif'], 'png, jpeg, webp, not gif'],
    [['-o', 'fox.png', '--detach'], '--output is about files'],
    [['--show', 'kity'], 'Did you mean kitty?'],
    [['--size', 'big'], '--size'],
    [['--play'], '--play is not a flag of image gen'],
  ])('refuses %j before anything is made', async (flags, told) => {
    const { code, stdout, stderr } = await run(['image', 'gen', 'a fox', ...flags]);
    expect({ code, stdout: stdout.replace(/^\{"error".*\n$/, '') }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(told);
    expect(room.asked).toEqual([]);
  });

  it('refuses a file that is there before anything is made, and bytes on a terminal', async () => {
    writeFileSync('fox.png', 'mine');
    const { code, stderr } = await run(['image', 'gen', 'a fox', '-o', 'fox.png']);
    expect(code).toBe(1);
    expect(stderr).toContain('fox.png is there already');
    expect((await run(['image', 'gen', 'a fox', '-o', '-'], { tty: true })).code).toBe(2);
    expect(room.asked).toEqual([]);
  });

  it('says where what was made is kept when it cannot be saved', async () => {
    writeFileSync('not-a-folder', '');
    const { code, stderr } = await run(['image', 'gen', 'a fox', '-o', 'not-a-folder/fox.png']);
    expect(code).toBe(1);
    const [, id] = /hono-ai jobs download (job_\w+)/.exec(stderr)!;
    expect((await run(['jobs', 'download', id!, '-o', 'fox.png'])).stdout).toBe('fox.png\n');
    expect((await look('fox.png')).width).toBe(32);
  });

  it('fails as the runtime does', async () => {
    const { code, stdout, stderr } = await run(['image', 'gen', 'fail', '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'unusable_output', source: 'darkroom' } });
    expect(stderr).toContain('The film is black.');
    expect((await run(['image', 'gen', 'a fox', '-m', 'nobody'])).code).toBe(3);
  });
});

describe('programs', () => {
  it('get the result with the paths of its files', async () => {
    const { stdout } = await run(['image', 'gen', 'a fox', '-o', 'fox.png', '--json']);
    const sha256 = expect.stringMatching(/^[0-9a-f]{64}$/) as string;
    expect(JSON.parse(stdout)).toMatchObject({
      model: 'enlarger',
      runtime: 'darkroom',
      seed: 7,
      warnings: [],
      artifacts: [{ path: 'fox.png', media_type: 'image/png', media: { width: 32, height: 16 }, sha256 }],
    });
  });

  it('get each event, previews as base64, and the result last', async () => {
    const { stdout, code } = await run(['image', 'gen', 'half a fox', '--json-stream', '-o', 'fox.png']);
    expect(code).toBe(0);
    const lines = stdout.trim().split('\n');
    const events = lines.map((line) => JSON.parse(line) as { type: string; data?: string; result?: object });
    const preview = events.find(({ type }) => type === 'preview')!;
    expect((await sharp(Buffer.from(preview.data!, 'base64')).metadata()).width).toBe(2);
    expect(events).toContainEqual(expect.objectContaining({ type: 'progress', percent: 50, done: 5, total: 10 }));
    expect(events.at(-1)).toMatchObject({ type: 'result', result: { artifacts: [{ path: 'fox.png' }] } });
    expect(events.filter(({ type }) => type === 'result')).toHaveLength(1);
  });
});

describe('progress', () => {
  it('is a bar with steps and time on a terminal, and gone at the end', async () => {
    const { stdout, stderr } = await run(['image', 'gen', 'half hold'], {
      tty: true,
      onNote: (stderr) => stderr.includes('50 %') && room.release(),
    });
    const lines = stderr.split('\r\x1b[K');
    expect(lines).toContainEqual(expect.stringMatching(/^█{10}░{10} running: 50 %, 5 of 10 steps, about \d+ s left$/));
    expect(lines.at(-1)).toBe('enlarger on darkroom, 32x16, seed 7\n');
    expect(stdout).not.toContain('%');
  });

  it('is a line now and then in a log, and nothing with -q', async () => {
    const { stderr } = await run(['image', 'gen', 'half a fox']);
    expect(stderr).toMatch(/^running: 50 %, 5 of 10 steps, about \d+ s left\nenlarger on darkroom, 32x16, seed 7\n$/);
    expect((await run(['image', 'gen', 'half a fox', '-q'])).stderr).toBe('');
  });
});

describe('video gen and music gen', () => {
  it('make films in the format of the name, and begin with a picture', async () => {
    writeFileSync('first.png', await paint(20, 20));
    const argv = ['video', 'gen', 'it jumps', '--image', 'first.png', '--seconds', '2', '-o', 'fox.webp'];
    const { code, stderr } = await run(argv);
    expect(code, stderr).toBe(0);
    expect(room.asked[0]).toMatchObject({
      input: { prompt: 'it jumps', seconds: 2, format: 'webp' },
      files: { image: [{ media_type: 'image/png', media: { width: 20, height: 20 } }] },
    });
    expect((await run(['video', 'gen', 'it jumps', '-o', 'fox.mp3'])).stderr).toContain(
      'mp4, webm, gif, webp, not mp3',
    );
  });

  it('make music with lyrics from a file, and measure it', async () => {
    writeFileSync('song.txt', '[verse]\nLa la\n');
    const argv = 'music gen techno --lyrics @song.txt --bpm 120 -o song.wav'.split(' ');
    const { code, stderr } = await run([...argv, '--musical-key', 'E minor']);
    expect(code, stderr).toBe(0);
    expect(stderr).toBe('enlarger on darkroom, 1 s, seed 7\n');
    expect(readFileSync('song.wav').equals(hush())).toBe(true);
    expect(room.asked[0]!.input).toMatchObject({
      prompt: 'techno',
      lyrics: '[verse]\nLa la\n',
      bpm: 120,
      key: 'E minor',
      format: 'wav',
    });
  });
});

describe('with a gateway that listens', () => {
  it('uploads, makes and downloads', async () => {
    const { url } = await serve();
    const noise = await sharp({ create: { width: 900, height: 900, channels: 3, background: 'red' } })
      .png({ compressionLevel: 0 })
      .toBuffer();
    expect(noise.byteLength).toBeGreaterThan(2_000_000);
    writeFileSync('big.png', noise);
    const argv = ['image', 'edit', 'big.png', 'make it night', '-o', 'night.jpg', '--url', url];
    const { code, stdout, stderr } = await call(argv, { env: home.env });
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: 'night.jpg\n' });
    expect((await look('night.jpg')).format).toBe('jpeg');
    expect(room.asked[0]!.files['image']).toMatchObject([{ size: noise.byteLength, media: { width: 900 } }]);
  });

  it('detaches, and what is made is downloaded later', async () => {
    await serve();
    writeFileSync('first.png', await paint(20, 20));
    const { code, stdout } = await run(['image', 'vary', 'first.png', '--detach', '--priority', 'background']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^job_[0-9a-f]{32}\n$/) as string });
    expect((await run(['jobs', 'wait', stdout.trim()])).stdout).toBe(stdout);
    const saved = await run(['jobs', 'download', stdout.trim(), '-o', 'like.png']);
    expect(saved.stdout).toBe('like.png\n');
    expect(await look('like.png')).toEqual({ format: 'png', width: 32, height: 16 });
  });

  it('does the same request under the same key once, files included', async () => {
    await serve();
    writeFileSync('first.png', await paint(20, 20));
    const argv = ['image', 'edit', 'first.png', 'make it night', '--idempotency-key', 'night-1', '-o', 'out/'];
    const made = [await run([...argv, '--json']), await run([...argv, '--json'])];
    const [one, two] = made.map(({ stdout }) => JSON.parse(stdout) as { artifacts: { id: string }[] });
    expect(two!.artifacts[0]!.id).toBe(one!.artifacts[0]!.id);
    expect(room.asked).toHaveLength(1);
    writeFileSync('first.png', await paint(10, 10));
    expect((await run(argv)).code).not.toBe(0);
  });

  it.each([true, false])('stops the work on Ctrl-C (listening: %s)', async (listening) => {
    if (listening) await serve();
    const stop = new AbortController();
    const running = run(['image', 'gen', 'half hold', '-o', 'fox.png'], {
      signal: stop.signal,
      onNote: (stderr) => stderr.includes('50 %') && stop.abort(),
    });
    expect((await running).code).toBe(130);
    await eventually('the runtime was stopped', () => room.aborts === 1);
    expect(existsSync(join(home.folder, 'fox.png'))).toBe(false);
  });

  it('gives up after --timeout, and stops the work', async () => {
    expect((await run(['image', 'gen', 'hold', '--timeout', '0.5'])).code).toBe(124);
    await eventually('the runtime was stopped', () => room.aborts === 1);
  });
});
