// ACE-Step's wire: answers in a wrapper, results as JSON in a string, and what its failures mean.
import { GatewayError } from '../../../src/error.ts';
import { errorText, type Upstream } from '../../../src/upstream.ts';

interface Wrapped {
  data?: unknown;
  code?: number;
  error?: unknown;
}

/** One task in an answer. */
interface Row {
  /** 0 while it waits or is worked on, 1 when done, 2 when failed. */
  status?: number;
  /** Items as JSON in a string. */
  result?: unknown;
  progress_text?: string;
}

/** The stage of a task that has not begun. */
export const WAITING = 'queued';

/** Where a task stands. */
export type TaskState =
  | { state: 'working'; progress: number; stage: string }
  | { state: 'done'; item: Item }
  | { state: 'failed'; error: string }
  /** The server does not know it, which it reports as if it were waiting. */
  | { state: 'unknown' };

/** One piece of a finished task. */
export interface Item {
  file?: string;
  /** What its language model made of the prompt, where it has one. */
  prompt?: string;
  dit_model?: string;
  metas?: { duration?: unknown };
  progress?: number;
  stage?: string;
  error?: string | null;
}

export interface Client {
  /** The task's id, and its place in the queue, 1 for the next. */
  submit(task: object, signal: AbortSignal): Promise<{ id: string; position: number | undefined }>;
  query(id: string, signal: AbortSignal): Promise<TaskState>;
  /** Names, the default first; undefined where the server does not tell. */
  models(signal: AbortSignal): Promise<string[] | undefined>;
  /** True only where it is known that no task waits or runs. */
  isIdle(signal: AbortSignal): Promise<boolean>;
  /** Throws unless it is well. */
  check(signal: AbortSignal): Promise<void>;
  /** The bytes of a finished piece; asked for when they are read. */
  open(file: string): AsyncIterable<Uint8Array>;
}

const RETRY_AFTER = 10;
const OFFLOAD_HINT =
  'Run the ACE-Step server with ACESTEP_OFFLOAD_TO_CPU=true and ACESTEP_INIT_LLM=false, or ask for a shorter piece.';

