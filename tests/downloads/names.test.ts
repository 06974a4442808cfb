// Places that strangers name: nothing is written outside the folder that was meant, or under a name that another system cannot have.
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isSafePath, toParts } from '../../adapters/downloads/names.ts';
import { openFakeFiles, type FakeFiles } from '../support/fake-files.ts';
import { failure, makeBytes, open, openFolder, run } from './bench.ts';

const HOSTILE = [
  '',
  '/',
  '.',
  '..',
  '../x',
  'a/../../x',
  'a/..',
  './a',
  'a//b',
  'a/',
  '/etc/passwd',
  '//host/share',
  '\\\\host\\share\\x',
  'a\\..\\..\\x',
  'C:\\x',
  'C:x',
  'c:/x',
  'x:stream',
  'a\0b',
  'a\nb',
  'a\u001b[2J',
  'a\u007f',
  'a\u202egnp.exe',
  'a\u2066b',
  'con',
  'CON.txt',
  'folder/nul',
  'aux.safetensors',
  'com1',
  'LPT9.gguf',
  'a.',
  'a ',
  ' a',
  'dir./a',
  'a?b',
  'a*',
  'a|b',
  'a<b>',
  'a"b',
  'x.part',
  'x.PART.json',
  'x.part.lock',
  'x.part.new',
  `${'a'.repeat(300)}`,
  `${'ä'.repeat(128)}`,
  `${'a'.repeat(250)}`,
  'a/'.repeat(40) + 'b',
  `${'abc/'.repeat(300)}x`,
  'a\ud800b',
];
const HARMLESS = [
  'model.safetensors',
  'vae/sdxl_vae-fp16.safetensors',
  'Qwen3-8B-Q4_K_M.gguf',
  'größe.bin',
  '模型.gguf',
  '.gitattributes',
  'a..b',
  '...x',
  'console.txt',
  'com10',
  'has space (v2) [x] {y} + & ~ = @ #.bin',
  '%2e%2e%2fx',
];

let server: FakeFiles;
let folder: Awaited<ReturnType<typeof openFolder>>;
beforeAll(async () => {
  server = await openFakeFiles({ f: makeBytes(100) });
});
afterAll(() => server.close());
beforeEach(async () => {
  folder = await openFolder();
});
afterEach(() => folder.remove());

describe('a place', () => {
  it.each(HOSTILE)('is refused before anything is asked or made: %j', async (path) => {
    expect(isSafePath(path)).toBe(false);
    const before = server.requests.length;
    const work = run(open({ trusted: [server.url] }), [
      { url: `${server.url}/f`, root: folder.path, path: 'fine' },
      { url: `${server.url}/f`, root: folder.path, path },
    ]);
    expect(await failure(work)).toMatchObject({ code: 'invalid_request', source: 'comfyui' });
    expect(server.requests).toHaveLength(before);
    expect(await readdir(folder.path)).toEqual([]);
  });

  it.each(HARMLESS)('is taken as it is: %s', async (path) => {
    expect(toParts(path)).toEqual(path.split('/'));
    await run(open({ trusted: [server.url] }), [{ url: `${server.url}/f`, root: folder.path, path }]);
    expect(await folder.files()).toEqual([path]);
  });

  it('is no place where it is no text', () => {
    for (const value of [undefined, null, 5, {}, ['a']]) expect(isSafePath(value)).toBe(false);
  });
});

describe('links', () => {
  const fetch = (root: string, path: string) =>
    run(open({ trusted: [server.url] }), [{ url: `${server.url}/f`, root, path }]);

  it('that lead out of the folder are not followed, and nothing is made behind them', async () => {
    const outside = join(folder.path, 'outside');
    const root = join(folder.path, 'root');
    await mkdir(outside);
    await mkdir(root);
    await symlink(outside, join(root, 'out'));
    await symlink(join(folder.path, 'nowhere'), join(root, 'dangling'));
    for (const path of ['out/f', 'out/deep/f']) {
      expect(await failure(fetch(root, path))).toMatchObject({ code: 'invalid_request' });
    }
    expect((await failure(fetch(root, 'dangling/f'))).code).toMatch(/storage_unavailable|invalid_request/);
    expect(await readdir(outside)).toEqual([]);
    expect(await readdir(folder.path)).toEqual(['outside', 'root']);
  });

  it('that stay inside, and the folder itself as a link, are used', async () => {
    const real = join(folder.path, 'real');
    await mkdir(join(real, 'a'), { recursive: true });
    await symlink(join(real, 'a'), join(real, 'b'));
    await symlink(real, join(folder.path, 'alias'));
    await fetch(join(folder.path, 'alias'), 'b/f');
    expect((await readFile(join(real, 'a', 'f'))).length).toBe(100);
  });

  it('in place of the file are replaced, not written through', async () => {
    await writeFile(join(folder.path, 'victim'), 'precious');
    const root = join(folder.path, 'root');
    await mkdir(root);
    await symlink(join(folder.path, 'victim'), join(root, 'f'));
    await fetch(root, 'f');
    expect(await readFile(join(folder.path, 'victim'), 'utf8')).toBe('precious');
  });
});
