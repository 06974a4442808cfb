// What every store of blobs must do, run over each.
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GatewayError } from '../../src/error.ts';
import type { BlobStore } from '../../src/store.ts';

export interface OpenedBlobs {
  blobs: BlobStore;
  /** Files or uploads that are half done, of this process or another. */
  leftovers(): Promise<number>;
  close(): Promise<void>;
}

export function testBlobs(name: string, open: () => Promise<OpenedBlobs>): void {
  describe(`blobs: ${name}`, () => {
    let opened: OpenedBlobs;
    let blobs: BlobStore;
    beforeAll(async () => {
      opened = await open();
      ({ blobs } = opened);
    });
    afterAll(async () => opened?.close());

    it('gives back what it took, under its SHA-256', async () => {
      const bytes = randomBytes(300_001);
      const written = await blobs.write(inPieces(bytes, 7000), { limit: 1e6 });
      expect(written).toMatchObject({ hash: sha256(bytes), size: bytes.length });
      expect(await whole(blobs, written.hash)).toEqual(bytes);
    });

    it('tells what a file begins with', async () => {
      const bytes = randomBytes(10_000);
      const { head } = await blobs.write(inPieces(bytes, 1000), { limit: 1e6 });
      expect(head.byteLength).toBe(4096);
      expect(Buffer.from(head)).toEqual(bytes.subarray(0, 4096));
      const small = await blobs.write(inPieces(bytes.subarray(0, 3), 1), { limit: 1e6 });
      expect(Buffer.from(small.head)).toEqual(bytes.subarray(0, 3));
    });

    it('tells the hash while nothing of the file is visible, and waits then', async () => {
      const bytes = randomBytes(5000);
      const seen: unknown[] = [];
      const onHash = async (hash: string) => void seen.push(hash, await blobs.read(hash));
      const { hash } = await blobs.write(inPieces(bytes, 1000), { limit: 1e6, onHash });
      expect(seen).toEqual([hash, undefined]);
      await expect(
        blobs.write(inPieces(randomBytes(10), 10), { limit: 1e6, onHash: () => Promise.reject(new Error('no')) }),
      ).rejects.toThrow();
      expect(await opened.leftovers()).toBe(0);
    });

    it('takes a file of nothing', async () => {
      const { hash, size } = await blobs.write(inPieces(Buffer.alloc(0), 1), { limit: 10 });
      expect({ hash, size }).toEqual({ hash: sha256(Buffer.alloc(0)), size: 0 });
      expect(await whole(blobs, hash)).toEqual(Buffer.alloc(0));
    });

    it('takes a file that is larger than any piece it is sent in', { timeout: 60_000 }, async () => {
      const bytes = randomBytes(21 * 1024 * 1024);
      const { hash } = await blobs.write(inPieces(bytes, 1_000_000), { limit: bytes.length });
      expect(sha256(await whole(blobs, hash))).toBe(hash);
      expect(await opened.leftovers()).toBe(0);
    });

    it.each([
      [0, 10],
      [5, 6],
      [299_990, 300_000],
      [131_000, 270_000],
      [100, 100],
    ])('gives the bytes from %i to %i', async (start, end) => {
      const bytes = randomBytes(300_000);
      const { hash } = await blobs.write(inPieces(bytes, 50_000), { limit: 1e6 });
      expect(await whole(blobs, hash, { start, end })).toEqual(bytes.subarray(start, end));
    });

    it('keeps one of two that are the same', async () => {
      const bytes = randomBytes(1000);
      const first = await blobs.write(inPieces(bytes, 100), { limit: 1e6 });
      const second = await blobs.write(inPieces(bytes, 1000), { limit: 1e6 });
      expect(second.hash).toBe(first.hash);
      expect((await listed(blobs)).filter(({ hash }) => hash === first.hash)).toHaveLength(1);
    });

    it('keeps the same file whole when many bring it at once', async () => {
      const bytes = randomBytes(100_000);
      const all = await Promise.all(
        Array.from({ length: 8 }, () => blobs.write(inPieces(bytes, 9000), { limit: 1e6 })),
      );
      expect(new Set(all.map(({ hash }) => hash))).toEqual(new Set([sha256(bytes)]));
      expect(await whole(blobs, sha256(bytes))).toEqual(bytes);
    });

    it('says that somebody counts on a file again, by its time', async () => {
      const bytes = randomBytes(500);
      const { hash } = await blobs.write(inPieces(bytes, 500), { limit: 1e6 });
      const before = (await listed(blobs)).find((blob) => blob.hash === hash)!.modifiedAt;
      await new Promise((resolve) => setTimeout(resolve, 30));
      await blobs.write(inPieces(bytes, 500), { limit: 1e6 });
      expect((await listed(blobs)).find((blob) => blob.hash === hash)!.modifiedAt).toBeGreaterThan(before);
    });

    it('lists all, with their sizes and times', async () => {
      const known = await Promise.all(
        [10, 20, 30, 40, 50].map((size) => blobs.write(inPieces(randomBytes(size), 7), { limit: 1e6 })),
      );
      const all = await listed(blobs);
      for (const { hash, size } of known) {
        const found = all.find((blob) => blob.hash === hash);
        expect(found?.size).toBe(size);
        expect(Math.abs(found!.modifiedAt - Date.now())).toBeLessThan(60_000);
      }
    });

    it('does not have what was deleted, and deletes it again without a word', async () => {
      const { hash } = await blobs.write(inPieces(randomBytes(10), 10), { limit: 1e6 });
      await blobs.delete(hash);
      expect(await blobs.read(hash)).toBeUndefined();
      expect(await blobs.read(hash, { start: 0, end: 5 })).toBeUndefined();
      await blobs.delete(hash);
    });

    it('does not have what was never there', async () => {
      expect(await blobs.read('0'.repeat(64))).toBeUndefined();
    });

    it('refuses beyond the limit, and keeps nothing of it', async () => {
      const bytes = randomBytes(20_000);
      await expect(blobs.write(inPieces(bytes, 1000), { limit: 19_999 })).rejects.toMatchObject({
        code: 'body_too_large',
      });
      expect(await blobs.read(sha256(bytes))).toBeUndefined();
      expect(await opened.leftovers()).toBe(0);
    });

    it('passes a failure of the source on, and keeps nothing of it', async () => {
      const bytes = randomBytes(20_000);
      async function* broken() {
        yield* inPieces(bytes, 1000);
        throw new TypeError('the source broke');
      }
      await expect(blobs.write(broken(), { limit: 1e6 })).rejects.toThrow('the source broke');
      expect(await blobs.read(sha256(bytes))).toBeUndefined();
      expect(await opened.leftovers()).toBe(0);
    });

    it('stops when it is told, although the source is silent', async () => {
      const stop = new AbortController();
      let closed = false;
      async function* silent() {
        try {
          yield randomBytes(1000);
          setTimeout(() => stop.abort(), 20);
          await new Promise((resolve) => setTimeout(resolve, 300));
          yield randomBytes(1000);
        } finally {
          closed = true;
        }
      }
      const error = await blobs
        .write(silent(), { limit: 1e6, signal: stop.signal })
        .catch((thrown: GatewayError) => thrown);
      expect(error).toMatchObject({ code: 'client_closed' });
      expect(closed).toBe(false);
      expect(await opened.leftovers()).toBe(0);
      await expect.poll(() => closed).toBe(true);
    });

    it('begins nothing when it is told so before', async () => {
      const signal = AbortSignal.abort();
      const write = blobs.write(inPieces(randomBytes(10), 10), { limit: 1e6, signal });
      await expect(write).rejects.toMatchObject({ code: 'client_closed' });
      expect(await opened.leftovers()).toBe(0);
    });

    it('may be read in part and left', async () => {
      const { hash } = await blobs.write(inPieces(randomBytes(2_000_000), 100_000), { limit: 1e7 });
      for await (const piece of (await blobs.read(hash))!) {
        expect(piece.byteLength).toBeGreaterThan(0);
        break;
      }
      const unread = await blobs.read(hash);
      await unread![Symbol.asyncIterator]().return?.();
      await blobs.delete(hash);
    });

    it.each([
      '',
      '../../etc/passwd',
      '..%2f..',
      'a'.repeat(63),
      'A'.repeat(64),
      `${'a'.repeat(64)}\0`,
      'sha256:../../x',
      'con',
      'x'.repeat(4096),
    ])('makes no path of what is no hash: %j', async (hash) => {
      await expect(blobs.read(hash)).rejects.toMatchObject({ code: 'invalid_request' });
      await expect(blobs.delete(hash)).rejects.toMatchObject({ code: 'invalid_request' });
    });
  });
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < bytes.byteLength; from += size) yield bytes.subarray(from, from + size);
}

export async function whole(blobs: BlobStore, hash: string, range?: { start: number; end: number }): Promise<Buffer> {
  const source = await blobs.read(hash, range);
  if (!source) throw new Error('it is not there');
  const pieces: Uint8Array[] = [];
  for await (const piece of source) pieces.push(piece);
  return Buffer.concat(pieces);
}

export async function listed(blobs: BlobStore) {
  const all: { hash: string; size: number; modifiedAt: number }[] = [];
  for await (const blob of blobs.list()) all.push(blob);
  return all;
}
