// One file of the hub: is it there, how large is it, and bringing it to disk whole or not at all.
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { brokenDownload, isStall, refused, stalled } from './hub-error.ts';
import type { HubOptions } from './hub.ts';

export interface RemoteFile {
  path: string;
  size: number;
  /** The hub tells it for large files only. */
  sha256: string | undefined;
}

const MAX_REDIRECTS = 5;
/** Milliseconds after which an unfinished file can only be the remains of a process that was killed. */
const ABANDONED = 3_600_000;

/** Resolves with nothing where the hub does not have the file. */
export async function findFile(
  options: HubOptions,
  id: string,
  path: string,
  signal: AbortSignal,
): Promise<RemoteFile | undefined> {
  const { response, size, sha256 } = await request(options, 'HEAD', id, path, signal);
  if (response.status === 404) return undefined;
  if (!response.ok) throw refused(response, id);
  return { path, size, sha256 };
}

export async function downloadFile(
  options: HubOptions,
  id: string,
  file: RemoteFile,
  target: string,
  signal: AbortSignal,
  report: (bytes: number) => void,
): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  await removeAbandoned(target);
  const part = `${target}.${randomUUID()}.part`;
  const { response, stop } = await request(options, 'GET', id, file.path, signal);
  try {
    if (!response.ok || !response.body) throw refused(response, id);
    const hash = createHash('sha256');
    let size = 0;
    const output = await open(part, 'wx');
    try {
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await unlessStalled(reader.read(), options.stallMs).catch((error: unknown) => {
          throw isStall(error) || signal.aborted ? error : brokenDownload(id, error);
        });
        if (done) break;
        hash.update(value);
        size += value.byteLength;
        await output.writeFile(value);
        report(value.byteLength);
      }
      await output.sync();
    } finally {
      await output.close();
    }
    if (file.size > 0 && size !== file.size) throw brokenDownload(id);
    if (file.sha256 && hash.digest('hex') !== file.sha256) throw brokenDownload(id);
    await rename(part, target);
  } catch (error) {
    stop();
    await rm(part, { force: true });
    throw error;
  }
}

/** Follows redirects by hand: the hub names size and checksum on the first answer only, and a token must not leave its host. */
async function request(options: HubOptions, method: 'GET' | 'HEAD', id: string, path: string, signal: AbortSignal) {
  const stopper = new AbortController();
  const stop = () => stopper.abort();
  signal.throwIfAborted();
  let url = new URL(`${options.url.replace(/\/+$/, '')}/${id}/resolve/main/${path}`);
  const home = url.origin;
  let size: string | null = null;
  let sha256: string | undefined;
  for (let hop = 0; ; hop++) {
    const response = await unlessStalled(
      fetch(url, {
        method,
        redirect: 'manual',
        signal: AbortSignal.any([signal, stopper.signal]),
        headers: {
          'accept-encoding': 'identity',
          'user-agent': 'hono-ai',
          ...(options.token && url.origin === home && { authorization: `Bearer ${options.token}` }),
        },
      }),
      options.stallMs,
    ).catch((error: unknown) => {
      stop();
      throw error;
    });
    size ??= response.headers.get('x-linked-size');
    sha256 ??= /^"?([0-9a-f]{64})"?$/.exec(response.headers.get('x-linked-etag') ?? '')?.[1];
    const next = response.status >= 300 && response.status < 400 ? response.headers.get('location') : null;
    if (!next || hop >= MAX_REDIRECTS) {
      return { response, stop, size: Number(size ?? response.headers.get('content-length') ?? 0), sha256 };
    }
    await response.body?.cancel();
    url = new URL(next, url);
  }
}

async function unlessStalled<T>(work: Promise<T>, stallMs: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stall = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(stalled()), stallMs);
  });
  try {
    return await Promise.race([work, stall]);
  } finally {
    clearTimeout(timer);
    // Whoever lost the race may still fail later, and nobody listens then.
    work.catch(() => {});
  }
}

async function removeAbandoned(target: string): Promise<void> {
  const dir = dirname(target);
  for (const name of await readdir(dir)) {
    if (!name.startsWith(`${basename(target)}.`) || !name.endsWith('.part')) continue;
    const found = await stat(join(dir, name)).catch(() => undefined);
    if (found && Date.now() - found.mtimeMs > ABANDONED) await rm(join(dir, name), { force: true });
  }
}
