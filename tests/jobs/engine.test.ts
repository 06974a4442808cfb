// The engine on the real store: leases, rescue, poison, deadlines, shutdown, and a store that fails at the wrong moment.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { toUsage } from '../../src/capabilities/text/fields.ts';
import { followJob } from '../../src/jobs/follow.ts';
import { GatewayError } from '../../src/error.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { createScripted } from '../support/scripted-runtime.ts';
import { createJobsFolder, openJobs } from '../support/open-jobs.ts';
import { eventually } from '../support/eventually.ts';
import { noJobFiles } from '../support/no-files.ts';

let folder: ReturnType<typeof createJobsFolder>;
beforeEach(() => void (folder = createJobsFolder()));
afterEach(() => folder.remove());

const quick = () => createScripted({ generate: () => ({ text: 'done well' }) });

/** Answers when told to; ends with its signal. */
function held() {
  const waiting: (() => void)[] = [];
  let aborts = 0;
  const runtime = createScripted({
    generate: (_, { signal }) =>
      new Promise((resolve, reject) => {
        waiting.push(() => resolve({ text: 'at last' }));
        signal.addEventListener('abort', () => {
          aborts++;
          reject(new GatewayError('client_closed', 'stopped'));
        });
      }),
  });
  return { runtime, release: () => waiting.splice(0).forEach((go) => go()), aborts: () => aborts };
}

function createFileMaker() {
  let runs = 0;
  const adapter: RuntimeAdapter = {
    name: 'maker',
    priority: 1,
    models: async () => [{ id: 'maker', capabilities: ['text.generate'], state: 'ready' }],
    health: async () => {},
    handles: {
      async *'text.generate'() {
        runs++;
        const result = { text: 'made', finish_reason: 'stop' as const, usage: toUsage(1, 1) };
        yield { type: 'result', result, files: [{ bytes: new Uint8Array([1, 2, 3]) }] };
      },
    },
  };
  return { adapter, runs: () => runs };
}

describe('an attempt', () => {
  it('is on disk before the runtime is asked', async () => {
    let attempts = -1;
    const opened = await openJobs(folder, [
      createScripted({
        generate: async () => {
          attempts = (await opened.store.jobs.running())[0]!.attempts;
          return { text: 'x' };
        },
      }),
    ]);
    await opened.jobs.start();
    const { id } = await opened.submit();
    await opened.until(id, 'done');
    expect(attempts).toBe(1);
  });

  it('of a worker that is gone is made again by another, and counted', async () => {
    const opened = await openJobs(folder, [quick()], { concurrency: 0, isAlive: () => false });
    const { id } = await opened.submit();
    await opened.store.jobs.claim('a worker that died', Date.now());
    await opened.close();
    const next = await openJobs(folder, [quick()], { isAlive: (worker) => worker !== 'a worker that died' });
    await next.jobs.start();
    expect(await next.until(id, 'done')).toMatchObject({ attempts: 2 });
  });

  it('whose worker is silent for a lease is given away; what the first one says later is refused', async () => {
    const opened = await openJobs(folder, [quick()]);
    const { id } = await opened.submit();
    const stolen = (await opened.store.jobs.claim('a worker that sleeps', Date.now()))!;
    await opened.jobs.start();
    await opened.until(id, 'done');
    expect(await opened.store.jobs.finish(stolen, { state: 'done', at: Date.now(), result: { text: 'late' } })).toBe(
      false,
    );
    expect((await opened.jobs.get('owner', id)).result).toMatchObject({ text: 'done well' });
    expect(opened.events.filter(({ type }) => type === 'job:done')).toHaveLength(1);
  });

  it('whose worker gives signs of life is left alone', async () => {
    const opened = await openJobs(folder, [quick()]);
    const { id } = await opened.submit();
    const other = (await opened.store.jobs.claim('a slow worker', Date.now()))!;
    await opened.jobs.start();
    for (let n = 0; n < 10; n++) {
      await new Promise((resolve) => setTimeout(resolve, 80));
      await opened.store.jobs.beat([other]);
    }
    expect(await opened.jobs.get('owner', id)).toMatchObject({ state: 'running', attempts: 1 });
  });

  it('that kills its process every time ends as poisoned', async () => {
    const opened = await openJobs(folder, [quick()], { isAlive: () => false, attempts: 2 });
    const { id } = await opened.submit();
    for (let n = 0; n < 2; n++) {
      const job = (await opened.store.jobs.claim('a worker that dies', Date.now()))!;
      await opened.store.jobs.requeue(job, { runAt: Date.now() });
    }
    await opened.jobs.start();
    const failed = await opened.until(id, 'failed');
    expect(failed.error).toMatchObject({ code: 'poisoned' });
    expect(opened.gateway.active()).toBe(0);
  });

  it('loses its lease → the runtime is stopped and nothing is written', async () => {
    const slow = held();
    const opened = await openJobs(folder, [slow.runtime]);
    await opened.jobs.start();
    const { id } = await opened.submit();
    await opened.until(id, 'running');
    const record = (await opened.store.jobs.get(id))!;
    await opened.store.jobs.requeue(record, { runAt: Date.now() + 60_000 });
    await eventually('the runtime was stopped', () => slow.aborts() === 1);
    expect((await opened.jobs.get('owner', id)).state).toBe('queued');
  });
});

