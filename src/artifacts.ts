// The files that runs make and callers bring: kept once however often they come, opened by their owner or a signed link.
import { isArtifactId, notFound, toAddition, toArtifactId, toChange, toRef, toRemoval } from './artifacts/record.ts';
import { ARTIFACT, EXPIRED, expired, LINK, type ArtifactRecord, type ArtifactValue } from './artifacts/record.ts';
import { createLinkSigner } from './artifacts/links.ts';
import { toFileName, withExtension } from './artifacts/names.ts';
import { withoutText } from './artifacts/png.ts';
import { createShelf, full, HOUR_MS } from './artifacts/shelf.ts';
import { sniff } from './artifacts/sniff.ts';
import { createSweeper } from './artifacts/sweep.ts';
import { GatewayError } from './error.ts';
import type { MadeFile } from './event.ts';
import type { ArtifactView } from './capabilities/file.ts';
import { join, type MediaTools } from './media.ts';
import type { BlobStore, Document, DocumentStore, Put } from './store.ts';

export type { ArtifactRecord, ArtifactValue } from './artifacts/record.ts';

export interface ArtifactsOptions {
  documents: DocumentStore;
  blobs: BlobStore;
  /** 32 bytes for signing links. */
  key: Uint8Array<ArrayBuffer>;
  now: () => number;
  /** Milliseconds that a file is kept after it was last used. */
  keepMs: number;
  /** Bytes that all files together may take. */
  budget: number;
  /** Milliseconds that a link works. */
  urlMs: number;
  /** Bytes. */
  maxUpload: number;
  /** What files tell of themselves; nothing if absent. */
  measure?: MediaTools['measure'];
  log: (entry: { level: 'info' | 'warn'; message: string; [field: string]: unknown }) => void;
}

export interface StageOptions {
  owner: string;
  job?: string;
  /** How they were made. */
  made?: Record<string, unknown>;
  signal?: AbortSignal;
}

export interface SaveOptions {
  owner: string;
  name?: string | undefined;
  purpose?: string | undefined;
  /** What the sender calls it. */
  mediaType?: string | undefined;
  /** Bytes; `maxUpload` if absent. */
  limit?: number;
  /** Bytes that the sender announced: where they do not fit, nothing is read. */
  announced?: number | undefined;
  signal?: AbortSignal;
}

export interface Artifacts {
  /** Bytes; what `save` takes where nothing else is said. */
  readonly maxUpload: number;
  /**
   * Stores the bytes now and gives the documents that make them artifacts; the caller commits those with the job, within the
   * hour. Until then nobody sees anything. Throws `storage_full`, `storage_unavailable`, `client_closed`.
   */
  stage(files: MadeFile[], about: StageOptions): Promise<{ artifacts: ArtifactView[]; puts: Put[] }>;
  /** The documents that give another caller, or another job, artifacts of its own with the same bytes, without how they were made. */
  adopt(records: ArtifactRecord[], about: { owner: string; job?: string }): { ids: string[]; puts: Put[] };
  /** Throws `body_too_large`, `storage_full`, `storage_unavailable`, `client_closed`; nothing is left then. */
  save(source: AsyncIterable<Uint8Array>, about: SaveOptions): Promise<ArtifactRecord>;
  /** Throws `not_found`, `expired`. */
  get(owner: string, id: string): Promise<ArtifactRecord>;
  /** What a signed link opens; `query` is without the question mark. Throws `invalid_signature`, `not_found`, `expired`. */
  getSigned(id: string, query: string): Promise<{ record: ArtifactRecord; until: number }>;
  /** Newest first. */
  list(
    owner: string,
    query: { job?: string | undefined; purpose?: string | undefined; cursor?: string | undefined; limit: number },
  ): Promise<{ records: ArtifactRecord[]; next?: string }>;
  /** Throws `not_found`, `expired`. */
  remove(owner: string, id: string): Promise<void>;
  /** Forgets how it was made, also where that is written into the picture. Throws as `get` and `save`. */
  strip(owner: string, id: string): Promise<ArtifactRecord>;
  /** With a fresh link, below `baseUrl` where that is given. */
  view(record: Pick<ArtifactRecord, 'id' | 'value'>, baseUrl?: string): Promise<ArtifactView>;
  /** Its bytes, whole whatever happens meanwhile; this counts as use. `end` is exclusive. Undefined where they are lost. */
  open(record: ArtifactRecord, range?: { start: number; end: number }): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** Makes room by deleting what was not used for longest. Throws `storage_full`. */
  room(bytes: number): Promise<void>;
  /** Deletes what is due, what is too much and what belongs to nothing. To be called every few minutes; never throws. */
  sweep(now: number): Promise<void>;
  /** Bytes that are kept, as far as they have been counted. */
  used(): number;
  close(): Promise<void>;
}

