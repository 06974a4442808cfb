// What answers tell of the card: what a run cost, when one that waits will be done, and who it was that asked.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openGateway } from '../../adapters/index.ts';
import { GatewayError } from '../../src/error.ts';
import { toGpuHeader } from '../../src/http/headers.ts';
import { chunk, createCardRuntime, ended, result, type CardRuntime, type Work } from '../support/card-runtime.ts';
import { eventually } from '../support/eventually.ts';
import { createScripted } from '../support/scripted-runtime.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** `a` and `b` do not fit on the card together; `b` is quick, `a` takes until it is let go. `elsewhere` needs no card. */
async function open(env: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-x-gpu-'));
  const gate = Promise.withResolvers<void>();
  const aborted: string[] = [];
  const work: Work = async function* ({ model, signal }) {
    yield chunk('x');
    signal.addEventListener('abort', () => aborted.push(model.id));
    if (model.id === 'a') await Promise.race([gate.promise, ended(signal)]);
    yield result('x');
  };
  const card: CardRuntime = createCardRuntime({ models: { a: 6, b: 6 }, work });
  const elsewhere = createScripted({ name: 'elsewhere', model: { id: 'c' }, generate: () => ({ text: 'x' }) });
  const opened = await openGateway({
    env: {
      HONO_AI_CONFIG: '/dev/null',
      HONO_AI_STATE_DIR: folder,
      HONO_AI_LOG_LEVEL: 'silent',
      HONO_AI_VRAM: '8GB',
      ...env,
    },
    runtimes: [card, elsewhere],
  });
  closers.push(async () => {
    gate.resolve();
    await opened.gateway.drain(1000);
    await opened.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const post = async (path: string, body: object, init: RequestInit = {}) =>
    opened.app.fetch(
      new Request(`http://127.0.0.1${path}`, {
        method: 'POST',
        body: JSON.stringify({ prompt: 'x', ...body }),
        ...init,
        headers: { 'content-type': 'application/json', ...init.headers },
      }),
    );
  const { arbiter } = opened.gateway;
  return {
    card,
    arbiter,
    aborted,
    post,
    gen: (body: object, init?: RequestInit) => post('/text/gen', body, init),
    release: gate.resolve,
    /** `a` has the card. */
    async occupy(headers: Record<string, string> = {}) {
      const done = post('/text/gen', { model: 'a' }, { headers });
      await eventually('a runs', () => arbiter.snapshot().running.length === 1 && card.inside.has('a'));
      return { done };
    },
  };
}

const secondsOf = (header: string | null, what: string) =>
  Number(new RegExp(`\\b${what}=([\\d.]+)`).exec(header ?? '')?.[1]);

const COST = /^queue=[\d.]+, swap=[\d.]+, run=[\d.]+(, evicted="[^"]+")?$/;
const BEGUN = /^queue=[\d.]+, swap=[\d.]+(, evicted="[^"]+")?$/;

describe('x-gpu', () => {
  it('is a dictionary of seconds', () => {
    const evicted = [
      { runtime: 'r', model: 'llama3.1:8b' },
      { runtime: 'r', model: 'a"b\\c’é\n' },
    ];
    const cost = { queueMs: 1234, swapMs: 4000, runMs: 6149, evicted };
    expect(toGpuHeader(cost, true)).toBe(`queue=1.2, swap=4, run=6.1, evicted="llama3.1:8b a\\"b\\\\c'??"`);
    expect(toGpuHeader({ ...cost, queueMs: -1, evicted: [] }, false)).toBe('queue=0, swap=4');
    const many = Array.from({ length: 1000 }, () => ({ runtime: 'r', model: '"'.repeat(10) }));
    expect(toGpuHeader({ ...cost, evicted: many }, true).length).toBeLessThan(2100);
  });

  it('is on every whole answer of the card, with what had to leave', async () => {
    const { gen, post, occupy, release } = await open();
    const { done } = await occupy();
    const second = gen({ model: 'b' });
    await new Promise((resolve) => setTimeout(resolve, 250));
    release();
    const [mine, others] = [(await done).headers.get('x-gpu'), (await second).headers.get('x-gpu')];
    expect(mine).toMatch(/^queue=[\d.]+, swap=[\d.]+, run=[\d.]+$/);
    expect(others).toMatch(/^queue=[\d.]+, swap=[\d.]+, run=[\d.]+, evicted="a"$/);
    expect(secondsOf(mine, 'run')).toBeGreaterThan(0.15);
    expect(secondsOf(others, 'queue')).toBeGreaterThan(0.15);
    const third = await post('/v1/completions', { model: 'b' });
    expect([third.headers.get('x-gpu'), third.headers.get('x-eta')]).toEqual([expect.stringMatching(COST), null]);
    expect((await gen({ model: 'c' })).headers.get('x-gpu')).toBeNull();
  });

  it('is on streams as far as it is known when they begin', async () => {
    const { gen, post } = await open();
    for (const response of [
      await gen({ model: 'b', stream: true }),
      await post('/v1/completions', { model: 'b', stream: true }),
    ]) {
      expect(response.headers.get('x-gpu')).toMatch(BEGUN);
      await response.text();
    }
    const away = await gen({ model: 'c', stream: true });
    expect(away.headers.get('x-gpu')).toBeNull();
    await away.text();
  });

  it('is on failures that cost something', async () => {
    const { gen, card } = await open();
    card.work = async function* () {
      yield { type: 'status', state: 'running' };
      throw new GatewayError('insufficient_vram', 'CUDA out of memory.', { source: 'card' });
    };
    const response = await gen({ model: 'b' });
    expect([response.status, card.calls]).toEqual([503, ['b', 'b']]);
    expect(response.headers.get('x-gpu')).toMatch(COST);
    expect(await response.json()).toMatchObject({ error: { code: 'insufficient_vram' } });
  });

  it('is on the answers of jobs, whose timings are those of the card', async () => {
    const { gen, occupy, release, post } = await open();
    await occupy();
    const second = gen({ model: 'b' }, { headers: { prefer: 'wait=10' } });
    await new Promise((resolve) => setTimeout(resolve, 250));
    release();
    const response = await second;
    expect(response.headers.get('x-gpu')).toMatch(/^queue=[\d.]+, swap=[\d.]+, run=[\d.]+, evicted="a"$/);
    expect(secondsOf(response.headers.get('x-gpu'), 'queue')).toBeGreaterThan(0.15);
    const job = await post(`/jobs/${response.headers.get('x-job-id')}`, {}, { method: 'GET', body: null });
    const { timings } = (await job.json()) as { timings: { queue_ms: number; evicted: string[] } };
    expect(timings).toMatchObject({ evicted: ['a'], swap_ms: expect.any(Number), run_ms: expect.any(Number) });
    expect(timings.queue_ms).toBeGreaterThan(150);
    const away = await gen({ model: 'c' }, { headers: { prefer: 'wait=10' } });
    expect([away.status, away.headers.get('x-gpu')]).toEqual([200, null]);
  });

  it('may be read by web pages, as may x-eta', async () => {
    const { gen } = await open();
    const response = await gen({ model: 'b' }, { headers: { origin: 'http://127.0.0.1' } });
    const exposed = response.headers.get('access-control-expose-headers')!.split(', ');
    expect(exposed).toEqual(expect.arrayContaining(['x-gpu', 'x-eta']));
  });
});

describe('who waits', () => {
  it('is told in the headers when it will be done, and in comments where it stands', async () => {
    const { post, occupy, release } = await open({ HONO_AI_HEARTBEAT_MS: '50' });
    await occupy();
    const streams: Response[] = [];
    for (const path of ['/text/gen', '/v1/completions']) {
      // It is not foreseen anew for each of many who come at once.
      await new Promise((resolve) => setTimeout(resolve, 550));
      streams.push(await post(path, { model: 'b', stream: true }));
    }
    for (const response of streams) {
      expect(response.headers.get('x-eta')).toMatch(/^[1-9]\d*$/);
      expect(response.headers.get('x-gpu')).toBeNull();
    }
    release();
    const [native, dialect] = await Promise.all(streams.map((response) => response.text()));
    expect(native).toMatch(/event: status\ndata: \{.*"eta":\d+/);
    expect(dialect).toMatch(/^: queued, position \d+, about \d+ s, .+$/m);
  });

  it('is known by the caller and the class of the request', async () => {
    const { gen, occupy, arbiter, release } = await open({
      HONO_AI_API_KEY: 'owner-0123456789abcdef',
      HONO_AI_CALLERS: 'anna:anna-0123456789abcdef,bert:bert-0123456789abcdef',
    });
    const headers = (name: string) => ({ authorization: `Bearer ${name}-0123456789abcdef` });
    const { done } = await occupy(headers('owner'));
    const anna = gen({ model: 'b' }, { headers: headers('anna') });
    await eventually('one waits', () => arbiter.snapshot().waiting.length === 1);
    const bert = [
      gen({ model: 'b' }, { headers: { ...headers('bert'), prefer: 'respond-async' } }),
      gen(
        { model: 'b', job: { priority: 'background' } },
        { headers: { ...headers('bert'), prefer: 'respond-async' } },
      ),
    ];
    await eventually('three wait', () => arbiter.snapshot().waiting.length === 3);
    const { running, waiting } = arbiter.snapshot();
    expect(running).toMatchObject([{ caller: 'owner', class: 'interactive' }]);
    expect(waiting.map(({ caller, class: of }) => `${caller} ${of}`).toSorted()).toEqual([
      'anna interactive',
      'bert background',
      'bert normal',
    ]);
    release();
    await Promise.all([done, anna]);
    for (const response of await Promise.all(bert)) {
      const { eta_s } = (await response.json()) as { eta_s: number | null };
      expect(response.headers.get('x-eta')).toBe(eta_s === null ? null : String(Math.ceil(eta_s)));
    }
  });

  it('frees the card within a second when it leaves, waiting or working', async () => {
    const { gen, arbiter, aborted, card } = await open();
    const leaving = new AbortController();
    const working = gen({ model: 'a', stream: true }, { signal: leaving.signal });
    await eventually('a runs', () => arbiter.snapshot().running.length === 1 && card.inside.has('a'));
    const gone = new AbortController();
    const waiting = gen({ model: 'b' }, { signal: gone.signal });
    await eventually('b waits', () => arbiter.snapshot().waiting.length === 1);
    gone.abort();
    await eventually('nobody waits', () => arbiter.snapshot().waiting.length === 0);
    leaving.abort();
    await eventually('the card is free', () => arbiter.snapshot().running.length === 0);
    expect(aborted).toContain('a');
    await Promise.allSettled([working, waiting]);
    expect((await gen({ model: 'b' })).status).toBe(200);
  });
});
