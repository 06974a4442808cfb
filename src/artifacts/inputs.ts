// Files that requests bring: whatever way they come, they become artifacts of their caller before anything is run.
import type { Artifacts } from '../artifacts.ts';
import { fromBase64 } from '../base64.ts';
import { fileFields, type FileKind, type FileRules } from '../capabilities/file.ts';
import { GatewayError } from '../error.ts';
import { checkKind, join } from '../media.ts';
import type { InputFile } from '../runtime.ts';
import type { z } from 'zod';
import type { ArtifactRecord } from './record.ts';

export interface InputLimits {
  /** Of a picture: width × height. */
  pixels: number;
  /** Of one picture. */
  imageBytes: number;
}

interface About {
  owner: string;
  /** The field that brought it. */
  param: string;
  kind: FileKind;
}

export interface Inputs {
  /** Bytes that a file of this kind may have. */
  limitOf(kind: FileKind): number;
  /** Keeps what came as bytes. Throws invalid_request, body_too_large, storage errors; nothing is left then. */
  save(
    source: AsyncIterable<Uint8Array>,
    about: About & { name?: string | undefined; signal?: AbortSignal | undefined },
  ): Promise<ArtifactRecord>;
  /**
   * The input with every file field as the id of an artifact of the caller, and the ids of those that were newly kept for it.
   * Throws invalid_request, not_found, expired, body_too_large, storage errors; nothing is left then.
   */
  settle<T extends Record<string, unknown>>(
    owner: string,
    schema: z.ZodObject,
    input: T,
  ): Promise<{ input: T; brought: string[] }>;
  /** Deletes what was brought for nothing; never throws. */
  forget(owner: string, ids: string[]): Promise<void>;
  /** How handlers get at the files of a caller; throws expired for one that is gone by then. */
  open(owner: string): (reference: string) => Promise<InputFile>;
  /** The input with the hashes of files in place of their ids: alike for the same bytes. */
  identify(owner: string, schema: z.ZodObject, input: Record<string, unknown>): Promise<Record<string, unknown>>;
}

const ID = /^art_[0-9a-f]{32}$/;
const LINK = /(?:^|\/)artifacts\/(art_[0-9a-f]{32})(?:\/content)?(?:\?|$)/;
/** Of artifacts that came with a request. */
const PURPOSE = 'input';

