// The model lists of dialects: both shapes, pages as Anthropic's clients ask for them, aliases, and bytes that are kept.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFakeOpenAI, type FakeOpenAI } from '../support/fake-openai.ts';
import { openInProcess, post, type TestGateway } from '../support/gateway.ts';

type Json = Record<string, any>;
const COUNT = 10_000;
const name = (index: number) => `org/model-${index}:q4`;

let server: FakeOpenAI;
let remote: FakeOpenAI;
let gateway: TestGateway;

beforeAll(async () => {
  const data = Array.from({ length: COUNT }, (_, index) => ({ id: name(index), object: 'model', owned_by: 'x' }));
  server = await openFakeOpenAI({ list: { object: 'list', data } });
  remote = await openFakeOpenAI();
  gateway = await openInProcess({
    runtimes: [
      { name: 'many', kind: 'openai', url: server.url },
      { name: 'remote', kind: 'openai', url: remote.url, priority: -1 },
    ],
    aliases: {
      'gpt-4o': ['gone', name(7)],
      'claude-local': name(8),
      nowhere: 'gone',
      chain: ['remote/limited', 'remote/plain', 'remote/echo'],
    },
    env: { HONO_AI_EMBEDDED: 'false', HONO_AI_CATALOG_MS: '600000' },
  });
});
afterAll(async () => {
  await gateway?.close();
  await Promise.all([server?.close(), remote?.close()]);
});

async function get(path: string, init: RequestInit = {}) {
  const response = await gateway.request(path, init);
  return { status: response.status, headers: response.headers, text: await response.text() };
}
const list = async (query = '') => JSON.parse((await get(`/v1/models${query}`)).text) as Json;
const ids = ({ data }: Json): string[] => data.map(({ id }: Json) => id);

describe('the list', () => {
  it('has both shapes, and aliases as models of their own', async () => {
    const all = await list();
    expect(all).toMatchObject({ object: 'list', has_more: false, first_id: name(0) });
    expect(all.data[3]).toMatchObject({
      id: name(3),
      object: 'model',
      owned_by: 'many',
      type: 'model',
      display_name: name(3),
      created_at: '1970-01-01T00:00:00.000Z',
      capabilities: expect.arrayContaining(['text.chat']),
      modalities: { input: ['text'], output: ['text'] },
      context_window: null,
      state: 'ready',
      runtime: 'many',
    });
    expect(ids(all).slice(-3)).toEqual(['gpt-4o', 'claude-local', 'chain']);
    expect(all.last_id).toBe('chain');
    const alias = all.data.find(({ id }: Json) => id === 'gpt-4o');
    expect(alias).toEqual({ ...all.data[7], id: 'gpt-4o', display_name: 'gpt-4o' });
    expect(JSON.parse((await get('/v1/models/gpt-4o')).text)).toEqual(alias);
    expect(JSON.parse((await get(`/v1/models/${name(9)}`)).text)).toEqual(all.data[9]);
    expect(JSON.parse((await get(`/v1/models/${encodeURIComponent(name(9))}`)).text)).toEqual(all.data[9]);
    expect(server.requests.filter(({ path }) => path === '/v1/models')).toHaveLength(1);
    expect((await get('/v1/models/nowhere')).status).toBe(404);
  });

  it('comes in pages, forward and backward, that together are the whole', async () => {
    const all = ids(await list());
    const forward: string[] = [];
    for (
      let page = await list('?limit=1000');
      ;
      page = await list(`?limit=1000&after_id=${encodeURIComponent(page.last_id)}`)
    ) {
      expect(page.first_id).toBe(page.data[0].id);
      forward.push(...ids(page));
      if (!page.has_more) break;
    }
    expect(forward).toEqual(all);
    const before = await list(`?limit=5&before_id=${encodeURIComponent(name(100))}`);
    expect([ids(before), before.has_more]).toEqual([[95, 96, 97, 98, 99].map(name), true]);
    const start = await list(`?limit=5&before_id=${encodeURIComponent(name(2))}`);
    expect([ids(start), start.has_more]).toEqual([[name(0), name(1)], false]);
    for (const query of ['?limit=0', '?limit=1001', '?limit=x', '?after_id=nobody', `?after_id=a&before_id=b`]) {
      expect((await get(`/v1/models${query}`)).status, query).toBe(400);
    }
  });

  it('is kept: no runtime is asked again, and who has it is told so', async () => {
    const first = await get('/v1/models');
    const etag = first.headers.get('etag')!;
    const asked = server.requests.length;
    for (let round = 0; round < 50; round++) {
      const again = await get('/v1/models', { headers: { 'if-none-match': `"other", W/${etag}` } });
      expect([again.status, again.text, again.headers.get('etag')]).toEqual([304, '', etag]);
      await list('?limit=20');
      await get(`/v1/models/${name(round)}`);
      await get('/models?q=model-77&limit=5');
    }
    expect((await get('/v1/models', { headers: { 'if-none-match': '"other"' } })).text).toBe(first.text);
    expect(server.requests).toHaveLength(asked);
    // What names stand for is part of it.
    const set = { ...post({ 'gpt-5': name(1) }), method: 'PATCH' };
    expect((await get('/models/aliases', set)).status).toBe(200);
    const changed = await get('/v1/models', { headers: { 'if-none-match': etag } });
    expect(changed.status).toBe(200);
    expect(ids(JSON.parse(changed.text))).toContain('gpt-5');
    expect(changed.headers.get('etag')).not.toBe(etag);
  });
});

it('says that an alias of the configuration cannot be removed', async () => {
  const answer = await gateway.request('/models/aliases', { ...post({ 'claude-local': null }), method: 'PATCH' });
  expect(answer.headers.get('x-warning')).toBe('"claude-local" is in the configuration and stays: change it there');
  expect(await answer.json()).toMatchObject({ aliases: { 'claude-local': name(8) } });
});

describe('an answer that is passed on', () => {
  it('says why it is that model, and goes to the next of a chain', async () => {
    const chat = (model: string) =>
      gateway.request('/v1/chat/completions', post({ model, messages: [{ role: 'user', content: 'Hello' }] }));
    const direct = await chat('remote/echo');
    expect(direct.headers.get('x-model-reason')).toBe('asked for');
    // 429 of the first is nobody's fault here; 400 of the second is the request's.
    const limited = await chat('chain');
    expect(limited.status).toBe(400);
    await gateway.request('/models/aliases', {
      ...post({ chain: ['remote/limited', 'remote/echo'] }),
      method: 'PATCH',
    });
    const moved = await chat('chain');
    expect(moved.status).toBe(200);
    expect(moved.headers.get('x-model')).toBe('echo');
    expect(moved.headers.get('x-model-reason')).toBe('alias chain, because limited takes no more requests now');
    expect(moved.headers.get('x-warning')).toContain('echo on remote answers instead');
    expect(((await moved.json()) as Json).choices[0].message.content).not.toBe('');
  });
});
