// Artifacts: seen whole or not at all, kept once, made room for, and opened by whoever may.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Artifacts, ArtifactsOptions } from '../../src/artifacts.ts';
import type { BlobStore } from '../../src/store.ts';
import { engines, root } from '../support/gateway.ts';
import {
  collect,
  DAY,
  HOUR,
  openArtifacts,
  pieces,
  sha256,
  toPng,
  type OpenedArtifacts,
} from '../support/open-artifacts.ts';

let opened: OpenedArtifacts | undefined;
afterEach(async () => opened?.close());

async function open(
  options: Partial<ArtifactsOptions> & { wrap?: (blobs: BlobStore) => BlobStore } = {},
): Promise<OpenedArtifacts> {
  return (opened = await openArtifacts(options));
}

const owner = 'anna';
const save = async (artifacts: Artifacts, bytes: Uint8Array | string, about: object = {}) =>
  artifacts.save(pieces(bytes), { owner, ...about });

describe('what a job made', () => {
  it('is seen by nobody until its documents are committed, then whole', async () => {
    const { artifacts, store } = await open();
    const bytes = randomBytes(5000);
    const made = { capability: 'image.generate', prompt: 'a cat', seed: 7 };
    const { artifacts: views, puts } = await artifacts.stage([{ bytes }], { owner, job: 'job_1', made });
    const [view] = views;
    expect((await artifacts.list(owner, { limit: 10 })).records).toEqual([]);
    await expect(artifacts.get(owner, view!.id)).rejects.toMatchObject({ code: 'not_found' });
    await store.documents.put(puts);
    const record = await artifacts.get(owner, view!.id);
    expect(record.value).toMatchObject({ size: 5000, hash: sha256(bytes), job: 'job_1', index: 0, made });
    expect(await collect(await artifacts.open(record))).toEqual(bytes);
  });

  it('has ids that nobody can guess', async () => {
    const { artifacts } = await open();
    const { artifacts: views } = await artifacts.stage([{ bytes: randomBytes(1) }, { bytes: randomBytes(1) }], {
      owner,
    });
    for (const { id } of views) expect(id).toMatch(/^art_[0-9a-f]{32}$/);
    expect(views[0]!.id).not.toBe(views[1]!.id);
  });

  it('is named after the job where the runtime gives no name, with the ending of what it is', async () => {
    const { artifacts } = await open();
    const files = [
      { bytes: toPng({}) },
      { bytes: new TextEncoder().encode('words') },
      { name: 'a/b/cat', bytes: toPng({}) },
    ];
    const { artifacts: views } = await artifacts.stage(files, { owner, job: 'job_1' });
    expect(views.map(({ name }) => name)).toEqual(['job_1-1.png', 'job_1-2.txt', 'cat.png']);
  });

  it('leaves nothing where one of its files fails', async () => {
    const { artifacts, kept } = await open();
    async function* broken() {
      yield randomBytes(10);
      throw new Error('the runtime broke');
    }
    const files = [{ bytes: randomBytes(100) }, { bytes: broken() }];
    await expect(artifacts.stage(files, { owner })).rejects.toThrow('the runtime broke');
    expect(await kept()).toEqual([]);
    expect(artifacts.used()).toBe(0);
  });

  it('stays while its job may still be committed, and goes when it never was', async () => {
    const { artifacts, clock, kept, again } = await open();
    await artifacts.stage([{ bytes: randomBytes(100) }], { owner });
    await artifacts.sweep(clock.now + DAY);
    expect(await kept()).toHaveLength(1);
    // A gateway that has just started knows of no job on its way.
    const after = again();
    await after.sweep(clock.now + HOUR / 2);
    expect(await kept()).toHaveLength(1);
    clock.now += 2 * HOUR;
    await again().sweep(clock.now);
    await expect.poll(kept).toEqual([]);
  });

  it('can be given to another, without how it was made', async () => {
    const { artifacts, store } = await open();
    const { artifacts: views, puts } = await artifacts.stage([{ bytes: randomBytes(10) }], {
      owner,
      job: 'job_1',
      made: { prompt: 'secret' },
    });
    await store.documents.put(puts);
    const adopted = artifacts.adopt([await artifacts.get(owner, views[0]!.id)], { owner: 'bert', job: 'job_2' });
    await store.documents.put(adopted.puts);
    const { records } = await artifacts.list('bert', { job: 'job_2', limit: 10 });
    expect(records.map(({ id }) => id)).toEqual(adopted.ids);
    expect(JSON.stringify(records)).not.toContain('secret');
    await artifacts.remove(owner, views[0]!.id);
    expect((await collect(await artifacts.open(records[0]!))).length).toBe(10);
  });
});