/** Attempts of a change that another change of the same record overtakes. */
const MAX_TRIES = 5;

export function createArtifacts(options: ArtifactsOptions): Artifacts {
  const { documents, blobs, key, now, keepMs, budget, urlMs, maxUpload, measure, log } = options;
  const warn = (message: string, cause: unknown) => log({ level: 'warn', message, cause: String(cause) });
  const links = createLinkSigner(key);
  const shelf = createShelf({ documents, blobs, budget, warn, evict: () => sweeper.evict() });
  const sweeper = createSweeper({ documents, shelf, now, warn });
  sweeper.count();

  async function find(id: string): Promise<Document<ArtifactValue> | undefined> {
    return isArtifactId(id) ? documents.get<ArtifactValue>(ARTIFACT, id) : undefined;
  }

  async function get(owner: string, id: string): Promise<ArtifactRecord> {
    const record = await find(id);
    if (record?.owner === owner) return record;
    if (!record && isArtifactId(id) && (await documents.get(EXPIRED, id))?.owner === owner) throw expired();
    throw notFound();
  }

  /** Reads, changes and writes until nobody else came between. `change` gives undefined where there is nothing to do. */
  async function alter(
    owner: string,
    id: string,
    change: (record: ArtifactRecord) => Put[] | undefined,
  ): Promise<ArtifactRecord> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const record = await get(owner, id);
      const puts = change(record);
      if (!puts || !(await documents.put(puts))) return record;
    }
    throw new GatewayError('conflict', 'The artifact is being changed by others.', { retryAfter: 1 });
  }

  async function touch({ id, owner, due = 0 }: ArtifactRecord): Promise<void> {
    if (due > now() + keepMs - HOUR_MS) return;
    await alter(owner, id, (record) => [toChange(record, record.value, now() + keepMs)]);
  }

  /** Bytes on the shelf, and what is to be written down about them. */
  async function keep(
    source: AsyncIterable<Uint8Array>,
    about: { limit: number; signal?: AbortSignal | undefined; mediaType?: string | undefined },
    describe: (written: { extension: string }) => Pick<ArtifactValue, 'name' | 'job' | 'index' | 'purpose' | 'made'>,
  ): Promise<{ id: string; value: ArtifactValue }> {
    const id = toArtifactId();
    const { hash, size, head } = await shelf.write(source, { id, limit: about.limit, signal: about.signal });
    const { mediaType, extension } = await sniff(head, about.mediaType);
    const { name, ...rest } = describe({ extension });
    const media = await measure?.(
      { size, read: (start, end) => readPart(hash, start, Math.min(end, size)) },
      mediaType,
    );
    const value: ArtifactValue = {
      name,
      media_type: mediaType,
      ...(media ? { media } : {}),
      size,
      hash,
      created_at: new Date(now()).toISOString(),
      ...rest,
    };
    return { id, value };
  }

  async function readPart(hash: string, start: number, end: number): Promise<Uint8Array> {
    const source = end > start ? await shelf.open(hash, { start, end }) : undefined;
    const pieces: Uint8Array[] = [];
    for await (const piece of source ?? []) pieces.push(piece);
    return join(
      pieces,
      pieces.reduce((sum, { byteLength }) => sum + byteLength, 0),
    );
  }

  async function stage(files: MadeFile[], { owner, job, made, signal }: StageOptions) {
    const kept: { id: string; value: ArtifactValue }[] = [];
    try {
      for (const [index, file] of files.entries()) {
        if (file.bytes instanceof Uint8Array) await shelf.room(file.bytes.byteLength);
        const source = file.bytes instanceof Uint8Array ? once(file.bytes) : file.bytes;
        const one = await keep(source, { limit: budget, signal, mediaType: file.media_type }, ({ extension }) => ({
          name: withExtension(toFileName(file.name) ?? `${job ?? 'file'}-${index + 1}`, extension),
          index,
          ...(job === undefined ? {} : { job }),
          ...(made ? { made } : {}),
        }));
        kept.push(one);
      }
    } catch (error) {
      for (const { id, value } of kept) await shelf.drop(id, value.hash, value.size);
      if ((error as GatewayError).code === 'body_too_large')
        throw full('A file that was made is larger than all room for files.');
      throw error;
    }
    const puts = kept.flatMap(({ id, value }) => toAddition(id, owner, value, now() + keepMs));
    return { artifacts: await Promise.all(kept.map((one) => view(one))), puts };
  }

  async function save(source: AsyncIterable<Uint8Array>, about: SaveOptions): Promise<ArtifactRecord> {
    const { owner, name, purpose, mediaType, limit = maxUpload, announced, signal } = about;
    if (announced !== undefined) await shelf.room(announced);
    const tight = budget < limit;
    const one = await keep(source, { limit: tight ? budget : limit, signal, mediaType }, ({ extension }) => ({
      name: withExtension(toFileName(name) ?? 'file', extension),
      ...(purpose === undefined ? {} : { purpose }),
    })).catch((error: unknown) => {
      if (tight && (error as GatewayError).code === 'body_too_large')
        throw full('The file is larger than all room for files.');
      throw error;
    });
    const { id, value } = one;
    try {
      await documents.put(toAddition(id, owner, value, now() + keepMs));
    } catch (error) {
      await shelf.drop(id, value.hash, value.size);
      throw error;
    }
    return (await documents.get<ArtifactValue>(ARTIFACT, id)) ?? lost();
  }

  async function list(owner: string, { job, purpose, cursor, limit }: Parameters<Artifacts['list']>[1]) {
    const page = { owner, limit, ...(cursor === undefined ? {} : { cursor }) };
    const ref = job !== undefined ? toRef('job', job) : purpose !== undefined ? toRef('purpose', purpose) : undefined;
    if (ref === undefined) {
      const { documents: records, next } = await documents.list<ArtifactValue>(ARTIFACT, page);
      return { records, ...(next === undefined ? {} : { next }) };
    }
    const { documents: found, next } = await documents.list<string>(LINK, { ...page, ref });
    const all = await Promise.all(found.map(({ value }) => find(value)));
    const records = all.filter((one) => one !== undefined && (purpose === undefined || one.value.purpose === purpose));
    return { records: records as ArtifactRecord[], ...(next === undefined ? {} : { next }) };
  }

  async function strip(owner: string, id: string): Promise<ArtifactRecord> {
    const before = await get(owner, id);
    const cleaned = before.value.media_type === 'image/png' ? await cleanPicture(before) : undefined;
    try {
      await alter(owner, id, (record) => {
        const { made: _, ...value } = record.value;
        return [toChange(record, { ...value, ...cleaned }, record.due ?? now() + keepMs)];
      });
    } catch (error) {
      if (cleaned) await shelf.drop(id, cleaned.hash, cleaned.size);
      throw error;
    }
    if (cleaned && cleaned.hash !== before.value.hash) await shelf.drop(id, before.value.hash, before.value.size);
    return get(owner, id);
  }

  /** The picture without its texts; undefined where it is none, or damaged: then its bytes stay as they are. */
  async function cleanPicture({ id, value }: ArtifactRecord): Promise<{ hash: string; size: number } | undefined> {
    const source = await shelf.open(value.hash);
    if (!source) return undefined;
    try {
      const { hash, size } = await shelf.write(withoutText(source), { id, limit: value.size });
      return { hash, size };
    } catch (error) {
      if (error instanceof GatewayError) throw error;
      return undefined;
    } finally {
      await source[Symbol.asyncIterator]().return?.();
    }
  }

  async function view({ id, value }: Pick<ArtifactRecord, 'id' | 'value'>, baseUrl = ''): Promise<ArtifactView> {
    const { path, until } = await links.sign(id, now() + urlMs);
    const { name, media_type, media, size, hash } = value;
    const told = { id, name, media_type, ...(media ? { media } : {}), size, sha256: hash };
    return { ...told, url: baseUrl + path, expires_at: new Date(until).toISOString() };
  }

  return {
    maxUpload,
    stage,
    adopt(records, { owner, job }) {
      const added = records.map(({ value }) => {
        const id = toArtifactId();
        const { made: _, job: _job, purpose: _purpose, ...shared } = value;
        const own = { ...shared, ...(job === undefined ? {} : { job }) };
        return { id, puts: toAddition(id, owner, own, now() + keepMs) };
      });
      return { ids: added.map(({ id }) => id), puts: added.flatMap(({ puts }) => puts) };
    },
    save,
    get,
    async getSigned(id, query) {
      const until = await links.check(id, query);
      if (until === undefined)
        throw new GatewayError('invalid_signature', 'This link is not one that the gateway gave.', {
          hint: 'Use it exactly as it was given, or ask for a new one.',
        });
      if (until <= now())
        throw new GatewayError('invalid_signature', 'This link has ended.', {
          hint: 'GET /artifacts/{id} gives a new one.',
        });
      const record = await find(id);
      if (record) return { record, until };
      throw (await documents.get(EXPIRED, id)) ? expired() : notFound();
    },
    list,
    async remove(owner, id) {
      const { value } = await alter(owner, id, (record) => toRemoval(record));
      await shelf.drop(id, value.hash, value.size);
    },
    strip,
    view,
    async open(record, range) {
      const source = await shelf.open(record.value.hash, range);
      if (source)
        await touch(record).catch((error: unknown) => warn('the use of an artifact could not be noted', error));
      return source;
    },
    room: shelf.room,
    sweep: sweeper.sweep,
    used: shelf.used,
    close: async () => blobs.close?.(),
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function lost(): never {
  throw notFound();
}
