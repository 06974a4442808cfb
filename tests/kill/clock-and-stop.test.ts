// Gateways that stand still, and gateways whose clock jumps: late at most, but nothing twice and nothing early.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { JobView } from '../../src/jobs/view.ts';
import { eventually } from '../support/gateway.ts';
import { openBench, type Bench, type Seat } from '../support/kill-bench.ts';
import { startRedis, withoutRedis } from '../support/redis.ts';

const engines = ['node', 'bun'] as const;
/** Short, but longer than a busy machine keeps a process waiting. */
const LEASE_MS = 800;
const LIMIT_MS = 120_000;
const HOUR_MS = 3_600_000;
const FAKE_TIME = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib']
  .map((folder) => join(folder, 'faketime/libfaketime.so.1'))
  .find((path) => existsSync(path));

const closing: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

async function open(env: Record<string, string>): Promise<Bench> {
  const bench = await openBench(env);
  closing.push(() => bench.close());
  return bench;
}

const pairs = (['sqlite', 'redis'] as const)
  .filter((store) => store === 'sqlite' || withoutRedis === undefined)
  .flatMap((store) => engines.map((engine) => ({ store, engine })));

describe.each(pairs)('two gateways on one state, on $engine and $store', ({ store, engine }) => {
  async function openShared(env: Record<string, string> = { HONO_AI_JOB_LEASE_MS: String(LEASE_MS) }): Promise<Bench> {
    if (store === 'sqlite') return open(env);
    const redis = await startRedis();
    closing.push(() => redis.close());
    return open({ ...env, HONO_AI_REDIS_URL: redis.url });
  }

  it('share the work and never do any of it twice', { timeout: LIMIT_MS }, async () => {
    const bench = await openShared({});
    const seats = [await bench.seat(engine), await bench.seat(engine)];
    const jobs = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        bench.submit(seats[index % 2]!.ask, { key: `shared-${index}`, ms: 20, files: [`f${index}`] }),
      ),
    );
    for (const { id } of jobs) expect((await bench.ended(seats[0]!.ask, id)).state).toBe('done');
    for (const { id } of jobs) expect(bench.runtime.of(id)).toHaveLength(1);
    expect(new Set(bench.runtime.executions.map(({ generation }) => generation)).size).toBe(2);
    expect(await bench.artifacts(seats[0]!.ask)).toHaveLength(40);
  });

  /** The first one takes the job and stands still; three leases later the second one has taken it over, and works on it. */
  async function takeOver(bench: Bench, stops?: string) {
    const first = await bench.seat(engine);
    // To write files takes long enough to learn that the lease is lost; without them only the fence is between.
    const plan = { key: 'held', ...(stops === undefined ? { files: ['one', 'two'] } : { stops }) };
    const firstHold = bench.runtime.hold('held', first.generation);
    const { id } = await bench.submit(first.ask, plan);
    const begun = await bench.execution(id, 1);
    const second = await bench.seat(engine);
    const secondHold = bench.runtime.hold('held', second.generation);
    if (stops === undefined) await bench.stop(first);
    else {
      firstHold.release();
      await eventually('the first has its answer', () => begun.outcome === 'answered');
    }
    await sleep(3 * LEASE_MS);
    expect((await bench.execution(id, 2)).generation).toBe(second.generation);
    return { id, first, second, firstHold, secondHold };
  }

  /** One end, made by the second gateway, with one set of files, told under one id. */
  async function expectOneEnd(bench: Bench, { id, second }: { id: string; second: Seat }, files: number) {
    const view = await bench.ended(second.ask, id);
    await eventually('the webhook arrives', () => bench.receiver.deliveries.length > 0);
    await sleep(2 * LEASE_MS);
    expect(await bench.read(second.ask, id)).toMatchObject({ ...toEnd(view), state: 'done', attempts: 2 });
    expect(bench.runtime.of(id)).toHaveLength(2);
    expect(view.artifacts).toHaveLength(files);
    expect((await bench.artifacts(second.ask)).map((one) => one.id).toSorted()).toEqual(
      view.artifacts.map((one) => one.id).toSorted(),
    );
    for (const { url, size } of view.artifacts) {
      const content = await second.ask('owner', url);
      expect([content.status, String(content.json).length]).toEqual([200, size]);
    }
    expect(new Set(bench.receiver.deliveries.map((one) => one.id)).size).toBe(1);
  }

  it('where one stands still for three leases and wakes when its job is done', { timeout: LIMIT_MS }, async () => {
    const bench = await openShared();
    const taken = await takeOver(bench);
    taken.secondHold.release();
    expect((await bench.ended(taken.second.ask, taken.id)).state).toBe('done');
    taken.firstHold.release();
    taken.first.process.send('SIGCONT');
    await expectOneEnd(bench, taken, 2);
    expect(await bench.read(taken.first.ask, taken.id)).toMatchObject({ state: 'done', attempts: 2 });
  });

  it(
    'where one stands still for three leases and wakes with a result in its hands',
    { timeout: LIMIT_MS },
    async () => {
      const bench = await openShared();
      const taken = await takeOver(bench, 'seat 1');
      taken.first.process.send('SIGCONT');
      await sleep(3 * LEASE_MS);
      expect(await bench.read(taken.second.ask, taken.id)).toMatchObject({
        state: 'running',
        attempts: 2,
        artifacts: [],
      });
      expect(bench.receiver.deliveries).toEqual([]);
      taken.secondHold.release();
      await expectOneEnd(bench, taken, 0);
    },
  );
});

