// Blobs in an S3-compatible bucket: the common suite, and a storage that fails in every way.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openS3Blobs } from '../../adapters/stores/s3/index.ts';
import type { BlobStore } from '../../src/store.ts';
import { inPieces, listed, sha256, testBlobs, whole } from '../conformance/blobs.ts';
import { openFakeS3, s3Account, type FakeS3, type S3Fault, type S3Request } from '../support/fake-s3.ts';

testBlobs('s3', async () => {
  const storage = await openFakeS3();
  const spool = mkdtempSync(join(tmpdir(), 'hono-ai-spool-test-'));
  return {
    blobs: await openS3Blobs({ ...s3Account, url: storage.url, spool }),
    leftovers: async () => storage.uploads.size + readdirSync(spool).length,
    async close() {
      await storage.close();
      rmSync(spool, { recursive: true, force: true });
    },
  };
});

describe('a storage', () => {
  let storage: FakeS3;
  let blobs: BlobStore;
  beforeEach(async () => {
    storage = await openFakeS3();
    blobs = await openS3Blobs({ ...s3Account, url: storage.url, timeoutMs: 2000 });
  });
  afterEach(async () => {
    await blobs.close?.();
    await storage.close();
  });

  const small = Buffer.from('a small file');
  const large = Buffer.alloc(9 * 1024 * 1024, 'x');
  const write = async (bytes: Buffer) => blobs.write(inPieces(bytes, 1_000_000), { limit: 1e8 });
  const on = (matches: (request: S3Request) => boolean, fault: S3Fault, times = Infinity) => {
    let left = times;
    storage.fault = (request) => (matches(request) && left-- > 0 ? fault : undefined);
  };
  const isPut = ({ method }: S3Request) => method === 'PUT' || method === 'POST';

  it.each([
    ['refuses the keys', { status: 403, code: 'AccessDenied' } as const],
    ['is broken', { status: 500, code: 'InternalError' } as const],
    ['is overloaded', { status: 503, code: 'SlowDown' } as const],
    ['hangs up', 'hang up' as const],
    ['does not answer in time', { slow: 60_000 } as const],
    ['says yes and keeps nothing', 'lose' as const],
  ])('that %s is unavailable, never a success', { timeout: 60_000 }, async (_, fault) => {
    for (const bytes of [small, large]) {
      on(isPut, fault);
      await expect(write(bytes)).rejects.toMatchObject({ code: 'storage_unavailable', status: 503, retryAfter: 10 });
      expect(storage.objects.size).toBe(0);
    }
  });

  it('that has no room says storage_full', async () => {
    on(isPut, { status: 507, code: 'XMinioStorageFull' });
    await expect(write(small)).rejects.toMatchObject({ code: 'storage_full' });
  });

  it('that is down is unavailable', async () => {
    await storage.close();
    await expect(write(small)).rejects.toMatchObject({ code: 'storage_unavailable' });
    await expect(blobs.read(sha256(small))).rejects.toMatchObject({ code: 'storage_unavailable' });
    await expect(listed(blobs)).rejects.toMatchObject({ code: 'storage_unavailable' });
  });

  it.each([
    ['is broken for a moment', { status: 500, code: 'InternalError' } as const],
    ['hangs up once', 'hang up' as const],
    ['is slow once', { slow: 60_000 } as const],
  ])('that %s gets the file in the end', async (_, fault) => {
    on(isPut, fault, 1);
    await write(small);
    on(({ query }) => query.get('partNumber') === '2', fault, 1);
    await write(large);
    expect(sha256(await whole(blobs, sha256(large)))).toBe(sha256(large));
    expect(storage.uploads.size).toBe(0);
  });

  it('that shows an object only after a moment is asked again', async () => {
    on(({ method }) => method === 'HEAD', { status: 404, code: 'NoSuchKey' }, 2);
    expect(await write(small)).toMatchObject({ hash: sha256(small) });
  });

  it('that knows the keys wrong is told so in a hint', async () => {
    const other = await openS3Blobs({ ...s3Account, secretKey: 'another-secret', url: storage.url });
    const error = await other.write(inPieces(small, 10), { limit: 100 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'storage_unavailable' });
    expect((error as { hint: string }).hint).toContain('HONO_AI_S3_ACCESS_KEY');
    expect(String(error)).not.toContain(storage.url);
    await other.close?.();
  });

  it('forgets an upload in parts that is cancelled', async () => {
    const stop = new AbortController();
    storage.fault = ({ query }) => {
      if (query.get('partNumber') === '2') stop.abort();
      return undefined;
    };
    const cancelled = blobs.write(inPieces(large, 1_000_000), { limit: 1e8, signal: stop.signal });
    await expect(cancelled).rejects.toMatchObject({ code: 'client_closed' });
    expect(storage.uploads.size).toBe(0);
    expect(storage.objects.size).toBe(0);
  });

  it('forgets an upload in parts that fails', async () => {
    on(({ query }) => query.get('partNumber') === '2', { status: 403, code: 'AccessDenied' });
    await expect(write(large)).rejects.toMatchObject({ code: 'storage_unavailable' });
    expect(storage.uploads.size).toBe(0);
  });

  it('is rid of uploads that a process which died has begun, of nobody else and no younger ones', async () => {
    const hour = Date.now() - 3_700_000;
    storage.uploads.set('abandoned', { key: `sha256/${'a'.repeat(64)}`, parts: new Map(), begunAt: hour });
    storage.uploads.set('young', { key: `sha256/${'b'.repeat(64)}`, parts: new Map(), begunAt: Date.now() });
    storage.uploads.set('foreign', { key: 'backup.tar', parts: new Map(), begunAt: hour });
    await listed(blobs);
    expect([...storage.uploads.keys()]).toEqual(['young', 'foreign']);
  });

  it('may hold what is not ours', async () => {
    storage.objects.set('backup.tar', { bytes: Buffer.from('mine'), modifiedAt: 0 });
    storage.objects.set('sha256/notes.txt', { bytes: Buffer.from('mine'), modifiedAt: 0 });
    await write(small);
    expect((await listed(blobs)).map(({ hash }) => hash)).toEqual([sha256(small)]);
  });

  it('that breaks off while it is read does not give half for whole', async () => {
    const bytes = randomBytes(500_000);
    await write(bytes);
    on(({ method }) => method === 'GET', 'cut');
    await expect(whole(blobs, sha256(bytes))).rejects.toMatchObject({ code: 'storage_unavailable' });
  });
});
