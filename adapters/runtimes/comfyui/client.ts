// ComfyUI's HTTP routes, each as one call with a deadline of its own.
import { GatewayError } from '../../../src/error.ts';
import { createUpstream } from '../../../src/upstream.ts';
import type { Reply, Upstream, UpstreamOptions } from '../../../src/upstream.ts';
import type { Graph, ObjectInfo } from './workflow.ts';
import { toObject, toQueue } from './wire.ts';
import type { HistoryEntry, OutputFile, Queue, SystemStats } from './wire.ts';

/** Node classes of a server with many extensions take tens of megabytes; whatever is larger is no list of them. */
const MAX_INFO_BYTES = 256 * 1024 * 1024;
/** A prompt that starts between two looks at the queue is met by the next. */
const CANCEL_ROUNDS = 3;

export interface Answer {
  status: number;
  body: string;
}

export interface Client {
  readonly upstream: Upstream;
  /** Resolves for any status; throws upstream_unavailable, upstream_terminated, upstream_timeout. */
  prompt(request: { graph: Graph; id: string; clientId: string }): Promise<Answer>;
  /** As it is after this call: an answer that was on its way already does not count. */
  queue(): Promise<Queue>;
  /** Undefined where the prompt is unknown or has not ended. */
  history(id: string): Promise<HistoryEntry | undefined>;
  /** Ends this prompt and no other, whether it waits or runs. */
  cancel(id: string): Promise<void>;
  /** The name that node inputs know the file by. */
  upload(file: { name: string; folder: string; bytes: Uint8Array<ArrayBuffer> }, signal: AbortSignal): Promise<string>;
  /** From byte `from` on. Throws for any answer that is not 200 or 206. */
  view(file: OutputFile, from: number, signal: AbortSignal): Promise<Reply>;
  /** Models and caches leave memory as soon as nothing runs: the answer does not wait for it. */
  free(signal: AbortSignal): Promise<void>;
  stats(signal: AbortSignal): Promise<SystemStats>;
  /** Folder of `models` → where it lies on the server's machine. Throws for servers that do not tell. */
  folderPaths(): Promise<Record<string, string[]>>;
  /** What a folder of `models` holds. Throws for one that the server does not have. */
  files(folder: string): Promise<string[]>;
  /** Megabytes, and seconds on a server with many extensions. */
  objectInfo(): Promise<ObjectInfo>;
}

