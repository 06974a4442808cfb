// Files from a hub and its content network, and everything that can go wrong with their bytes on the way.
import { mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DownloadsOptions } from '../../adapters/downloads/index.ts';
import { eventually } from '../support/eventually.ts';
import { openFakeHub, type FakeHub, type Trouble } from '../support/fake-hub.ts';
import { failure, makeBytes, MB, open, openFolder, run, sha256 } from './bench.ts';

const WEIGHTS = makeBytes(6 * MB);
const CONFIG = new TextEncoder().encode('{"a": 1}');

let hub: FakeHub;
let folder: Awaited<ReturnType<typeof openFolder>>;
const closing: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  hub = await openFakeHub({ 'org/repo': { 'weights.bin': WEIGHTS, 'config.json': CONFIG } });
  folder = await openFolder();
  closing.push(hub.close, folder.remove);
});
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const downloads = (options: Partial<DownloadsOptions> = {}) => open({ trusted: hub.origins, ...options });
const urlOf = (path: string) => `${hub.url}/org/repo/resolve/main/${path}`;
const wanted = (path = 'weights.bin', place = path) => ({ url: urlOf(path), root: folder.path, path: place });
const plain = (place = 'a/weights.bin') => ({ url: `${hub.cdn.url}/file?key=1`, root: folder.path, path: place });
const read = (path = 'weights.bin') => readFile(join(folder.path, path));
const gets = () => hub.requests.filter((line) => line.startsWith('GET /cdn/')).length;

describe('a download', () => {
  it('brings all files whole, with progress over all of them, and its token to the hub alone', async () => {
    const { files, progress } = await run(downloads({ tokens: { [hub.url]: 'hf_secret' } }), [
      wanted('config.json', 'sub/config.json'),
      wanted(),
    ]);
    expect((await read()).equals(WEIGHTS)).toBe(true);
    expect(files.map((file) => [file.size, file.sha256, file.already])).toEqual([
      [CONFIG.length, sha256(CONFIG), false],
      [WEIGHTS.length, sha256(WEIGHTS), false],
    ]);
    const total = CONFIG.length + WEIGHTS.length;
    for (const [at, { done }] of progress.entries()) expect(done).toBeGreaterThanOrEqual(progress[at - 1]?.done ?? 0);
    expect(progress.at(-1)).toMatchObject({ done: total, total, unit: 'bytes', label: 'weights.bin' });
    expect(await folder.files()).toEqual(['sub/config.json', 'weights.bin']);
    expect(new Set(hub.tokens)).toEqual(new Set(['Bearer hf_secret']));
    expect(hub.cdn.headers.length).toBeGreaterThan(0);
    for (const headers of hub.cdn.headers) {
      expect(headers.authorization).toBeUndefined();
      expect(headers['accept-encoding']).toBe('identity');
    }
  });

  it('fetches nothing twice, and sees when what is there is something else', async () => {
    const all = downloads();
    await run(all, [wanted()]);
    expect((await run(all, [wanted()])).files[0]).toMatchObject({ already: true, sha256: sha256(WEIGHTS) });
    expect((await run(downloads(), [wanted()])).files[0]).toMatchObject({ already: true });
    expect(gets()).toBe(1);
    const changed = Buffer.from(WEIGHTS);
    changed[5]! ^= 1;
    await writeFile(join(folder.path, 'weights.bin'), changed);
    expect((await run(all, [wanted()])).files[0]).toMatchObject({ already: false });
    expect((await read()).equals(WEIGHTS)).toBe(true);
  });

  it('takes the place of another file of its name only where it may', async () => {
    const mine = { ...wanted(), replace: false };
    await writeFile(join(folder.path, 'weights.bin'), 'somebody else’s');
    await expect(run(downloads(), [mine])).rejects.toMatchObject({ code: 'conflict', retry: false });
    expect((await read()).toString()).toBe('somebody else’s');
    expect(gets()).toBe(0);
    await rm(join(folder.path, 'weights.bin'));
    expect((await run(downloads(), [mine])).files[0]).toMatchObject({ already: false });
    expect((await run(downloads(), [mine])).files[0]).toMatchObject({ already: true });
  });

  it('does not take the place of what came under its name while it waited', async () => {
    hub.trouble = { kind: 'slow', bytesPerSecond: 12 * MB };
    const first = run(downloads(), [wanted()]);
    await eventually('it has begun', () => gets() > 0);
    const late = failure(run(downloads(), [{ ...wanted('config.json', 'weights.bin'), replace: false }]));
    const files = [wanted(), { ...wanted('config.json'), replace: false }];
    const last = downloads().fetch(files, { signal: new AbortController().signal, source: 'x' });
    while (!JSON.stringify((await last.next()).value).includes('Another download')) continue;
    await writeFile(join(folder.path, 'config.json'), 'mine');
    const rest = async () => {
      while (!(await last.next()).done) continue;
    };
    await expect(rest()).rejects.toMatchObject({ code: 'conflict' });
    expect((await read('config.json')).toString()).toBe('mine');
    expect((await late).code).toBe('conflict');
    await first;
    expect((await read()).equals(WEIGHTS)).toBe(true);
  });

  it('is one for twenty who ask', async () => {
    hub.trouble = { kind: 'slow', bytesPerSecond: 12 * MB };
    const all = downloads();
    const results = await Promise.all(Array.from({ length: 20 }, () => run(all, [wanted()])));
    expect(gets()).toBe(1);
    for (const { files } of results) expect(files[0]!.sha256).toBe(sha256(WEIGHTS));
    const waited = results.filter(({ status }) => status.some((text) => text.includes('Another download')));
    expect(waited).toHaveLength(19);
    for (const { progress } of waited) expect(progress.at(-1)!.done).toBe(WEIGHTS.length);
    expect(await folder.files()).toEqual(['weights.bin']);
  });

  it('stops at once when it is no longer wanted, keeps what has come, and goes on from there', async () => {
    hub.trouble = { kind: 'stall' };
    const abort = new AbortController();
    const running = failure(run(downloads({ stallMs: 30_000 }), [wanted()], abort.signal));
    const partSize = async () => (await stat(join(folder.path, 'weights.bin.part'))).size;
    await vi.waitFor(async () => expect(await partSize()).toBeGreaterThan(1.5 * MB), 20_000);
    const asked = Date.now();
    abort.abort();
    expect(await running).toMatchObject({ code: 'client_closed' });
    expect(Date.now() - asked).toBeLessThan(10_000);
    await vi.waitFor(() => expect(hub.cdn.open()).toBe(0), 20_000);
    expect(await folder.files()).toEqual(['weights.bin.part', 'weights.bin.part.json']);
    hub.trouble = undefined;
    const { progress } = await run(downloads(), [wanted()]);
    expect(hub.cdn.served[1]![0]).toBeGreaterThan(1.5 * MB);
    expect(progress[0]!.done).toBeGreaterThan(MB);
    expect(await folder.files()).toEqual(['weights.bin']);
  });
});

