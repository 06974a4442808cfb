// A file of weights on this machine → a model of Ollama: its bytes go over as a blob, then a model is made of it.
import { open, type FileHandle } from 'node:fs/promises';
import { GatewayError } from '../../../src/error.ts';
import type { PullEvent } from '../../../src/puller.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { readLines } from '../ndjson.ts';
import { toKeepFailure } from './pull-stream.ts';
import { notOllama } from './wire.ts';

export interface LocalFile {
  path: string;
  /** What it is called; Ollama looks at the ending. */
  name: string;
  size: number;
  /** Lower-case hexadecimal. */
  sha256: string;
}

const PIECE = 1024 ** 2;
const EVERY_MS = 200;
const MAX_LINE = 1_000_000;

/** Files that Ollama has already are not sent. Throws storage_full, digest_mismatch, invalid_request, upstream failures. */
export async function* handOver(
  upstream: Upstream,
  { model, files }: { model: string; files: LocalFile[] },
  signal: AbortSignal,
): AsyncGenerator<PullEvent> {
  for (const file of files) {
    if (await hasBlob(upstream, file.sha256, signal)) continue;
    yield* send(upstream, model, file, signal);
  }
  yield { type: 'status', state: 'running', message: 'making a model of it' };
  const blobs = Object.fromEntries(files.map(({ name, sha256 }) => [name, `sha256:${sha256}`]));
  const reply = await upstream.send('/api/create', {
    json: { model, name: model, files: blobs, stream: true },
    signal,
  });
  if (reply.status !== 200) throw toKeepFailure(upstream, reply.status, await reply.text(), model);
  let succeeded = false;
  for await (const text of readLines(reply.body, MAX_LINE, upstream.name)) {
    const line = toLine(text, upstream.name);
    if (line.error !== undefined) throw toKeepFailure(upstream, 200, text, model);
    if (line.status === 'success') succeeded = true;
  }
  if (succeeded) return;
  throw new GatewayError('upstream_terminated', `${upstream.name} ended before it had made ${model}.`, {
    source: upstream.name,
    hint: `Look at the log of ${upstream.name}.`,
  });
}

export async function hasBlob(upstream: Upstream, sha256: string, signal: AbortSignal): Promise<boolean> {
  const reply = await upstream.send(`/api/blobs/sha256:${sha256}`, { method: 'HEAD', signal });
  await reply.text();
  return reply.status === 200;
}

/** Never more than a piece of it is in memory. */
async function* send(
  upstream: Upstream,
  model: string,
  file: LocalFile,
  signal: AbortSignal,
): AsyncGenerator<PullEvent> {
  let sent = 0;
  const body = toStream(file.path, (bytes) => (sent += bytes));
  const headers = { 'content-type': 'application/octet-stream', 'content-length': String(file.size) };
  const reply = upstream.send(`/api/blobs/sha256:${file.sha256}`, { body, headers, signal });
  // It is awaited below; should the caller leave before, it ends with the signal and nobody needs to know.
  reply.catch(() => {});
  const progress = (): PullEvent => ({
    type: 'progress',
    done: Math.min(sent, file.size),
    total: file.size,
    unit: 'bytes',
    label: `${file.name} → ${upstream.name}`,
  });
  for (;;) {
    const done = await Promise.race([reply.then(() => true), pause(EVERY_MS)]);
    yield progress();
    if (done) break;
  }
  const { status, text } = await reply;
  const answer = await text();
  if (status !== 200 && status !== 201) throw toKeepFailure(upstream, status, answer, model);
}

function toStream(path: string, onRead: (bytes: number) => void): ReadableStream<Uint8Array> {
  let file: FileHandle | undefined;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        // Not before somebody reads: a stream that nobody takes up must leave nothing open.
        file ??= await open(path);
        const { bytesRead, buffer } = await file.read(new Uint8Array(PIECE), 0, PIECE, null);
        if (bytesRead === 0) {
          await file.close();
          return controller.close();
        }
        onRead(bytesRead);
        controller.enqueue(buffer.subarray(0, bytesRead));
      },
      cancel: () => file?.close(),
    },
    { highWaterMark: 0 },
  );
}

function pause(ms: number): Promise<false> {
  return new Promise((resolve) => setTimeout(() => resolve(false), ms));
}

function toLine(text: string, source: string): { status?: unknown; error?: unknown } {
  try {
    return Object(JSON.parse(text)) as { status?: unknown; error?: unknown };
  } catch (cause) {
    throw notOllama(source, cause);
  }
}
