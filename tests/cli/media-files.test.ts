// Files that commands are given: by name, by id, by link, from standard input; and what is none, refused before it travels.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { call, createHome, type CallOptions } from '../support/command-line.ts';
import { openDarkroom, paint, type Darkroom } from './darkroom.ts';

const before = process.cwd();
let home: ReturnType<typeof createHome>;
let room: Darkroom;

beforeEach(async () => {
  home = createHome();
  room = openDarkroom();
  process.chdir(home.folder);
  writeFileSync('cat.png', await paint(40, 20));
  writeFileSync('dog', await paint(30, 30));
});
afterEach(() => {
  process.chdir(before);
  home.remove();
});

const run = (argv: string[], options: CallOptions = {}) =>
  call(argv, { runtimes: [room.runtime], ...options, env: { ...home.env, ...options.env } });
/** Widths of the pictures that the runtime was given, by field. */
const widths = () =>
  room.asked.map(({ files }) =>
    Object.fromEntries(Object.entries(files).map(([field, all]) => [field, all.map(({ media }) => media.width)])),
  );
async function upload(file: string): Promise<string> {
  return (await run(['artifacts', 'upload', file])).stdout.trim();
}

describe('image edit', () => {
  it('takes pictures by flag, several of them, and a mask', async () => {
    writeFileSync('mask.png', await paint(40, 20));
    const argv = ['image', 'edit', 'make', 'it', 'night', '--image', 'cat.png', '--image', 'dog', '--mask', 'mask.png'];
    const { code, stderr } = await run(argv);
    expect(code, stderr).toBe(0);
    expect(room.asked[0]!.input['prompt']).toBe('make it night');
    expect(widths()).toEqual([{ image: [40, 30], mask: [40] }]);
  });

  it('takes leading words that are pictures, whatever they are called, and no others', async () => {
    writeFileSync('make', 'a file that is no picture');
    mkdirSync('it');
    expect((await run(['image', 'edit', 'cat.png', 'dog', 'make it night like', 'cat.png'])).code).toBe(0);
    expect((await run(['image', 'edit', 'dog', 'make', 'it', 'night'])).code).toBe(0);
    expect((await run(['image', 'edit', '--image', 'dog', 'cat.png'])).code).toBe(0);
    expect(widths()).toEqual([{ image: [40, 30] }, { image: [30] }, { image: [30] }]);
    const prompts = room.asked.map(({ input }) => input['prompt']);
    expect(prompts).toEqual(['make it night like cat.png', 'make it night', 'cat.png']);
  });

  it('takes the picture that is piped in, or the prompt where the picture is named', async () => {
    const stdin = readFileSync('cat.png');
    expect((await run(['image', 'edit', 'make it night'], { stdin })).code).toBe(0);
    expect((await run(['image', 'edit', '-', 'dog', 'make it night'], { stdin })).code).toBe(0);
    expect((await run(['image', 'edit', 'cat.png', 'make it night', '--mask', '-'], { stdin })).code).toBe(0);
    expect((await run(['image', 'edit', 'dog'], { stdin: 'make it night\n' })).code).toBe(0);
    expect((await run(['image', 'edit', 'dog', '--image', 'cat.png', '-'], { stdin: 'make it night' })).code).toBe(0);
    expect(widths()).toEqual([
      { image: [40] },
      { image: [40, 30] },
      { image: [40], mask: [40] },
      { image: [30] },
      { image: [40] },
    ]);
    expect(room.asked[3]!.input['prompt']).toBe('make it night');
    expect(room.asked[4]!.input['prompt']).toBe('dog\n\nmake it night');
  });
});

describe('a file can be', () => {
  it('an id, a link, a data: URL, or a pipe of the shell', async () => {
    const id = await upload('cat.png');
    const link = (JSON.parse((await run(['artifacts', 'show', id, '--json'])).stdout) as { url: string }).url;
    const url = `data:image/png;base64,${readFileSync('dog').toString('base64')}`;
    execFileSync('mkfifo', ['pipe']);
    const writing = import('node:fs/promises').then(({ writeFile }) => writeFile('pipe', readFileSync('cat.png')));
    for (const word of [id, link, `http://127.0.0.1:8787${link}`, url, 'pipe']) {
      const { code, stderr } = await run(['image', 'vary', word]);
      expect(code, `${word}: ${stderr}`).toBe(0);
    }
    await writing;
    expect(widths()).toEqual([40, 40, 40, 30, 40].map((width) => ({ image: [width] })));
  });

  it('what is piped in, for vary, upscale and describe', async () => {
    const stdin = readFileSync('cat.png');
    expect((await run(['image', 'vary', '--strength', '0.5'], { stdin })).code).toBe(0);
    expect((await run(['image', 'upscale', '-', '--scale', '2'], { stdin })).code).toBe(0);
    expect(widths()).toEqual([{ image: [40] }, { image: [40] }]);
    expect((await run(['image', 'describe'], { stdin })).stdout).toBe('1 seen: Describe this picture.\n');
  });
});