export function createClient(upstream: Upstream, maxReplyBytes: number): Client {
  const { name } = upstream;

  /** An answer out of its wrapper. `json` makes it a POST. */
  async function ask(path: string, signal: AbortSignal, json?: object): Promise<unknown> {
    const reply = await upstream.control<Wrapped>(path, { signal, ...(json && { json }) }).catch(translate);
    return unwrap(reply);
  }

  function unwrap(reply: Wrapped | null): unknown {
    if (typeof reply !== 'object' || reply === null || !('data' in reply)) throw notAceStep(name);
    const { code = 200, error } = reply;
    // Some failures come with HTTP 200.
    if (code !== 200) return translate(upstream.failure(code, JSON.stringify({ error: lastLine(error) })));
    return reply.data;
  }

  function translate(error: unknown): never {
    if (!(error instanceof GatewayError)) throw error;
    if (error.code === 'rate_limited') {
      throw new GatewayError('overloaded', `The queue of ${name} is full.`, {
        source: name,
        retryAfter: RETRY_AFTER,
        hint: 'Try again in a moment, or raise ACESTEP_QUEUE_MAXSIZE.',
      });
    }
    if (error.code === 'model_not_found') throw notAceStep(name, error);
    if (error.code === 'insufficient_vram') throw outOfMemory(name, error);
    throw error;
  }

  return {
    async submit(task, signal) {
      // Not a control call with its short deadline: a task that was taken late must not be taken for one that was not.
      const reply = await upstream.send('/release_task', { json: task, signal });
      const body = await reply.text();
      if (reply.status !== 200) translate(upstream.failure(reply.status, body));
      const { task_id: id, queue_position: position } = (unwrap(parse(body) as Wrapped) ?? {}) as {
        task_id?: unknown;
        queue_position?: unknown;
      };
      if (typeof id !== 'string' || id === '') throw notAceStep(name);
      return { id, position: typeof position === 'number' && position > 0 ? position : undefined };
    },
    async query(id, signal) {
      const data = await ask('/query_result', signal, { task_id_list: [id] });
      const row = Array.isArray(data) ? (data[0] as Row | undefined) : undefined;
      if (!row) throw notAceStep(name);
      const items = typeof row.result === 'string' ? parse(row.result) : row.result;
      const [item] = Array.isArray(items) ? (items as Item[]) : [];
      if (row.status === 1) return { state: 'done', item: item ?? {} };
      if (row.status === 2) return { state: 'failed', error: item?.error ?? '' };
      // Of a task that it knows, it tells at least the last line of its log.
      if (!item && row.progress_text === undefined) return { state: 'unknown' };
      return { state: 'working', progress: item?.progress ?? 0, stage: item?.stage ?? WAITING };
    },
    async models(signal) {
      // With a wrapper or, where the server speaks OpenRouter's dialect too, in the shape of that.
      const reply = await upstream.control<Wrapped>('/v1/models', { signal }).catch((error: unknown) => {
        if (error instanceof GatewayError && error.code === 'model_not_found') return undefined;
        throw error;
      });
      if (typeof reply !== 'object' || reply === null) return undefined;
      const data = (typeof reply.code === 'number' ? unwrap(reply) : reply.data) as
        | { models?: { name?: string; is_default?: boolean }[] }
        | { id?: string }[]
        | undefined;
      if (Array.isArray(data)) return data.flatMap(({ id }) => (id ? [id.replace(/^.*\//, '')] : []));
      return data?.models
        ?.toSorted((a, b) => Number(b.is_default ?? false) - Number(a.is_default ?? false))
        .flatMap((model) => model.name ?? []);
    },
    async isIdle(signal) {
      try {
        const { jobs } = (await ask('/v1/stats', signal)) as { jobs?: { queued?: number; running?: number } };
        return jobs?.queued === 0 && jobs.running === 0;
      } catch {
        return false;
      }
    },
    async check(signal) {
      await ask('/health', signal);
    },
    open: (file) => ({ [Symbol.asyncIterator]: () => download(file) }),
  };

  /** The piece is on the server's disk: reading it again does no harm, and no signal of the finished run may end it. */
  async function* download(file: string): AsyncGenerator<Uint8Array> {
    const path = `/v1/audio?path=${encodeURIComponent(toServerPath(file))}`;
    const reply = await upstream.send(path, { method: 'GET', signal: new AbortController().signal });
    if (reply.status === 200) {
      yield* reply.body;
      return;
    }
    const body = await reply.text();
    if (reply.status === 401) throw upstream.failure(401, body);
    throw new GatewayError('upstream_error', `${name} does not give the piece that it made (${reply.status}).`, {
      source: name,
      retry: false,
      hint: `Ask again; look at the log of ${name} if it happens again.`,
    });
  }

  /** `file` is a link into the server itself; wherever else it may point, nobody goes there. */
  function toServerPath(file: string): string {
    const here = 'http://server.invalid';
    const url = URL.canParse(file, here) ? new URL(file, here) : undefined;
    const path = url?.origin === here && url.pathname.endsWith('/v1/audio') ? url.searchParams.get('path') : null;
    if (!path) throw notAceStep(name);
    return path;
  }

  function parse(text: string): unknown {
    if (text.length > maxReplyBytes) throw notAceStep(name);
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw notAceStep(name, cause);
    }
  }
}

/** What a failed task says: a traceback, of which the last line is meant for people, or nothing at all. */
export function toTaskFailure(upstream: Upstream, error: string): GatewayError {
  const { name } = upstream;
  if (/out ?of ?memory|(not enough|insufficient gpu) memory|_ALLOC_FAILED/i.test(error)) return outOfMemory(name);
  const text = errorText(lastLine(error)).slice(0, 500);
  return new GatewayError('upstream_error', text ? `${name} failed: ${text}` : `${name} failed to make this piece.`, {
    source: name,
    retry: false,
    hint: `The log of ${name} says more.`,
  });
}

function lastLine(error: unknown): string {
  const lines = String(error ?? '')
    .trim()
    .split('\n');
  return (lines.findLast((line) => /^[\w.]*(Error|Exception)\b/.test(line)) ?? lines.at(-1) ?? '').trim();
}

function outOfMemory(source: string, cause?: unknown): GatewayError {
  return new GatewayError('insufficient_vram', `${source} ran out of memory.`, {
    source,
    retryAfter: 30,
    retry: false,
    hint: OFFLOAD_HINT,
    cause,
  });
}

function notAceStep(source: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_invalid', `${source} does not answer as an ACE-Step 1.5 API server does.`, {
    source,
    retry: false,
    hint: 'Start acestep-api, or correct the address in the configuration; the web page of ACE-Step is another server.',
    cause,
  });
}
