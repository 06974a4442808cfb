// Models in memory over HTTP: loaded, shown, kept and sent away, against an Ollama that really listens.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { openFakeOllama, VRAM, type FakeOllama } from '../support/fake-ollama.ts';
import { openInProcess, post, type TestGateway } from '../support/gateway.ts';

const OWNER_KEY = 'the-key-of-the-owner';
const GUEST_KEY = 'the-key-of-a-guest-1';

let ollama: FakeOllama;
let gateway: TestGateway;

beforeAll(async () => {
  ollama = await openFakeOllama({ loadMs: 40, unloadMs: 10 });
  gateway = await openInProcess({
    env: { HONO_AI_API_KEY: OWNER_KEY, HONO_AI_CALLERS: `guest:${GUEST_KEY}`, HONO_AI_VRAM: '4GB' },
    runtimes: [{ name: 'ollama', kind: 'ollama', url: ollama.url }],
  });
});
afterAll(async () => {
  await gateway.close();
  await ollama.close();
});

type Json = Record<string, any>;
async function ask(path: string, init: RequestInit = {}, key = OWNER_KEY): Promise<{ status: number; body: Json }> {
  const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${key}` };
  const response = await gateway.request(path, { ...init, headers });
  return { status: response.status, body: (await response.json()) as Json };
}
const policy = (body: unknown, key?: string) => ask('/models/policy', post(body, { method: 'PUT' }), key);
const loadsOf = (model: string) =>
  ollama.requests.filter(({ path, body }) => path === '/api/generate' && body?.['model'] === model && !body['prompt']);

afterEach(async () => {
  for (const model of ['echo', 'thinker']) await policy({ model, pinned: false, preload: false, ttl_s: null });
  // A request that was left may take a moment to end.
  for (let tries = 0; tries < 100 && (tries === 0 || ollama.loaded.size > 0); tries++) {
    await ask('/models/unload', post({}));
  }
});

describe('POST /models/load', () => {
  it('loads one, measured, and GET /models/loaded shows it to anybody', async () => {
    const { status, body } = await ask('/models/load', post({ model: 'echo', keep_s: 600 }));
    expect(status).toBe(200);
    expect(body).toMatchObject({ model: 'echo:latest', runtime: 'ollama', state: 'loaded', vram: VRAM, evicted: [] });
    expect(loadsOf('echo:latest').at(-1)!.body).toMatchObject({ keep_alive: 600 });
    const shown = await ask('/models/loaded', {}, GUEST_KEY);
    expect(shown.body).toMatchObject({ object: 'list', problems: [] });
    expect(shown.body['data']).toContainEqual(
      expect.objectContaining({ model: 'echo:latest', runtime: 'ollama', state: 'loaded', vram: VRAM, in_use: 0 }),
    );
    const { body: models } = await ask('/models');
    const card = (models['models'] as Json[]).find(({ id }) => id === 'echo:latest');
    expect(card).toMatchObject({ state: 'loaded', vram: { bytes: VRAM, basis: 'measured' }, fit: 'fits' });
  });

  it('makes room for it and says for what', async () => {
    await ask('/models/load', post({ model: 'echo' }));
    const { body } = await ask('/models/load', post({ model: 'thinker' }));
    expect(body).toMatchObject({ model: 'thinker:latest', evicted: ['echo:latest'] });
    expect([...ollama.loaded]).toEqual(['thinker:latest']);
  });

  it('ends with whoever asked', async () => {
    const leaving = new AbortController();
    const before = loadsOf('echo:latest').length;
    const loading = ask('/models/load', post({ model: 'echo' }, { signal: leaving.signal }));
    await eventually('the load begins', () => loadsOf('echo:latest').length > before);
    leaving.abort();
    expect(await loading.catch(() => ({ status: 499 }))).toMatchObject({ status: 499 });
    expect((await ask('/models/load', post({ model: 'echo' }))).body).toMatchObject({ state: 'loaded' });
  });

  it.each([
    [{ model: 'nobody' }, 404, 'model_not_found'],
    [{ model: 'tiny-embed', keep_s: -5 }, 400, 'invalid_request'],
    [{ model: '' }, 400, 'invalid_request'],
    [{}, 400, 'invalid_request'],
    [{ model: 'echo', runtime: 'x' }, 400, 'invalid_request'],
  ])('refuses %j', async (body, status, code) => {
    expect(await ask('/models/load', post(body))).toMatchObject({ status, body: { error: { code } } });
  });
});

describe('POST /models/unload', () => {
  it('sends one away, or all', async () => {
    await ask('/models/load', post({ model: 'echo' }));
    const one = await ask('/models/unload', post({ model: 'echo' }));
    expect(one.body).toMatchObject({ object: 'list', data: [{ model: 'echo:latest', state: 'ready', vram: null }] });
    expect(ollama.loaded.size).toBe(0);
    await ask('/models/load', post({ model: 'echo' }));
    expect((await ask('/models/unload', post({}))).body['data']).toMatchObject([{ model: 'echo:latest' }]);
    expect(ollama.loaded.size).toBe(0);
  });

  it('is refused while a request uses it', async () => {
    const leaving = new AbortController();
    const headers = { authorization: `Bearer ${OWNER_KEY}` };
    const asked = post({ prompt: 'x', model: 'slow', stream: true }, { signal: leaving.signal, headers });
    const streaming = gateway.request('/text/gen', asked);
    const refusal = { status: 409, body: { error: { code: 'conflict', source: 'ollama' } } };
    await eventually('it begins', () => ollama.executions('slow') > 0);
    expect(await ask('/models/unload', post({ model: 'slow' }))).toMatchObject(refusal);
    await eventually('it is loaded', () => ollama.loaded.has('slow:latest'));
    expect(await ask('/models/unload', post({ model: 'slow' }))).toMatchObject(refusal);
    leaving.abort();
    await streaming.then(async (response) => response.body?.cancel()).catch(() => {});
  });
});

describe('PUT /models/policy', () => {
  it('pins: nothing else comes to the card until it is taken back', async () => {
    expect((await policy({ model: 'echo', pinned: true })).body).toEqual({
      object: 'model.policy',
      runtime: 'ollama',
      model: 'echo:latest',
      pinned: true,
      preload: false,
      ttl_s: null,
    });
    await ask('/models/load', post({ model: 'echo' }));
    expect(loadsOf('echo:latest').at(-1)!.body).toMatchObject({ keep_alive: -1 });
    const refused = await ask('/text/gen', post({ prompt: 'x', model: 'thinker' }));
    expect(refused.status).toBe(503);
    expect(refused.body['error']).toMatchObject({
      code: 'insufficient_vram',
      hint: 'To make room: hono-ai models pin echo:latest --off.',
    });
    expect((await ask('/models/loaded')).body['data']).toMatchObject([{ model: 'echo:latest', pinned: true }]);
    await policy({ model: 'echo', pinned: false });
    expect((await ask('/text/gen', post({ prompt: 'x', model: 'thinker' }))).status).toBe(200);
  });

  it('keeps what is not given, and takes null for none', async () => {
    await policy({ model: 'echo', ttl_s: 30 });
    expect((await policy({ model: 'echo', preload: true })).body).toMatchObject({ preload: true, ttl_s: 30 });
    expect((await policy({ model: 'echo', ttl_s: null })).body).toMatchObject({ preload: true, ttl_s: null });
  });
});

it('lets nobody but the owner change what is in memory', async () => {
  for (const [path, init] of [
    ['/models/load', post({ model: 'echo' })],
    ['/models/unload', post({})],
    ['/models/policy', post({ model: 'echo', pinned: true }, { method: 'PUT' })],
  ] as const) {
    expect(await ask(path, init, GUEST_KEY)).toMatchObject({ status: 403, body: { error: { code: 'forbidden' } } });
  }
});

it('names a runtime that is away, and describes its routes', async () => {
  const away = await openInProcess({ runtimes: [{ name: 'away', kind: 'ollama', url: 'http://127.0.0.1:9' }] });
  try {
    const loaded = (await (await away.request('/models/loaded')).json()) as Json;
    expect(loaded['problems']).toEqual([expect.stringContaining('away')]);
    const { paths } = (await (await away.request('/openapi.json')).json()) as Json;
    expect(Object.keys(paths as Json)).toEqual(
      expect.arrayContaining(['/models/loaded', '/models/load', '/models/unload', '/models/policy']),
    );
  } finally {
    await away.close();
  }
});