describe('bytes that do not come', () => {
  const healing: [trouble: Trouble, requests: number][] = [
    [{ kind: 'cut', times: 2 }, 3],
    [{ kind: 'stall', times: 1 }, 2],
    // More cuts than tries: each brings something.
    [{ kind: 'crumbs', times: 7 }, 8],
  ];
  it.each(healing)('are asked for from where they stopped: %j', async (trouble, requests) => {
    hub.trouble = trouble;
    const { status, progress } = await run(downloads(), [wanted()]);
    expect((await read()).equals(WEIGHTS)).toBe(true);
    expect(gets()).toBe(requests);
    expect(status.join()).toContain('Next try');
    for (const [at, { done }] of progress.entries()) expect(done).toBeGreaterThanOrEqual(progress[at - 1]?.done ?? 0);
    const twice = hub.cdn.served.reduce((sum, [from, to]) => sum + to - from, 0) - WEIGHTS.length;
    expect(twice).toBeLessThan(0.2 * MB);
  });

  const hopeless: [trouble: Trouble, code: string, kept: boolean][] = [
    [{ kind: 'cut' }, 'upstream_terminated', true],
    [{ kind: 'stall' }, 'upstream_idle', true],
    [{ kind: 'corrupt' }, 'digest_mismatch', false],
    [{ kind: 'short' }, 'digest_mismatch', false],
    [{ kind: 'long' }, 'digest_mismatch', false],
    [{ kind: 'status', status: 503 }, 'model_unavailable', false],
    [{ kind: 'status', status: 429 }, 'rate_limited', false],
    [{ kind: 'status', status: 401, errorCode: 'GatedRepo' }, 'model_unavailable', false],
    [{ kind: 'status', status: 404 }, 'model_not_found', false],
    [{ kind: 'silence' }, 'upstream_idle', false],
  ];
  it.each(hopeless)('are given up after the last try: %j', async (trouble, code, kept) => {
    hub.trouble = trouble;
    const error = await failure(run(downloads({ stallMs: 150 }), [wanted()]));
    expect(error).toMatchObject({ code, source: 'comfyui' });
    expect(error.hint).toBeTruthy();
    expect(`${error.message} ${error.hint}`).not.toMatch(/127\.0\.0\.1|\/tmp|undefined/);
    expect(await folder.files()).toEqual(kept ? ['weights.bin.part', 'weights.bin.part.json'] : []);
  });

  it('are waited for as long as the server asks, and no longer', async () => {
    hub.trouble = { kind: 'status', status: 429, retryAfter: '1', times: 1 };
    const begun = Date.now();
    await run(downloads(), [wanted()]);
    expect(Date.now() - begun).toBeGreaterThan(900);
    hub.trouble = { kind: 'status', status: 429, retryAfter: '86400' };
    expect(await failure(run(downloads(), [wanted('config.json')]))).toMatchObject({ code: 'rate_limited' });
    expect(hub.requests.filter((line) => line.includes('config.json'))).toHaveLength(1);
  });

  it('of a server that is not there are given up at once', async () => {
    await hub.cdn.close();
    const error = await failure(run(downloads({ tries: 50, backoffMs: 60_000 }), [plain()]));
    expect(error).toMatchObject({ code: 'model_unavailable', status: 503 });
    expect(error.message).toContain('cannot be reached');
  });
});

