// Blobs as files: the common suite, and what only a file system can get wrong.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openFileBlobs } from '../../adapters/stores/files/index.ts';
import { inPieces, listed, sha256, testBlobs, whole } from '../conformance/blobs.ts';
import { engines, root } from '../support/gateway.ts';

const folder = mkdtempSync(join(tmpdir(), 'hono-ai-files-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const fresh = () => join(folder, `store-${++count}`);

testBlobs('files', async () => {
  const dir = fresh();
  return {
    blobs: await openFileBlobs({ dir }),
    leftovers: async () => readdirSync(join(dir, 'tmp')).length,
    close: async () => {},
  };
});

describe('files', () => {
  it('are for this user alone, whatever the umask', async () => {
    const dir = fresh();
    const before = process.umask(0);
    try {
      const blobs = await openFileBlobs({ dir });
      let temporary: number[] = [];
      async function* source() {
        yield randomBytes(10);
        temporary = readdirSync(join(dir, 'tmp')).map((name) => statSync(join(dir, 'tmp', name)).mode & 0o777);
      }
      const { hash } = await blobs.write(source(), { limit: 100 });
      expect(temporary).toEqual([0o600]);
      const at = [dir, join(dir, 'tmp'), join(dir, hash.slice(0, 2)), join(dir, hash.slice(0, 2), hash.slice(2, 4))];
      expect(at.map((path) => statSync(path).mode & 0o777)).toEqual([0o700, 0o700, 0o700, 0o700]);
      expect(statSync(join(at[3]!, hash)).mode & 0o777).toBe(0o600);
    } finally {
      process.umask(before);
    }
  });

  it('have names on their way that nobody can guess', async () => {
    const dir = fresh();
    const blobs = await openFileBlobs({ dir });
    const names: string[] = [];
    for (let index = 0; index < 5; index++) {
      async function* source() {
        yield randomBytes(10);
        names.push(...readdirSync(join(dir, 'tmp')));
      }
      await blobs.write(source(), { limit: 100 });
    }
    expect(new Set(names).size).toBe(5);
    for (const name of names) expect(name).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('stay whole for who reads them while they are deleted', async () => {
    const blobs = await openFileBlobs({ dir: fresh() });
    const bytes = randomBytes(1_000_000);
    const { hash } = await blobs.write(inPieces(bytes, 100_000), { limit: 1e7 });
    const reader = (await blobs.read(hash))!;
    await blobs.delete(hash);
    const pieces: Uint8Array[] = [];
    for await (const piece of reader) pieces.push(piece);
    expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
  });

  it('that were cut on disk do not look whole', async () => {
    const dir = fresh();
    const blobs = await openFileBlobs({ dir });
    const bytes = randomBytes(400_000);
    const { hash } = await blobs.write(inPieces(bytes, 100_000), { limit: 1e7 });
    const reader = (await blobs.read(hash))!;
    writeFileSync(join(dir, hash.slice(0, 2), hash.slice(2, 4), hash), bytes.subarray(0, 1000));
    await expect(Array.fromAsync(reader)).rejects.toMatchObject({ code: 'storage_unavailable' });
    // Whoever brings it again mends it.
    await blobs.write(inPieces(bytes, 100_000), { limit: 1e7 });
    expect((await whole(blobs, hash)).equals(bytes)).toBe(true);
  });

  it('are not followed where they are links', async () => {
    const dir = fresh();
    const blobs = await openFileBlobs({ dir });
    const outside = join(folder, 'outside');
    mkdirSync(outside, { mode: 0o755 });
    const canary = Buffer.from('canary');
    const hash = sha256(canary);
    mkdirSync(join(dir, hash.slice(0, 2), hash.slice(2, 4)), { recursive: true });
    writeFileSync(join(outside, 'canary'), canary);
    symlinkSync(join(outside, 'canary'), join(dir, hash.slice(0, 2), hash.slice(2, 4), hash));
    expect(await blobs.read(hash)).toBeUndefined();
    expect(await listed(blobs)).toEqual([]);
    const bytes = Buffer.from('elsewhere');
    const other = sha256(bytes);
    symlinkSync(outside, join(dir, other.slice(0, 2)));
    await expect(blobs.write(inPieces(bytes, 100), { limit: 100 })).rejects.toMatchObject({
      code: 'storage_unavailable',
    });
    expect(readdirSync(outside)).toEqual(['canary']);
    expect(readdirSync(join(dir, 'tmp'))).toEqual([]);
  });

  it('of processes that died are cleared after an hour, those of others on their way are not', async () => {
    const dir = fresh();
    const blobs = await openFileBlobs({ dir });
    const old = new Date(Date.now() - 3_700_000);
    writeFileSync(join(dir, 'tmp', 'abandoned'), 'half');
    utimesSync(join(dir, 'tmp', 'abandoned'), old, old);
    writeFileSync(join(dir, 'tmp', 'young'), 'half');
    expect(await listed(blobs)).toEqual([]);
    expect(readdirSync(join(dir, 'tmp'))).toEqual(['young']);
  });

  it('on their way survive a clock that steps ahead', async () => {
    const dir = fresh();
    const blobs = await openFileBlobs({ dir });
    const old = new Date(Date.now() - 3_700_000);
    async function* source() {
      yield randomBytes(10);
      for (const name of readdirSync(join(dir, 'tmp'))) utimesSync(join(dir, 'tmp', name), old, old);
      expect(await listed(blobs)).toEqual([]);
    }
    const { hash } = await blobs.write(source(), { limit: 100 });
    expect((await whole(blobs, hash)).length).toBe(10);
  });

  it('of strangers in the folder are left alone', async () => {
    const dir = fresh();
    const blobs = await openFileBlobs({ dir });
    mkdirSync(join(dir, 'ab', 'cd'), { recursive: true });
    writeFileSync(join(dir, 'ab', 'cd', 'notes.txt'), 'mine');
    writeFileSync(join(dir, 'ab', 'cd', '0'.repeat(64)), 'in the wrong place');
    expect(await listed(blobs)).toEqual([]);
    expect(readFileSync(join(dir, 'ab', 'cd', 'notes.txt'), 'utf8')).toBe('mine');
  });

  it('say how much room there is', async () => {
    const blobs = await openFileBlobs({ dir: fresh() });
    expect(await blobs.free()).toBeGreaterThan(1_000_000);
  });
});

describe('a full disk', () => {
  // A file system of its own, where this machine lets us make one.
  const disk = join(folder, 'disk');
  mkdirSync(disk);
  const mounted = mount(disk);
  afterAll(() => mounted && execFileSync('umount', [disk]));

  it.skipIf(!mounted)('is told as storage_full, and what did not fit leaves nothing', async () => {
    const dir = join(disk, 'store');
    const blobs = await openFileBlobs({ dir });
    const kept = await blobs.write(inPieces(randomBytes(200_000), 50_000), { limit: 1e8 });
    const write = blobs.write(inPieces(randomBytes(4_000_000), 50_000), { limit: 1e8 });
    await expect(write).rejects.toMatchObject({ code: 'storage_full', status: 507 });
    expect(readdirSync(join(dir, 'tmp'))).toEqual([]);
    expect((await listed(blobs)).map(({ hash }) => hash)).toEqual([kept.hash]);
    expect((await whole(blobs, kept.hash)).length).toBe(200_000);
  });
});

describe('a process killed', () => {
  it.each(['in the middle', 'temp written', 'renamed'])('%s leaves no half file in sight', async (where) => {
    const dir = fresh();
    const killed = await writeAndDie(dir, where);
    expect(killed).toBe('SIGKILL');
    const blobs = await openFileBlobs({ dir });
    const bytes = Buffer.alloc(500_000, 7);
    const all = await listed(blobs);
    expect(all.map(({ hash }) => hash)).toEqual(where === 'renamed' ? [sha256(bytes)] : []);
    if (where === 'renamed') expect((await whole(blobs, sha256(bytes))).equals(bytes)).toBe(true);
    else expect(await blobs.read(sha256(bytes))).toBeUndefined();
    // The next attempt stores it all the same.
    await blobs.write(inPieces(bytes, 50_000), { limit: 1e7 });
    expect((await whole(blobs, sha256(bytes))).equals(bytes)).toBe(true);
    for (const name of readdirSync(join(dir, 'tmp'))) utimesSync(join(dir, 'tmp', name), 0, 0);
    await listed(blobs);
    expect(readdirSync(join(dir, 'tmp'))).toEqual([]);
    expect(existsSync(dir)).toBe(true);
  });
});

/** Writes a file of 500 000 sevens in a process that ends itself at a failpoint, and says which signal that was. */
async function writeAndDie(dir: string, where: string): Promise<string | null> {
  const code = `
    import { openFileBlobs } from ${JSON.stringify(join(root, 'adapters/stores/files/index.ts'))};
    const die = () => process.kill(process.pid, 'SIGKILL');
    const failpoint = (name) => { if (name === ${JSON.stringify(where)}) die(); };
    const blobs = await openFileBlobs({ dir: ${JSON.stringify(dir)}, failpoint });
    async function* source() {
      for (let index = 0; index < 10; index++) {
        if (index === 5 && ${JSON.stringify(where)} === 'in the middle') die();
        yield new Uint8Array(50_000).fill(7);
      }
    }
    await blobs.write(source(), { limit: 1e7 });`;
  const child = spawn(engines.node.command, ['--input-type=module', '--eval', code], { stdio: 'ignore' });
  const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
  return signal;
}

function mount(path: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', path], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
