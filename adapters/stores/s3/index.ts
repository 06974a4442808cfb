// Blobs as objects of an S3-compatible bucket (R2, MinIO, Garage, AWS) under their SHA-256.
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { UploadPart } from 's3mini';
import { GatewayError } from '../../../src/error.ts';
import type { BlobStore } from '../../../src/store.ts';
import { openTempFolder, type Temp } from '../files/temp.ts';
import { createS3Client, isMissing, type S3Client } from './client.ts';

export interface S3BlobsOptions {
  /** The bucket: `https://host/bucket`, or `https://bucket.host`. */
  url: string;
  accessKey: string;
  secretKey: string;
  region: string;
  /** A folder for files on their way; one of its own under the system's if absent, deleted on close. */
  spool?: string;
  /** Milliseconds that one request to the storage may take; an upload is many, of 8 MiB each. */
  timeoutMs?: number;
}

const PREFIX = 'sha256/';
const HASH = /^[0-9a-f]{64}$/;
/** Storages take at least 5 MiB a part, the same for each, and at most 10 000 parts. */
const PART_BYTES = 8 * 1024 * 1024;
const MAX_PARTS = 10_000;
const PAGE = 1000;
const STALE_MS = 3_600_000;
/** Some storages show an object a moment after they took it. */
const VERIFY_PAUSES_MS = [0, 200, 600, 1500];

/**
 * The name of an object is its hash, known only when the last byte is there. So the bytes are spooled to disk first: nothing
 * that is too large, broken off or unwanted ever reaches the storage, a failed part can be sent again, and no copy inside
 * the storage is needed, which providers limit and charge in ways of their own.
 */
export async function openS3Blobs(options: S3BlobsOptions): Promise<BlobStore> {
  const { spool, timeoutMs = 120_000 } = options;
  const client = createS3Client({ ...options, timeoutMs });
  const folder = spool ?? (await mkdtemp(join(tmpdir(), 'hono-ai-spool-')));
  const temps = await openTempFolder(folder);

  return {
    name: 's3',
    async write(source, { limit, signal, onHash }) {
      const temp = await temps.write(source, { limit, ...(signal ? { signal } : {}) });
      try {
        await onHash?.(temp.hash);
        // Also where the object is there already: its time tells the sweep that somebody counts on it now.
        await upload(client, temp, signal);
        await verify(client, temp, signal);
      } finally {
        await temp.drop();
      }
      return { hash: temp.hash, size: temp.size, head: temp.head };
    },
    read: async (hash, range) => client.get(toKey(hash), range),
    async delete(hash) {
      const key = toKey(hash);
      try {
        await client.call(async (s3) => s3.deleteObject(key));
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    },
    async *list() {
      await temps.clear();
      await clearUploads(client);
      let token: string | undefined;
      do {
        const page = await client.call(async (s3) => s3.listObjectsPaged('/', PREFIX, PAGE, token));
        if (!page)
          throw new GatewayError('storage_unavailable', 'The bucket for files is not there.', { retryAfter: 60 });
        for (const { Key, Size, LastModified } of page.objects ?? []) {
          const hash = Key.slice(PREFIX.length);
          const time = LastModified.getTime();
          // An object without a time is taken for new: it must not look abandoned.
          if (HASH.test(hash)) yield { hash, size: Size, modifiedAt: time > 0 ? time : Date.now() };
        }
        token = page.nextContinuationToken;
      } while (token !== undefined);
    },
    free: async () => undefined,
    async close() {
      if (spool === undefined) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A hash is checked before it becomes a part of any key. */
function toKey(hash: string): string {
  if (!HASH.test(hash)) throw new GatewayError('invalid_request', 'That is not the SHA-256 of a file.');
  return PREFIX + hash;
}

async function upload(client: S3Client, temp: Temp, signal: AbortSignal | undefined): Promise<void> {
  const key = toKey(temp.hash);
  const file = await open(temp.path, 'r');
  const part = async (from: number, size: number) => {
    const bytes = new Uint8Array(Math.min(size, temp.size - from));
    for (let got = 0; got < bytes.byteLength;) {
      const { bytesRead } = await file.read(bytes, got, bytes.byteLength - got, from + got);
      if (bytesRead === 0) throw new GatewayError('storage_unavailable', 'The file on its way was damaged.');
      got += bytesRead;
    }
    return bytes;
  };
  try {
    if (temp.size <= PART_BYTES) {
      const bytes = await part(0, PART_BYTES);
      await client.call(async (s3) => s3.putObject(key, bytes), signal);
    } else await uploadParts(client, { key, size: temp.size, part, signal });
  } finally {
    await file.close();
  }
}

interface PartedUpload {
  key: string;
  size: number;
  part(from: number, size: number): Promise<Uint8Array>;
  signal: AbortSignal | undefined;
}

async function uploadParts(client: S3Client, { key, size, part, signal }: PartedUpload): Promise<void> {
  const partBytes = Math.max(PART_BYTES, Math.ceil(size / MAX_PARTS));
  const id = await client.call(async (s3) => s3.getMultipartUploadId(key), signal);
  try {
    const parts: UploadPart[] = [];
    for (let from = 0; from < size; from += partBytes) {
      const bytes = await part(from, partBytes);
      parts.push(await client.call(async (s3) => s3.uploadPart(key, id, bytes, parts.length + 1), signal));
    }
    await client.call(async (s3) => s3.completeMultipartUpload(key, id, parts), signal);
  } catch (error) {
    // Without the caller's signal: what was sent must go although nobody waits. Where that fails, list() does it later.
    await client.call(async (s3) => s3.abortMultipartUpload(key, id)).catch(() => {});
    throw error;
  }
}

/** A storage that said yes is believed when the object is there, as large as it was sent. */
async function verify(client: S3Client, { hash, size }: Temp, signal: AbortSignal | undefined): Promise<void> {
  let failure: unknown;
  for (const pause of VERIFY_PAUSES_MS) {
    if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      const kept = await client.call(async (s3) => unwrap(s3.getContentLength(toKey(hash))), signal);
      if (kept === size) return;
      failure = new Error(`The storage keeps ${kept} bytes of ${size}.`);
    } catch (error) {
      if (!isMissing(error)) throw error;
      failure = error;
    }
  }
  throw new GatewayError('storage_unavailable', 'The storage took the file but does not have it.', {
    retryAfter: 10,
    cause: failure,
  });
}

/** The client wraps this one call's failure and hides its status. */
async function unwrap<T>(work: Promise<T>): Promise<T> {
  return work.catch((error: unknown) => {
    throw error instanceof Error && error.cause !== undefined ? error.cause : error;
  });
}

/** Uploads that a process which died has begun: they cost room and are seen nowhere. */
async function clearUploads(client: S3Client): Promise<void> {
  const before = Date.now() - STALE_MS;
  // Not every storage can list them, and some only to an administrator; those clear them by a rule of the bucket.
  const answer = await client
    .call(async (s3) => s3.listMultipartUploads('/', '', 'GET', { prefix: PREFIX }))
    .catch(() => undefined);
  const result = (answer as { ListMultipartUploadsResult?: { Upload?: unknown } } | undefined)
    ?.ListMultipartUploadsResult;
  const uploads = result?.Upload === undefined ? [] : [result.Upload].flat();
  for (const { Key, UploadId, Initiated } of uploads as Record<string, string>[]) {
    if (!Key?.startsWith(PREFIX) || !UploadId || !(Date.parse(Initiated ?? '') < before)) continue;
    await client.call(async (s3) => s3.abortMultipartUpload(Key, UploadId)).catch(() => {});
  }
}