describe('what had come earlier', () => {
  const part = () => writeFile(join(folder.path, 'weights.bin.part'), WEIGHTS.subarray(0, 2 * MB));
  const facts = (value: object) => writeFile(join(folder.path, 'weights.bin.part.json'), JSON.stringify(value));
  const known = { url: '', size: WEIGHTS.length, sha256: sha256(WEIGHTS) };

  it('is used where it is of the same file', async () => {
    await part();
    await facts({ ...known, url: urlOf('weights.bin') });
    const { progress } = await run(downloads(), [wanted()]);
    expect(hub.cdn.served).toEqual([[2 * MB, 6 * MB]]);
    expect(progress[0]!.done).toBeGreaterThan(0);
    expect((await read()).equals(WEIGHTS)).toBe(true);
  });

  it('is left where the server gives other bytes than it is asked for', async () => {
    await part();
    await facts({ ...known, url: urlOf('weights.bin') });
    hub.trouble = { kind: 'lying', times: 1 };
    await run(downloads(), [wanted()]);
    expect(hub.cdn.served.map(([from]) => from)).toEqual([2 * MB, 0]);
    expect((await read()).equals(WEIGHTS)).toBe(true);
  });

  it.each([
    ['without a word on what it is', undefined],
    ['of another hash', { ...known, sha256: sha256(CONFIG) }],
    ['of another size', { ...known, size: 5 }],
    ['with words that nobody can read', 'broken'],
  ])('is left where it is %s', async (_, told) => {
    await part();
    if (typeof told === 'string') await writeFile(join(folder.path, 'weights.bin.part.json'), '{"url":');
    else if (told) await facts({ ...told, url: urlOf('weights.bin') });
    await run(downloads(), [wanted()]);
    expect(hub.cdn.served).toEqual([[0, 6 * MB]]);
  });

  it('costs one more try where it turns out to be wrong, and no second one', async () => {
    await writeFile(join(folder.path, 'weights.bin.part'), new Uint8Array(2 * MB));
    await facts({ ...known, url: urlOf('weights.bin') });
    const { files } = await run(downloads(), [wanted()]);
    expect(files[0]!.sha256).toBe(sha256(WEIGHTS));
    expect(hub.cdn.served.map(([from]) => from)).toEqual([2 * MB, 0]);
    await writeFile(join(folder.path, 'b.part'), new Uint8Array(2 * MB));
    await writeFile(join(folder.path, 'b.part.json'), JSON.stringify({ ...known, url: urlOf('weights.bin') }));
    hub.trouble = { kind: 'corrupt' };
    expect(await failure(run(downloads(), [wanted('weights.bin', 'b')]))).toMatchObject({ code: 'digest_mismatch' });
    expect(await folder.files()).toEqual(['weights.bin']);
  });

  it('is not written through a link that lies in its place', async () => {
    const victim = join(folder.path, 'victim');
    await writeFile(victim, 'precious');
    await symlink(victim, join(folder.path, 'weights.bin.part'));
    await facts({ ...known, url: urlOf('weights.bin') });
    await run(downloads(), [wanted()]);
    expect(await readFile(victim, 'utf8')).toBe('precious');
    expect((await stat(join(folder.path, 'weights.bin'))).size).toBe(WEIGHTS.length);
  });
});

