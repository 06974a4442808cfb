// What every host must keep about jobs over HTTP: taken, told of, cancelled, tried again, run once per key, and never lost.
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFakeOllama } from '../support/fake-ollama.ts';
import { eventually, post, type GatewayOptions, type TestGateway } from '../support/gateway.ts';
import { readEventStream } from '../support/event-stream.ts';

interface Job {
  id: string;
  object: string;
  state: string;
  capability: string;
  model: string | null;
  position: number | null;
  attempts: number;
  cached: boolean;
  result?: { text: string };
  error: { code: string; message: string; source: string } | null;
  timings: { queue_ms: number; swap_ms: number; run_ms: number } | null;
  metadata: Record<string, string>;
  batch: string | null;
  index: number | null;
}

const KEYS = { alice: 'alice-has-a-long-key-0001', bob: 'bob-has-a-long-key-000002' };

export function testJobs(name: string, open: (options: GatewayOptions) => Promise<TestGateway>): void {
  describe(`jobs: ${name}`, () => {
    let ollama: Awaited<ReturnType<typeof openFakeOllama>>;
    let gateway: TestGateway;
    let latePort: number;

    beforeAll(async () => {
      ollama = await openFakeOllama();
      latePort = await freePort();
      gateway = await open({
        runtimes: [
          { name: 'ollama', kind: 'ollama', url: ollama.url, priority: 90 },
          { name: 'late', kind: 'openai', url: `http://127.0.0.1:${latePort}/v1`, models: ['absent'] },
        ],
        env: {
          HONO_AI_CALLERS: `alice:${KEYS.alice},bob:${KEYS.bob}`,
          HONO_AI_HEARTBEAT_MS: '300',
          HONO_AI_JOB_CONCURRENCY: '4',
        },
      });
    });
    afterAll(async () => {
      await gateway?.close();
      await ollama?.close();
    });

    type Caller = keyof typeof KEYS;
    const as = (caller: Caller, init: RequestInit = {}): RequestInit => ({
      ...init,
      headers: { ...(init.headers as Record<string, string>), authorization: `Bearer ${KEYS[caller]}` },
    });
    const ask = (path: string, init: RequestInit = {}, caller: Caller = 'alice') =>
      gateway.request(path, as(caller, init));
    const submit = (body: object, headers: Record<string, string> = {}, caller: Caller = 'alice') =>
      ask('/text/gen', post({ model: 'echo', ...body }, { headers: { prefer: 'respond-async', ...headers } }), caller);
    const read = async <T>(response: Response) => (await response.json()) as T;
    const get = async (id: string) => read<Job>(await ask(`/jobs/${id}`));
    const code = async (response: Response) => ((await response.json()) as { error: { code: string } }).error.code;

    async function until(id: string, state: string, ms = 8000): Promise<Job> {
      const end = performance.now() + ms;
      for (;;) {
        const job = await get(id);
        if (job.state === state) return job;
        if (performance.now() > end)
          throw new Error(`${id} is ${job.state}, not ${state}: ${JSON.stringify(job.error)}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }

    describe('Prefer', () => {
      it('respond-async → 202, Location and the job, and the same result as without', async () => {
        const response = await submit({ prompt: 'Hello', seed: 5, job: { metadata: { from: 'test' } } });
        expect(response.status).toBe(202);
        const job = await read<Job>(response);
        expect(response.headers.get('location')).toBe(`/jobs/${job.id}`);
        expect(response.headers.get('preference-applied')).toBe('respond-async');
        expect(job).toMatchObject({ object: 'job', state: 'queued', capability: 'text.generate', attempts: 0 });
        const done = await until(job.id, 'done');
        const direct = await read<{ text: string }>(
          await ask('/text/gen', post({ prompt: 'Hello', seed: 5, model: 'echo' })),
        );
        expect(done.result?.text).toBe(direct.text);
        expect(done).toMatchObject({ model: 'echo:latest', attempts: 1, metadata: { from: 'test' }, error: null });
        expect(done.timings!.run_ms).toBeGreaterThanOrEqual(0);
      });

      it('wait=N → the result where it is quick, the job where it is not', async () => {
        const quick = await ask(
          '/text/gen',
          post({ prompt: 'Hello', model: 'echo' }, { headers: { prefer: 'wait=20' } }),
        );
        expect(quick.status).toBe(200);
        expect(quick.headers.get('x-job-id')).toMatch(/^job_/);
        const slow = await ask(
          '/text/gen',
          post({ prompt: 'Hello', model: 'slow' }, { headers: { prefer: 'respond-async, wait=1' } }),
        );
        expect(slow.status).toBe(202);
        const job = await read<Job>(slow);
        expect(job.state).toBe('running');
        await ask(`/jobs/${job.id}`, { method: 'DELETE' });
      });

      it('a `job` member without it: the same job, watched to its end', async () => {
        const response = await ask('/text/gen', post({ prompt: 'x', model: 'echo', job: { priority: 'interactive' } }));
        expect(response.status).toBe(200);
        expect((await get(response.headers.get('x-job-id')!)).state).toBe('done');
      });

      it('refuses before taking what could never be done', async () => {
        expect((await submit({ model: 'nope', prompt: 'x' })).status).toBe(404);
        expect((await submit({})).status).toBe(400);
        expect((await submit({ prompt: 'x', job: { priority: 'highest' } })).status).toBe(400);
        expect((await submit({ prompt: 'x', job: { webhook: 'http://127.0.0.1:1/x' } })).status).toBe(400);
      });
    });

    describe('Idempotency-Key', () => {
      it('the same bytes again, one job, one execution', async () => {
        const before = ollama.executions('echo');
        const key = { 'idempotency-key': crypto.randomUUID() };
        const first = await submit({ prompt: 'once' }, key);
        const body = await first.text();
        await until((JSON.parse(body) as Job).id, 'done');
        const again = await submit({ prompt: 'once' }, key);
        expect([again.status, await again.text(), again.headers.get('idempotent-replayed')]).toEqual([
          202,
          body,
          'true',
        ]);
        expect(again.headers.get('location')).toBe(first.headers.get('location'));
        expect(ollama.executions('echo') - before).toBe(1);
      });

      it.each([
        ['a whole answer', '/text/gen', { prompt: 'sync', model: 'echo' }],
        ['a stream', '/text/gen', { prompt: 'stream', model: 'echo', stream: true }],
        ['an OpenAI answer', '/v1/chat/completions', { model: 'echo', messages: [{ role: 'user', content: 'x' }] }],
        ['a failure that cost time', '/text/gen', { prompt: 'x', model: 'truncated' }],
      ])('%s is replayed to the byte', async (_, path, body) => {
        const headers = { 'idempotency-key': crypto.randomUUID() };
        const before = ollama.executions();
        const first = await ask(path, post(body, { headers }));
        const text = await first.text();
        const again = await ask(path, post(body, { headers }));
        expect([again.status, await again.text()]).toEqual([first.status, text]);
        expect(again.headers.get('idempotent-replayed')).toBe('true');
        expect(ollama.executions() - before).toBe(1);
      });

      it('another body → 422; a key too long → 400; another caller is another key', async () => {
        const key = { 'idempotency-key': crypto.randomUUID() };
        expect((await submit({ prompt: 'one' }, key)).status).toBe(202);
        const other = await submit({ prompt: 'two' }, key);
        expect([other.status, await code(other)]).toEqual([422, 'idempotency_mismatch']);
        expect((await submit({ prompt: 'one' }, { 'idempotency-key': 'k'.repeat(256) })).status).toBe(400);
        const bobs = await submit({ prompt: 'one' }, key, 'bob');
        expect([bobs.status, bobs.headers.get('idempotent-replayed')]).toEqual([202, null]);
      });

      it('while the first is worked on → 409 with retry-after', async () => {
        const headers = { 'idempotency-key': crypto.randomUUID() };
        const leave = new AbortController();
        const body = { prompt: 'x', model: 'slow' };
        const before = ollama.executions('slow');
        const first = ask('/text/gen', { ...post(body, { headers }), signal: leave.signal }).catch(() => undefined);
        await eventually('it runs', () => ollama.executions('slow') > before);
        const second = await ask('/text/gen', post(body, { headers }));
        expect([second.status, await code(second)]).toEqual([409, 'idempotency_running']);
        expect(Number(second.headers.get('retry-after'))).toBeGreaterThan(0);
        leave.abort();
        await first;
      });

      it('a job that ended badly is the answer: it is not run again', async () => {
        const headers = { 'idempotency-key': crypto.randomUUID(), prefer: 'wait=30' };
        const before = ollama.executions('errorline');
        const first = await ask('/text/gen', post({ prompt: 'x', model: 'errorline' }, { headers }));
        expect(first.headers.get('x-job-id')).toMatch(/^job_/);
        const again = await ask('/text/gen', post({ prompt: 'x', model: 'errorline' }, { headers }));
        expect([again.status, await again.text()]).toEqual([first.status, await first.text()]);
        expect(ollama.executions('errorline') - before).toBe(1);
      });

      it('what was refused before any work does not use the key up', async () => {
        const headers = { 'idempotency-key': crypto.randomUUID() };
        expect((await ask('/text/gen', post({ prompt: 7 }, { headers }))).status).toBe(400);
        expect((await ask('/text/gen', post({ prompt: 'x', model: 'echo' }, { headers }))).status).toBe(200);
      });
    });

    describe('a job', () => {
      it('that waits, runs, has ended, is another’s or nobody’s: cancel says 200, 200, 409, 404, 404', async () => {
        const cancel = (id: string, caller: Caller = 'alice') => ask(`/jobs/${id}`, { method: 'DELETE' }, caller);
        const waiting = await read<Job>(await submit({ prompt: 'x', job: { delay_s: 600 } }));
        expect(await (await cancel(waiting.id)).json()).toMatchObject({ state: 'cancelled', attempts: 0 });
        const before = ollama.executions('slow');
        const running = await read<Job>(await submit({ model: 'slow', prompt: 'x' }));
        await eventually('it runs', () => ollama.executions('slow') > before);
        const aborts = ollama.aborts();
        expect((await cancel(running.id)).status).toBe(200);
        await eventually('the runtime was stopped', () => ollama.aborts() === aborts + 1);
        const ended = await until(running.id, 'cancelled');
        expect(ended.error).toMatchObject({ code: 'cancelled' });
        const late = await cancel(running.id);
        expect([late.status, await code(late)]).toEqual([409, 'conflict']);
        const foreign = await cancel(running.id, 'bob');
        const unknown = await cancel('job_00000000000000000000000000000000', 'bob');
        expect([foreign.status, unknown.status]).toEqual([404, 404]);
        const text = async (response: Response) => (await response.text()).replace(/req_\w+/, '');
        expect(await text(foreign)).toBe(await text(unknown));
      });

      it('that failed says why, and can be tried again', async () => {
        const job = await read<Job>(await submit({ model: 'errorline', prompt: 'x' }));
        const failed = await until(job.id, 'failed');
        expect(failed.error).toMatchObject({ code: 'upstream_error', source: 'ollama' });
        expect(failed.attempts).toBe(1);
        const again = await ask(`/jobs/${job.id}/retry`, { method: 'POST' });
        expect(again.status).toBe(202);
        await until(job.id, 'failed');
        const done = await read<Job>(await submit({ prompt: 'x' }));
        await until(done.id, 'done');
        expect((await ask(`/jobs/${done.id}/retry`, { method: 'POST' })).status).toBe(409);
      });

      it('whose runtime breaks off is tried again, its attempts counted', { timeout: 30_000 }, async () => {
        const before = ollama.executions('reset');
        const job = await read<Job>(await submit({ model: 'reset', prompt: 'x', job: { max_attempts: 2 } }));
        const failed = await until(job.id, 'failed', 20_000);
        expect(failed).toMatchObject({ attempts: 2, error: { code: 'upstream_terminated' } });
        expect(ollama.executions('reset') - before).toBe(2);
      });

      it('whose runtime is down waits for it', { timeout: 30_000 }, async () => {
        const job = await read<Job>(await submit({ model: 'late/absent', prompt: 'x' }));
        await new Promise((resolve) => setTimeout(resolve, 500));
        expect((await get(job.id)).state).toMatch(/queued|running/);
        expect((await get(job.id)).attempts).toBeLessThanOrEqual(1);
        expect((await ask(`/jobs/${job.id}`, { method: 'DELETE' })).status).toBe(200);
      });

      it('that takes longer than it may is stopped', async () => {
        const aborts = ollama.aborts();
        const job = await read<Job>(await submit({ model: 'slow', prompt: 'x', job: { timeout_s: 0.5 } }));
        expect((await until(job.id, 'failed')).error).toMatchObject({ code: 'timed_out' });
        await eventually('the runtime was stopped', () => ollama.aborts() > aborts);
      });

      it('with a delay does not start early', async () => {
        const begun = performance.now();
        const job = await read<Job>(await submit({ prompt: 'x', job: { delay_s: 0.6 } }));
        await until(job.id, 'done');
        expect(performance.now() - begun).toBeGreaterThan(590);
      });

      it('is forgotten when asked, once it has ended', async () => {
        const job = await read<Job>(await submit({ prompt: 'x' }));
        await until(job.id, 'done');
        expect((await ask(`/jobs/${job.id}?purge=true`, { method: 'DELETE' })).status).toBe(200);
        expect((await ask(`/jobs/${job.id}`)).status).toBe(404);
      });

      it('with an explicit seed is answered from memory, unless that is not wanted', async () => {
        const body = { prompt: 'memory', seed: 77 };
        const first = await until((await read<Job>(await submit(body))).id, 'done');
        const before = ollama.executions('echo');
        const hit = await read<Job>(await submit(body));
        expect(hit).toMatchObject({ state: 'done', cached: true });
        expect((await get(hit.id)).result).toEqual(first.result);
        expect(ollama.executions('echo')).toBe(before);
        const bobs = await read<Job>(await submit(body, {}, 'bob'));
        expect(bobs.cached).toBe(false);
        const fresh = await read<Job>(await submit(body, { 'cache-control': 'no-cache' }));
        expect((await until(fresh.id, 'done')).cached).toBe(false);
      });
    });

    describe('GET /jobs', () => {
      it('pages through one’s own, newest first, without payloads', async () => {
        const made: string[] = [];
        for (let n = 0; n < 7; n++) {
          made.unshift((await read<Job>(await submit({ prompt: `n${n}`, job: { delay_s: 900 } }, {}, 'bob'))).id);
        }
        const seen: string[] = [];
        let cursor: string | null = null;
        do {
          const query: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
          const page = await read<{
            data: (Job & { input?: unknown })[];
            has_more: boolean;
            next_cursor: string | null;
          }>(await ask(`/jobs?state=queued&limit=3${query}`, {}, 'bob'));
          for (const job of page.data) {
            expect(job.result).toBeUndefined();
            expect(JSON.stringify(job)).not.toContain('prompt');
            seen.push(job.id);
          }
          cursor = page.next_cursor;
          expect(page.has_more).toBe(cursor !== null);
        } while (cursor !== null);
        expect(seen).toEqual(made);
        for (const id of made) await ask(`/jobs/${id}`, { method: 'DELETE' }, 'bob');
      });

      it('refuses filters and cursors that mean nothing', async () => {
        expect((await ask('/jobs?state=sleeping')).status).toBe(400);
        expect((await ask('/jobs?limit=1000')).status).toBe(400);
        expect((await ask('/jobs?cursor=!!')).status).toBe(400);
      });
    });

    describe('events', () => {
      it('tell a job from its beginning to its end, and end', async () => {
        const job = await read<Job>(await submit({ prompt: 'Hello', job: { delay_s: 0.3 } }));
        const events = await readEventStream(await ask(`/jobs/${job.id}/events`));
        const types = events.map(({ event }) => event);
        expect(types[0]).toBe('job:queued');
        expect(types).toContain('job:running');
        expect(types.at(-1)).toBe('job:done');
        expect(types.filter((type) => type === 'job:done')).toHaveLength(1);
      });

      it('of an ended job: its end, once', async () => {
        const job = await read<Job>(await submit({ prompt: 'Hello' }));
        await until(job.id, 'done');
        const events = await readEventStream(await ask(`/jobs/${job.id}/events`));
        expect(events.map(({ event }) => event)).toEqual(['job:done']);
      });

      it('of another’s job: 404', async () => {
        const job = await read<Job>(await submit({ prompt: 'Hello' }));
        expect((await ask(`/jobs/${job.id}/events`, {}, 'bob')).status).toBe(404);
      });
    });

    describe('batches', () => {
      interface Batch {
        id: string;
        state: string;
        total: number;
        counts: Record<string, number>;
      }
      const batch = (body: object) => ask('/jobs/batch', post({ capability: 'text.generate', ...body }));
      const find = async (id: string) => read<Batch>(await ask(`/jobs/batches/${id}`));

      it('run many inputs under one handle', async () => {
        const inputs = Array.from({ length: 12 }, (_, n) => ({ prompt: `part ${n}` }));
        const response = await batch({ inputs, defaults: { model: 'echo' } });
        expect(response.status).toBe(202);
        const { id, total } = await read<Batch>(response);
        expect(total).toBe(12);
        let now = await find(id);
        for (let n = 0; n < 400 && now.state === 'running'; n++) {
          await new Promise((resolve) => setTimeout(resolve, 25));
          now = await find(id);
        }
        expect(now).toMatchObject({ state: 'done', counts: { done: 12, failed: 0, queued: 0 } });
        const page = await read<{ data: Job[] }>(await ask(`/jobs?batch=${id}&limit=100`));
        expect(page.data.map(({ index }) => index).toSorted((a, b) => a! - b!)).toEqual(inputs.map((_, n) => n));
      });

      it('take all inputs or none, and say which is wrong', async () => {
        const response = await batch({ inputs: [{ prompt: 'good' }, { prompt: 7 }] });
        expect(response.status).toBe(400);
        expect((await read<{ error: { param: string } }>(response)).error.param).toBe('inputs.1.prompt');
      });

      it('are cancelled as a whole', async () => {
        const inputs = Array.from({ length: 20 }, (_, n) => ({ prompt: `${n}`, model: 'echo' }));
        const { id } = await read<Batch>(await batch({ inputs, job: { delay_s: 600 } }));
        const cancelled = await read<Batch>(await ask(`/jobs/batches/${id}`, { method: 'DELETE' }));
        expect(cancelled.counts).toMatchObject({ cancelled: 20, queued: 0 });
        expect((await ask(`/jobs/batches/${id}`, {}, 'bob')).status).toBe(404);
      });
    });
  });
}

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
