// The card over HTTP: plans that do nothing, the record of swaps, and lending; against an Ollama that really listens.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openGateway } from '../../adapters/index.ts';
import { gpuView } from '../../src/hardware.ts';
import { planView } from '../../src/hardware/plan.ts';
import { openFakeOllama, type FakeOllama } from '../support/fake-ollama.ts';
import { eventually, openInProcess, post, type TestGateway } from '../support/gateway.ts';
import { createScripted } from '../support/scripted-runtime.ts';

const OWNER_KEY = 'the-key-of-the-owner';
const GUEST_KEY = 'the-key-of-a-guest-1';

let ollama: FakeOllama;
let gateway: TestGateway;

beforeAll(async () => {
  ollama = await openFakeOllama({ loadMs: 5, unloadMs: 5 });
  gateway = await openInProcess({
    env: {
      HONO_AI_API_KEY: OWNER_KEY,
      HONO_AI_CALLERS: `guest:${GUEST_KEY}`,
      HONO_AI_VRAM: '4GB',
      HONO_AI_EMBEDDED: 'false',
      HONO_AI_IDLE_MS: '10000',
    },
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
const messages = [{ role: 'user', content: 'x' }];
const chat = (model: string, key?: string, signal?: AbortSignal) =>
  ask('/text/chat', post({ model, messages }, signal ? { signal } : {}), key);
const plan = (body: unknown, key?: string) => ask('/gpu/plan', post(body), key);
const hold = (body: unknown, key?: string) => ask('/gpu/hold', post(body), key);
const busyWith = async (model: string) => {
  const abort = new AbortController();
  const done = chat(model, OWNER_KEY, abort.signal).catch(() => undefined);
  const before = ollama.executions(model);
  await eventually(`${model} runs`, () => ollama.executions(model) > before);
  return async () => {
    abort.abort();
    await done;
  };
};

afterEach(async () => {
  await ask('/gpu/hold', { method: 'DELETE' });
  for (let tries = 0; tries < 100 && (tries === 0 || ollama.loaded.size > 0); tries++) {
    await ask('/models/unload', post({}));
  }
});

describe('a plan', () => {
  it('tells what would happen, and nothing does', async () => {
    const executed = ollama.executions();
    const loads = ollama.loads();
    const { status, body } = await plan({ capability: 'text.chat', model: 'echo' });
    expect(status, JSON.stringify(body)).toBe(200);
    expect(planView.parse(body)).toMatchObject({
      object: 'gpu.plan',
      capability: 'text.chat',
      model: 'echo:latest',
      runtime: 'ollama',
      on_card: true,
      would: 'load',
      evicts: [],
      remedy: null,
      reason: expect.stringContaining('asked for'),
    });
    expect([ollama.executions(), ollama.loads(), ollama.loaded.size]).toEqual([executed, loads, 0]);
    expect((await ask('/gpu')).body).toMatchObject({ owners: [], waiting: [] });
  });

  it('says what would leave the card, also of what came there past the gateway', async () => {
    ollama.loaded.add('utf8:latest');
    const { body } = await plan({ capability: 'text.chat', model: 'echo' });
    expect(body).toMatchObject({
      would: 'swap',
      because: expect.stringContaining('utf8:latest'),
      evicts: [{ runtime: 'ollama', model: 'utf8:latest' }],
    });
    expect(ollama.loaded.has('utf8:latest')).toBe(true);
    ollama.loaded.clear();
    ollama.loaded.add('echo:latest');
    const there = (await plan({ capability: 'text.chat', model: 'echo' })).body;
    expect(there).toMatchObject({ would: 'run', evicts: [], queue_s: 0, swap_s: 0, run_s: expect.any(Number) });
    expect(there['eta_s']).toBe(there['run_s']);
  });

  it('tells who is in the way', async () => {
    const stop = await busyWith('slow');
    const { body } = await plan({ capability: 'text.generate', model: 'echo' }, GUEST_KEY);
    await stop();
    expect(body).toMatchObject({ would: 'wait', because: expect.stringContaining('slow') });
  });

  it('is the same on the route of a capability, for a whole request', async () => {
    const executed = ollama.executions();
    const { status, body } = await ask('/text/chat?plan=1', post({ model: 'echo', messages }), GUEST_KEY);
    expect(status, JSON.stringify(body)).toBe(200);
    expect(planView.parse(body)).toMatchObject({ capability: 'text.chat', model: 'echo:latest', would: 'load' });
    const twice = { headers: { 'idempotency-key': 'plan-is-no-answer' } };
    expect((await ask('/text/chat?plan=1', post({ model: 'echo', messages }, twice))).body['object']).toBe('gpu.plan');
    expect((await ask('/text/chat', post({ model: 'echo', messages }, twice))).body['message']).toBeDefined();
    expect(ollama.executions()).toBe(executed + 1);
    expect((await ask('/text/chat?plan=0', post({ model: 'echo', messages }))).body['message']).toBeDefined();
    expect((await ask('/text/chat?plan=yes', post({ model: 'echo', messages }))).status).toBe(400);
    expect((await ask('/text/chat?plan=1', post({ model: 'echo' }))).body).toMatchObject({
      error: { code: 'invalid_request', param: 'messages' },
    });
  });

  it('fails as the run would where there is no such model, field or capability', async () => {
    expect((await plan({ capability: 'text.chat', model: 'nobody' })).body).toMatchObject({
      error: { code: 'model_not_found' },
    });
    expect((await plan({ capability: 'video.generate' })).status).toBe(501);
    expect((await plan({ capability: 'text.chta' })).body).toMatchObject({ error: { param: 'capability' } });
    expect((await plan({ capability: 'text.chat', input: { temperature: 'hot' } })).body).toMatchObject({
      error: { code: 'invalid_request', param: 'input.temperature' },
    });
    expect((await plan({ capability: 'model.pull', model: 'x' }, GUEST_KEY)).status).toBe(403);
  });

  it('of what needs no card is to run at once, and of what is down that it cannot', async () => {
    let isDown = false;
    const chatter = () => ({ text: 'ok' });
    const far = createScripted({ name: 'far', chat: chatter, down: () => isDown, model: { id: 'cloud' } });
    const opened = await openGateway({
      env: { ...gateway.env, HONO_AI_CATALOG_MS: '1', HONO_AI_STATE_DIR: `${gateway.env['HONO_AI_STATE_DIR']}-far` },
      runtimes: [far],
      work: false,
    });
    const look = async () => {
      const init = post(
        { capability: 'text.chat', model: 'cloud' },
        { headers: { authorization: `Bearer ${OWNER_KEY}` } },
      );
      return (await opened.app.fetch(new Request('http://127.0.0.1/gpu/plan', init))).json();
    };
    expect(await look()).toMatchObject({ on_card: false, would: 'run', queue_s: 0, swap_s: 0, eta_s: null });
    isDown = true;
    await opened.gateway.catalog.refresh();
    expect(await look()).toMatchObject({ would: 'refuse', remedy: 'Start far.' });
    await opened.close();
  });
});

describe('the record', () => {
  it('tells what left the card for what, and callers only to the owner', async () => {
    expect((await chat('echo')).status).toBe(200);
    expect((await chat('utf8', GUEST_KEY)).status).toBe(200);
    expect((await chat('echo')).status).toBe(200);
    const { body } = await ask('/gpu/swaps?limit=2');
    expect(body['data']).toEqual([
      expect.objectContaining({ model: 'echo:latest', evicted: [{ runtime: 'ollama', model: 'utf8:latest' }] }),
      expect.objectContaining({ model: 'utf8:latest', evicted: [{ runtime: 'ollama', model: 'echo:latest' }] }),
    ]);
    expect(body['data'].map(({ caller }: Json) => caller)).toEqual(['owner', 'guest']);
    expect(body['data'][0]).toMatchObject({ failure: null, because: expect.stringContaining('utf8') });
    expect(Date.parse(body['data'][0].at)).toBeGreaterThan(Date.parse(body['data'][1].at));
    const seen = (await ask('/gpu/swaps?limit=2', {}, GUEST_KEY)).body;
    expect(seen['data'].map(({ caller }: Json) => caller)).toEqual([null, 'guest']);
    const view = gpuView.parse((await ask('/gpu', {}, GUEST_KEY)).body);
    expect(view.swaps.slice(0, 2).map(({ caller }) => caller)).toEqual([null, 'guest']);
    expect((await ask('/gpu/swaps?limit=0')).status).toBe(400);
    expect((await ask('/gpu/swaps?limit=1000')).status).toBe(400);
  });

  it('shows who waits, where, and why', async () => {
    const stop = await busyWith('slow');
    const abort = new AbortController();
    const waiting = chat('echo', GUEST_KEY, abort.signal).catch(() => undefined);
    let shown: Json[] = [];
    for (let tries = 0; tries < 100 && shown.length === 0; tries++)
      shown = (await ask('/gpu?history=0')).body['waiting'];
    expect(shown).toEqual([
      expect.objectContaining({ model: 'echo:latest', position: 1, class: 'interactive', caller: 'guest' }),
    ]);
    expect(shown[0]!['why']).toContain('slow');
    abort.abort();
    await waiting;
    await stop();
  });
});

describe('a card that is lent', () => {
  it('is emptied, begins nothing, says so, and goes on when it is given back', async () => {
    expect((await chat('echo')).status).toBe(200);
    expect(ollama.loaded.size).toBe(1);
    // What is there may stay.
    expect((await ask('/gpu/hold')).body).toEqual({ object: 'gpu.hold', hold: null, remaining: [], waiting: 0 });
    const { status, body } = await hold({ for: '30m', reason: 'gaming' });
    expect(status, JSON.stringify(body)).toBe(200);
    expect(body['hold']).toMatchObject({ reason: 'gaming', left_s: expect.any(Number) });
    expect(body['hold']['left_s']).toBeGreaterThan(1790);
    await eventually('the card is empty', () => ollama.loaded.size === 0);
    const waiting = chat('echo', GUEST_KEY);
    for (let tries = 0; tries < 200; tries++) {
      if (((await ask('/gpu/hold', {}, GUEST_KEY)).body as Json)['waiting'] === 1) break;
    }
    const view = gpuView.parse((await ask('/gpu', {}, GUEST_KEY)).body);
    expect(view.hold).toMatchObject({ reason: 'gaming' });
    expect(view.waiting[0]!.why).toMatch(/^the card is lent until \d\d:\d\d \(gaming\)$/);
    expect((await plan({ capability: 'text.chat', model: 'utf8' })).body).toMatchObject({
      would: 'wait',
      because: expect.stringContaining('lent until'),
    });
    expect(ollama.loaded.size).toBe(0);
    const back = await ask('/gpu/hold', { method: 'DELETE' });
    expect(back.body).toMatchObject({ object: 'gpu.hold', hold: null });
    expect((await waiting).status).toBe(200);
  });

  it('is lent and taken back by the owner alone, for a time that makes sense', async () => {
    expect((await hold({ for: '30m' }, GUEST_KEY)).status).toBe(403);
    expect((await ask('/gpu/hold', { method: 'DELETE' }, GUEST_KEY)).status).toBe(403);
    for (const body of [{ for: 'soon' }, { for: '25h' }, { for: 0 }, {}, { for: '1m', reason: 'a\nb' }]) {
      expect((await hold(body)).status, JSON.stringify(body)).toBe(400);
    }
    expect((await hold({})).body['error']).toMatchObject({
      message: 'for: must be a time such as 90s, 30m or 2h',
      param: 'for',
    });
    expect((await ask('/gpu/hold')).body).toMatchObject({ hold: null });
    expect((await hold({ for: 90 })).body['hold']['left_s']).toBeGreaterThan(85);
  });

  it('is back by itself', async () => {
    await hold({ for: '1s' });
    const before = performance.now();
    expect((await chat('echo')).status).toBe(200);
    expect(performance.now() - before).toBeGreaterThan(200);
    expect((await ask('/gpu/hold')).body).toMatchObject({ hold: null });
  });
});

it('the document tells of all of it', async () => {
  const { paths } = (await ask('/openapi.json')).body;
  expect(Object.keys(paths)).toEqual(expect.arrayContaining(['/gpu', '/gpu/hold', '/gpu/plan', '/gpu/swaps']));
  expect(paths['/text/chat'].post.parameters).toContainEqual(expect.objectContaining({ name: 'plan', in: 'query' }));
});
