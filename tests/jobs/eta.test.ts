// When jobs will be done: while they wait for a place, while they wait for the card, and while they work.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createEstimates, remaining } from '../../src/jobs/estimate.ts';
import { createProgressMeter } from '../../src/jobs/progress.ts';
import { createTeller } from '../../src/jobs/tell.ts';
import type { Work } from '../../src/jobs/perform.ts';
import type { JobView } from '../../src/jobs/view.ts';
import type { GpuTenant } from '../../src/runtime.ts';
import type { JobHead } from '../../src/store.ts';
import { eventually } from '../support/eventually.ts';
import { createJobsFolder, openJobs } from '../support/open-jobs.ts';
import { createScripted } from '../support/scripted-runtime.ts';

let folder: ReturnType<typeof createJobsFolder>;
beforeEach(() => void (folder = createJobsFolder()));
afterEach(() => folder.remove());

/** Runs that end when they are told to, one at a time on a card. */
function createHeldOnCard() {
  const ends: (() => void)[] = [];
  const gpu: GpuTenant = { footprint: () => 1, slots: { model: 1 }, residents: async () => [], evict: async () => {} };
  const runtime = createScripted({
    gpu,
    generate: (_, { signal }) =>
      new Promise((resolve, reject) => {
        ends.push(() => resolve({ text: 'done' }));
        signal.addEventListener('abort', () => reject(signal.reason));
      }),
  });
  return { runtime, ends };
}

describe('a job that has a place and waits for the card', () => {
  it('is told what the card says, less and less of it, also to whoever watches', async () => {
    const { runtime, ends } = createHeldOnCard();
    const { jobs, submit, until, events, store } = await openJobs(folder, [runtime], { concurrency: 2 });
    await jobs.start();
    const first = await submit();
    await eventually('it runs', () => ends.length === 1);
    // Turns are not foreseen anew with every arrival.
    await new Promise((resolve) => setTimeout(resolve, 600));
    const second = await submit();
    const etaOf = async () => (await jobs.get('owner', second.id)).eta_s;
    await vi.waitFor(async () => expect(await etaOf()).not.toBeNull(), 20_000);
    // What is left of the first, and all of itself: nothing of either was seen yet, so both are guesses of 8 s.
    const early = (await etaOf())!;
    expect(early).toBeGreaterThan(8);
    expect(early).toBeLessThanOrEqual(17);
    const told = events.filter(({ type, job }) => type === 'job:progress' && job === second.id);
    expect(told.map(({ data }) => data['eta_s'])).toContainEqual(expect.any(Number));
    await vi.waitFor(async () => expect(await etaOf()).toBeLessThan(early), 20_000);
    ends[0]!();
    await until(first.id, 'done');
    await eventually('the second runs', () => ends.length === 2);
    ends[1]!();
    expect((await until(second.id, 'done')).eta_s).toBeNull();
    await jobs.stop();
    // A round of sweeping, or the end, writes what was learned.
    const { documents } = await store.documents.list('timing-job', { limit: 10 });
    expect(documents.map(({ id }) => id)).toContain('["work","text.generate","script"]');
  });
});

