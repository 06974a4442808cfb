// A fake LM Studio: models on disk, instances in memory, download jobs; and 200 for paths that it does not have.
import { setTimeout as pause } from 'node:timers/promises';
import { json } from './fake-http.ts';
import { error, list, openProgram, streamWords } from './fake-program.ts';
import type { Program, Respond } from './fake-program.ts';

interface Entry {
  type: string;
  size_bytes: number;
  params_string: string | null;
  instances: string[];
}

interface Job {
  status: string;
  total: number;
  done: number;
  key: string;
}

export interface FakeLmStudio extends Program {
  models: Map<string, Entry>;
  loadMs: number;
  downloadMs: number;
  /** What can be downloaded: as it is asked for → the key that it gets. */
  library: Map<string, string>;
  /** How downloads go. */
  mode: 'well' | 'paused' | 'failed';
  /** Loads are refused for want of memory. */
  full: boolean;
  jobs: Map<string, Job>;
  counts: { loads: number; unloads: number; downloads: number };
  respond: Respond;
}

export async function openFakeLmStudio(): Promise<FakeLmStudio> {
  const models = new Map<string, Entry>([
    ['qwen/qwen3-8b', { type: 'llm', size_bytes: 5_000_000_000, params_string: '8B', instances: [] }],
    ['text-embedding-nomic', { type: 'embedding', size_bytes: 84_000_000, params_string: null, instances: [] }],
  ]);
  const jobs = new Map<string, Job>();
  const counts = { loads: 0, unloads: 0, downloads: 0 };

  const toEntry = ([key, { type, size_bytes, params_string, instances }]: [string, Entry]) => ({
    type,
    publisher: 'qwen',
    key,
    display_name: key,
    architecture: 'qwen3',
    quantization: { name: 'Q4_K_M', bits_per_weight: 4 },
    size_bytes,
    params_string,
    loaded_instances: instances.map((id) => ({ id, config: { context_length: 4096 } })),
    max_context_length: 32_768,
    format: 'gguf',
    ...(type === 'llm' ? { capabilities: { vision: false, trained_for_tool_use: true } } : {}),
  });

  async function load(key: string) {
    const entry = models.get(key);
    if (!entry) return error(404, `Model ${key} not found`);
    if (fake.full) return error(500, 'Model loading was stopped due to insufficient system resources.');
    counts.loads++;
    // Whoever asked may leave: it goes on.
    await pause(fake.loadMs);
    const id = entry.instances.length === 0 ? key : `${key}:${entry.instances.length + 1}`;
    entry.instances.push(id);
    return json({ type: entry.type, instance_id: id, load_time_seconds: fake.loadMs / 1000, status: 'loaded' });
  }

  function unload(id: string) {
    const entry = [...models.values()].find(({ instances }) => instances.includes(id));
    if (!entry) return error(404, `No instance ${id}`);
    counts.unloads++;
    entry.instances = entry.instances.filter((each) => each !== id);
    return json({ instance_id: id });
  }

  function download(asked: string) {
    const key = fake.library.get(asked);
    if (key === undefined) return error(400, `Could not find model ${asked}`);
    if (models.has(key)) return json({ status: 'already_downloaded' });
    counts.downloads++;
    const id = `job_${jobs.size + 1}`;
    const job: Job = { status: 'downloading', total: 4_000_000, done: 0, key };
    jobs.set(id, job);
    void run(job);
    return json({ job_id: id, status: job.status, total_size_bytes: job.total, started_at: '2026-01-01T00:00:00Z' });
  }

  async function run(job: Job) {
    for (let step = 1; step <= 4; step++) {
      await pause(fake.downloadMs / 4);
      job.done = (job.total * step) / 4;
      if (step === 2 && fake.mode !== 'well') {
        job.status = fake.mode;
        if (fake.mode === 'failed') return;
        await pause(fake.downloadMs / 2);
        job.status = 'downloading';
      }
    }
    job.status = 'completed';
    models.set(job.key, { type: 'llm', size_bytes: job.total, params_string: '1.5B', instances: [] });
  }

  const respond: Respond = async (asked) => {
    const { method, path, body } = asked;
    const own = path.replace(/^\/api\/v1\/models/, '');
    if (method === 'GET' && path === '/v1/models') {
      return list([...models.keys()].map((id) => ({ id, object: 'model', owned_by: 'organization_owner' })));
    }
    if (method === 'GET' && path === '/api/v1/models') return json({ models: [...models].map(toEntry) });
    if (method === 'POST' && own === '/load') return load(String(body['model']));
    if (method === 'POST' && own === '/unload') return unload(String(body['instance_id']));
    if (method === 'POST' && own === '/download') return download(String(body['model']));
    if (method === 'GET' && own.startsWith('/download/status/')) {
      const job = jobs.get(own.slice('/download/status/'.length));
      if (!job) return error(404, 'No such job');
      const rate = job.status === 'downloading' ? { bytes_per_second: 1_000_000 } : {};
      return json({ status: job.status, total_size_bytes: job.total, downloaded_bytes: job.done, ...rate });
    }
    if (method === 'POST' && path === '/v1/chat/completions') {
      const model = String(body['model']);
      if (models.get(model)?.instances.length === 0) await load(model);
      await streamWords(asked, { cut: () => models.get(model)?.instances.length === 0 });
      return undefined;
    }
    // As it really answers.
    return json({ error: `Unexpected endpoint or method. (${method} ${path}). Returning 200 anyway` });
  };

  const fake: FakeLmStudio = Object.assign(await openProgram(respond), {
    models,
    loadMs: 150,
    downloadMs: 120,
    library: new Map([
      ['https://huggingface.co/org/tiny-GGUF', 'tiny-1.5b'],
      ['qwen/qwen3-8b', 'qwen/qwen3-8b'],
      ['qwen/qwen3-4b', 'qwen/qwen3-4b'],
    ]),
    mode: 'well' as const,
    full: false,
    jobs,
    counts,
    respond,
  });
  return fake;
}