export function createInputs(artifacts: Artifacts, limits: InputLimits): Inputs {
  const limitOf = (kind: FileKind) =>
    kind === 'image' ? Math.min(limits.imageBytes, artifacts.maxUpload) : artifacts.maxUpload;

  async function forget(owner: string, ids: string[]): Promise<void> {
    await Promise.all(ids.map((id) => artifacts.remove(owner, id).catch(() => {})));
  }

  async function save(...[source, about]: Parameters<Inputs['save']>): Promise<ArtifactRecord> {
    const { owner, param, kind, name, signal } = about;
    const limit = limitOf(kind);
    const options = { owner, name, purpose: PURPOSE, limit, ...(signal ? { signal } : {}) };
    const record = await artifacts.save(source, options).catch((error: unknown) => {
      if ((error as GatewayError).code !== 'body_too_large') throw error;
      throw new GatewayError('body_too_large', `${param}: the file is larger than ${limit} bytes.`, { param });
    });
    try {
      checkKind(record.value, kind, param, limits.pixels);
    } catch (error) {
      await forget(owner, [record.id]);
      throw error;
    }
    return record;
  }

  /** The artifact that is meant, or one that is made of the bytes; `brought` then hears of it. */
  async function take(about: About, given: string, brought: string[]): Promise<ArtifactRecord> {
    const { owner, param, kind } = about;
    const id = toId(given);
    if (id !== undefined) {
      const record = await artifacts.get(owner, id).catch((error: unknown) => {
        const { code, message } = error as GatewayError;
        throw code === 'not_found' || code === 'expired' ? new GatewayError(code, message, { param }) : error;
      });
      checkKind(record.value, kind, param, limits.pixels);
      return record;
    }
    const bytes = toBytes(given, param);
    const record = await save(once(bytes), about);
    brought.push(record.id);
    return record;
  }

  return {
    limitOf,
    save,
    forget,
    async settle(owner, schema, input) {
      const fields = fileFields(schema);
      const brought: string[] = [];
      const taken = new Map<string, ArtifactRecord[]>();
      const settled: Record<string, unknown> = { ...input };
      try {
        for (const [param, { kind }] of fields) {
          const value = input[param] as string | string[] | undefined;
          if (value === undefined) continue;
          const records: ArtifactRecord[] = [];
          for (const one of [value].flat()) records.push(await take({ owner, param, kind }, one, brought));
          taken.set(param, records);
          const ids = records.map(({ id }) => id);
          settled[param] = Array.isArray(value) ? ids : ids[0];
        }
        for (const [param, rules] of fields) checkRules(taken, param, rules);
      } catch (error) {
        await forget(owner, brought);
        throw error;
      }
      return { input: settled as typeof input, brought };
    },
    open: (owner) => async (reference) => {
      const record = await artifacts.get(owner, reference).catch((error: unknown) => {
        const { code } = error as GatewayError;
        throw code === 'not_found' || code === 'expired' ? gone() : error;
      });
      const { media_type, size, hash, media = {} } = record.value;
      return {
        id: record.id,
        media_type,
        size,
        sha256: hash,
        media,
        async bytes() {
          const source = await artifacts.open(record);
          if (!source) throw gone();
          const pieces: Uint8Array[] = [];
          for await (const piece of source) pieces.push(piece);
          return join(pieces, size);
        },
      };
    },
    async identify(owner, schema, input) {
      const told = { ...input };
      const toHash = async (id: string) => `sha256:${(await artifacts.get(owner, id)).value.hash}`;
      for (const [name] of fileFields(schema)) {
        const value = input[name] as string | string[] | undefined;
        if (value === undefined) continue;
        told[name] = Array.isArray(value) ? await Promise.all(value.map(toHash)) : await toHash(value);
      }
      return told;
    },
  };
}

/** It was there when the request was taken. */
function gone(): GatewayError {
  return new GatewayError(
    'expired',
    'A file that this request brought is gone: deleted, or cleared away to make room.',
    {
      hint: 'Send the request again, with the file.',
    },
  );
}

/** Throws invalid_request for pictures whose size their field does not allow. */
function checkRules(taken: Map<string, ArtifactRecord[]>, param: string, { minSide = 1, sizeOf }: FileRules): void {
  const first = sizeOf === undefined ? undefined : taken.get(sizeOf)?.[0]?.value.media;
  for (const { value } of taken.get(param) ?? []) {
    const { width = 0, height = 0 } = value.media ?? {};
    if (Math.min(width, height) < minSide) {
      const message = `${param}: ${width}x${height} is too small; a side has at least ${minSide} pixels here.`;
      throw new GatewayError('invalid_request', message, { param, hint: 'Send a larger picture.' });
    }
    if (first && (width !== first.width || height !== first.height)) {
      const message = `${param}: it is ${width}x${height}, but the picture it belongs to is ${first.width}x${first.height}.`;
      throw new GatewayError('invalid_request', message, {
        param,
        hint: `Send a ${param} that is as large as the first picture.`,
      });
    }
  }
}

function toId(given: string): string | undefined {
  if (ID.test(given)) return given;
  // Whose it is decides whether it may be used, not how it is addressed.
  return given.length < 2000 ? LINK.exec(given)?.[1] : undefined;
}

function toBytes(given: string, param: string): Uint8Array<ArrayBuffer> {
  if (/^(https?|ftp|file|blob):/i.test(given)) {
    throw new GatewayError('invalid_request', `${param}: the gateway does not fetch files from elsewhere.`, {
      param,
      hint: 'Fetch it yourself and send its bytes: as a data: URL, in a form, or by POST /artifacts.',
    });
  }
  const data = /^data:[^,]{0,200};base64,/i.exec(given);
  const bytes = fromBase64(data ? given.slice(data[0].length) : given);
  if (bytes && bytes.byteLength > 0) return bytes;
  throw new GatewayError('invalid_request', `${param}: neither an artifact's id nor a data: URL nor base64.`, {
    param,
  });
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
