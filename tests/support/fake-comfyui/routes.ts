// The routes of a fake ComfyUI but for files: prompts, queue, history, jobs, models and memory.
import { randomUUID } from 'node:crypto';
import type { Disk } from './disk.ts';
import { empty, json, parseJson, plain, trouble } from '../fake-http.ts';
import type { Answer, Asked } from '../fake-http.ts';
import { jobList, jobOf } from './jobs.ts';
import type { Models } from './models.ts';
import type { Queue } from './queue.ts';
import type { FakeComfyUI, FakeGraph, PostedPrompt } from './types.ts';
import { validatePrompt } from './validate.ts';

export interface RouteContext {
  queue(): Queue;
  models: Models;
  disk: Disk;
  log: {
    prompts: PostedPrompt[];
    interrupts: ReturnType<FakeComfyUI['interrupts']>;
    cancels: string[];
    deletes: string[];
    frees: ReturnType<FakeComfyUI['frees']>;
  };
  jobsApi: boolean;
  folderPaths: boolean;
  checkIds: boolean;
  /** The number of the next prompt. */
  count(): number;
  stats(): object;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
type Body = Record<string, unknown>;

/** Undefined where there is no such route. */
export function route(asked: Asked, context: RouteContext): Answer | undefined {
  const [, first = '', ...rest] = asked.path.split('/').map(decodeURIComponent);
  const get = asked.method === 'GET' || asked.method === 'HEAD';
  const queue = context.queue();
  if (asked.path.startsWith('/api/jobs')) return context.jobsApi ? jobs(asked, rest.slice(1), context) : undefined;
  if (rest.length === 0 && asked.method === 'POST') {
    const post = POSTS[first];
    if (!post) return undefined;
    const body = parseJson(asked.body);
    // Only /interrupt takes what is no JSON.
    if (body === undefined && first !== 'interrupt') return trouble;
    if (typeof (body ?? {}) !== 'object' || body === null) return trouble;
    return post((body ?? {}) as Body, context);
  }
  if (!get) return undefined;
  if (asked.path === '/prompt') return json(remaining(queue));
  if (asked.path === '/queue') {
    const running = queue.running();
    return json({ queue_running: running ? [listed(running)] : [], queue_pending: queue.pending().map(listed) });
  }
  if (first === 'history' && rest.length <= 1) return json(history(queue, rest[0], asked.query));
  if (first === 'object_info' && rest.length <= 1) return json(objectInfo(context, rest[0]));
  if (first === 'models' && rest.length <= 1) {
    if (rest[0] === undefined) return json(context.models.folders());
    const files = context.models.files(rest[0]);
    return files ? json(files) : empty(404);
  }
  if (asked.path === '/internal/folder_paths' && context.folderPaths) return json(context.models.paths());
  if (asked.path === '/system_stats') return json(context.stats());
  if (asked.path === '/embeddings' || asked.path === '/extensions') return json([]);
  if (asked.path === '/features') return json({ supports_preview_metadata: true, max_upload_size: 104_857_600 });
  if (asked.path === '/')
    return { status: 200, headers: { 'content-type': 'text/html' }, body: '<!DOCTYPE html><title>ComfyUI</title>' };
  return undefined;
}

const POSTS: Record<string, (body: Body, context: RouteContext) => Answer> = {
  prompt: postPrompt,
  queue(body, { queue, log }) {
    if (body['clear']) queue().clear();
    for (const id of strings(body['delete'])) {
      log.deletes.push(id);
      queue().remove(id);
    }
    return empty();
  },
  interrupt(body, { queue, log }) {
    const prompt_id = typeof body['prompt_id'] === 'string' && body['prompt_id'] ? body['prompt_id'] : undefined;
    log.interrupts.push({ prompt_id, hit: queue().interrupt(prompt_id) });
    return empty();
  },
  history(body, { queue }) {
    if (body['clear']) queue().history.clear();
    for (const id of strings(body['delete'])) queue().history.delete(id);
    return empty();
  },
  free(body, { queue, log }) {
    const flags = { unload_models: body['unload_models'] === true, free_memory: body['free_memory'] === true };
    log.frees.push(flags);
    queue().free({ ...flags, unload_models: flags.unload_models || flags.free_memory });
    return empty();
  },
};

function postPrompt(body: Body, context: RouteContext): Answer {
  const posted: PostedPrompt = {
    graph: structuredClone(body['prompt'] ?? {}) as FakeGraph,
    prompt_id: body['prompt_id'] as string | undefined,
    client_id: body['client_id'] as string | undefined,
    number: body['number'] as number | undefined,
    front: body['front'] === true,
    extra_data: body['extra_data'] as Body | undefined,
    status: 200,
  };
  context.log.prompts.push(posted);
  const refuse = (error: object, nodeErrors: object = {}): Answer => {
    posted.status = 400;
    return json({ error, node_errors: nodeErrors }, 400);
  };
  const next = body['number'] === undefined ? context.count() : Number(body['number']);
  const number = body['number'] === undefined && posted.front ? -next : next;
  if (!('prompt' in body)) {
    return refuse({ type: 'no_prompt', message: 'No prompt provided', details: 'No prompt provided', extra_info: {} });
  }
  const id = body['prompt_id'] ?? randomUUID();
  if (context.checkIds && !UUID.test(String(id))) return refuse(BAD_ID);
  const graph = body['prompt'] as FakeGraph;
  const partial = body['partial_execution_targets'] as string[] | undefined;
  const info = context.models.info(context.disk.list('input'));
  const verdict = validatePrompt(graph, info, context.disk, partial);
  if (verdict.error) return refuse(verdict.error, verdict.nodeErrors);
  const extra = { ...posted.extra_data, ...(posted.client_id !== undefined && { client_id: posted.client_id }) };
  context.queue().put({
    number,
    id: String(id),
    graph,
    extra: { ...extra, create_time: Date.now() },
    outputs: verdict.outputs,
  });
  return json({ prompt_id: String(id), number, node_errors: verdict.nodeErrors });
}

const BAD_ID = {
  type: 'invalid_prompt_id',
  message: 'prompt_id must be a valid UUID',
  details:
    'prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the server generate one',
  extra_info: {},
};

function jobs(asked: Asked, parts: string[], { queue, log }: RouteContext): Answer | undefined {
  const [id, verb] = parts;
  const cancel = (job: string): boolean => {
    log.cancels.push(job);
    return queue().interrupt(job) || queue().remove(job);
  };
  if (asked.method === 'POST' && id === 'cancel' && verb === undefined) {
    const ids = (parseJson(asked.body) as Body | undefined)?.['job_ids'];
    if (!Array.isArray(ids)) return json({ error: 'job_ids must be a list' }, 400);
    const bad = ids.filter((job) => !UUID.test(String(job)));
    if (bad.length > 0) return json({ error: 'job_ids contains invalid id(s)', invalid_ids: bad }, 400);
    return json({ cancelled: ids.map((job) => cancel(String(job))).includes(true) });
  }
  if (asked.method === 'POST' && id !== undefined && verb === 'cancel') return json({ cancelled: cancel(id) });
  if (asked.method !== 'GET' || verb !== undefined) return undefined;
  if (id === undefined) return jobList(queue(), asked.query);
  const job = jobOf(queue(), id);
  return job ? json(job) : json({ error: 'Job not found' }, 404);
}

export function remaining(queue: Queue): { exec_info: { queue_remaining: number } } {
  return { exec_info: { queue_remaining: queue.remaining() } };
}

function listed(item: ReturnType<Queue['pending']>[number]): unknown[] {
  return [item.number, item.id, item.graph, item.extra, item.outputs];
}

function history(queue: Queue, id: string | undefined, query: URLSearchParams): object {
  if (id !== undefined) return queue.history.has(id) ? { [id]: queue.history.get(id) } : {};
  const entries = [...queue.history];
  const max = query.has('max_items') ? Number(query.get('max_items')) : undefined;
  const offset = Number(query.get('offset') ?? -1);
  const start = offset >= 0 ? offset : max === undefined ? 0 : Math.max(0, entries.length - max);
  return Object.fromEntries(entries.slice(start, max === undefined ? undefined : start + max));
}

function objectInfo({ models, disk }: RouteContext, type: string | undefined): object {
  const info = models.info(disk.list('input'));
  if (type === undefined) return info;
  return type in info ? { [type]: info[type] } : {};
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

/** The web pages are mounted at the root: they answer GET for every path, and no other method. */
export function notFound(method: string): Answer {
  if (method === 'GET' || method === 'HEAD')
    return { status: 404, headers: { 'content-type': 'application/octet-stream' } };
  return plain('405: Method Not Allowed', 405);
}