describe('a job that waits for a place', () => {
  const job = (more: Partial<JobHead> = {}): JobHead => ({
    id: 'job',
    owner: 'owner',
    capability: 'image.generate',
    model: 'sdxl',
    priority: 'normal',
    state: 'queued',
    createdAt: 0,
    since: 0,
    runAt: 0,
    attempts: 0,
    maxAttempts: 3,
    limits: { queue: 1, run: 1, total: 1 },
    fence: 0,
    beat: 0,
    notes: {},
    ...more,
  });

  /** `left` is of those that run, in seconds. */
  function openTeller(position: number, left: (number | undefined)[], { concurrency = 2, now = 0 } = {}) {
    const estimates = createEstimates(undefined);
    const files = { views: async () => [] };
    const working = left.map((eta): Work => {
      const meter = createProgressMeter(() => 0);
      meter.status({ type: 'status', state: 'queued', ...(eta === undefined ? {} : { eta }) });
      return {
        job: job({ state: 'running' }) as Work['job'],
        meter,
        abort: new AbortController(),
        done: Promise.resolve(),
      };
    });
    const worker = { live: () => undefined, working: () => working };
    const store = { jobs: { position: async () => position } };
    const tell = createTeller({ store, files, worker, estimates, concurrency, now: () => now });
    return { estimates, etaOf: async (of: JobHead = job()): Promise<JobView['eta_s']> => (await tell(of)).eta_s };
  }

  const sdxl = { capability: 'image.generate', model: 'sdxl' };

  it('is told nothing while nothing was seen', async () => {
    expect(await openTeller(1, []).etaOf()).toBeNull();
  });

  it('takes what its like takes, where a place is free', async () => {
    const { estimates, etaOf } = openTeller(1, [50]);
    estimates.learn(sdxl, { workMs: 10_000, heldMs: 30_000 });
    expect(await etaOf()).toBe(10);
    expect(await etaOf(job({ model: 'flux' }))).toBe(10);
    expect(await etaOf(job({ capability: 'music.generate' }))).toBe(10);
    expect(await etaOf(job({ capability: 'model.pull' }))).toBeNull();
    expect(await etaOf(job({ runAt: 20_000 }))).toBe(30);
  });

  it('waits for the first of those that run, then for what waits before it, then as they do', async () => {
    const learn = async (position: number) => {
      const { estimates, etaOf } = openTeller(position, [50, 20]);
      estimates.learn(sdxl, { workMs: 10_000, heldMs: 40_000 });
      return etaOf();
    };
    // Of 40 s that any is in hand, 30 it waits for others.
    expect(await learn(1)).toBe(20 + 30 + 10);
    expect(await learn(2)).toBe(50 + 30 + 10);
    expect(await learn(3)).toBe(20 + 40 + 30 + 10);
    expect(await learn(6)).toBe(50 + 80 + 30 + 10);
  });

  it('reckons with the usual for those that run of which nobody knows', async () => {
    const { estimates, etaOf } = openTeller(1, [undefined, undefined]);
    estimates.learn(sdxl, { workMs: 10_000, heldMs: 15_000 });
    expect(await etaOf()).toBe(15 + 5 + 10);
  });

  it('of a start that lies ahead does not wait twice', async () => {
    const { estimates, etaOf } = openTeller(1, [20, 20], { now: 1000 });
    estimates.learn(sdxl, { workMs: 10_000, heldMs: 10_000 });
    expect(await etaOf(job({ runAt: 16_000 }))).toBe(30);
    expect(await etaOf(job({ runAt: 61_000 }))).toBe(70);
  });
});

describe('a job at work', () => {
  function openMeter() {
    const clock = { now: 0 };
    return { clock, meter: createProgressMeter(() => clock.now) };
  }
  const steps = (done: number) => ({ type: 'progress' as const, done, total: 20, unit: 'steps' });

  it('is told by how far it is, and the wait before it does not count', () => {
    const { clock, meter } = openMeter();
    meter.status({ type: 'status', state: 'queued', position: 3, eta: 90 });
    expect(meter.eta).toBe(90);
    expect(meter.workedMs).toBeUndefined();
    clock.now = 60_000;
    expect(meter.eta).toBe(30);
    meter.progress(steps(0));
    clock.now = 65_000;
    // Too soon to say by that alone.
    expect(meter.eta).toBe(25);
    meter.progress(steps(5));
    expect(meter.eta).toBeUndefined();
    expect(remaining(meter.workedMs, meter.latest!.percent)).toBe(15);
  });

  it('that is late is not done', () => {
    const { clock, meter } = openMeter();
    meter.status({ type: 'status', state: 'loading', eta: 10 });
    meter.chunk();
    clock.now = 30_000;
    expect(meter.eta).toBe(1);
    expect(meter.workedMs).toBe(30_000);
  });

  it('whose turn nobody can tell any more is told nothing old', () => {
    const { meter } = openMeter();
    meter.status({ type: 'status', state: 'queued', eta: 10 });
    meter.status({ type: 'status', state: 'queued', message: 'The card is lent.' });
    expect(meter.eta).toBeUndefined();
    expect(remaining(meter.workedMs, 0, 5000)).toBeUndefined();
  });

  it('is told by its runtime where that says so', () => {
    const { meter } = openMeter();
    meter.status({ type: 'status', state: 'queued', eta: 100 });
    meter.progress({ ...steps(10), eta: 7 });
    expect(meter.eta).toBe(7);
    meter.progress(steps(11));
    expect(meter.eta).toBeNull();
  });
});
