// A fake speaches: models of sound in the cache of Hugging Face, loaded one by one, with ids that hold slashes.
import { setTimeout as pause } from 'node:timers/promises';
import { json, plain } from './fake-http.ts';
import { list, openProgram } from './fake-program.ts';
import type { Program, Respond } from './fake-program.ts';

export interface FakeSpeaches extends Program {
  /** On disk. */
  models: Set<string>;
  inMemory: Set<string>;
  /** What its registry names, on disk or not. */
  registry: string[];
  /** At Hugging Face, and not for everybody. */
  gated: Set<string>;
  /** In use: they are not unloaded. */
  busy: Set<string>;
  loadMs: number;
  downloadMs: number;
  counts: { loads: number; unloads: number; downloads: number; deletes: number };
  respond: Respond;
}

export async function openFakeSpeaches(): Promise<FakeSpeaches> {
  const counts = { loads: 0, unloads: 0, downloads: 0, deletes: 0 };
  const detail = (status: number, text: string) => json({ detail: text }, status);
  const message = (status: number, text: string) => json({ message: text }, status);
  const toEntry = (id: string) => ({
    id,
    object: 'model',
    created: 1,
    owned_by: id.split('/')[0],
    task: /kokoro|piper/i.test(id) ? 'text-to-speech' : 'automatic-speech-recognition',
  });

  async function load(id: string) {
    if (fake.inMemory.has(id)) return message(409, 'Model already loaded');
    if (!fake.models.has(id)) return message(404, 'Model not found');
    counts.loads++;
    await pause(fake.loadMs);
    fake.inMemory.add(id);
    return { status: 201 };
  }

  function unload(id: string) {
    if (!fake.inMemory.has(id)) return message(404, 'Model not found');
    if (fake.busy.has(id)) return message(409, 'Model is in use');
    counts.unloads++;
    fake.inMemory.delete(id);
    return { status: 204 };
  }

  async function download(id: string) {
    if (fake.models.has(id)) return plain(`Model '${id}' already exists`, 201);
    if (fake.gated.has(id)) return detail(401, `Model '${id}' is a gated repository`);
    if (!fake.registry.includes(id)) return detail(404, `Model '${id}' not found`);
    counts.downloads++;
    await pause(fake.downloadMs);
    fake.models.add(id);
    return plain(`Model '${id}' downloaded`, 200);
  }

  function remove(id: string) {
    if (!fake.models.delete(id)) return detail(404, `Model '${id}' not found`);
    counts.deletes++;
    return json({ detail: `Model '${id}' deleted` });
  }

  const respond: Respond = ({ method, path }) => {
    const [, ps] = /^\/api\/ps\/(.+)$/.exec(path) ?? [];
    const [, model] = /^\/v1\/models\/(.+)$/.exec(path) ?? [];
    if (method === 'GET' && path === '/v1/models') return list([...fake.models].map(toEntry));
    if (path === '/v1/registry') {
      return method === 'GET' ? list(fake.registry.map(toEntry)) : { status: 405, headers: { allow: 'GET' } };
    }
    if (method === 'GET' && path === '/api/ps') return json({ models: [...fake.inMemory] });
    if (method === 'POST' && ps) return load(ps);
    if (method === 'DELETE' && ps) return unload(ps);
    if (method === 'POST' && model) return download(model);
    if (method === 'DELETE' && model) return remove(model);
    return detail(404, 'Not Found');
  };

  const fake: FakeSpeaches = Object.assign(await openProgram((asked) => respond(asked)), {
    models: new Set(['Systran/faster-whisper-small', 'speaches-ai/Kokoro-82M-v1.0-ONNX']),
    inMemory: new Set<string>(),
    registry: ['Systran/faster-whisper-small', 'Systran/faster-whisper-large-v3', 'speaches-ai/piper-en_US-amy-low'],
    gated: new Set(['org/faster-whisper-secret']),
    busy: new Set<string>(),
    loadMs: 150,
    downloadMs: 100,
    counts,
    respond,
  });
  return fake;
}