describe.skipIf(FAKE_TIME === undefined).each(engines)('a clock that jumps, on %s (libfaketime)', (engine) => {
  /** The wall clock of a process; the monotonic one stays as it is, as when a clock is set. */
  function createWallClock() {
    const folder = mkdtempSync(join(tmpdir(), 'hono-ai-clock-'));
    closing.push(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'time');
    const step = (ms: number) => writeFileSync(file, `${ms < 0 ? '-' : '+'}${Math.abs(ms) / 1000}s`);
    step(0);
    const host = {
      LD_PRELOAD: FAKE_TIME!,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      DONT_FAKE_MONOTONIC: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
    return { host, step };
  }

  it.each([
    ['forward', HOUR_MS],
    ['back', -HOUR_MS],
  ])('an hour %s ends no job early or twice, and delays none', { timeout: LIMIT_MS }, async (_, jump) => {
    const bench = await open({
      HONO_AI_JOB_CONCURRENCY: '1',
      HONO_AI_JOB_LEASE_MS: '1000',
      HONO_AI_JOB_QUEUE_MS: '600000',
      HONO_AI_JOB_RUN_MS: '600000',
      HONO_AI_JOB_TOTAL_MS: '900000',
    });
    const clock = createWallClock();
    const seat = await bench.seat(engine, { host: clock.host });
    const hold = bench.runtime.hold('running', seat.generation);
    const running = await bench.submit(seat.ask, { key: 'running', files: ['one'] });
    await bench.execution(running.id, 1);
    const waiting = await bench.submit(seat.ask, { key: 'waiting' });
    const sent = performance.now();
    const delayed = await bench.submit(seat.ask, { key: 'delayed' }, { delay_s: 4 });
    clock.step(jump);
    await sleep(2500);
    expect(await bench.read(seat.ask, running.id)).toMatchObject({ state: 'running', attempts: 1 });
    expect(await bench.read(seat.ask, waiting.id)).toMatchObject({ state: 'queued', attempts: 0 });
    hold.release();
    for (const { id } of [running, waiting, delayed]) expectSound(await bench.ended(seat.ask, id));
    expect(bench.runtime.executions.map(({ job }) => job)).toEqual([running.id, waiting.id, delayed.id]);
    expect(bench.runtime.of(delayed.id)[0]!.startedAt - sent).toBeGreaterThanOrEqual(4000);
    await eventually('all webhooks arrive', () => bench.receiver.deliveries.length === 3);
  });

  it.each([
    ['forward', HOUR_MS],
    ['back', -HOUR_MS],
  ])('an hour %s between a kill and the next start', { timeout: LIMIT_MS }, async (_, jump) => {
    const bench = await open({ HONO_AI_JOB_CONCURRENCY: '1' });
    const clock = createWallClock();
    const first = await bench.seat(engine, { host: clock.host });
    bench.runtime.hold('running', first.generation);
    const running = await bench.submit(first.ask, { key: 'running', files: ['one'] });
    await bench.execution(running.id, 1);
    const waiting = await bench.submit(first.ask, { key: 'waiting' });
    first.process.send('SIGKILL');
    await first.process.ended;
    clock.step(jump);
    const second = await bench.seat(engine, { host: clock.host });
    for (const { id } of [running, waiting]) expectSound(await bench.ended(second.ask, id));
    expect(bench.runtime.of(running.id)).toHaveLength(2);
    expect(bench.runtime.of(waiting.id)).toHaveLength(1);
    expect(await bench.artifacts(second.ask)).toHaveLength(1);
  });
});

function toEnd({ state, finished_at, result }: JobView) {
  const { text } = result as { text: string };
  return { state, finished_at, result: { text } };
}

function expectSound({ state, timings }: JobView): void {
  expect(state).toBe('done');
  const { evicted: _, ...times } = timings!;
  for (const ms of Object.values(times)) expect(ms).toBeGreaterThanOrEqual(0);
}
