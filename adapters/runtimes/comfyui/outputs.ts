// The history of a prompt → the files that are its answer, and their bytes.
import type { FileKind } from '../../../src/capabilities/file.ts';
import { GatewayError } from '../../../src/error.ts';
import type { MadeFile } from '../../../src/event.ts';
import { join } from '../../../src/media.ts';
import type { Reply } from '../../../src/upstream.ts';
import type { Client } from './client.ts';
import { withoutFiles } from './failure.ts';
import { toObject } from './wire.ts';
import type { HistoryEntry, OutputFile } from './wire.ts';
import type { Graph } from './workflow.ts';

export interface Wanted {
  source: string;
  makes: FileKind;
  graph: Graph;
  /** Nodes whose files are the answer; all where it is empty. */
  nodes: string[];
  /** What names of files that this prompt made begin with, where their node was told so. */
  prefix: string;
}

const EXTENSIONS: Record<FileKind, RegExp> = {
  image: /\.(png|jpe?g|webp|gif|avif|tiff?|bmp)$/i,
  video: /\.(mp4|webm|mov|mkv|m4v|gif|webp|a?png)$/i,
  audio: /\.(mp3|wav|flac|ogg|opus|m4a|aac)$/i,
};
/** Formats that may hold one picture or many. */
const MAYBE_MOVING = /\.a?png$/i;
const VIEW_TRIES = 3;
const RETRY_MS = 300;

/** In the order of the graph. Throws upstream_error where there is none. */
export function pickFiles(entry: HistoryEntry, wanted: Wanted): OutputFile[] {
  const { source, graph, nodes } = wanted;
  const cached = cachedNodes(entry);
  const order = Object.keys(graph);
  const files = Object.entries(entry.outputs ?? {})
    .filter(([node]) => nodes.length === 0 || nodes.includes(node))
    .toSorted(([a], [b]) => order.indexOf(a) - order.indexOf(b))
    .flatMap(([node, output]) => toFiles(output, wanted.makes).filter((file) => isOwn(file, node, wanted, cached)));
  const kept = files.filter(({ type }) => type === 'output');
  const picked = kept.length > 0 ? kept : files.filter(({ type }) => type === 'temp');
  if (picked.length === 0) throw withoutFiles(source);
  return picked;
}

/**
 * The bytes of small files, read now; of what goes beyond `room` bytes altogether, a way to read them, which can be gone again and
 * outlives the signal.
 */
export async function readFiles(
  client: Client,
  files: OutputFile[],
  { room, signal }: { room: number; signal: AbortSignal },
): Promise<MadeFile[]> {
  const made: MadeFile[] = [];
  let left = room;
  for (const file of files) {
    const bytes = await readSmall(client, file, left, signal);
    left -= bytes?.byteLength ?? 0;
    made.push({ bytes: bytes ?? toStream(client, file) });
  }
  return made;
}

/** Undefined where it is larger. */
async function readSmall(client: Client, file: OutputFile, room: number, signal: AbortSignal) {
  const own = new AbortController();
  const both = AbortSignal.any([signal, own.signal]);
  try {
    const first = await client.view(file, 0, both);
    if (Number(first.header('content-length') ?? 0) > room) return undefined;
    const pieces: Uint8Array[] = [];
    let size = 0;
    for await (const piece of readAll((from) => client.view(file, from, both), first)) {
      pieces.push(piece);
      size += piece.byteLength;
      if (size > room) return undefined;
    }
    return join(pieces, size);
  } finally {
    // Frees the connection of what was not read.
    own.abort();
  }
}

function toStream(client: Client, file: OutputFile): AsyncIterable<Uint8Array> {
  return {
    async *[Symbol.asyncIterator]() {
      const own = new AbortController();
      try {
        yield* readAll((from) => client.view(file, from, own.signal));
      } finally {
        own.abort();
      }
    },
  };
}

/** What cost minutes to make is not lost to a broken connection: reading goes on where it ended. */
async function* readAll(view: (from: number) => Promise<Reply>, first?: Reply): AsyncGenerator<Uint8Array> {
  let at = 0;
  let reply = first;
  for (let tries = 1; ; tries++) {
    try {
      reply ??= await view(at);
      // A server that knows no ranges begins again.
      let skip = reply.status === 206 ? 0 : at;
      for await (const piece of reply.body) {
        const rest = piece.subarray(Math.min(skip, piece.byteLength));
        skip -= piece.byteLength - rest.byteLength;
        at += rest.byteLength;
        if (rest.byteLength > 0) yield rest;
      }
      return;
    } catch (error) {
      if (tries >= VIEW_TRIES || !isBroken(error)) throw error;
      reply = undefined;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function isBroken(error: unknown): boolean {
  return (
    error instanceof GatewayError && (error.code === 'upstream_terminated' || error.code === 'upstream_unavailable')
  );
}

/** Under whatever key they are listed: `images`, `gifs`, `audio`, `video`, `files`, … */
function toFiles(output: unknown, makes: FileKind): OutputFile[] {
  const { animated, ...lists } = toObject(output);
  const moves = Array.isArray(animated) && animated.includes(true);
  return Object.values(lists)
    .flatMap((list) => (Array.isArray(list) ? list : []))
    .flatMap((item) => {
      const { filename, subfolder, type } = toObject(item);
      if (typeof filename !== 'string' || !EXTENSIONS[makes].test(filename)) return [];
      // Of films, a still picture beside one is its cover.
      if (makes === 'video' && MAYBE_MOVING.test(filename) && !moves) return [];
      const folder = typeof subfolder === 'string' ? subfolder.replaceAll('\\', '/') : '';
      return [{ filename, subfolder: folder, type: typeof type === 'string' ? type : 'output' }];
    });
}

/**
 * Whether this prompt made the file. A server that remembers what a node gave lists the files of the earlier prompt: their names do
 * not begin as this one's do. Nodes that choose names themselves must have run.
 */
function isOwn(file: OutputFile, node: string, { graph, prefix }: Wanted, cached: Set<string>): boolean {
  const named = Object.values(graph[node]?.inputs ?? {}).some(
    (value) => typeof value === 'string' && value.includes(prefix),
  );
  if (!named || file.type === 'temp') return !cached.has(node);
  const path = file.subfolder === '' ? file.filename : `${file.subfolder}/${file.filename}`;
  return path.includes(prefix);
}

function cachedNodes({ status }: HistoryEntry): Set<string> {
  const nodes = (status?.messages ?? []).flatMap(([type, data]) =>
    type === 'execution_cached' ? (toObject(data)['nodes'] ?? []) : [],
  );
  return new Set(nodes as string[]);
}