describe('failures', () => {
  it('before any work → it waits, the attempt taken back', async () => {
    let down = true;
    const runtime = createScripted({ generate: () => ({ text: 'up again' }), down: () => down });
    const opened = await openJobs(folder, [runtime]);
    await opened.jobs.start();
    const { id } = await opened.submit({ model: 'scripted/script' });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await opened.jobs.get('owner', id)).toMatchObject({ attempts: expect.any(Number), error: null });
    expect((await opened.jobs.get('owner', id)).state).not.toBe('failed');
    down = false;
    expect(await opened.until(id, 'done', 8000)).toMatchObject({ attempts: 1 });
  });

  it('ends at once where somebody waits for the answer', async () => {
    const runtime = createScripted({ generate: () => ({ text: 'never' }), down: () => true });
    const opened = await openJobs(folder, [runtime]);
    const { job } = await opened.jobs.submit({
      owner: 'owner',
      capability: 'text.generate',
      input: { prompt: 'x', model: 'scripted/script' },
      awaited: true,
    });
    await opened.jobs.start();
    const ended = await opened.jobs.wait('owner', job.id, 5000);
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'upstream_unavailable' } });
  });

  it('waits again where nobody waits for it any more: it was tried anew later', async () => {
    let down = true;
    const runtime = createScripted({ generate: () => ({ text: 'up again' }), down: () => down });
    const opened = await openJobs(folder, [runtime]);
    await opened.jobs.start();
    const { id } = await opened.submit({ model: 'scripted/script' }, { awaited: true });
    await opened.until(id, 'failed');
    await new Promise((resolve) => setTimeout(resolve, 5));
    await opened.jobs.retry('owner', id);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await opened.jobs.get('owner', id)).state).not.toBe('failed');
    down = false;
    expect(await opened.until(id, 'done', 8000)).toMatchObject({ attempts: 1 });
  });

  it('of the request itself → failed at once, not tried again', async () => {
    const runtime = createScripted({
      generate: () => {
        throw new GatewayError('context_length_exceeded', 'Too long.', { source: 'scripted' });
      },
    });
    const opened = await openJobs(folder, [runtime]);
    await opened.jobs.start();
    const { id } = await opened.submit();
    expect(await opened.until(id, 'failed')).toMatchObject({
      attempts: 1,
      error: { code: 'context_length_exceeded', source: 'scripted' },
    });
    expect(runtime.generations).toHaveLength(1);
  });

  it('of the store at the end → the result is kept and written when it can be', async () => {
    const opened = await openJobs(folder, [quick()]);
    const finish = opened.store.jobs.finish;
    let refusals = 1;
    opened.store.jobs.finish = async (...args) => {
      if (refusals-- > 0) throw new GatewayError('storage_unavailable', 'The store is away.');
      return finish(...args);
    };
    await opened.jobs.start();
    const { id } = await opened.submit();
    expect(await opened.until(id, 'done')).toMatchObject({ attempts: 1 });
    expect(opened.warnings).toContain('the end of a job cannot be written');
  });
});

describe('what was made while the store was away', () => {
  it('is kept when it is back, without being made again', async () => {
    const runtime = quick();
    const opened = await openJobs(folder, [runtime]);
    const finish = opened.store.jobs.finish;
    const told = opened.announced;
    let away = 2;
    opened.store.jobs.finish = async (...args) => {
      if (away-- > 0) throw new GatewayError('storage_unavailable', 'The store is away.');
      return finish(...args);
    };
    await opened.jobs.start();
    const { id } = await opened.submit();
    expect(await opened.until(id, 'done', 8000)).toMatchObject({ attempts: 1 });
    expect(runtime.generations).toHaveLength(1);
    expect((await opened.store.documents.list('told', { limit: 10 })).documents).toHaveLength(1);
    expect(told.length).toBeGreaterThan(1);
  });

  it('and its files, too', async () => {
    const runtime = createFileMaker();
    let away = 2;
    const opened = await openJobs(folder, [runtime.adapter], {
      files: {
        ...noJobFiles,
        stage: async (files) => {
          if (away-- > 0) throw new GatewayError('storage_unavailable', 'The bucket is away.');
          return { artifacts: [], puts: [{ kind: 'kept', id: 'k', owner: 'owner', value: files.length }] };
        },
        views: async () => [],
        share: async (_, ids) => ({ ids, puts: [] }),
      },
    });
    await opened.jobs.start();
    const { id } = await opened.submit();
    expect(await opened.until(id, 'done', 8000)).toMatchObject({ attempts: 1 });
    expect(runtime.runs()).toBe(1);
    expect((await opened.store.documents.get('kept', 'k'))?.value).toBe(1);
  });
});