export function createClient(options: UpstreamOptions): Client {
  const { name, limits } = options;
  const upstream = createUpstream(options);
  const lists = createUpstream({ ...options, limits: { ...limits, maxReplyBytes: MAX_INFO_BYTES } });

  async function ask(path: string, json?: unknown, { ms = limits.controlMs, signal = never, from = upstream } = {}) {
    const deadline = AbortSignal.timeout(ms);
    try {
      const reply = await from.send(path, {
        method: json === undefined ? 'GET' : 'POST',
        json,
        signal: signal === never ? deadline : AbortSignal.any([signal, deadline]),
      });
      return { status: reply.status, body: await reply.text() };
    } catch (error) {
      if (!deadline.aborted || signal.aborted) throw error;
      // Silence is not absence: while it loads a model it may answer nobody.
      throw new GatewayError('upstream_timeout', `${name} does not answer.`, {
        source: name,
        cause: error,
        retry: false,
        hint: `Look at the log of ${name}; its port is open but it says nothing.`,
      });
    }
  }

  async function read(path: string, how: Parameters<typeof ask>[2] = {}): Promise<unknown> {
    const { status, body } = await ask(path, undefined, how);
    if (status === 404) throw notComfyUI(name);
    if (status !== 200) throw upstream.failure(status, body);
    try {
      return JSON.parse(body);
    } catch (cause) {
      throw notComfyUI(name, cause);
    }
  }

  async function command(path: string, json: unknown, signal: AbortSignal = never): Promise<void> {
    const { status, body } = await ask(path, json, { signal });
    if (status < 200 || status > 299) throw upstream.failure(status, body);
  }

  const queue = fresh(async () => toQueue(await read('/queue')));

  /** Servers of 2025 know no jobs, and older ones interrupt whatever runs: they are told to only while ours does. */
  async function withdraw(id: string): Promise<void> {
    for (let round = 0; round < CANCEL_ROUNDS; round++) {
      const { running, pending } = await queue();
      if (running.includes(id)) return command('/interrupt', { prompt_id: id });
      if (!pending.includes(id)) return;
      await command('/queue', { delete: [id] });
    }
  }

  return {
    upstream,
    queue,
    prompt({ graph, id, clientId }) {
      const request = {
        prompt: graph,
        prompt_id: id,
        client_id: clientId,
        extra_data: { preview_method: 'auto' },
      };
      return ask('/prompt', request, { ms: limits.firstByteMs });
    },
    async history(id) {
      const entry = toObject(await read(`/history/${encodeURIComponent(id)}`))[id];
      return entry === undefined ? undefined : (toObject(entry) as HistoryEntry);
    },
    async cancel(id) {
      const { status, body } = await ask(`/api/jobs/${encodeURIComponent(id)}/cancel`, {});
      if (status >= 200 && status <= 299) return;
      if (status >= 500) throw upstream.failure(status, body);
      await withdraw(id);
    },
    async upload({ name: filename, folder, bytes }, signal) {
      const form = new FormData();
      form.set('image', new Blob([bytes]), filename);
      form.set('type', 'input');
      form.set('subfolder', folder);
      const body = new Response(form);
      const reply = await upstream.send('/upload/image', {
        headers: { 'content-type': body.headers.get('content-type')! },
        body: new Uint8Array(await body.arrayBuffer()),
        signal,
      });
      const text = await reply.text();
      if (reply.status !== 200) throw upstream.failure(reply.status, text);
      return toInputName(text) ?? Promise.reject(notComfyUI(name));
    },
    async view({ filename, subfolder, type }, from, signal) {
      const query = new URLSearchParams({ filename, subfolder, type });
      const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {};
      const reply = await upstream.send(`/view?${query}`, { method: 'GET', headers, signal });
      if (reply.status === 200 || reply.status === 206) return reply;
      const body = await reply.text();
      if (reply.status === 404) throw lostFile(name);
      throw upstream.failure(reply.status, body);
    },
    free: (signal) => command('/free', { unload_models: true, free_memory: true }, signal),
    async stats(signal) {
      const stats = toObject(await read('/system_stats', { signal })) as SystemStats;
      if (typeof stats.system !== 'object') throw notComfyUI(name);
      return stats;
    },
    async folderPaths() {
      const told = toObject(await read('/internal/folder_paths'));
      return Object.fromEntries(Object.entries(told).map(([folder, paths]) => [folder, toTexts(paths)]));
    },
    files: async (folder) => toTexts(await read(`/models/${encodeURIComponent(folder)}`)),
    objectInfo: async () => toObject(await read('/object_info', { ms: limits.firstByteMs, from: lists })) as ObjectInfo,
  };
}

export function notComfyUI(source: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_invalid', `What answers for ${source} is not ComfyUI.`, {
    source,
    cause,
    hint: `Correct the address of ${source} in the configuration.`,
  });
}

const never = new AbortController().signal;

/** Reads are shared, but only by those who asked before one began. */
function fresh<T>(read: () => Promise<T>): () => Promise<T> {
  let current: Promise<T> | undefined;
  let next: Promise<T> | undefined;
  const start = () => {
    current = read().finally(() => (current = undefined));
    return current;
  };
  return () => {
    if (!current) return start();
    next ??= current
      .catch(() => {})
      .then(() => {
        next = undefined;
        return start();
      });
    return next;
  };
}

function toInputName(body: string): string | undefined {
  let reply: unknown;
  try {
    reply = JSON.parse(body);
  } catch {
    return undefined;
  }
  const { name, subfolder } = toObject(reply);
  if (typeof name !== 'string' || name === '') return undefined;
  return typeof subfolder === 'string' && subfolder !== '' ? `${subfolder.replaceAll('\\', '/')}/${name}` : name;
}

function toTexts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];
}

function lostFile(source: string): GatewayError {
  return new GatewayError('upstream_error', `${source} no longer has a file that it made.`, {
    source,
    retry: false,
    hint: `Its output folder was cleaned or moved while the job ran.`,
  });
}