describe('what is the same', () => {
  it('is kept once, until the last of them is deleted', async () => {
    const { artifacts, kept } = await open();
    const bytes = randomBytes(3000);
    const first = await save(artifacts, bytes);
    const second = await save(artifacts, bytes);
    expect(first.id).not.toBe(second.id);
    expect(await kept()).toEqual([sha256(bytes)]);
    expect(artifacts.used()).toBe(3000);
    await artifacts.remove(owner, first.id);
    expect(await collect(await artifacts.open(second))).toEqual(bytes);
    await artifacts.remove(owner, second.id);
    expect(await kept()).toEqual([]);
    expect(artifacts.used()).toBe(0);
  });

  it('is not lost where one comes while the other goes', async () => {
    const { artifacts, kept } = await open();
    const bytes = randomBytes(2000);
    for (let round = 0; round < 40; round++) {
      const old = await save(artifacts, bytes);
      const [saved] = await Promise.allSettled([save(artifacts, bytes), artifacts.remove(owner, old.id)]);
      // It may be refused, so that the sender tries again; it must not be taken and then be empty.
      if (saved.status === 'rejected') expect(saved.reason).toMatchObject({ code: 'storage_unavailable' });
      else {
        expect(await collect(await artifacts.open(saved.value))).toEqual(bytes);
        await artifacts.remove(owner, saved.value.id);
      }
    }
    expect(await kept()).toEqual([]);
  });
});