describe('image describe', () => {
  it('prints text about one picture or several', async () => {
    const one = await run(['image', 'describe', 'cat.png', '--prompt', 'What breed?']);
    expect(one).toMatchObject({ code: 0, stdout: '1 seen: What breed?\n' });
    const two = await run(['image', 'describe', 'cat.png', 'dog', '--json']);
    expect(JSON.parse(two.stdout)).toMatchObject({ text: '2 seen: Describe this picture.', model: 'enlarger' });
  });
});

describe('refused with a remedy, before anything is made:', () => {
  it.each([
    [['image', 'vary', 'cta.png'], 'cta.png cannot be read: ENOENT.'],
    [['image', 'edit', 'cta.png', 'make it night'], 'cta.png cannot be read: ENOENT.'],
    [['image', 'vary', '.'], '. cannot be read: EISDIR.'],
    [['image', 'vary', 'notes.txt'], 'notes.txt is text/plain, not a picture.'],
    [['image', 'vary', 'empty.png'], 'empty.png is empty, not a picture.'],
    [['image', 'edit', 'cat.png', 'x', '--mask', 'notes.txt'], 'notes.txt is text/plain, not a picture.'],
    [['image', 'vary', 'drawing.svg'], 'not a picture'],
    [['image', 'vary', 'https://example.com/cat.png'], 'curl -fsSL URL'],
    [['image', 'vary', 'art_00000000000000000000000000000000'], 'There is no such artifact'],
    [['image', 'vary', 'cat.png', 'dog'], 'takes only [FILE|-]'],
    [['image', 'vary', 'cat.png', '--image', 'dog'], 'one of them is enough'],
    [['image', 'edit', 'cat.png'], 'image edit needs PROMPT'],
    [['image', 'edit', 'make it night'], '--image: is needed'],
    [['image', 'edit', 'x', '--image', '-', '--mask', '-'], 'Standard input (-) can be one file'],
    [['image', 'edit', 'x', '-', '--image', '-'], 'a file or the words'],
    [['image', 'describe'], 'image describe needs FILE'],
    [['music', 'gen', 'techno', '--lyrics', '@nowhere.txt'], 'a file that can be read'],
  ])('%j', async (argv, told) => {
    writeFileSync('notes.txt', 'not a picture');
    writeFileSync('empty.png', '');
    writeFileSync('drawing.svg', '<svg xmlns="http://www.w3.org/2000/svg"/>');
    const { code, stdout, stderr } = await run(argv, { tty: true });
    expect(stdout).toBe('');
    expect(code, stderr).toBe(argv.includes('art_00000000000000000000000000000000') ? 3 : 2);
    expect(stderr).toContain(told);
    expect(room.asked).toEqual([]);
  });

  it('what the gateway will not take, in its words', async () => {
    const env = { HONO_AI_MAX_PIXELS: '500', HONO_AI_MAX_UPLOAD: '1MB' };
    const large = await run(['image', 'vary', 'cat.png'], { env });
    expect(large.code).toBe(2);
    expect(large.stderr).toContain('40x20');
    writeFileSync('large.png', Buffer.concat([readFileSync('cat.png'), Buffer.alloc(3_000_000)]));
    expect((await run(['image', 'vary', 'large.png'], { env })).code).toBe(2);
    expect(room.asked).toEqual([]);
  });
});

describe('help and completion', () => {
  it('tell of files as a command line names them', async () => {
    const { stdout } = await run(['image', 'edit', '--help']);
    expect(stdout).toContain('Usage: hono-ai image edit [flags] [FILE…] [PROMPT…|-]');
    expect(stdout).toMatch(/--image FILE\|-\|ID {2,}The picture to change;/);
    expect(stdout).toMatch(/\(may be\s+repeated\)/);
    expect(stdout).not.toContain('in a form');
    expect((await run(['image', 'vary', '--help'])).stdout).toContain('[FILE|-]');
  });

  it('complete files for flags and words that take some', async () => {
    const script = `${(await run(['completion', 'bash'])).stdout}
      complete_() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hono_ai; echo "\${COMPREPLY[*]}"; }
      complete_ hono-ai image vary ca; complete_ hono-ai image edit x --mask ca; complete_ hono-ai image gen ca
      complete_ hono-ai image gen --show s`;
    expect(execFileSync('bash', ['-c', script], { encoding: 'utf8' })).toBe('cat.png\ncat.png\n\nsixel\n');
  });
});
