// A fake ACE-Step 1.5 server over real HTTP: tasks in a queue, results as JSON in strings, and counters of what ran.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { empty, fileAnswer, json, listen, parseJson, plain, readBody, readForm, write } from './fake-http.ts';
import type { Answer, Asked } from './fake-http.ts';
import { makeFlac, makeMp3, makeOpus, makeWav } from './media/index.ts';

export interface FakeAceStepOptions {
  /** Models that /v1/models lists, the first one loaded; ['acestep-v15-turbo']. */
  models?: string[];
  /** The key that it wants; none. */
  key?: string;
  /** Milliseconds of one of the ten steps of a task; 1. */
  stepMs?: number;
  /** Tasks that may wait before 429; 200. */
  queueMax?: number;
  port?: number;
  /** Answer /v1/models in the shape of the OpenRouter adapter ({data:[{id,…}]} without a wrapper). */
  openRouterModels?: boolean;
}

export interface FakeAceStep {
  url: string;
  port: number;
  /** Tasks that began. */
  executions(): number;
  /** Bodies of /release_task, oldest first; uploaded files as `{name, bytes}`. */
  tasks(): Record<string, unknown>[];
  requests(): string[];
  /**
   * Fails the next task: `task` = status 2 in query_result, `submit` = HTTP 200 with code 500, `http` = HTTP 500,
   * `lost` = it is taken and never heard of again.
   */
  failNext(kind: 'task' | 'submit' | 'http' | 'lost'): void;
  /** Tasks stand still after their first step until `release`. */
  hold(): void;
  /** Settles with its task id when a task stands still. */
  held(): Promise<string>;
  release(): void;
  /** A new process on the same port: tasks and results forgotten. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

interface Task {
  id: string;
  fields: Record<string, unknown>;
  status: 0 | 1 | 2;
  items: Record<string, unknown>[];
  text: string;
  fails: boolean;
}

const STEPS = 10;
const MAKERS = { mp3: makeMp3, wav: makeWav, flac: makeFlac, opus: makeOpus };
const TYPES = { mp3: 'audio/mpeg', wav: 'audio/wav', flac: 'audio/flac', opus: 'audio/ogg' };
type Format = keyof typeof MAKERS;
const FOLDER = '/tmp/acestep/api_audio';

export async function openFakeAceStep(options: FakeAceStepOptions = {}): Promise<FakeAceStep> {
  const { models = ['acestep-v15-turbo'], stepMs = 1, queueMax = 200 } = options;
  const taken: Record<string, unknown>[] = [];
  const requests: string[] = [];
  const files = new Map<string, { bytes: Uint8Array; etag: string; modified: Date }>();
  let tasks = new Map<string, Task>();
  let waiting: Task[] = [];
  let executions = 0;
  let era = 0;
  let working = false;
  let failure: Parameters<FakeAceStep['failNext']>[0] | undefined;
  let gate: PromiseWithResolvers<void> | undefined;
  let standing: string | undefined;
  let watchers: ((id: string) => void)[] = [];

  async function answer(request: IncomingMessage): Promise<Answer> {
    const url = new URL(request.url ?? '/', 'http://fake');
    requests.push(`${request.method} ${url.pathname}`);
    const body = (await readBody(request))!;
    const headers = request.headers;
    const asked: Asked = {
      method: request.method ?? 'GET',
      path: url.pathname,
      query: url.searchParams,
      headers,
      body,
    };
    const route = ROUTES[`${asked.method} ${asked.path}`];
    if (!route) return json({ detail: 'Not Found' }, 404);
    const fields = asked.method === 'POST' ? await readFields(asked) : {};
    if (!fields) return json({ detail: [{ type: 'json_invalid', loc: ['body'], msg: 'JSON decode error' }] }, 422);
    if (asked.path !== '/health' && !isAllowed(asked, fields)) return json({ detail: 'Unauthorized' }, 401);
    return route(fields, asked);
  }

  function isAllowed({ headers }: Asked, fields: Record<string, unknown>): boolean {
    if (options.key === undefined) return true;
    return headers.authorization === `Bearer ${options.key}` || fields['ai_token'] === options.key;
  }

  const ROUTES: Record<string, (fields: Record<string, unknown>, asked: Asked) => Answer> = {
    'GET /health': () => wrap({ status: 'ok', service: 'ACE-Step API', version: '1.0' }),
    'GET /v1/models': () =>
      options.openRouterModels
        ? json({
            data: models.map((id) => ({ id, name: id, input_modalities: ['text'], output_modalities: ['audio'] })),
          })
        : wrap({
            models: models.map((name, index) => ({ name, is_default: index === 0, is_loaded: index === 0 })),
            default_model: models[0],
          }),
    'GET /v1/stats': () =>
      wrap({
        jobs: { total: taken.length, queued: waiting.length },
        queue_size: waiting.length,
        queue_maxsize: queueMax,
      }),
    'POST /release_task': release,
    'POST /query_result': query,
    'GET /v1/audio': (_, asked) => {
      const path = asked.query.get('path') ?? '';
      if (!path.startsWith(`${FOLDER}/`) || path.includes('..'))
        return json({ detail: 'Access denied: path outside allowed directory' }, 403);
      const file = files.get(path);
      if (!file) return json({ detail: 'Audio file not found' }, 404);
      return fileAnswer(asked, file, { 'content-type': TYPES[path.split('.').at(-1) as Format] });
    },
  };

  function release(fields: Record<string, unknown>): Answer {
    const kind = failure;
    failure = undefined;
    if (kind === 'http') return plain('Internal Server Error', 500);
    if (kind === 'submit') return wrap(null, 500, 'CUDA error: out of memory');
    if (waiting.length >= queueMax) return json({ detail: 'Server busy: queue is full' }, 429);
    const task: Task = { id: randomUUID(), fields, status: 0, items: [], text: '', fails: kind === 'task' };
    taken.push(fields);
    if (kind !== 'lost') {
      tasks.set(task.id, task);
      waiting.push(task);
      void work();
    }
    return wrap({ task_id: task.id, status: 'queued', queue_position: Math.max(1, waiting.length) });
  }

  function query(fields: Record<string, unknown>): Answer {
    const asked = fields['task_id_list'];
    const ids = typeof asked === 'string' ? (parseJson(Buffer.from(asked)) as unknown) : asked;
    if (!Array.isArray(ids)) return wrap(null, 400, 'task_id_list must be a list');
    return wrap(
      ids.map((id) => {
        const task = tasks.get(String(id));
        if (!task) return { task_id: String(id), result: '[]', status: 0 };
        return { task_id: task.id, result: JSON.stringify(task.items), status: task.status, progress_text: task.text };
      }),
    );
  }

  async function work(): Promise<void> {
    if (working) return;
    working = true;
    const mine = era;
    for (let task = waiting.shift(); task; task = waiting.shift()) {
      await perform(task, () => era !== mine);
      if (era !== mine) return;
    }
    working = false;
  }

  async function perform(task: Task, ended: () => boolean): Promise<void> {
    executions++;
    for (let step = 1; step <= STEPS; step++) {
      await pause(stepMs);
      if (ended()) return;
      const progress = step / STEPS;
      task.items = [
        { ...toItem(task), file: '', status: 0, progress, stage: step === 1 ? 'Preparing inputs' : 'Generating music' },
      ];
      task.text = `${Math.round(progress * 100)}%|${'█'.repeat(step)}| ${step}/${STEPS}`;
      if (step === 1) await standStill(task.id);
      if (ended()) return;
    }
    if (task.fails) {
      const error = 'CUDA out of memory. Tried to allocate 2.00 GiB';
      task.items = [{ ...toItem(task), file: '', status: 2, progress: 0, stage: 'failed', error }];
      task.status = 2;
      return;
    }
    task.items = Array.from({ length: Number(task.fields['batch_size'] ?? 2) }, (_, index) => finished(task, index));
    task.status = 1;
  }

  async function standStill(id: string): Promise<void> {
    if (!gate) return;
    standing = id;
    for (const resolve of watchers.splice(0)) resolve(id);
    await gate.promise;
    standing = undefined;
  }

  function finished(task: Task, index: number): Record<string, unknown> {
    const { fields } = task;
    const format = String(fields['audio_format'] ?? 'mp3');
    const kind: Format = format in MAKERS ? (format as Format) : 'mp3';
    const random = String(fields['use_random_seed'] ?? true) === 'true' || Number(fields['seed'] ?? -1) < 0;
    const seed = random ? Math.floor(Math.random() * 2 ** 31) : Number(fields['seed']) + index;
    const seconds = durationOf(fields);
    const path = `${FOLDER}/${task.id}-${index}.${kind}`;
    const tags = { prompt: String(fields['prompt'] ?? '') };
    const bytes = MAKERS[kind]({ seconds, seed, tags });
    files.set(path, { bytes, etag: `"${task.id}-${index}"`, modified: new Date() });
    const item = toItem(task);
    return {
      ...item,
      file: `/v1/audio?path=${encodeURIComponent(path)}`,
      status: 1,
      progress: 1,
      stage: 'succeeded',
      seed_value: `${seed}`,
      metas: { ...item['metas'], duration: seconds },
    };
  }

  function respond(request: IncomingMessage, response: ServerResponse): void {
    answer(request)
      .catch(() => empty(500))
      .then((answer) => write(response, answer, request.method === 'HEAD'))
      .catch(() => response.destroy());
  }

  const stop = async (): Promise<void> => {
    era++;
    working = false;
    waiting = [];
    gate?.resolve();
    gate = undefined;
    watchers = [];
    await server.stop();
  };

  let server = await listen(respond, options.port);
  const { port } = server;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    executions: () => executions,
    tasks: () => taken,
    requests: () => requests,
    failNext: (kind) => void (failure = kind),
    hold: () => void (gate = Promise.withResolvers()),
    held: () => (standing === undefined ? new Promise((resolve) => watchers.push(resolve)) : Promise.resolve(standing)),
    release() {
      gate?.resolve();
      gate = undefined;
    },
    async restart() {
      await stop();
      tasks = new Map();
      files.clear();
      server = await listen(respond, port);
    },
    close: stop,
  };
}

/** JSON, a form or multipart, with files as `{name, bytes}`. */
async function readFields(asked: Asked): Promise<Record<string, unknown> | undefined> {
  const type = asked.headers['content-type'] ?? '';
  if (type.includes('json')) return parseJson(asked.body) as Record<string, unknown> | undefined;
  if (!type.includes('form')) return {};
  const form = await readForm(asked);
  const entries = [...form].map(async ([name, value]) =>
    typeof value === 'string'
      ? [name, value]
      : [name, { name: value.name, bytes: new Uint8Array(await value.arrayBuffer()) }],
  );
  return Object.fromEntries(await Promise.all(entries)) as Record<string, unknown>;
}

function durationOf(fields: Record<string, unknown>): number {
  const asked = Number(fields['audio_duration'] ?? fields['duration'] ?? -1);
  // Without a length it makes up its own.
  return asked > 0 ? Math.min(600, Math.max(10, asked)) : 30;
}

function toItem({ fields }: Task): Record<string, unknown> & { metas: object } {
  return {
    wave: '',
    create_time: Math.floor(Date.now() / 1000),
    env: 'development',
    prompt: fields['prompt'] ?? '',
    lyrics: fields['lyrics'] ?? '',
    metas: {
      bpm: fields['bpm'] ?? 120,
      duration: durationOf(fields),
      genres: '',
      keyscale: fields['key_scale'] ?? '',
      timesignature: fields['time_signature'] ?? '4',
    },
    generation_info: '**🎯 Average Time per Track: 1.0s**',
    seed_value: '',
    lm_model: 'acestep-5Hz-lm-0.6B',
    dit_model: fields['model'] ?? 'acestep-v15-turbo',
    error: null,
  };
}

function wrap(data: unknown, code = 200, error: string | null = null): Answer {
  return json({ data, code, error, timestamp: Date.now(), extra: null });
}