describe('an owner', () => {
  it('sees its own and nobody else’s: a foreign id is like an unknown one', async () => {
    const { artifacts } = await open();
    const { id } = await save(artifacts, 'mine');
    const unknown = `art_${'0'.repeat(32)}`;
    for (const other of [id, unknown]) {
      const failures = await Promise.all(
        [artifacts.get('bert', other), artifacts.remove('bert', other), artifacts.strip('bert', other)].map((work) =>
          (work as Promise<unknown>).catch((error: Error) => error),
        ),
      );
      for (const failure of failures)
        expect(failure).toMatchObject({ code: 'not_found', message: 'There is no such artifact.' });
    }
    expect((await artifacts.list('bert', { limit: 10 })).records).toEqual([]);
    expect((await artifacts.get(owner, id)).value.size).toBe(4);
  });

  it('lists newest first, page by page, by job and by purpose', async () => {
    const { artifacts, store } = await open();
    for (let index = 0; index < 5; index++)
      await save(artifacts, `upload ${index}`, { purpose: index % 2 ? 'odd' : 'even' });
    const { puts } = await artifacts.stage([{ bytes: randomBytes(5) }, { bytes: randomBytes(5) }], {
      owner,
      job: 'job_9',
    });
    await store.documents.put(puts);
    const first = await artifacts.list(owner, { limit: 4 });
    const second = await artifacts.list(owner, { limit: 4, cursor: first.next });
    expect([...first.records, ...second.records]).toHaveLength(7);
    expect(second.next).toBeUndefined();
    expect(first.records[0]!.value.job).toBe('job_9');
    expect((await artifacts.list(owner, { job: 'job_9', limit: 10 })).records).toHaveLength(2);
    const odd = await artifacts.list(owner, { purpose: 'odd', limit: 1 });
    const more = await artifacts.list(owner, { purpose: 'odd', limit: 1, cursor: odd.next });
    expect([...odd.records, ...more.records].map(({ value }) => value.purpose)).toEqual(['odd', 'odd']);
    expect((await artifacts.list(owner, { job: 'job_9', purpose: 'odd', limit: 10 })).records).toEqual([]);
  });

  it.each([
    '../../etc/passwd',
    '..%2f',
    '..\\x',
    '',
    'art_',
    `art_${'A'.repeat(32)}`,
    'con',
    'x'.repeat(4096),
    'sha256:../../x',
    '\0',
  ])('finds nothing under what is no id: %j', async (id) => {
    const { artifacts } = await open();
    await expect(artifacts.get(owner, id)).rejects.toMatchObject({ code: 'not_found' });
    await expect(artifacts.remove(owner, id)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('can make us forget how a picture was made, in the record and in the picture', async () => {
    const { artifacts, store, kept } = await open();
    const png = toPng({ prompt: 'a secret wish', workflow: '{"nodes":[]}' });
    const { artifacts: views, puts } = await artifacts.stage([{ bytes: png }], {
      owner,
      made: { prompt: 'a secret wish' },
    });
    await store.documents.put(puts);
    const record = await artifacts.strip(owner, views[0]!.id);
    expect(JSON.stringify(record)).not.toContain('secret');
    const bytes = await collect(await artifacts.open(record));
    expect(bytes.includes('secret')).toBe(false);
    expect(bytes).toEqual(toPng({}));
    expect(record.value).toMatchObject({ hash: sha256(bytes), size: bytes.length, media_type: 'image/png' });
    expect(await kept()).toEqual([record.value.hash]);
    expect((await artifacts.strip(owner, record.id)).value.hash).toBe(record.value.hash);
  });

  it('keeps a damaged picture as it is', async () => {
    const { artifacts } = await open();
    const png = toPng({ prompt: 'x' }).subarray(0, 400);
    const { id } = await save(artifacts, png);
    expect(await collect(await artifacts.open(await artifacts.strip(owner, id)))).toEqual(png);
  });
});

describe('time', () => {
  it('deletes what nobody used, and remembers that it was here for 30 days', async () => {
    const { artifacts, clock, kept } = await open({ keepMs: 10 * DAY });
    const { id } = await save(artifacts, 'a file');
    clock.now += 11 * DAY;
    await artifacts.sweep(clock.now);
    expect(await kept()).toEqual([]);
    await expect(artifacts.get(owner, id)).rejects.toMatchObject({ code: 'expired', status: 410 });
    await expect(artifacts.get('bert', id)).rejects.toMatchObject({ code: 'not_found' });
    clock.now += 31 * DAY;
    await artifacts.sweep(clock.now);
    await expect(artifacts.get(owner, id)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('begins anew with every use, written down once an hour at most', async () => {
    const { artifacts, clock, store } = await open({ keepMs: 10 * DAY });
    const { id, version } = await save(artifacts, 'a file');
    const use = async () => collect(await artifacts.open(await artifacts.get(owner, id)));
    await use();
    expect((await artifacts.get(owner, id)).version).toBe(version);
    clock.now += 9 * DAY;
    await use();
    const touched = await artifacts.get(owner, id);
    expect(touched.due).toBe(clock.now + 10 * DAY);
    clock.now += HOUR / 2;
    await use();
    expect((await store.documents.get('artifact', id))!.version).toBe(touched.version);
    clock.now += 9 * DAY;
    await artifacts.sweep(clock.now);
    expect((await use()).toString()).toBe('a file');
  });

  it('leaves the bytes to who is reading them', async () => {
    const { artifacts, clock, kept } = await open({ keepMs: DAY });
    const bytes = randomBytes(600_000);
    const record = await save(artifacts, bytes);
    const source = (await artifacts.open(record))!;
    const first = await source[Symbol.asyncIterator]().next();
    clock.now += 2 * DAY;
    await artifacts.sweep(clock.now);
    await expect(artifacts.get(owner, record.id)).rejects.toMatchObject({ code: 'expired' });
    const rest = await collect(source);
    expect(Buffer.concat([first.value as Uint8Array, rest]).equals(bytes)).toBe(true);
    await expect.poll(kept).toEqual([]);
  });
});

describe('room', () => {
  const old = async (opened: OpenedArtifacts, count: number, size = 1000) => {
    const records = [];
    for (let index = 0; index < count; index++) {
      records.push(await save(opened.artifacts, randomBytes(size)));
      opened.clock.now += HOUR;
    }
    opened.clock.now += 2 * HOUR;
    return records;
  };
  const there = async ({ artifacts }: OpenedArtifacts, ids: { id: string }[]) =>
    Promise.all(
      ids.map(({ id }) =>
        artifacts.get(owner, id).then(
          () => true,
          () => false,
        ),
      ),
    );

  it('is made by the longest unused', async () => {
    const all = await open({ budget: 5000 });
    const records = await old(all, 5);
    await collect(await all.artifacts.open(records[0]!));
    await save(all.artifacts, randomBytes(1500));
    expect(await there(all, records)).toEqual([true, false, false, true, true]);
    expect(all.artifacts.used()).toBe(4500);
    await expect(all.artifacts.get(owner, records[1]!.id)).rejects.toMatchObject({ code: 'expired' });
  });

  it('is not made by what is being read', async () => {
    const all = await open({ budget: 3000 });
    const records = await old(all, 3);
    const reader = (await all.artifacts.open(records[0]!))!;
    await save(all.artifacts, randomBytes(800));
    expect(await there(all, records)).toEqual([true, false, true]);
    expect((await collect(reader)).length).toBe(1000);
  });

  it('is not made by what came within the hour: then it is full', async () => {
    const all = await open({ budget: 3000 });
    const records = [];
    for (let index = 0; index < 3; index++) records.push(await save(all.artifacts, randomBytes(1000)));
    const write = save(all.artifacts, randomBytes(100));
    await expect(write).rejects.toMatchObject({ code: 'storage_full', status: 507 });
    expect(await there(all, records)).toEqual([true, true, true]);
    expect(await all.kept()).toHaveLength(3);
    expect(all.artifacts.used()).toBe(3000);
    // Of a file that it knows the size of, nothing is stored at all; of a job's neither.
    await expect(all.artifacts.stage([{ bytes: randomBytes(10) }], { owner })).rejects.toMatchObject({
      code: 'storage_full',
    });
    await expect(all.artifacts.room(1)).rejects.toMatchObject({ code: 'storage_full' });
  });

  it('is never there for a file that is larger than all of it, and nothing leaves for it', async () => {
    const all = await open({ budget: 5000, maxUpload: 1e6 });
    const records = await old(all, 3);
    await expect(save(all.artifacts, randomBytes(5001))).rejects.toMatchObject({ code: 'storage_full' });
    const announced = save(all.artifacts, randomBytes(1), { announced: 5001 });
    await expect(announced).rejects.toMatchObject({ code: 'storage_full' });
    const made = all.artifacts.stage([{ bytes: pieces(randomBytes(5001)) }], { owner });
    await expect(made).rejects.toMatchObject({ code: 'storage_full' });
    expect(await there(all, records)).toEqual([true, true, true]);
    expect(await all.kept()).toHaveLength(3);
  });

  it('is refused beyond the upload limit as too large, not as full', async () => {
    const { artifacts, kept } = await open({ maxUpload: 100 });
    await expect(save(artifacts, randomBytes(101))).rejects.toMatchObject({ code: 'body_too_large', status: 413 });
    expect(await kept()).toEqual([]);
  });

  it('is made where the disk is nearly full', async () => {
    const disk = { free: 1e9 };
    const all = await open({ wrap: (blobs) => ({ ...blobs, free: async () => disk.free }) });
    const records = await old(all, 2);
    disk.free = 1000;
    await expect(all.artifacts.room(10)).rejects.toMatchObject({ code: 'storage_full' });
    expect(await there(all, records)).toEqual([false, false]);
  });

  it('is counted anew after a restart', async () => {
    const all = await open();
    await old(all, 4);
    const after = all.again({ budget: 2500 });
    await expect.poll(() => after.used()).toBe(4000);
    await after.sweep(all.clock.now);
    expect(after.used()).toBe(2000);
    expect(await all.kept()).toHaveLength(2);
  });

  it('stays within the budget although many come at once', async () => {
    const all = await open({ budget: 10_000 });
    await old(all, 10);
    const results = await Promise.allSettled(Array.from({ length: 15 }, () => save(all.artifacts, randomBytes(1000))));
    expect(results.filter(({ status }) => status === 'fulfilled').length).toBe(10);
    expect(all.artifacts.used()).toBe(10_000);
    expect(await all.kept()).toHaveLength(10);
  });
});

describe('a sweep', () => {
  it('deletes bytes that belong to nothing after an hour, never any that belong to something', async () => {
    const all = await open();
    const records = await Promise.all([1, 2, 3].map((size) => save(all.artifacts, randomBytes(size * 100))));
    const { hash } = await all.blobs.write(pieces(randomBytes(50)), { limit: 100 });
    await all.again().sweep(all.clock.now);
    expect(await all.kept()).toContain(hash);
    all.clock.now += 2 * HOUR;
    await all.again().sweep(all.clock.now);
    await expect.poll(all.kept).toEqual(records.map(({ value }) => value.hash).toSorted());
  });

  it('goes on where the storage does not take part, and says so', async () => {
    const storage = { down: false };
    const fail = () => {
      throw new Error('down');
    };
    const all = await open({
      keepMs: DAY,
      wrap: (blobs) => ({ ...blobs, delete: async (hash) => (storage.down ? fail() : blobs.delete(hash)) }),
    });
    const { id } = await save(all.artifacts, 'a file');
    storage.down = true;
    all.clock.now += 2 * DAY;
    await all.artifacts.sweep(all.clock.now);
    await expect(all.artifacts.get(owner, id)).rejects.toMatchObject({ code: 'expired' });
    expect(all.logged.length).toBeGreaterThan(0);
    storage.down = false;
    await all.again().sweep(all.clock.now);
    await expect.poll(all.kept).toEqual([]);
  });
});

describe('a link', () => {
  it('opens its file, for a while', async () => {
    const { artifacts, clock } = await open({ urlMs: DAY });
    const record = await save(artifacts, 'a file');
    const { url, expires_at } = await artifacts.view(record, 'https://box.example');
    expect(url).toMatch(/^https:\/\/box\.example\/artifacts\/art_[0-9a-f]{32}\/content\?exp=\d+&sig=[\w-]{43}$/);
    expect(Math.abs(Date.parse(expires_at) - clock.now - DAY)).toBeLessThan(1000);
    const query = url.split('?')[1]!;
    expect((await artifacts.getSigned(record.id, query)).record.id).toBe(record.id);
    clock.now += DAY;
    await expect(artifacts.getSigned(record.id, query)).rejects.toMatchObject({
      code: 'invalid_signature',
      status: 403,
    });
  });

  it('has one form only', async () => {
    const { artifacts } = await open();
    const record = await save(artifacts, 'a file');
    const other = await save(artifacts, 'another');
    const query = (await artifacts.view(record)).url.split('?')[1]!;
    const [, exp, sig] = /^exp=(\d+)&sig=(.+)$/.exec(query)!;
    const last = sig!.at(-1)!;
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    // Base64 of 32 bytes has two spare bits: three other last letters stand for the same bytes.
    const twins = [1, 2, 3].map((bits) => sig!.slice(0, -1) + alphabet[alphabet.indexOf(last) ^ bits]!);
    const wrong = [
      `sig=${sig}&exp=${exp}`,
      `exp=${Number(exp) + 1}&sig=${sig}`,
      `exp=0${exp}&sig=${sig}`,
      `exp=${exp}.0&sig=${sig}`,
      `exp=${exp}&sig=${sig}=`,
      `exp=${exp}&sig=${sig}&x=1`,
      `x=1&${query}`,
      `${query}&${query}`,
      `exp=${exp}&sig=${sig!.toLowerCase()}`,
      `exp=${exp}&sig=${encodeURIComponent(`${sig} `)}`,
      `exp=${exp}&sig=`,
      `exp=${exp}`,
      `sig=${sig}`,
      `${query}#`,
      ...twins.map((twin) => `exp=${exp}&sig=${twin}`),
    ];
    for (const form of wrong) {
      await expect(artifacts.getSigned(record.id, form), form).rejects.toMatchObject({ code: 'invalid_signature' });
    }
    await expect(artifacts.getSigned(other.id, query)).rejects.toMatchObject({ code: 'invalid_signature' });
    expect((await artifacts.getSigned(record.id, query)).record.id).toBe(record.id);
  });

  it('of another key opens nothing', async () => {
    const { artifacts, again } = await open();
    const record = await save(artifacts, 'a file');
    const foreign = again({ key: new Uint8Array(32).fill(8) });
    const query = (await foreign.view(record)).url.split('?')[1]!;
    await expect(artifacts.getSigned(record.id, query)).rejects.toMatchObject({ code: 'invalid_signature' });
  });

  it('to what has left says so, and to what was deleted finds nothing', async () => {
    const { artifacts, clock } = await open({ keepMs: DAY, urlMs: 10 * DAY });
    const left = await save(artifacts, 'left alone');
    const leftQuery = (await artifacts.view(left)).url.split('?')[1]!;
    clock.now += 2 * DAY;
    await artifacts.sweep(clock.now);
    await expect(artifacts.getSigned(left.id, leftQuery)).rejects.toMatchObject({ code: 'expired', status: 410 });
    const deleted = await save(artifacts, 'deleted');
    const query = (await artifacts.view(deleted)).url.split('?')[1]!;
    await artifacts.remove(owner, deleted.id);
    await expect(artifacts.getSigned(deleted.id, query)).rejects.toMatchObject({ code: 'not_found', status: 404 });
  });
});

describe('what a file is', () => {
  it.each([
    ['a picture called text', toPng({}), 'text/plain', 'x.txt', 'image/png'],
    ['a page called a picture', '<!DOCTYPE html><script>alert(1)</script>', 'image/png', 'x.png', 'text/html'],
    ['a page behind a comment', '\uFEFF \n<!-- hm --><html>', 'text/plain', 'x', 'text/html'],
    ['a page behind a word', 'hello <script>alert(1)</script>', 'text/plain', 'x', 'text/html'],
    ['a drawing', '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', 'image/png', 'x', 'image/svg+xml'],
    ['a drawing behind a declaration', '<?xml version="1.0"?><svg/>', undefined, 'x', 'image/svg+xml'],
    ['markup', '<?xml version="1.0"?><a/>', undefined, 'x', 'application/xml'],
    ['a script that says so', 'alert(1)', 'text/javascript', 'x', 'text/javascript'],
    ['a document', '%PDF-1.7\n%âãÏÓ', 'image/png', 'x', 'application/pdf'],
    ['JSON', '{"a": [1, 2]}', undefined, 'x', 'application/json'],
    ['nearly JSON', '{"a": ', undefined, 'x', 'text/plain'],
    ['Markdown that says so', '# Title', 'text/markdown; charset=utf-8', 'x', 'text/markdown'],
    ['text that begins like a picture', 'BM is a company', undefined, 'x', 'text/plain'],
    ['text in another language', 'Zażółć gęślą jaźń 🐈', undefined, 'x', 'text/plain'],
    ['bytes called a page', new Uint8Array([0, 1, 2, 3, 255]), 'text/html', 'x', 'application/octet-stream'],
    ['bytes called sound', new Uint8Array([0, 1, 2, 3, 255]), 'audio/pcm;rate=24000', 'x', 'audio/pcm'],
    ['nothing', '', undefined, 'x', 'text/plain'],
  ])('is read from its bytes: %s', async (_, bytes, mediaType, name, expected) => {
    const { artifacts } = await open();
    expect((await save(artifacts, bytes, { mediaType, name })).value.media_type).toBe(expected);
  });

  it.each([
    ['cat.png', 'cat.png'],
    ['../../etc/passwd.txt', 'passwd.txt'],
    ['..\\..\\boot.ini', 'boot.ini'],
    ['C:\\temp\\x.txt', 'x.txt'],
    ['\\\\server\\share\\x.txt', 'x.txt'],
    ['/etc/shadow.txt', 'shadow.txt'],
    ['con.txt', '_con.txt'],
    ['.hidden.txt', 'hidden.txt'],
    ['a\r\nSet-Cookie: x.txt', 'aSet-Cookie_ x.txt'],
    ['a\0b.txt', 'ab.txt'],
    ['exe\u202Etxt.gpj.txt', 'exetxt.gpj.txt'],
    ['“cat” – ねこ.txt', '“cat” – ねこ.txt'],
    ['..', 'file.txt'],
    ['', 'file.txt'],
    ['cat', 'cat.txt'],
  ])('is called %j → %j', async (name, expected) => {
    const { artifacts } = await open();
    expect((await save(artifacts, 'text', { name })).value.name).toBe(expected);
  });

  it('has a name that every file system takes', async () => {
    const { artifacts } = await open();
    for (const name of ['x'.repeat(4096), '猫'.repeat(500), `${'x'.repeat(500)}.png`, '\uD800'.repeat(300)]) {
      const { value } = await save(artifacts, 'text', { name });
      expect(Buffer.byteLength(value.name)).toBeLessThanOrEqual(200);
      expect(value.name.isWellFormed()).toBe(true);
    }
  });
});

describe('a process killed while it saves', () => {
  it.each(['temp written', 'renamed'])('%s: nothing is seen, and a sweep takes what is left', async (where) => {
    const all = await open();
    await all.store.close();
    const code = `
      import { openFileBlobs } from ${JSON.stringify(join(root, 'adapters/stores/files/index.ts'))};
      import { openSqliteStore } from ${JSON.stringify(join(root, 'adapters/stores/sqlite/index.ts'))};
      import { createArtifacts } from ${JSON.stringify(join(root, 'src/artifacts.ts'))};
      const store = await openSqliteStore({ path: ${JSON.stringify(join(all.dir, 'store.db'))}, now: Date.now });
      const failpoint = (name) => { if (name === ${JSON.stringify(where)}) process.kill(process.pid, 'SIGKILL'); };
      const blobs = await openFileBlobs({ dir: ${JSON.stringify(join(all.dir, 'blobs'))}, failpoint });
      const options = { keepMs: 1e9, budget: 1e9, urlMs: 1e9, maxUpload: 1e9, now: Date.now, log() {} };
      const artifacts = createArtifacts({ documents: store.documents, blobs, key: new Uint8Array(32), ...options });
      async function* source() { yield new Uint8Array(1000); }
      await artifacts.save(source(), { owner: 'anna' });`;
    const child = spawn(engines.node.command, ['--input-type=module', '--eval', code], { cwd: root, stdio: 'ignore' });
    expect((await once(child, 'exit'))[1]).toBe('SIGKILL');
    const after = await openArtifactsIn(all);
    expect((await after.artifacts.list(owner, { limit: 10 })).records).toEqual([]);
    expect(readdirSync(join(all.dir, 'blobs', 'tmp')).length + (await all.kept()).length).toBe(1);
    await after.artifacts.sweep(Date.now() + 2 * HOUR);
    expect(await all.kept()).toEqual([]);
    await after.close();
  });

  it('keeps bytes that many bring and forget at the same time', async () => {
    const all = await open();
    const bring = async (round: number) => {
      const record = await save(all.artifacts, 'the same for all');
      // Every other one is forgotten, while others are on their way.
      if (round % 2) return void (await all.artifacts.remove(owner, record.id));
      const source = await all.artifacts.open(record);
      expect(source).toBeDefined();
      await source![Symbol.asyncIterator]().return?.();
    };
    await Promise.all(Array.from({ length: 60 }, (_, round) => bring(round)));
    const { records } = await all.artifacts.list(owner, { limit: 100 });
    expect(records).toHaveLength(30);
    expect(await all.kept()).toHaveLength(1);
  });
});

/** The store of a gateway that has ended, opened by the next one. */
async function openArtifactsIn({ dir, blobs }: OpenedArtifacts) {
  const { openSqliteStore } = await import('../../adapters/stores/sqlite/index.ts');
  const { createArtifacts } = await import('../../src/artifacts.ts');
  const store = await openSqliteStore({ path: join(dir, 'store.db'), now: Date.now });
  const artifacts = createArtifacts({
    documents: store.documents,
    blobs,
    key: new Uint8Array(32),
    now: () => Date.now() + 2 * HOUR,
    keepMs: DAY,
    budget: 1e9,
    urlMs: DAY,
    maxUpload: 1e6,
    log: () => {},
  });
  return { artifacts, close: async () => store.close() };
}
