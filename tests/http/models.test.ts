// Models over HTTP: the list, one of them, what names stand for, deleting, and what could be got.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openGateway, type OpenGateway } from '../../adapters/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { Puller } from '../../src/puller.ts';
import type { Model } from '../../src/runtime.ts';
import { openInProcess, post } from '../support/gateway.ts';
import { createScripted } from '../support/scripted-runtime.ts';

type Json = Record<string, any>;
const GB = 1e9;
const OWNER = 'the-owners-key-0123456789';
const GUEST = 'the-guests-key-0123456789';

const model = (id: string, more: Partial<Model> = {}): Model => ({
  id,
  capabilities: ['text.chat'],
  state: 'ready',
  ...more,
});

it('lists models and the defaults that work, whatever the configuration names', async () => {
  const gateway = await openInProcess({ env: { HONO_AI_DEFAULT_TEXT_CHAT: 'not-there' } });
  try {
    const response = await gateway.request('/models');
    expect(response.status).toBe(200);
    const { models, defaults } = (await response.json()) as {
      models: { id: string }[];
      defaults: Record<string, string>;
    };
    expect(models.map(({ id }) => id)).toContain('tiny-story');
    expect(defaults).toMatchObject({ 'text.generate': 'tiny-story', 'text.embed': 'tiny-embed' });
    expect(defaults).not.toHaveProperty(['text.chat']);
    const missing = await gateway.request('/text/chat', {
      method: 'POST',
      body: '{"messages":[{"role":"user","content":"x"}]}',
    });
    expect(missing.status).toBe(404);
    expect(await missing.text()).toContain('configured as the default of text.chat');
  } finally {
    await gateway.close();
  }
});

