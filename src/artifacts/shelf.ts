// The bytes of artifacts: written, counted, read, and deleted only when nobody needs them any more.
import { GatewayError } from '../error.ts';
import type { BlobStore, DocumentStore } from '../store.ts';
import { ARTIFACT } from './record.ts';

export interface ShelfOptions {
  documents: DocumentStore;
  blobs: BlobStore;
  /** Bytes that all files together may take. */
  budget: number;
  /** Deletes some of the longest unused artifacts; false where none may leave. */
  evict: () => Promise<boolean>;
  warn: (message: string, cause: unknown) => void;
}

export interface Written {
  hash: string;
  size: number;
  head: Uint8Array;
}

export interface Shelf {
  /** Makes room for so many more bytes. Throws `storage_full` where there is none. */
  room(bytes: number): Promise<void>;
  /** Keeps bytes for the artifact `id`, which may be committed within the hour. Throws as BlobStore.write, and `storage_full`. */
  write(
    source: AsyncIterable<Uint8Array>,
    options: { id: string; limit: number; signal?: AbortSignal | undefined },
  ): Promise<Written>;
  /** The artifact `id` is gone, or will never be: its bytes go too, unless another has the same. */
  drop(id: string, hash: string, size: number): Promise<void>;
  open(hash: string, range?: { start: number; end: number }): Promise<AsyncIterable<Uint8Array> | undefined>;
  isRead(hash: string): boolean;
  /** Deletes what no artifact has needed for an hour, and counts the rest. */
  clear(now: number): Promise<void>;
  /** Bytes that are kept, as far as they have been counted. */
  used(): number;
}

export const HOUR_MS = 3_600_000;
/** Bytes of the disk that others are left. */
const RESERVE = 256 * 1024 * 1024;
/** Tries of one request for room; each evicts at least one artifact. */
const MAX_EVICTIONS = 100_000;

export function createShelf({ documents, blobs, budget, evict, warn }: ShelfOptions): Shelf {
  let total = 0;
  /** Hash → who may still be committed with it, and since when; a monotonic time, for clocks jump. */
  const pending = new Map<string, Map<string, number>>();
  const readers = new Map<string, number>();
  /** Hashes that were to be deleted while somebody read them, and their sizes. */
  const doomed = new Map<string, number>();
  /** Under way: who writes the same bytes waits until they are gone, and then writes them anew. */
  const deletions = new Map<string, Promise<void>>();
  let making: Promise<unknown> = Promise.resolve();

  async function isFull(bytes: number): Promise<boolean> {
    if (total + bytes > budget) return true;
    const free = await blobs.free();
    return free !== undefined && free < bytes + RESERVE;
  }

  async function makeRoom(bytes: number): Promise<void> {
    if (bytes > budget) throw full('The file is larger than all room for files.');
    for (let tries = 0; await isFull(bytes); tries++) {
      if (tries >= MAX_EVICTIONS || !(await evict())) throw full('There is no room for this file.');
    }
  }

  /** One after the other: two that look for room at once would both delete for it, or both be refused. */
  async function inTurn(work: () => Promise<void>): Promise<void> {
    const mine = making.then(work);
    making = mine.catch(() => {});
    return mine;
  }

  function isPending(hash: string): boolean {
    const since = performance.now() - HOUR_MS;
    for (const at of pending.get(hash)?.values() ?? []) if (at > since) return true;
    return false;
  }

  function forget(id: string, hash: string): void {
    const ids = pending.get(hash);
    if (ids?.delete(id) && ids.size === 0) pending.delete(hash);
  }

  async function write(
    source: AsyncIterable<Uint8Array>,
    { id, limit, signal }: { id: string; limit: number; signal?: AbortSignal | undefined },
  ): Promise<Written> {
    let claimed: { hash: string; isNew: boolean } | undefined;
    // From here on nobody deletes these bytes: not what is there of them already, and not what will be.
    const onHash = async (hash: string) => {
      const ids = pending.get(hash) ?? new Map<string, number>();
      claimed = { hash, isNew: !pending.has(hash) };
      pending.set(hash, ids.set(id, performance.now()));
      await deletions.get(hash)?.catch(() => {});
    };
    try {
      const written = await blobs.write(source, { limit, onHash, ...(signal ? { signal } : {}) });
      const { hash, size } = written;
      if (claimed!.isNew && (await documents.countRef(ARTIFACT, hash)) === 0) total += size;
      await inTurn(async () => {
        try {
          await makeRoom(0);
        } catch (error) {
          // Within the turn: the next one finds the room that this one does not take.
          await drop(id, hash, size);
          throw error;
        }
      });
      return written;
    } catch (error) {
      if (claimed) forget(id, claimed.hash);
      throw error;
    }
  }

  async function remove(hash: string, size: number): Promise<boolean> {
    if (isPending(hash) || (await documents.countRef(ARTIFACT, hash)) > 0 || isPending(hash)) return false;
    if (readers.has(hash)) {
      doomed.set(hash, size);
      return false;
    }
    const done = blobs.delete(hash).finally(() => deletions.delete(hash));
    deletions.set(hash, done);
    await done;
    return true;
  }

  /** Never throws: what cannot be deleted now is found later. */
  async function drop(id: string, hash: string, size: number): Promise<void> {
    forget(id, hash);
    try {
      if (await remove(hash, size)) total = Math.max(0, total - size);
    } catch (error) {
      warn('the bytes of an artifact could not be deleted yet', error);
    }
  }

  function release(hash: string): void {
    const left = readers.get(hash)! - 1;
    if (left > 0) return void readers.set(hash, left);
    readers.delete(hash);
    const size = doomed.get(hash);
    if (size === undefined) return;
    doomed.delete(hash);
    void drop('', hash, size);
  }

  async function clear(now: number): Promise<void> {
    const since = performance.now() - HOUR_MS;
    for (const [hash, ids] of pending) for (const [id, at] of ids) if (at <= since) forget(id, hash);
    const before = total;
    let sum = 0;
    for await (const { hash, size, modifiedAt } of blobs.list()) {
      if (modifiedAt > now - HOUR_MS || !(await remove(hash, size))) sum += size;
    }
    // What was written meanwhile may count twice until the next time: too little room is taken for too much, never the reverse.
    total = sum + Math.max(0, total - before);
  }

  return {
    room: async (bytes) => inTurn(async () => makeRoom(bytes)),
    write,
    drop,
    async open(hash, range) {
      readers.set(hash, (readers.get(hash) ?? 0) + 1);
      try {
        const source = await blobs.read(hash, range);
        if (source) return whileRead(source, () => release(hash));
      } catch (error) {
        release(hash);
        throw error;
      }
      release(hash);
      return undefined;
    },
    isRead: (hash) => readers.has(hash),
    clear,
    used: () => total,
  };
}

/** The same bytes; `onEnd` is called once, when they are read, broken off or left. */
function whileRead(source: AsyncIterable<Uint8Array>, onEnd: () => void): AsyncIterableIterator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  const end = () => {
    if (!ended) onEnd();
    ended = true;
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      try {
        const step = await iterator.next();
        if (step.done) end();
        return step;
      } catch (error) {
        end();
        throw error;
      }
    },
    async return() {
      try {
        await iterator.return?.();
      } finally {
        end();
      }
      return { done: true, value: undefined };
    },
  };
}

export function full(message: string): GatewayError {
  return new GatewayError('storage_full', message, {
    hint: 'Delete artifacts, or raise HONO_AI_ARTIFACT_BUDGET.',
  });
}
