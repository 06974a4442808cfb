// Several processes and one folder: whoever is killed leaves what has come to the next, and two never write the same file.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { takeLock } from '../../adapters/downloads/lock.ts';
import { openFakeHub, type FakeHub } from '../support/fake-hub.ts';
import { mayMount } from '../support/may-mount.ts';
import { failure, makeBytes, MB, open, openFolder, run, sha256 } from './bench.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const WEIGHTS = makeBytes(10 * MB);
const ENGINES = { node: [], bun: [], deno: ['run', '-A', '--no-prompt'] };
type Line = { type: string; done?: number; message?: string; code?: string; files?: { sha256: string }[] };

let hub: FakeHub;
let folder: Awaited<ReturnType<typeof openFolder>>;
const closing: (() => unknown)[] = [];
beforeEach(async () => {
  hub = await openFakeHub({ 'org/repo': { 'weights.bin': WEIGHTS, 'small.json': new Uint8Array(10) } });
  folder = await openFolder();
  closing.push(hub.close, folder.remove);
});
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

const url = (path = 'weights.bin') => `${hub.url}/org/repo/resolve/main/${path}`;
const wanted = (path = 'weights.bin') => ({ url: url(), root: folder.path, path });
const local = () => open({ trusted: hub.origins });

function start(files: object[], engine: keyof typeof ENGINES = 'node', options: object = {}) {
  const given = { options: { trusted: hub.origins, ...options }, files };
  const child = spawn(
    `${root}node_modules/.bin/${engine}`,
    [...ENGINES[engine], 'tests/downloads/child.ts', JSON.stringify(given)],
    { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  closing.push(() => child.kill('SIGKILL'));
  const lines: Line[] = [];
  const ended = once(child, 'exit');
  createInterface(child.stdout).on('line', (line) => lines.push(JSON.parse(line) as Line));
  return { child, lines, ended };
}

describe('a process that is killed', { timeout: 60_000 }, () => {
  it('at 60 % leaves what has come to the next, at once', async () => {
    hub.trouble = { kind: 'slow', bytesPerSecond: 8 * MB };
    const first = start([wanted()]);
    await vi.waitFor(() => expect(first.lines.at(-1)?.done ?? 0).toBeGreaterThan(6 * MB), 20_000);
    first.child.kill('SIGKILL');
    await first.ended;
    expect(await folder.files()).toEqual(['weights.bin.part', 'weights.bin.part.json', 'weights.bin.part.lock']);
    const killedAt = hub.cdn.served[0]![1];
    hub.trouble = undefined;

    const { files, progress } = await run(local(), [wanted()]);
    expect(files[0]!.sha256).toBe(sha256(WEIGHTS));
    const [, [from, to] = [0, 0], ...more] = hub.cdn.served;
    expect(more).toEqual([]);
    expect(to).toBe(WEIGHTS.length);
    // What was under way to the disk is all that comes twice.
    expect(killedAt - from).toBeLessThan(3 * MB);
    expect(from).toBeGreaterThan(4 * MB);
    for (const [at, { done }] of progress.entries()) expect(done).toBeGreaterThanOrEqual(progress[at - 1]?.done ?? 0);
    expect(await folder.files()).toEqual(['weights.bin']);
  });

  it('between its last two steps leaves nothing that stays', async () => {
    await run(local(), [wanted()]);
    await writeFile(join(folder.path, 'weights.bin.part.json'), JSON.stringify({ url: url() }));
    const { files } = await run(local(), [wanted()]);
    expect(files[0]!.already).toBe(true);
    expect(await folder.files()).toEqual(['weights.bin']);
  });
});

describe('two processes', { timeout: 60_000 }, () => {
  it('share one download', async () => {
    hub.trouble = { kind: 'slow', bytesPerSecond: 6 * MB };
    const others = [start([wanted()]), start([wanted()], 'bun')];
    await Promise.all(others.map(({ ended }) => ended));
    for (const { lines } of others)
      expect(lines.at(-1)).toMatchObject({ type: 'done', files: [{ sha256: sha256(WEIGHTS) }] });
    expect(
      others.filter(({ lines }) => lines.some(({ message }) => message?.includes('Another download'))),
    ).toHaveLength(1);
    expect(hub.cdn.served).toEqual([[0, WEIGHTS.length]]);
    expect(await folder.files()).toEqual(['weights.bin']);
  });

  it('go on where the other is killed while one waits', async () => {
    hub.trouble = { kind: 'slow', bytesPerSecond: 6 * MB };
    const first = start([wanted()]);
    await vi.waitFor(() => expect(first.lines.at(-1)?.done ?? 0).toBeGreaterThan(2 * MB), 20_000);
    const second = run(local(), [wanted()]);
    await vi.waitFor(() => expect(first.lines.at(-1)!.done!).toBeGreaterThan(4 * MB), 20_000);
    first.child.kill('SIGKILL');
    const { files, status } = await second;
    expect(status.join()).toContain('Another download');
    expect(files[0]!.sha256).toBe(sha256(WEIGHTS));
    expect(hub.cdn.served[1]![0]).toBeGreaterThan(2 * MB);
  });
});

describe('a lock', () => {
  const path = () => join(folder.path, 'x.part.lock');
  const holder = (change: object = {}) => {
    const own = JSON.parse(readFileSync(path(), 'utf8')) as object;
    writeFileSync(path(), JSON.stringify({ ...own, id: 'other', ...change }));
  };

  it('is held by one, and free when it is released', async () => {
    const taken = await Promise.all(Array.from({ length: 10 }, () => takeLock(path())));
    const [lock, ...more] = taken.filter((each) => each !== undefined);
    expect(more).toEqual([]);
    await lock!.check();
    await lock!.release();
    expect(await folder.files()).toEqual([]);
    await (await takeLock(path()))!.release();
  });

  it('is taken over from the dead and the silent by one of many, and from nobody else', async () => {
    const first = (await takeLock(path()))!;
    closing.push(() => first.release());
    holder();
    expect(await takeLock(path())).toBeUndefined();
    for (const change of [{ pid: 2 ** 22 + 5 }, { start: '1' }]) {
      await rm(path());
      const probe = (await takeLock(path()))!;
      closing.push(() => probe.release());
      holder(change);
      const taken = (await Promise.all(Array.from({ length: 10 }, () => takeLock(path())))).filter(Boolean);
      expect(taken).toHaveLength(1);
      await taken[0]!.release();
      await writeFile(path(), '');
    }
    // Of another machine, only its silence says something.
    await rm(path(), { force: true });
    const probe = (await takeLock(path()))!;
    closing.push(() => probe.release());
    holder({ place: 'elsewhere', pid: 2 ** 22 + 5 });
    expect(await takeLock(path())).toBeUndefined();
    const long = new Date(Date.now() - 60_000);
    await utimes(path(), long, long);
    const taken = (await takeLock(path()))!;
    await taken.release();
    expect(await folder.files()).toEqual([]);
  });

  it('that is lost stops whoever had it before it writes once more', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'] });
    closing.push(() => vi.useRealTimers());
    const lock = (await takeLock(path()))!;
    holder();
    vi.setSystemTime(Date.now() + 15_000);
    await expect(lock.check()).rejects.toThrow('taken over');
    await lock.release();
    expect(await folder.files()).toEqual(['x.part.lock']);
  });
});

describe.skipIf(!mayMount())('a disk that becomes full (needs the right to mount a tmpfs)', () => {
  it('keeps what has come, says so, and goes on when there is room', async () => {
    const disk = join(folder.path, 'disk');
    await mkdir(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', disk]);
    closing.push(() => void execFileSync('umount', [disk]));
    const file = { ...wanted(), root: disk };
    const ballast = join(disk, 'ballast');
    hub.trouble = { kind: 'slow', bytesPerSecond: 8 * MB };
    const running = failure(run(local(), [file]));
    await vi.waitFor(() => expect(hub.cdn.served[0]?.[1]).toBeGreaterThan(MB), 20_000);
    await writeFile(ballast, new Uint8Array(5 * MB));
    const error = await running;
    expect(error).toMatchObject({ code: 'storage_full', status: 507, hint: expect.stringContaining('kept') });
    expect(error.message).not.toContain(disk);

    hub.trouble = undefined;
    const before = hub.requests.length;
    const refused = await failure(run(local(), [file]));
    expect(refused.message).toMatch(/are needed, .* are free/);
    expect(hub.requests.slice(before).filter((line) => line.startsWith('GET'))).toEqual([]);
    await rm(ballast);
    await run(local(), [file]);
    expect((await readFile(join(disk, 'weights.bin'))).equals(WEIGHTS)).toBe(true);
    expect(hub.cdn.served.at(-1)![0]).toBeGreaterThan(MB);
  });
});

describe.each(['bun', 'deno'] as const)('on %s', { timeout: 60_000 }, (engine) => {
  it('files are resumed, checked, refused and kept as on Node, and the program ends', async () => {
    hub.trouble = { kind: 'cut', times: 1 };
    const address = new URL(hub.url);
    const good = start(
      [
        wanted('a/weights.bin'),
        wanted('a/weights.bin'),
        { ...wanted('b'), sha256: '0'.repeat(64) },
        wanted('../c'),
        { ...wanted('d'), url: `https://localhost:${address.port}/x` },
        { ...wanted('e'), url: url('none') },
        { ...wanted('f'), url: url('small.json') },
      ],
      engine,
      { tokens: { [hub.url]: 'secret' } },
    );
    await good.ended;
    const ends = good.lines.filter(({ type }) => type === 'done' || type === 'failed');
    expect(ends.map((end) => end.code ?? end.files![0])).toMatchObject([
      { already: false, sha256: sha256(WEIGHTS), size: WEIGHTS.length },
      { already: true },
      'digest_mismatch',
      'invalid_request',
      'invalid_request',
      'model_not_found',
      { size: 10 },
    ]);
    const [whole, rest] = hub.cdn.served;
    expect(whole).toEqual([0, 5 * MB]);
    // The last bytes before a cut may be lost on their way through the engine.
    expect(rest![0]).toBeGreaterThan(4 * MB);
    expect(rest![0]).toBeLessThanOrEqual(5 * MB);
    expect(rest![1]).toBe(10 * MB);
    expect(new Set(hub.tokens)).toEqual(new Set(['Bearer secret']));
    for (const headers of hub.cdn.headers) expect(headers.authorization).toBeUndefined();
    expect(await folder.files()).toEqual(['a/weights.bin', 'f']);
  });

  it('a stall is noticed, and what has come is kept', async () => {
    hub.trouble = { kind: 'stall' };
    const stalled = start([wanted()], engine);
    await stalled.ended;
    expect(stalled.lines.at(-1)).toMatchObject({ type: 'failed', code: 'upstream_idle' });
    expect(await folder.files()).toEqual(['weights.bin.part', 'weights.bin.part.json']);
  });
});
