// A fake llama-server in router mode: processes that take time to start and fail, downloads that take time, fail and can be cancelled.
import type { ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { json } from './fake-http.ts';
import { error, list, openProgram, streamWords } from './fake-program.ts';
import type { Asked, Program, Respond } from './fake-program.ts';

interface Entry {
  value: string;
  args: string[];
  size: number;
  failed?: boolean;
  exit_code?: number;
  preset?: boolean;
}

export interface FakeLlamaRouter extends Program {
  models: Map<string, Entry>;
  /** Milliseconds. */
  loadMs: number;
  downloadMs: number;
  /** How loads of a model end, if not well: the exit code. */
  exits: Map<string, number>;
  /** What Hugging Face has: repository with tag → bytes. */
  hub: Map<string, number>;
  /** Downloads end after half of their bytes. */
  cut: boolean;
  /** Downloads stop after half of their bytes. */
  stall: boolean;
  /** It does as it is told and the model stays. */
  stubborn: boolean;
  /** Models that may be in memory at once. */
  max: number;
  /** Its list tells how far downloads are, and it has no events. */
  plain: boolean;
  counts: { loads: number; unloads: number; downloads: number; cancelled: number; deletes: number };
  respond: Respond;
}

export async function openFakeLlamaRouter(): Promise<FakeLlamaRouter> {
  const models = new Map<string, Entry>([
    [
      'ggml-org/gemma-3-4b-it-GGUF:Q4_K_M',
      { value: 'unloaded', args: ['llama-server', '--ctx-size', '8192'], size: 2_500_000_000 },
    ],
    ['qwen', { value: 'unloaded', args: ['llama-server', '--n-gpu-layers', '0'], size: 600_000_000, preset: true }],
  ]);
  const counts = { loads: 0, unloads: 0, downloads: 0, cancelled: 0, deletes: 0 };

  const listeners = new Set<ServerResponse>();
  const progresses = new Map<string, object>();

  function toEntry([id, { value, args, size, failed, exit_code, preset }]: [string, Entry]) {
    const progress = fake.plain ? progresses.get(id) : undefined;
    const status = { value, args, ...(failed ? { failed, exit_code } : {}), ...(progress ? { progress } : {}) };
    const architecture = { input_modalities: ['text'], output_modalities: ['text'] };
    const from = { source: preset ? 'preset' : 'cache', can_remove: !preset };
    const meta = value === 'loaded' ? { meta: { n_params: 4e9, size, n_ctx: 8192 } } : {};
    const common = { id, aliases: [], tags: [], object: 'model', owned_by: 'llamacpp', created: 1 };
    return { ...common, status, architecture, ...from, ...meta };
  }

  function tell(model: string, event: string, data?: object) {
    for (const response of listeners) response.write(`data: ${JSON.stringify({ model, event, data })}\n\n`);
  }

  async function load(id: string, entry: Entry) {
    counts.loads++;
    delete entry.failed;
    entry.value = 'loading';
    await pause(fake.loadMs);
    if (entry.value !== 'loading') return;
    const code = fake.exits.get(id);
    if (code === undefined) entry.value = 'loaded';
    else Object.assign(entry, { value: 'unloaded', failed: true, exit_code: code });
  }

  async function download(id: string, total: number) {
    counts.downloads++;
    const url = `https://huggingface.co/${id.split(':')[0]}/resolve/main/model.gguf`;
    const entry: Entry = { value: 'downloading', args: [], size: total };
    models.set(id, entry);
    tell(id, 'model_status', { status: 'downloading' });
    for (let step = 1; step <= 4; step++) {
      await pause(fake.downloadMs / 4);
      if (models.get(id) !== entry) return;
      const progress = { [url]: { done: Math.floor((total * step) / 4), total } };
      progresses.set(id, progress);
      tell(id, 'download_progress', { progress });
      if (step === 2 && fake.cut) return void models.delete(id);
      if (step === 2 && fake.stall) return;
    }
    entry.value = 'unloaded';
    tell(id, 'download_finished');
  }

  /** It says yes to every name, and finds out on the way. */
  async function lookFor(id: string) {
    models.set(id, { value: 'downloading', args: [], size: 0 });
    await pause(fake.downloadMs);
    models.delete(id);
    tell(id, 'download_finished');
  }

  const respond: Respond = async (asked) => {
    const { method, path, body } = asked;
    const id = String(body['model']);
    const entry = models.get(id);
    if (method === 'GET' && (path === '/models' || path === '/v1/models')) return list([...models].map(toEntry));
    if (method === 'GET' && path === '/props') return json({ role: 'router', max_instances: 1 });
    if (method === 'POST' && path === '/models/load') {
      if (!entry) return error(404, `model '${id}' not found`);
      if (runs(entry)) return error(400, 'model is already running');
      if ([...models.values()].filter(runs).length >= fake.max) {
        return error(500, 'model limit reached, try again later');
      }
      void load(id, entry);
      return json({ success: true });
    }
    if (method === 'POST' && path === '/models/unload') return unload(id, entry);
    if (method === 'POST' && path === '/models') {
      const known = [...fake.hub].find(([name]) => name === id || name.startsWith(`${id}:`));
      if (known && models.has(known[0])) return error(400, `model '${id}' already exists`);
      void (known ? download(...known) : lookFor(id));
      return json({ success: true });
    }
    if (method === 'GET' && path === '/models/sse' && !fake.plain) {
      listeners.add(asked.response.writeHead(200, { 'content-type': 'text/event-stream' }));
      asked.response.flushHeaders();
      asked.response.once('close', () => listeners.delete(asked.response));
      return undefined;
    }
    if (method === 'DELETE' && path === '/models') return remove(String(asked.query.get('model')));
    if (method === 'POST' && (path === '/tokenize' || path === '/v1/chat/completions')) return use(id, entry, asked);
    return error(404, 'File Not Found');
  };

  function unload(id: string, entry: Entry | undefined) {
    if (!entry) return error(400, 'model is not found');
    if (entry.value === 'downloading') {
      counts.cancelled++;
      models.delete(id);
      return json({ success: true });
    }
    if (entry.value === 'unloaded') return error(400, 'model is not running');
    counts.unloads++;
    if (!fake.stubborn) entry.value = 'unloaded';
    return json({ success: true });
  }

  function remove(id: string) {
    const entry = models.get(id);
    if (!entry) return error(500, `model name=${id} is not found`);
    if (entry.preset) return error(500, `model name=${id} is not removable (not from cache)`);
    counts.deletes++;
    models.delete(id);
    return json({ success: true });
  }

  async function use(id: string, entry: Entry | undefined, asked: Asked) {
    if (!entry) return error(400, `model '${id}' not found`);
    if (entry.value === 'sleeping') entry.value = 'loaded';
    if (entry.value === 'unloaded') await load(id, entry);
    if (asked.path === '/tokenize') return json({ tokens: [1] });
    // Unloading stops the process, whatever it does.
    await streamWords(asked, { cut: () => entry.value !== 'loaded' });
    return undefined;
  }

  const fake: FakeLlamaRouter = Object.assign(await openProgram((asked) => respond(asked)), {
    models,
    loadMs: 150,
    downloadMs: 120,
    exits: new Map<string, number>(),
    hub: new Map([['org/tiny-GGUF:Q4_K_M', 1_000_000]]),
    cut: false,
    stall: false,
    stubborn: false,
    max: 4,
    plain: false,
    counts,
    respond,
  });
  return fake;
}

const runs = ({ value }: Entry): boolean => ['loaded', 'loading', 'sleeping'].includes(value);
