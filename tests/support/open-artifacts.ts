// Artifacts for tests: over the real documents store and real files, with a clock that the test moves.
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFileBlobs } from '../../adapters/stores/files/index.ts';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { createArtifacts, type Artifacts, type ArtifactsOptions } from '../../src/artifacts.ts';
import type { BlobStore, Store } from '../../src/store.ts';

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

export interface OpenedArtifacts {
  artifacts: Artifacts;
  store: Store;
  blobs: BlobStore;
  dir: string;
  clock: { now: number };
  logged: { message: string }[];
  /** Another gateway over the same store and files, as after a restart. */
  again(options?: Partial<ArtifactsOptions>): Artifacts;
  /** Hashes of the bytes that are kept. */
  kept(): Promise<string[]>;
  close(): Promise<void>;
}

export async function openArtifacts(
  options: Partial<ArtifactsOptions> & { wrap?: (blobs: BlobStore) => BlobStore } = {},
): Promise<OpenedArtifacts> {
  const dir = mkdtempSync(join(tmpdir(), 'hono-ai-artifacts-'));
  const clock = { now: Date.now() };
  const now = () => clock.now;
  const store = await openSqliteStore({ path: join(dir, 'store.db'), now });
  const files = await openFileBlobs({ dir: join(dir, 'blobs') });
  const { wrap = (blobs: BlobStore) => blobs, ...rest } = options;
  const blobs = wrap(files);
  const logged: { message: string }[] = [];
  const again = (more: Partial<ArtifactsOptions> = {}) =>
    createArtifacts({
      documents: store.documents,
      blobs,
      key: new Uint8Array(32).fill(7),
      now,
      keepMs: 30 * DAY,
      budget: 1e9,
      urlMs: DAY,
      maxUpload: 1e8,
      log: (entry) => logged.push(entry),
      ...rest,
      ...more,
    });
  return {
    artifacts: again(),
    store,
    blobs,
    dir,
    clock,
    logged,
    again,
    kept: async () => (await Array.fromAsync(files.list())).map(({ hash }) => hash).toSorted(),
    async close() {
      await store.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

export async function* pieces(bytes: Uint8Array | string, size = 1000): AsyncGenerator<Uint8Array> {
  const all = typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes;
  for (let from = 0; from < all.byteLength; from += size) yield all.subarray(from, from + size);
}

export async function collect(source: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  if (!source) throw new Error('there are no bytes');
  return Buffer.concat(await Array.fromAsync(source));
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** A PNG of one pixel with a prompt in it, as image programs write them. */
export function toPng(texts: Record<string, string>): Buffer {
  const chunk = (name: string, data: Buffer) => {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(data.length);
    head.write(name, 4, 'latin1');
    return Buffer.concat([head, data, Buffer.alloc(4, 1)]);
  };
  return Buffer.concat([
    Buffer.from('89504e470d0a1a0a', 'hex'),
    chunk('IHDR', Buffer.from('00000001000000010802000000', 'hex')),
    ...Object.entries(texts).map(([key, text]) => chunk('tEXt', Buffer.from(`${key}\0${text}`))),
    chunk('IDAT', Buffer.alloc(5000, 3)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}
