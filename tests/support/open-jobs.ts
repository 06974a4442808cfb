// A job engine over the real store and scripted runtimes, without HTTP: as many of them on one file as a test wants.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { openHub } from '../../src/hub.ts';
import { createJobs, type JobsOptions } from '../../src/jobs/jobs.ts';
import type { JobView } from '../../src/jobs/view.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import type { Happening, Put } from '../../src/store.ts';
import { openScripted } from './open-scripted.ts';
import { noJobFiles } from './no-files.ts';

export function createJobsFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-jobs-'));
  const open: (() => Promise<void>)[] = [];
  return {
    path: join(folder, 'jobs.db'),
    onClose: (close: () => Promise<void>) => void open.push(close),
    async remove() {
      for (const close of open) await close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export async function openJobs(
  folder: ReturnType<typeof createJobsFolder>,
  runtimes: RuntimeAdapter[],
  options: Partial<JobsOptions> = {},
) {
  const store = await openSqliteStore({ path: folder.path });
  const { gateway } = openScripted(runtimes);
  const now = options.now ?? Date.now;
  const hub = await openHub({ spine: store.spine, window: 1000, now });
  const events: Happening[] = [];
  store.spine.subscribe((_, event) => events.push(event));
  const announced: { type: string; owner: string; data: Record<string, unknown> }[] = [];
  const warnings: string[] = [];
  const jobs = createJobs({
    store,
    gateway,
    hub,
    files: {
      ...noJobFiles,
      stage: async () => ({ artifacts: [], puts: [] }),
      views: async () => [],
      share: async (_, ids) => ({ ids, puts: [] }),
    },
    hooks: {
      announce: async (event): Promise<Put[]> => {
        announced.push(event);
        const id = `msg_${crypto.randomUUID()}`;
        return [{ kind: 'told', id, owner: event.owner, value: event.type }];
      },
      check: (url) => url,
      wake: () => {},
    },
    worker: `test ${crypto.randomUUID()}`,
    isAlive: () => undefined,
    concurrency: 2,
    attempts: 3,
    limits: { queue: 60_000, run: 60_000, total: 600_000 },
    leaseMs: 300,
    keepMs: 60_000,
    maxQueued: 1000,
    memory: 'caller',
    now,
    onSweep: async () => {},
    warn: (message) => void warnings.push(message),
    ...options,
  });
  let closed = false;
  const close = async () => {
    if (closed) return;
    closed = true;
    await jobs.stop();
    hub.close();
    await store.close();
  };
  folder.onClose(close);
  const submit = async (input: Record<string, unknown> = {}, more: object = {}) =>
    (
      await jobs.submit({
        owner: 'owner',
        capability: 'text.generate',
        input: { prompt: 'Hello', ...input },
        ...more,
      })
    ).job;
  return {
    store,
    jobs,
    gateway,
    hub,
    events,
    announced,
    warnings,
    submit,
    close,
    until: async (id: string, state: JobView['state'], ms = 5000): Promise<JobView> => {
      const end = performance.now() + ms;
      for (;;) {
        const job = await jobs.get('owner', id);
        if (job.state === state) return job;
        if (performance.now() > end) throw new Error(`${job.state}, not ${state}: ${JSON.stringify(job.error)}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
  };
}
