// A fake ComfyUI over real HTTP and websockets: its wire, its refusals, one execution at a time, and counters of what ran.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { createCache } from './cache.ts';
import { createControls } from './controls.ts';
import { createDisk } from './disk.ts';
import { execute, isSampler } from './execution.ts';
import type { Item, Outcome } from './execution.ts';
import { upload, view } from './files.ts';
import { empty, listen, plain, readBody, trouble, write } from '../fake-http.ts';
import type { Answer, Asked } from '../fake-http.ts';
import { createModels } from './models.ts';
import { createQueue } from './queue.ts';
import type { Queue } from './queue.ts';
import { notFound, remaining, route } from './routes.ts';
import type { RouteContext } from './routes.ts';
import { createSockets } from './sockets.ts';
import type { FakeComfyUI, FakeComfyUIOptions, Uploaded } from './types.ts';
import { VRAM_TOTAL, previewFrames, systemStats, vramOf } from './wire.ts';

export type * from './types.ts';

export async function openFakeComfyUI(options: FakeComfyUIOptions = {}): Promise<FakeComfyUI> {
  const disk = createDisk();
  const models = createModels(options);
  const cache = createCache();
  const controls = createControls();
  const log: RouteContext['log'] & { uploads: Uploaded[]; requests: string[] } = {
    prompts: [],
    interrupts: [],
    cancels: [],
    deletes: [],
    frees: [],
    uploads: [],
    requests: [],
  };
  let executions = 0;
  let number = 0;
  let lastNode: { clientId: string; node: string } | undefined;
  let queue = openQueue();

  const sockets = createSockets({
    status: () => remaining(queue),
    lastNode: (clientId) => (lastNode?.clientId === clientId ? lastNode.node : undefined),
    refuse: isForeign,
  });
  const context: RouteContext = {
    queue: () => queue,
    models,
    disk,
    log,
    jobsApi: options.jobsApi ?? true,
    folderPaths: options.folderPaths ?? true,
    checkIds: options.checkIds ?? true,
    count: () => number++,
    stats: () => systemStats(fake.loadedVram),
  };

  function openQueue(): Queue {
    const opened: Queue = createQueue({
      run: (item) => run(item, opened),
      changed: () => sockets.broadcast('status', { status: remaining(opened) }),
      finished: (item) => sockets.send(clientOf(item), 'executing', { node: null, prompt_id: item.id }),
      freed({ free_memory }) {
        fake.loadedVram = 0;
        if (free_memory) cache.clear();
      },
      historyDelay: () => fake.successBeforeHistoryMs,
    });
    return opened;
  }

  function run(item: Item, queue: Queue): Promise<Outcome> {
    const clientId = clientOf(item);
    const info = models.info(disk.list('input'));
    const asked = (item.extra['preview_method'] as string | undefined) ?? 'default';
    const made = options.previews ?? 'jpeg';
    let counted = false;
    return execute(item, {
      info,
      cache: cache.open(item.graph, info, disk),
      disk,
      ffmpeg: options.ffmpeg ?? true,
      stepMs: () => fake.stepMs,
      previews: asked === 'none' ? 'none' : asked === 'default' ? made : made === 'none' ? 'jpeg' : made,
      send: (type, data) => sockets.send(clientId, type, data),
      ...previewFrames(sockets, clientId),
      interrupted: () => queue.isInterrupted(),
      stage: (stage) => controls.stage(stage, item.id, queue),
      fail: (type, last) =>
        controls.fail(type, last, () => {
          fake.loadedVram = 0;
        }),
      began(node, type) {
        if (!counted) executions++;
        counted = true;
        lastNode = { clientId, node };
        if (isSampler(type)) fake.loadedVram = vramOf(item.graph);
      },
    }).finally(() => {
      lastNode = undefined;
    });
  }

  async function answer(request: IncomingMessage): Promise<Answer> {
    const url = new URL(request.url ?? '/', 'http://fake');
    log.requests.push(`${request.method} ${url.pathname}`);
    const body = await readBody(request, options.maxUpload ?? 104_857_600);
    if (isForeign(request.headers)) return empty(403);
    if (!body) return plain('Maximum request body size 104857600 exceeded', 413);
    // Every route is there twice; the jobs' own name begins with /api.
    const path = /^\/api\/(?!jobs)/.test(url.pathname) ? url.pathname.slice(4) : url.pathname;
    const asked: Asked = {
      method: request.method ?? 'GET',
      path,
      query: url.searchParams,
      headers: request.headers,
      body,
    };
    if (asked.method === 'POST' && path === '/upload/image')
      return upload(asked, 'image', { disk, uploads: log.uploads });
    if (asked.method === 'POST' && path === '/upload/mask')
      return upload(asked, 'mask', { disk, uploads: log.uploads });
    if (path === '/view' && asked.method !== 'POST') return view(asked, disk);
    return route(asked, context) ?? notFound(asked.method);
  }

  function respond(request: IncomingMessage, response: ServerResponse): void {
    answer(request)
      .catch(() => trouble)
      .then((answer) => write(response, answer, request.method === 'HEAD'))
      .catch(() => response.destroy());
  }

  async function open(port = 0): ReturnType<typeof listen> {
    const opened = await listen(respond, port);
    sockets.attach(opened.server);
    return opened;
  }

  async function stop(): Promise<void> {
    queue.stop();
    controls.wake();
    sockets.drop();
    await server.stop();
  }

  let server = await open(options.port);
  const { port } = server;
  const fake: FakeComfyUI = {
    url: `http://127.0.0.1:${port}`,
    port,
    loadedVram: 0,
    successBeforeHistoryMs: 0,
    stepMs: options.stepMs ?? 1,
    executions: () => executions,
    prompts: () => log.prompts,
    interrupts: () => log.interrupts,
    cancels: () => log.cancels,
    deletes: () => log.deletes,
    frees: () => log.frees,
    uploads: () => log.uploads,
    requests: () => log.requests,
    sockets: () => sockets.open(),
    running: () => queue.running()?.id,
    pending: () => queue.pending().map((item) => item.id),
    failNext: (kind) => controls.failNext(kind),
    hold: (stage) => controls.hold(stage),
    held: () => controls.held(),
    release: () => controls.release(),
    dropSockets: () => sockets.drop(),
    silence: () => void (sockets.silent = true),
    speak: () => void (sockets.silent = false),
    async restart({ downMs = 0 } = {}) {
      await stop();
      queue = openQueue();
      cache.clear();
      disk.clearTemp();
      controls.reset();
      Object.assign(fake, { loadedVram: 0 });
      number = 0;
      if (downMs > 0) await pause(downMs);
      server = await open(port);
    },
    addModelFile: (folder, name) => models.add(folder, name),
    removeModelFile: (name) => models.remove(name),
    addInputFile: (name, bytes) => disk.put('input', name, bytes),
    close: stop,
  };
  return fake;
}

export { VRAM_TOTAL };

function clientOf(item: Item): string {
  return String(item.extra['client_id'] ?? '');
}

/** A page of another site: the guard of a server that is bound to loopback. */
function isForeign(headers: IncomingMessage['headers']): boolean {
  if (headers['sec-fetch-site'] === 'cross-site') return true;
  const { host, origin } = headers;
  if (!host || !origin || !URL.canParse(origin)) return false;
  const [here, there] = [new URL(`http://${host}`), new URL(origin)];
  const loopback = /^(localhost|127\.|\[::1\])/.test(here.hostname);
  return (
    loopback && (there.port === '' || here.port === '' ? here.hostname !== there.hostname : here.host !== there.host)
  );
}