describe('a server without hashes', () => {
  beforeEach(() => hub.cdn.files.set('file', WEIGHTS));

  it('is resumed by its ETag, and begun anew where the file has changed or nothing vouches for it', async () => {
    hub.cdn.trouble = { kind: 'cut', times: 1 };
    await run(downloads(), [plain()]);
    expect(hub.cdn.served).toEqual([
      [0, 3 * MB],
      [3 * MB, 6 * MB],
    ]);
    expect(hub.cdn.headers.at(-1)!['if-range']).toMatch(/^"[0-9a-f]{32}"$/);

    hub.cdn.trouble = { kind: 'cut' };
    await failure(run(downloads(), [plain('b')]));
    const other = makeBytes(6 * MB, 2);
    hub.cdn.files.set('file', other);
    hub.cdn.trouble = undefined;
    const { files } = await run(downloads(), [plain('b')]);
    expect(files[0]!.sha256).toBe(sha256(other));
    expect(hub.cdn.served.at(-1)).toEqual([0, 6 * MB]);

    hub.cdn.etags = false;
    hub.cdn.trouble = { kind: 'cut', times: 1 };
    await run(downloads(), [plain('c')]);
    expect(hub.cdn.served.at(-1)).toEqual([0, 6 * MB]);
  });

  it('or without ranges is begun anew, and not for ever', async () => {
    hub.cdn.ranges = false;
    hub.cdn.trouble = { kind: 'cut', times: 1 };
    const { files, progress } = await run(downloads(), [plain()]);
    expect(files[0]!.sha256).toBe(sha256(WEIGHTS));
    for (const [at, { done }] of progress.entries()) expect(done).toBeGreaterThanOrEqual(progress[at - 1]?.done ?? 0);
    hub.cdn.trouble = { kind: 'cut' };
    const before = gets();
    expect(await failure(run(downloads(), [plain('b')]))).toMatchObject({ code: 'upstream_terminated' });
    expect(gets() - before).toBeLessThanOrEqual(4);
  });

  it('is held to the hash that the caller knows, and a page is no file', async () => {
    const right = { ...plain(), sha256: sha256(WEIGHTS) };
    expect((await run(downloads(), [right])).files[0]!.sha256).toBe(right.sha256);
    const wrong = { ...plain('b'), sha256: sha256(CONFIG) };
    expect(await failure(run(downloads(), [wrong]))).toMatchObject({ code: 'digest_mismatch' });
    hub.cdn.trouble = { kind: 'page' };
    expect((await failure(run(downloads(), [plain('c')]))).message).toContain('a page');
    expect(await folder.files()).toEqual(['a/weights.bin']);
  });
});

describe('room', () => {
  it('is looked for before the first byte, and nothing is made where there is none', async () => {
    const all = downloads();
    const free = (await all.free(join(folder.path, 'not', 'yet')))!;
    expect(free).toBeGreaterThan(0);
    const error = await failure(run(all, [{ ...wanted('weights.bin', 'deep/weights.bin'), size: free + MB }]));
    expect(error).toMatchObject({ code: 'storage_full', status: 507 });
    expect(error.message).toMatch(/[\d.]+ GB are needed, [\d.]+ GB are free/);
    expect(gets()).toBe(0);
    expect(await folder.files()).toEqual([]);
    await expect(stat(join(folder.path, 'deep'))).rejects.toThrow('ENOENT');
  });

  it('that may not be written has its own words', async () => {
    await writeFile(join(folder.path, 'file'), '');
    const error = await failure(run(downloads(), [{ ...wanted(), root: join(folder.path, 'file') }]));
    expect(error).toMatchObject({ code: 'storage_unavailable', hint: expect.stringContaining('writable') });
    await mkdir(join(folder.path, 'weights.bin'));
    expect(await failure(run(downloads(), [wanted()]))).toMatchObject({ code: 'storage_unavailable' });
  });
});
