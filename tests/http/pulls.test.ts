// Pulls over HTTP, in process over a scripted puller: taken as jobs of the owner, beside all slots, streamed, paused, cancelled, and got on use.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openGateway } from '../../adapters/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { Model } from '../../src/runtime.ts';
import { readEventStream } from '../support/event-stream.ts';
import { eventually } from '../support/eventually.ts';
import { createFakePuller, type FakePullerOptions } from '../support/fake-puller.ts';
import { createFakeRuntime } from '../support/fake-runtime.ts';
import { post } from '../support/gateway.ts';

interface Job {
  id: string;
  state: string;
  priority: string;
  model: string | null;
  runtime: string | null;
  attempts: number;
  max_attempts: number;
  position: number | null;
  eta_s: number | null;
  progress: {
    percent: number;
    done?: number;
    total?: number;
    unit?: string;
    rate?: number;
    label?: string;
    message?: string;
  };
  result?: { files: unknown[]; already: boolean };
  error: { code: string } | null;
}
interface Pull {
  id: string;
  state: string;
  callers: number;
  done: number;
  total: number;
}

const ALICE = 'alice-has-a-long-key-0001';
const OWNER = 'the-owner-has-a-long-key-1';
const folder = mkdtempSync(join(tmpdir(), 'hono-ai-pulls-'));
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  while (closing.length > 0) await closing.pop()!();
});