describe('time', () => {
  it('a job that is not started in time has failed, and the owner is told', async () => {
    const opened = await openJobs(folder, [quick()], {
      concurrency: 0,
      limits: { queue: 200, run: 60_000, total: 60_000 },
    });
    await opened.jobs.start();
    const { id } = await opened.submit();
    expect(await opened.until(id, 'failed')).toMatchObject({ attempts: 0, error: { code: 'timed_out' } });
    expect(opened.announced.map(({ type }) => type)).toEqual(['job.failed']);
  });

  it('an ended job is forgotten after its time', async () => {
    let now = Date.now();
    const opened = await openJobs(folder, [quick()], { now: () => now });
    await opened.jobs.start();
    const { id } = await opened.submit();
    await opened.until(id, 'done');
    now += 61_000;
    await opened.close();
    const next = await openJobs(folder, [quick()], { now: () => now });
    expect(await next.store.jobs.sweep(now - 60_000, 10)).toEqual([id]);
  });
});

describe('a shutdown', () => {
  it('stops the runtime and puts the job back, its attempt not counted', async () => {
    const slow = held();
    const opened = await openJobs(folder, [slow.runtime]);
    await opened.jobs.start();
    const { id } = await opened.submit();
    await opened.until(id, 'running');
    await opened.close();
    expect(slow.aborts()).toBe(1);
    const next = await openJobs(folder, [quick()]);
    expect(await next.jobs.get('owner', id)).toMatchObject({ state: 'queued', attempts: 0 });
    await next.jobs.start();
    expect(await next.until(id, 'done')).toMatchObject({ attempts: 1 });
  });
});

describe('callers', () => {
  it('with few jobs do not wait behind one with many', async () => {
    const order: string[] = [];
    const runtime = createScripted({
      generate: ({ prompt }) => {
        order.push(prompt);
        return { text: 'x' };
      },
    });
    const opened = await openJobs(folder, [runtime], { concurrency: 1 });
    for (let n = 0; n < 10; n++) await opened.submit({ prompt: 'many' }, { owner: 'many' });
    for (let n = 0; n < 2; n++) await opened.submit({ prompt: 'few' }, { owner: 'few' });
    await opened.jobs.start();
    await eventually('all ran', () => order.length === 12);
    expect(order.slice(0, 5).filter((who) => who === 'few')).toHaveLength(2);
  });

  it('have a limit of waiting jobs of their own', async () => {
    const opened = await openJobs(folder, [quick()], { maxQueued: 2, concurrency: 0 });
    await opened.submit();
    await opened.submit();
    await expect(opened.submit()).rejects.toMatchObject({ code: 'rate_limited' });
    await expect(opened.submit({}, { owner: 'another' })).resolves.toMatchObject({ state: 'queued' });
  });

  it('learn position and time left', async () => {
    const opened = await openJobs(folder, [quick()], { concurrency: 1 });
    await opened.jobs.start();
    await opened.until((await opened.submit()).id, 'done');
    await opened.close();
    const waiting = await openJobs(folder, [quick()], { concurrency: 1 });
    const first = await waiting.submit();
    const second = await waiting.submit();
    expect((await waiting.jobs.get('owner', first.id)).position).toBe(1);
    expect((await waiting.jobs.get('owner', second.id)).position).toBe(2);
  });
});

describe('memory', () => {
  it('answers what has an explicit seed, of the same caller only', async () => {
    const runtime = quick();
    const opened = await openJobs(folder, [runtime]);
    await opened.jobs.start();
    await opened.until((await opened.submit({ seed: 1 }, { reuse: true })).id, 'done');
    const again = await opened.submit({ seed: 1 }, { reuse: true });
    expect(again).toMatchObject({ state: 'done', cached: true });
    expect((await opened.jobs.get('owner', again.id)).result).toMatchObject({ text: 'done well' });
    expect((await opened.submit({ seed: 1 }, { reuse: true, owner: 'another' })).cached).toBe(false);
    expect((await opened.submit({ seed: 2 }, { reuse: true })).cached).toBe(false);
    expect((await opened.submit({}, { reuse: true })).cached).toBe(false);
    await eventually('all ran', () => runtime.generations.length === 4);
  });
});

describe('whoever waits', () => {
  it('hears of the end although another process worked on it', async () => {
    const waiting = await openJobs(folder, [quick()], { concurrency: 0 });
    const { id } = await waiting.submit({});
    const told: string[] = [];
    const followed = (async () => {
      for await (const step of followJob(waiting, 'owner', id, AbortSignal.timeout(10_000))) told.push(step.type);
    })();
    const ended = waiting.jobs.wait('owner', id, 10_000);
    const working = await openJobs(folder, [quick()]);
    await working.jobs.start();
    expect(await ended).toMatchObject({ state: 'done' });
    await followed;
    expect(told.at(-1)).toBe('ended');
  });
});
