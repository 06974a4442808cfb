// What every host must keep about pulls: one download for all, bytes told as they come, and only those who may stop it do.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readEventStream } from '../support/event-stream.ts';
import { post, type GatewayOptions, type TestGateway } from '../support/gateway.ts';
import { openLibrary, SIZE, type Library } from '../support/open-library.ts';

interface Job {
  id: string;
  state: string;
  model: string | null;
  runtime: string | null;
  progress: { percent: number; done?: number; total?: number; message?: string } | null;
  result?: { files: { name: string; size?: number }[]; already: boolean };
  error: { code: string } | null;
}

interface Pull {
  id: string;
  model: string;
  state: string;
  callers: number;
  done: number;
}

export function testPulls(name: string, open: (options: GatewayOptions) => Promise<TestGateway>): void {
  describe(`pulls: ${name}`, () => {
    let library: Library;
    let gateway: TestGateway;
    beforeAll(async () => {
      library = await openLibrary();
      gateway = await open(library.options);
    });
    afterAll(async () => {
      await gateway?.close();
      await library?.close();
    });

    const read = async <T>(path: string, init?: RequestInit) => (await (await gateway.request(path, init)).json()) as T;
    const pull = (body: object, init: RequestInit = {}) => gateway.request('/models/pull', post(body, init));
    const start = async (model: string) => (await (await pull({ model })).json()) as Job;
    const pullOf = async (model: string) =>
      (await read<{ data: Pull[] }>('/models/pulls')).data.find((each) => each.model === model);

    async function until<T>(what: string, look: () => Promise<T>, enough: (seen: T) => boolean): Promise<T> {
      const end = performance.now() + 15_000;
      for (;;) {
        const seen = await look();
        if (enough(seen)) return seen;
        if (performance.now() > end) throw new Error(`not in time: ${what}; ${JSON.stringify(seen)}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    const ended = (id: string) =>
      until(
        `the end of ${id}`,
        () => read<Job>(`/jobs/${id}`),
        ({ state }) => ['done', 'failed', 'cancelled'].includes(state),
      );
    const coming = (digest: string) =>
      until(
        'bytes',
        async () => library.come(digest),
        (bytes) => bytes > SIZE / 10,
      );

    it('a job at once, and in the end a model that answers', async () => {
      const { model } = library.publish();
      const response = await pull({ model });
      expect(response.status).toBe(202);
      const { id } = (await response.json()) as Job;
      expect(response.headers.get('location')).toBe(`/jobs/${id}`);
      expect(await ended(id)).toMatchObject({ state: 'done', model, runtime: 'ollama', result: { already: false } });
      const answer = await gateway.request('/text/gen', post({ prompt: 'hi', model }));
      expect(answer.status).toBe(200);
      const again = await pull({ model }, { headers: { prefer: 'wait=20' } });
      expect([again.status, ((await again.json()) as { already: boolean }).already]).toEqual([200, true]);
    });

    it('20 ask, one download comes; the bytes are told, and one that is cancelled is missed by nobody', async () => {
      const { model, digest } = library.publish();
      library.slowly();
      const jobs = await Promise.all(Array.from({ length: 20 }, () => start(model)));
      await coming(digest);
      await until(
        'all wait',
        () => pullOf(model),
        (seen) => seen?.callers === 20,
      );
      const { id } = jobs[0]!;
      const told = await until(
        'bytes are told',
        () => read<Job>(`/jobs/${id}`),
        ({ progress }) => (progress?.done ?? 0) > 0,
      );
      expect(told.progress!.total).toBeGreaterThanOrEqual(SIZE);
      await gateway.request(`/jobs/${id}`, { method: 'DELETE' });
      expect(await ended(id)).toMatchObject({ state: 'cancelled' });
      expect(await pullOf(model)).toMatchObject({ callers: 19, state: 'running' });
      library.hurry();
      for (const job of jobs.slice(1)) expect((await ended(job.id)).state).toBe('done');
      expect(library.downloads(digest)).toBe(1);
    });

    it('events tell it to its end, and who leaves them stops nothing', async () => {
      const { model, digest } = library.publish();
      library.slowly();
      const gone = new AbortController();
      const left = await pull({ model, stream: true }, { signal: gone.signal });
      await readEventStream(left, (events) => events.some(({ event }) => event === 'progress'));
      await coming(digest);
      gone.abort();
      const stays = await pull({ model }, { headers: { accept: 'text/event-stream' } });
      await until(
        'only both jobs wait',
        () => pullOf(model),
        (seen) => seen?.callers === 2,
      );
      library.hurry();
      const events = await readEventStream(stays);
      const progress = events
        .filter(({ event }) => event === 'progress')
        .map(({ data }) => JSON.parse(data) as Job['progress']);
      expect(progress.at(-1)).toMatchObject({ percent: 100 });
      expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ model, runtime: 'ollama', already: false });
      expect((await ended(left.headers.get('x-job-id')!)).state).toBe('done');
      expect(library.downloads(digest)).toBe(1);
    });

    it('paused it waits, resumed it goes on where it was, cancelled it ends for all', async () => {
      const { model, digest } = library.publish();
      library.slowly();
      const job = await start(model);
      await coming(digest);
      const { id } = (await pullOf(model))!;
      const paused = await read<Pull>(`/models/pulls/${id}/pause`, { method: 'POST' });
      expect(paused).toMatchObject({ state: 'paused', callers: 1 });
      let before = -1;
      await until(
        'it stands still',
        async () => {
          await new Promise((resolve) => setTimeout(resolve, 100));
          return [before, (before = library.come(digest))];
        },
        ([last, now]) => last === now,
      );
      library.hurry();
      expect((await read<Job>(`/jobs/${job.id}`)).state).toBe('running');
      await gateway.request(`/models/pulls/${id}/resume`, { method: 'POST' });
      expect((await ended(job.id)).state).toBe('done');

      const other = library.publish();
      library.slowly();
      const jobs = [await start(other.model), await start(other.model)];
      await coming(other.digest);
      const cancelled = await pullOf(other.model);
      expect((await gateway.request(`/models/pulls/${cancelled!.id}`, { method: 'DELETE' })).status).toBe(200);
      for (const each of jobs) expect(await ended(each.id)).toMatchObject({ state: 'cancelled' });
      library.hurry();
      expect(await pullOf(other.model)).toBeUndefined();
    });

    it('what the library does not have fails, and says so', async () => {
      const { id } = await start('not-there:1b');
      expect(await ended(id)).toMatchObject({ state: 'failed', error: { code: 'model_not_found' } });
    });
  });
}