async function open(
  options: { puller?: FakePullerOptions; env?: Record<string, string>; state?: string; work?: boolean } = {},
) {
  const state = options.state ?? mkdtempSync(join(folder, 'state-'));
  const puller = createFakePuller(options.puller);
  const fake = createFakeRuntime();
  const echo = await fake.models(new AbortController().signal);
  const runtime = {
    ...fake,
    puller,
    models: async (): Promise<Model[]> => [
      ...echo,
      ...[...puller.disk.keys()].map((id) => ({ ...echo[0]!, id, rank: 0 })),
    ],
  };
  const opened = await openGateway({
    env: {
      HONO_AI_CONFIG: emptyConfig,
      HONO_AI_STATE_DIR: state,
      HONO_AI_DISCOVER: 'false',
      HONO_AI_EMBEDDED: 'false',
      HONO_AI_LOG_LEVEL: 'silent',
      HONO_AI_API_KEY: OWNER,
      HONO_AI_CALLERS: `alice:${ALICE}`,
      HONO_AI_HEARTBEAT_MS: '50',
      ...options.env,
    },
    runtimes: [runtime],
    ...(options.work === undefined ? {} : { work: options.work }),
  });
  let closed = false;
  const close = async () => {
    if (closed) return;
    closed = true;
    puller.letGo();
    await opened.gateway.drain(2000);
    await opened.close();
  };
  closing.push(close);
  const request = async (path: string, init: RequestInit = {}, key = OWNER) =>
    opened.app.fetch(
      new Request(`http://127.0.0.1${path}`, {
        ...init,
        headers: { ...(init.headers as Record<string, string>), authorization: `Bearer ${key}` },
      }),
    );
  const read = async <T>(path: string) => (await (await request(path)).json()) as T;
  const pull = async (body: object, headers: Record<string, string> = {}) =>
    (await (await request('/models/pull', post(body, { headers }))).json()) as Job;
  return {
    ...opened,
    close,
    state,
    puller,
    request,
    read,
    pull,
    job: (id: string) => read<Job>(`/jobs/${id}`),
    pulls: async () => (await read<{ data: Pull[] }>('/models/pulls')).data,
    async until(id: string, state: string) {
      for (let left = 400; ; left--) {
        const job = await read<Job>(`/jobs/${id}`);
        if (job.state === state) return job;
        if (left === 0) throw new Error(`${job.state}, not ${state}: ${JSON.stringify(job.error)}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
  };
}

const emptyConfig = join(folder, 'none.yaml');
writeFileSync(emptyConfig, '{}');
/** The same as `eventually` for what must be asked. */
async function seen(what: string, condition: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 5000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within 5 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const code = async (response: Response) => ((await response.json()) as { error: { code: string } }).error.code;

describe('POST /models/pull', () => {
  it('answers 202 with a job at once, which ends with the files, and the model is listed by then', async () => {
    const { request, until, read } = await open();
    const response = await request('/models/pull', post({ model: 'm' }));
    expect(response.status).toBe(202);
    const job = (await response.json()) as Job;
    expect(response.headers.get('location')).toBe(`/jobs/${job.id}`);
    expect(job).toMatchObject({
      state: 'queued',
      priority: 'interactive',
      max_attempts: 100,
      capability: 'model.pull',
    });
    const done = await until(job.id, 'done');
    expect(done).toMatchObject({ model: 'm', runtime: 'fake', attempts: 1, error: null });
    expect(done.result).toEqual({
      files: [{ name: 'm.bin', size: 1000 }],
      already: false,
      model: 'm',
      runtime: 'fake',
      warnings: [],
    });
    expect(JSON.stringify(await read('/models'))).toContain('"id":"m"');
  });

  it('waits where it is asked to, and says with 202 where that was too short', async () => {
    const { request, puller } = await open();
    const whole = await request('/models/pull', post({ model: 'm' }, { headers: { prefer: 'wait=20' } }));
    expect(whole.status).toBe(200);
    expect(await whole.json()).toMatchObject({ already: false, model: 'm' });
    puller.hold();
    const late = await request('/models/pull', post({ model: 'n' }, { headers: { prefer: 'wait=0' } }));
    expect([late.status, late.headers.get('preference-applied')]).toEqual([202, 'wait=0']);
  });

  it('is for the owner alone, however it is asked', async () => {
    const { request, pull, puller, pulls } = await open();
    expect(await code(await request('/models/pull', post({ model: 'm' }), ALICE))).toBe('forbidden');
    const batch = { capability: 'model.pull', inputs: [{ model: 'm' }] };
    expect(await code(await request('/jobs/batch', post(batch), ALICE))).toBe('forbidden');
    puller.hold();
    await pull({ model: 'm' });
    await eventually('it is pulled', () => puller.running() === 1);
    const [{ id } = { id: '' }] = await pulls();
    for (const [method, path] of [
      ['POST', `/models/pulls/${id}/pause`],
      ['POST', `/models/pulls/${id}/resume`],
      ['DELETE', `/models/pulls/${id}`],
    ]) {
      expect(await code(await request(path!, { method: method! }, ALICE)), path).toBe('forbidden');
    }
    expect((await request('/models/pulls', {}, ALICE)).status).toBe(200);
    expect(puller.running()).toBe(1);
    // It would ask the hub with the owner's token, and any address.
    expect(await code(await request('/models/plan?model=m', {}, ALICE))).toBe('forbidden');
    expect((await request('/models/plan?model=m')).status).toBe(200);
  });

  it('refuses before taking what nobody can get, and what is malformed', async () => {
    const { request } = await open({ puller: { claims: ({ model }) => (model === 'm' ? 60 : undefined) } });
    const unknown = await request('/models/pull', post({ model: 'nope' }));
    expect(unknown.status).toBe(501);
    expect(await unknown.json()).toMatchObject({
      error: { code: 'not_supported', hint: expect.any(String) as string },
    });
    expect((await request('/models/pull', post({ model: 'm', runtime: 'nowhere' }))).status).toBe(404);
    for (const body of [
      {},
      { model: 'a\nb' },
      { model: 'm', sha256: 'x' },
      { model: 'm', kind: 'x' },
      { model: 'm', x: 1 },
    ]) {
      expect((await request('/models/pull', post(body))).status, JSON.stringify(body)).toBe(400);
    }
  });

  it('20 jobs are one download; one that is cancelled leaves the others alone, and the last stops it', async () => {
    const { pull, puller, pulls, request, until } = await open({ env: { HONO_AI_JOB_CONCURRENCY: '1' } });
    puller.hold();
    const jobs = await Promise.all(Array.from({ length: 20 }, () => pull({ model: 'm' })));
    await seen('all wait', async () => (await pulls())[0]?.callers === 20);
    await request(`/jobs/${jobs[0]!.id}`, { method: 'DELETE' });
    expect(await until(jobs[0]!.id, 'cancelled')).toMatchObject({ error: { code: 'cancelled' } });
    expect((await pulls())[0]).toMatchObject({ callers: 19, state: 'running' });
    puller.letGo();
    for (const { id } of jobs.slice(1)) expect((await until(id, 'done')).result?.already).toBe(false);
    expect(puller.begun).toHaveLength(1);
    puller.hold();
    const only = await pull({ model: 'n' });
    await eventually('it is pulled', () => puller.running() === 1);
    await request(`/jobs/${only.id}`, { method: 'DELETE' });
    await eventually('it has stopped', () => puller.running() === 0);
    await until(only.id, 'cancelled');
    expect(await pulls()).toEqual([]);
  });

  it('the same Idempotency-Key is the same job', async () => {
    const { request, puller, until } = await open();
    const ask = () => request('/models/pull', post({ model: 'm' }, { headers: { 'idempotency-key': 'one' } }));
    const [first, again] = [await (await ask()).json(), await (await ask()).json()] as [Job, Job];
    expect(again.id).toBe(first.id);
    await until(first.id, 'done');
    expect(puller.begun).toHaveLength(1);
  });

  it('fails for good with what the registry said, tried once', async () => {
    const fails = () => new GatewayError('digest_mismatch', 'Not what it should be.', { source: 'fake' });
    const { pull, until } = await open({ puller: { fails } });
    const { id } = await pull({ model: 'm' });
    expect(await until(id, 'failed')).toMatchObject({
      attempts: 1,
      error: { code: 'digest_mismatch', source: 'fake' },
    });
  });
});

describe('as events', () => {
  it('a stream tells status, progress in bytes and the result', async () => {
    const { request } = await open({ puller: { size: 4000 } });
    const response = await request('/models/pull', post({ model: 'm', stream: true }));
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const events = await readEventStream(response);
    const all = events.map(({ event, data }) => ({ event, data: JSON.parse(data) as Record<string, unknown> }));
    expect(all[0]!.event).toBe('status');
    const progress = all.filter(({ event, data }) => event === 'progress' && data['unit'] === 'bytes');
    expect(progress.at(-1)!.data).toMatchObject({ percent: 100, done: 4000, total: 4000, label: 'm.bin' });
    const percents = progress.map(({ data }) => data['percent'] as number);
    expect(percents).toEqual(percents.toSorted((a, b) => a - b));
    expect(all.at(-1)).toMatchObject({ event: 'result', data: { already: false, model: 'm' } });
  });

  it('and who leaves it does not stop it', async () => {
    const { request, puller, pulls, until } = await open();
    puller.hold();
    const gone = new AbortController();
    const init = post({ model: 'm' }, { headers: { accept: 'text/event-stream' }, signal: gone.signal });
    const response = await request('/models/pull', init);
    const id = response.headers.get('x-job-id');
    await readEventStream(response, (events) => events.length > 0);
    gone.abort();
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect((await pulls())[0]).toMatchObject({ callers: 1, state: 'running' });
    puller.letGo();
    await until(id ?? 'none', 'done');
  });

  it('everybody who watches hears of pulls', async () => {
    const { request, pull, until } = await open();
    const gone = new AbortController();
    const stream = await request('/events', { signal: gone.signal });
    const { id } = await pull({ model: 'm' });
    const events = await readEventStream(stream, (all) => all.some(({ event }) => event === 'job:done'));
    gone.abort();
    const pulled = events.filter(({ event }) => event === 'model:pull').map(({ data }) => JSON.parse(data) as Pull);
    expect(pulled[0]).toMatchObject({ object: 'pull', runtime: 'fake' });
    expect(pulled.at(-1)).toMatchObject({ state: 'done', done: 1000, total: 1000 });
    expect((await until(id, 'done')).state).toBe('done');
  });
});

describe('pause, resume, cancel', () => {
  it('hold the job, let it go on, and end it', async () => {
    const { request, pull, puller, pulls, job, until, read } = await open({ puller: { holdAt: 300 } });
    const { id } = await pull({ model: 'm' });
    await eventually('some has come', () => (puller.disk.get('m') ?? 0) >= 300);
    const [known] = await pulls();
    const act = async (path: string, method = 'POST') => request(`/models/pulls/${known!.id}${path}`, { method });
    expect(await (await act('/pause')).json()).toMatchObject({ object: 'pull', state: 'paused', total: 1000 });
    await eventually('it has stopped', () => puller.running() === 0);
    await seen('it says so', async () => (await job(id)).progress.message?.includes('Paused') ?? false);
    expect(await job(id)).toMatchObject({ state: 'running', eta_s: null, progress: { unit: 'bytes', total: 1000 } });
    expect(await read<Pull>(`/models/pulls/${known!.id}`)).toMatchObject({ state: 'paused', callers: 1 });
    puller.letGo();
    expect((await act('/resume')).status).toBe(200);
    expect((await until(id, 'done')).result?.already).toBe(false);
    expect((await act('/pause')).status).toBe(404);

    puller.hold();
    const next = await pull({ model: 'n' });
    await eventually('it is pulled', () => puller.running() === 1);
    const [other] = await pulls();
    const answer = await request(`/models/pulls/${other!.id}`, { method: 'DELETE' });
    expect(await answer.json()).toEqual({ id: other!.id, object: 'pull', cancelled: true });
    expect(await until(next.id, 'cancelled')).toMatchObject({ error: { code: 'cancelled' } });
  });

  it('a gateway that is stopped meanwhile puts the job back, and the next one ends it', async () => {
    const before = await open({ puller: { holdAt: 300 } });
    const { id } = await before.pull({ model: 'm' });
    await eventually('some has come', () => (before.puller.disk.get('m') ?? 0) >= 300);
    await before.close();
    expect(before.puller.running()).toBe(0);
    const after = await open({ state: before.state, puller: { disk: before.puller.disk } });
    expect(await after.until(id, 'done')).toMatchObject({ attempts: 1, error: null });
    expect(before.puller.fetched() + after.puller.fetched()).toBe(1000);
  });

  it('a paused one is paused after a restart, and the same job ends done once it is resumed', async () => {
    const before = await open({ puller: { holdAt: 300 } });
    const { id } = await before.pull({ model: 'm' });
    await eventually('some has come', () => (before.puller.disk.get('m') ?? 0) >= 300);
    const [known] = await before.pulls();
    await before.request(`/models/pulls/${known!.id}/pause`, { method: 'POST' });
    await before.close();
    const after = await open({ state: before.state, puller: { disk: before.puller.disk } });
    await after.until(id, 'running');
    await seen('the job is back', async () => (await after.pulls())[0]?.callers === 1);
    expect(await after.pulls()).toMatchObject([{ id: known!.id, state: 'paused' }]);
    // The shutdown took the attempt back.
    expect((await after.job(id)).attempts).toBe(1);
    expect(after.puller.begun).toHaveLength(0);
    await after.request(`/models/pulls/${known!.id}/resume`, { method: 'POST' });
    await after.until(id, 'done');
    expect(before.puller.fetched() + after.puller.fetched()).toBe(1000);
  });
});

describe('slots', () => {
  const env = { HONO_AI_JOB_CONCURRENCY: '1' };
  const generate = (model: string, job: object = {}) =>
    post({ prompt: 'a b', model, job }, { headers: { prefer: 'respond-async' } });

  it('are not taken by pulls, and pulls begin when all are taken', async () => {
    const { request, pull, puller, until } = await open({ env });
    const busy = (await (await request('/text/gen', generate('slow'))).json()) as Job;
    await until(busy.id, 'running');
    puller.hold();
    const pulled = await pull({ model: 'm' });
    await until(pulled.id, 'running');
    const waits = (await (await request('/text/gen', generate('echo'))).json()) as Job;
    await request(`/jobs/${busy.id}`, { method: 'DELETE' });
    await until(waits.id, 'done');
    puller.letGo();
    await until(pulled.id, 'done');
  });

  it('one that is to begin later begins then, though they are taken; others keep waiting', async () => {
    const { request, pull, until, job } = await open({ env });
    const busy = (await (await request('/text/gen', generate('slow'))).json()) as Job;
    await until(busy.id, 'running');
    const waits = (await (await request('/text/gen', generate('echo'))).json()) as Job;
    const pulled = await pull({ model: 'm', job: { delay_s: 0.2 } });
    await until(pulled.id, 'done');
    expect((await job(waits.id)).state).toBe('queued');
    await request(`/jobs/${busy.id}`, { method: 'DELETE' });
    await until(waits.id, 'done');
  });

  it('a pull that asks for less waits its turn', async () => {
    const { request, pull, until, job } = await open({ env });
    const busy = (await (await request('/text/gen', generate('slow'))).json()) as Job;
    await until(busy.id, 'running');
    const waits = (await (await request('/text/gen', generate('echo', { priority: 'normal' }))).json()) as Job;
    const pulled = await pull({ model: 'm', job: { priority: 'background' } });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect([(await job(waits.id)).state, (await job(pulled.id)).state]).toEqual(['queued', 'queued']);
    await request(`/jobs/${busy.id}`, { method: 'DELETE' });
    await until(pulled.id, 'done');
  });
});

describe('a gateway that does not work by itself', () => {
  it('performs the pull that somebody waits for', async () => {
    const { request, puller } = await open({ work: false });
    const response = await request('/models/pull', post({ model: 'm' }, { headers: { prefer: 'wait=20' } }));
    expect(response.status).toBe(200);
    const streamed = await request('/models/pull', post({ model: 'n', stream: true }));
    expect((await readEventStream(streamed)).at(-1)!.event).toBe('result');
    expect(puller.begun).toHaveLength(2);
  });
});

describe('pull_on_use', () => {
  const env = { HONO_AI_PULL_ON_USE: 'true' };

  it('off: 404 that names the call which gets it', async () => {
    const { request, puller } = await open();
    const response = await request('/text/gen', post({ prompt: 'a b', model: 'm' }));
    expect(response.status).toBe(404);
    expect(JSON.stringify(await response.json())).toContain('/models/pull');
    expect(puller.begun).toEqual([]);
  });

  it('on: it is got first, which the stream tells, and then it answers; the second time at once', async () => {
    const { request, puller } = await open({ env });
    const ask = () => request('/text/gen', post({ prompt: 'a b', model: 'm', stream: true }));
    const events = await readEventStream(await ask());
    expect(events.some(({ event, data }) => event === 'status' && data.includes('"loading"'))).toBe(true);
    expect(events.some(({ event, data }) => event === 'progress' && data.includes('"bytes"'))).toBe(true);
    expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ text: 'a b', model: 'm' });
    await readEventStream(await ask());
    expect(puller.begun).toHaveLength(1);
  });

  it('on: in OpenAI’s words pings come meanwhile', async () => {
    const { request, puller } = await open({ env });
    puller.hold();
    const body = { model: 'm', stream: true, messages: [{ role: 'user', content: 'hi' }] };
    const response = await request('/v1/chat/completions', post(body));
    setTimeout(() => puller.letGo(), 150);
    const text = await response.text();
    expect(text).toContain(': ping');
    expect(text).toContain('data: [DONE]');
  });

  it('on: nothing is got that is named by an address, or as a file of a repository', async () => {
    const { request, puller } = await open({ env });
    for (const model of [
      'https://example.com/a.safetensors',
      'hf:org/repo/a.safetensors',
      'hf:org/repo@main/a/b.gguf',
      'hf.co/org/repo/resolve/main/a.gguf',
    ]) {
      expect((await request('/text/gen', post({ prompt: 'a', model }))).status, model).toBe(404);
    }
    expect(puller.begun).toEqual([]);
    expect((await request('/text/gen', post({ prompt: 'a', model: 'hf.co/org/repo:Q4_K_M' }))).status).toBe(200);
  });

  it('on: a job is taken for a model that is not here yet', async () => {
    const { request, until } = await open({ env });
    const init = post({ prompt: 'a b', model: 'm' }, { headers: { prefer: 'respond-async' } });
    const response = await request('/text/gen', init);
    expect(response.status).toBe(202);
    expect(await until(((await response.json()) as Job).id, 'done')).toMatchObject({ model: 'm' });
  });

  it('on: what no registry has is answered as without it, and whoever leaves stops it', async () => {
    const fails: FakePullerOptions['fails'] = ({ model }) =>
      model === 'nope' ? new GatewayError('model_not_found', 'No such model in the library.') : undefined;
    const { request, puller, pulls } = await open({ env, puller: { fails } });
    const response = await request('/text/gen', post({ prompt: 'a b', model: 'nope' }));
    expect(response.status).toBe(404);
    expect(JSON.stringify(await response.json())).toContain('There is no model “nope”');
    puller.hold();
    const gone = new AbortController();
    const asked = request('/text/gen', post({ prompt: 'a b', model: 'm' }, { signal: gone.signal }));
    await eventually('it is pulled', () => puller.running() === 1);
    gone.abort();
    await asked;
    await eventually('it has stopped', () => puller.running() === 0);
    expect(await pulls()).toEqual([]);
    expect((await request('/text/gen', post({ prompt: 'a', model: 'default' }))).status).toBe(200);
  });
});

process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