describe('with runtimes', () => {
  let dir: string;
  let opened: OpenGateway;
  const down = new Set<string>();
  const removed: string[] = [];
  const here = [
    model('org/qwen3:8b-q4', { aliases: ['qwen3'], vram: 5 * GB, size: 4 * GB, digest: 'sha256:1', license: 'MIT' }),
    model('huge', { vram: 80 * GB }),
    model('embedder', { capabilities: ['text.embed'], state: 'loaded' }),
  ];

  const puller: Puller = {
    runtime: 'home',
    claims: ({ model: name }) => (name.startsWith('big') || name.startsWith('l') ? 10 : undefined),
    plan: async ({ model: name }) => ({
      model: name,
      files: [{ name: 'weights.gguf', size: 90 * GB, present: false }],
      bytes: 90 * GB,
      free: 50 * GB,
      license: 'Apache-2.0',
      facts: { vram: 80 * GB },
      warnings: ['Terms are to be accepted.'],
    }),
    pull() {
      throw new GatewayError('model_not_found', 'No.');
    },
    search: async (words) => [
      { model: `${words}-small`, capabilities: ['text.chat'], size: 2 * GB, vram: 3 * GB, present: false },
      { model: `${words}-large`, capabilities: ['text.chat'], vram: 90 * GB, present: true, title: 'Large' },
    ],
    async remove(name) {
      removed.push(name);
      here.splice(
        here.findIndex(({ id }) => id === name),
        1,
      );
      return { freed: 4 * GB, files: [{ name: 'weights.gguf' }] };
    },
  };
  const card = { footprint: ({ vram = 0 }: Model) => vram, residents: async () => [], evict: async () => {} };

  const open = () => {
    const chat = () => ({ text: 'ok' });
    const home = createScripted({
      name: 'home',
      priority: 100,
      models: here,
      chat,
      gpu: card,
      down: () => down.has('home'),
    });
    const away = createScripted({
      name: 'away',
      priority: 1,
      models: [model('grok-4'), model('huge')],
      chat,
      down: () => down.has('away'),
    });
    const env = {
      HONO_AI_STATE_DIR: join(dir, 'state'),
      HONO_AI_CONFIG: join(dir, 'none.yaml'),
      HONO_AI_DISCOVER: 'false',
      HONO_AI_LOG_LEVEL: 'silent',
      HONO_AI_VRAM: '12000000000',
      HONO_AI_API_KEY: OWNER,
      HONO_AI_CALLERS: `guest:${GUEST}`,
      HONO_AI_CATALOG_MS: '60000',
    };
    return openGateway({ env, runtimes: [{ ...home, puller }, away] });
  };

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'hono-ai-models-'));
    const { writeFileSync } = await import('node:fs');
    writeFileSync(join(dir, 'none.yaml'), '{}');
    opened = await open();
  });
  afterAll(async () => {
    await opened?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  async function ask(path: string, init: RequestInit = {}, key = OWNER) {
    const headers = { ...init.headers, authorization: `Bearer ${key}` };
    const response = await opened.app.fetch(new Request(`http://127.0.0.1${path}`, { ...init, headers }));
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: (text ? JSON.parse(text) : {}) as Json };
  }
  const put = (path: string, body: object, method = 'PUT', key = OWNER) => ask(path, { ...post(body), method }, key);
  const ids = ({ models }: Json) => models.map(({ id }: Json) => id);

  it('lists everything at once, and less of it where that is asked for', async () => {
    const { body } = await ask('/models');
    expect(ids(body)).toEqual(['org/qwen3:8b-q4', 'huge', 'embedder', 'grok-4', 'away/huge']);
    expect(body.models[0]).toMatchObject({
      runtime: 'home',
      state: 'ready',
      vram: { bytes: 5 * GB, basis: 'told' },
      fit: 'fits',
      license: 'MIT',
      pinned: false,
    });
    expect(body).toMatchObject({
      defaults: { 'text.chat': 'org/qwen3:8b-q4', 'text.embed': 'embedder' },
      runtimes: [{ name: 'home', ok: true, models: 3 }, { name: 'away' }],
      has_more: false,
    });
    expect(ids((await ask('/models?capability=text.embed')).body)).toEqual(['embedder']);
    expect(ids((await ask('/models?runtime=away')).body)).toEqual(['grok-4', 'away/huge']);
    expect(ids((await ask('/models?state=loaded')).body)).toEqual(['embedder']);
    expect(ids((await ask('/models?fit=too_big')).body)).toEqual(['huge']);
    expect(ids((await ask('/models?q=QWEN%208b')).body)).toEqual(['org/qwen3:8b-q4']);
    const first = (await ask('/models?limit=2')).body;
    expect([ids(first), first.has_more]).toEqual([['org/qwen3:8b-q4', 'huge'], true]);
    const next = (await ask('/models?limit=3&after=huge')).body;
    expect([ids(next), next.has_more]).toEqual([['embedder', 'grok-4', 'away/huge'], false]);
    for (const wrong of ['limit=0', 'state=asleep', 'after=nobody']) {
      expect(await ask(`/models?${wrong}`)).toMatchObject({
        status: 400,
        body: { error: { code: 'invalid_request' } },
      });
    }
  });

  it('tells all about one, under any of its names', async () => {
    for (const name of ['org/qwen3:8b-q4', 'org%2Fqwen3%3A8b-q4', 'home/org/qwen3:8b-q4', 'qwen3']) {
      expect((await ask(`/models/${name}`)).body).toMatchObject({
        id: 'org/qwen3:8b-q4',
        digest: 'sha256:1',
        aliases: ['qwen3'],
        default_for: expect.arrayContaining(['text.chat']),
        policy: { pinned: false, preload: false, ttl_s: null },
        pull: null,
        why: null,
      });
    }
    expect((await ask('/models/huge')).body).toMatchObject({ fit: 'too_big', why: expect.stringContaining('larger') });
    expect((await ask('/models/huge?context=none')).status).toBe(400);
  });

  it('names the nearest of what is not there, and the call that gets it', async () => {
    const { status, body } = await ask('/models/lmbedder');
    expect(status).toBe(404);
    expect(body.error).toMatchObject({
      code: 'model_not_found',
      hint: 'Did you mean embedder? To get it: hono-ai models pull lmbedder (POST /models/pull).',
    });
    expect((await ask('/models/100%25')).body.error.message).toContain('“100%”');
  });

  it('keeps a runtime that is down in the lists', async () => {
    down.add('away');
    await opened.gateway.catalog.refreshOf('away');
    const { body } = await ask('/models?state=unavailable');
    expect(ids(body)).toEqual(['grok-4', 'away/huge']);
    expect(body.runtimes[1]).toMatchObject({ ok: false, error: 'away cannot be reached.', hint: 'Start away.' });
    expect((await ask('/models/grok-4')).body).toMatchObject({ why: 'away cannot be reached. Start away.' });
    down.delete('away');
    await opened.gateway.catalog.refresh();
    expect((await ask('/models/grok-4')).body).toMatchObject({ state: 'ready', why: null });
  });

  it('sets what names stand for, which lasts and is told with every answer', async () => {
    const set = await put('/models/aliases', { 'gpt-4o': ['gone', 'grok-4'], mini: 'qwen3', huge: 'grok-4' });
    expect(set.status).toBe(200);
    expect(set.body.aliases['gpt-4o']).toEqual(['gone', 'grok-4']);
    expect(set.headers.get('x-warning')).toBe(
      'There is no model "gone" now; "huge" is the name of a model, which goes before the alias',
    );
    expect(set.body.warnings).toHaveLength(2);
    const unable = await put('/models/defaults', { 'image.generate': 'mini' }, 'PATCH');
    expect(unable.body.warnings).toEqual([]);
    const direct = await put('/models/defaults', { 'image.generate': 'qwen3' });
    expect(direct.body.warnings).toEqual(['"qwen3" does not offer image.generate']);
    await put('/models/aliases', { huge: null }, 'PATCH');
    await put('/models/defaults', { 'text.chat': { models: ['gpt-4o', 'mini'], prefer: 'warm' } }, 'PATCH');
    await opened.close();
    opened = await open();
    const { body } = await ask('/models');
    expect(body.aliases).toEqual({ 'gpt-4o': ['gone', 'grok-4'], mini: 'qwen3' });
    expect(body.defaults).toMatchObject({ 'text.chat': 'grok-4' });
    expect((await ask('/models/mini')).body).toMatchObject({ id: 'org/qwen3:8b-q4', aliases: ['mini', 'qwen3'] });
    const chat = await ask('/text/chat', post({ messages: [{ role: 'user', content: 'x' }] }), GUEST);
    expect(chat.body).toMatchObject({ model: 'grok-4', runtime: 'away' });
    expect(chat.body).not.toHaveProperty('reason');
    expect(chat.headers.get('x-model-reason')).toBe('default of text.chat, because gone is not here');
    expect(chat.headers.get('x-warning')).toBe('gone is not here. grok-4 on away answers instead.');
    await put('/models/defaults', {});
    expect((await ask('/models')).body.defaults).toMatchObject({ 'text.chat': 'org/qwen3:8b-q4' });
  });

  it('refuses circles, rubbish, and everybody but the owner', async () => {
    const circle = await put('/models/aliases', { a: ['b'], b: 'a' });
    expect(circle).toMatchObject({ status: 400, body: { error: { message: expect.stringContaining('a → b → a') } } });
    for (const body of [{ a: '' }, { a: [] }, { a: 7 }, { a: { models: ['x'], often: true } }, { 'a\nb': 'x' }]) {
      expect((await put('/models/aliases', body)).status).toBe(400);
    }
    expect((await put('/models/defaults', { 'text.fly': 'x' }, 'PATCH')).status).toBe(400);
    for (const [path, method] of [
      ['/models/aliases', 'PUT'],
      ['/models/defaults', 'PATCH'],
      ['/models/huge', 'DELETE'],
    ]) {
      expect(await put(path!, {}, method, GUEST)).toMatchObject({
        status: 403,
        body: { error: { code: 'forbidden' } },
      });
    }
    expect(removed).toEqual([]);
  });

  it('finds what could be got, and says what that would take', async () => {
    expect((await ask('/models/search?q=llama')).body).toMatchObject({
      data: expect.arrayContaining([
        expect.objectContaining({ model: 'llama-small', runtime: 'home', size: 2 * GB, vram: 3 * GB, fit: 'fits' }),
        expect.objectContaining({ model: 'llama-large', title: 'Large', size: null, fit: 'too_big', present: true }),
      ]),
    });
    const { body } = await ask('/models/plan?model=big');
    expect(body).toMatchObject({
      object: 'pull.plan',
      model: 'big',
      runtime: 'home',
      files: [{ name: 'weights.gguf', present: false }],
      bytes: 90 * GB,
      fit: 'too_big',
      license: 'Apache-2.0',
    });
    expect(body.warnings).toEqual([
      'Terms are to be accepted.',
      'It does not fit on the disk: 90.0 GB are to come, and 50.0 GB are free.',
      'It needs about 80.0 GB of the card, and models may use 12.0 GB: it will not run wholly there.',
    ]);
    expect((await ask('/models/plan')).status).toBe(400);
  });

  it('deletes a model, but no alias and nothing that is in use', async () => {
    await put('/models/aliases', { pet: 'huge' });
    const alias = await ask('/models/pet', { method: 'DELETE' });
    expect(alias).toMatchObject({
      status: 409,
      body: { error: { hint: expect.stringContaining('DELETE /models/huge') } },
    });
    const arbiter = opened.gateway.arbiter.acquire({
      runtime: 'home',
      model: 'org/qwen3:8b-q4',
      footprint: 1,
      tenant: card,
      signal: new AbortController().signal,
    });
    let step = await arbiter.next();
    while (!step.done) step = await arbiter.next();
    expect(await ask('/models/qwen3', { method: 'DELETE' })).toMatchObject({
      status: 409,
      body: { error: { message: 'org/qwen3:8b-q4 is in use.' } },
    });
    step.value.release();
    expect(removed).toEqual([]);
    expect(await ask('/models/home/huge', { method: 'DELETE' })).toMatchObject({
      status: 200,
      body: { id: 'huge', deleted: true, runtime: 'home', freed: 4 * GB, files: [{ name: 'weights.gguf' }] },
    });
    expect(removed).toEqual(['huge']);
    expect(ids((await ask('/models')).body)).toEqual(['org/qwen3:8b-q4', 'embedder', 'grok-4', 'huge']);
    expect((await ask('/models/never', { method: 'DELETE' })).status).toBe(404);
    // Words below /models are no ids.
    expect((await ask('/models/aliases', { method: 'DELETE' })).status).not.toBe(200);
    expect((await ask('/models/aliases')).status).toBe(405);
  });
});
