// An unfinished file: its bytes and, beside them, what they are bytes of, so that whoever comes later can go on or must begin anew.
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, lstat, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { wrongBytes } from './failures.ts';
import { UNFINISHED } from './names.ts';
import { syncFolder } from './places.ts';

export interface PartFacts {
  /** Without query: tokens stand there. */
  url: string;
  /** A strong ETag or a date, for If-Range. */
  etag: string | undefined;
  size: number | undefined;
  sha256: string | undefined;
}

export interface Part {
  readonly facts: PartFacts;
  /** Bytes that have come, written or about to be. */
  readonly size: number;
  append(bytes: Uint8Array): Promise<void>;
  /** What has come is of no use; the next bytes are the first ones. */
  restart(facts: PartFacts): Promise<void>;
  /** More became known about the file; written down before bytes of it are. */
  learn(facts: PartFacts): Promise<void>;
  /** Hexadecimal SHA-256 of all that has come. Ends it: nothing can be appended afterwards. */
  digest(): string;
  /** Durable and under its name, all at once. */
  finish(target: string): Promise<void>;
  discard(): Promise<void>;
  /** Keeps what has come; `lost`: but for what is not written yet, since the file is another's now. */
  close(lost?: boolean): Promise<void>;
}

/** Bytes that wait to be written together, and milliseconds that they wait at most. */
const BATCH = 1024 * 1024;
const BATCH_MS = 500;

/** Reads what has come already, if it is of the same file, to count it into the hash; yields how far it is. */
export async function* openPart(target: string, facts: PartFacts, signal: AbortSignal): AsyncGenerator<number, Part> {
  const path = target + UNFINISHED.part;
  const kept = await readFacts(target);
  const found = await lstat(path).catch(() => undefined);
  // A link, or a second name of another file, is not ours: what is written through it would change that file.
  const ours = found?.isFile() === true && found.nlink === 1;
  const goesOn = ours && kept !== undefined && isSame(kept, facts) && found.size <= (facts.size ?? Infinity);
  if (!goesOn) {
    if (found) await rm(path, { force: true, recursive: true });
    await rm(target + UNFINISHED.facts, { force: true });
  }
  let hash = createHash('sha256');
  let size = 0;
  if (goesOn) {
    for await (const bytes of createReadStream(path, { highWaterMark: BATCH, end: Math.max(0, found.size - 1) })) {
      signal.throwIfAborted();
      hash.update(bytes as Buffer);
      size += (bytes as Buffer).length;
      yield size;
    }
  }
  const first = goesOn ? { ...facts, etag: kept.etag, sha256: facts.sha256 ?? kept.sha256 } : facts;
  return toPart(target, { file: await open(path, 'a'), hash, size, facts: first });
}

/** Bytes that have come of a file earlier, as far as they can be of use. */
export async function countKept(target: string, facts: PartFacts): Promise<number> {
  const found = await lstat(target + UNFINISHED.part).catch(() => undefined);
  const kept = found?.isFile() ? await readFacts(target) : undefined;
  return found && kept && isSame(kept, facts) && found.size <= (facts.size ?? Infinity) ? found.size : 0;
}

/** Removes what a process that was killed between the last two steps has left. */
export async function tidy(target: string): Promise<void> {
  const left = await readFacts(target);
  const part = left && (await lstat(target + UNFINISHED.part).catch(() => undefined));
  if (left && !part) await rm(target + UNFINISHED.facts, { force: true });
}

export async function hashFile(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const bytes of createReadStream(path, { highWaterMark: BATCH })) {
    signal.throwIfAborted();
    hash.update(bytes as Buffer);
  }
  return hash.digest('hex');
}

function toPart(target: string, begun: { file: FileHandle; hash: Hash; size: number; facts: PartFacts }): Part {
  const path = target + UNFINISHED.part;
  const { file } = begun;
  let { hash, size, facts } = begun;
  let waiting: Uint8Array[] = [];
  let held = 0;
  let written = Date.now();
  let closed = false;

  function drop(): void {
    waiting = [];
    held = 0;
  }

  async function flush(): Promise<void> {
    written = Date.now();
    if (held === 0) return;
    const bytes = waiting.length === 1 ? waiting[0]! : Buffer.concat(waiting, held);
    drop();
    await file.appendFile(bytes);
  }

  async function close(lost = false): Promise<void> {
    if (closed) return;
    closed = true;
    if (lost) drop();
    await flush().finally(() => file.close());
  }

  return {
    get facts() {
      return facts;
    },
    get size() {
      return size;
    },
    async append(bytes) {
      hash.update(bytes);
      size += bytes.byteLength;
      waiting.push(bytes);
      held += bytes.byteLength;
      if (held >= BATCH || Date.now() - written >= BATCH_MS) await flush();
    },
    async restart(next) {
      drop();
      size = 0;
      hash = createHash('sha256');
      await file.truncate(0);
      facts = next;
      await writeFacts(target, facts);
    },
    async learn(next) {
      if (facts !== next) await writeFacts(target, next);
      facts = next;
    },
    digest: () => hash.digest('hex'),
    async finish(to) {
      await flush();
      await file.sync();
      // Appended to by nobody else, or the hash would be of other bytes than those on disk.
      if ((await file.stat()).size !== size) throw wrongBytes('Another program wrote into the file');
      await close();
      await rename(path, to);
      await syncFolder(dirname(to));
      await rm(target + UNFINISHED.facts, { force: true });
    },
    async discard() {
      await close(true);
      await rm(path, { force: true });
      await rm(target + UNFINISHED.facts, { force: true });
    },
    close,
  };
}

/** The hash says it surely; without one, the address and what its server called that version. */
function isSame(kept: PartFacts, wanted: PartFacts): boolean {
  if (kept.size !== undefined && wanted.size !== undefined && kept.size !== wanted.size) return false;
  if (kept.sha256 !== undefined && wanted.sha256 !== undefined) return kept.sha256 === wanted.sha256;
  if (kept.url !== wanted.url) return false;
  return kept.etag !== undefined && (wanted.etag === undefined || wanted.etag === kept.etag);
}

async function readFacts(target: string): Promise<PartFacts | undefined> {
  try {
    const value = JSON.parse(await readFile(target + UNFINISHED.facts, 'utf8')) as Record<string, unknown>;
    const text = (name: string) => (typeof value[name] === 'string' ? (value[name] as string) : undefined);
    const url = text('url');
    if (url === undefined) return undefined;
    const size = Number.isSafeInteger(value['size']) ? (value['size'] as number) : undefined;
    return { url, etag: text('etag'), size, sha256: text('sha256') };
  } catch {
    return undefined;
  }
}

/** Whole or not at all: facts of another file beside these bytes would be worse than none. */
async function writeFacts(target: string, facts: PartFacts): Promise<void> {
  const path = target + UNFINISHED.facts;
  const draft = target + UNFINISHED.draft;
  await rm(draft, { force: true });
  await writeFile(draft, JSON.stringify(facts), { flag: 'wx' });
  await rename(draft, path);
}
