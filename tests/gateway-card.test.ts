// Runs on the card: what they ask for, under which lease they work, what they cost, and what is left when somebody leaves.
import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../bench/arbiter/virtual-time.ts';
import type { ArbiterOptions } from '../src/arbiter/arbiter.ts';
import { GatewayError } from '../src/error.ts';
import type { GatewayOptions, RunOptions } from '../src/gateway.ts';
import type { RuntimeAdapter } from '../src/runtime.ts';
import { answering, chunk, createCardRuntime, ended, GB, holding, result } from './support/card-runtime.ts';
import type { Spoken, Work } from './support/card-runtime.ts';
import { eventually } from './support/eventually.ts';
import { openScripted } from './support/open-scripted.ts';

/** A card of 8 GiB in virtual time. */
function open(runtimes: RuntimeAdapter[], gateway: Partial<GatewayOptions> = {}, card: Partial<ArbiterOptions> = {}) {
  const clock = createVirtualClock();
  const scripted = openScripted(runtimes, {
    budget: 8 * GB,
    card: { clock, queueMs: 600_000, ...card },
    gateway: { now: clock.now, ...gateway },
  });
  const ask = (model: string, who: Partial<RunOptions> = {}, signal = new AbortController().signal) =>
    scripted.start('text.generate', { prompt: 'x', model }, signal, who);
  return { ...scripted, clock, ask };
}

const tooLittle = () => new GatewayError('insufficient_vram', 'CUDA out of memory.', { source: 'card' });

async function* failing(): AsyncGenerator<Spoken> {
  yield { type: 'status', state: 'loading' };
  throw tooLittle();
}

describe('a run on the card', () => {
  it('asks with its caller, its class and what it needs, and gives its place back', async () => {
    const runtime = createCardRuntime({ models: { a: 8, b: 8 }, work: holding });
    const needOf = () => ({ footprint: 3 * GB, extent: 4096, work: 'text.generate 4k' });
    const { ask, arbiter, clock } = open([runtime], { needOf }, { budget: () => 4 * GB });
    const first = ask('a');
    await clock.run(0);
    expect(arbiter.snapshot().running).toMatchObject([{ model: 'a', caller: '', class: 'interactive' }]);
    const second = ask('b', { caller: 'anna', class: 'background' });
    await clock.run(0);
    const want = { model: 'b', caller: 'anna', class: 'background', footprint: 3 * GB, extent: 4096 };
    expect(arbiter.snapshot().waiting).toMatchObject([want]);
    first.cancel();
    await eventually('the second has the card', () => runtime.calls.includes('b'));
    expect(arbiter.snapshot().running).toMatchObject([{ model: 'b', caller: 'anna', class: 'background' }]);
    second.cancel();
    await expect(second.result).rejects.toMatchObject({ code: 'client_closed' });
    expect(arbiter.snapshot()).toMatchObject({ running: [], waiting: [] });
  });

  it.each<[string, Spoken[], boolean]>([
    ['a chunk', [chunk('x')], true],
    ['a preview', [{ type: 'preview', media_type: 'image/jpeg', bytes: new Uint8Array(1) }], true],
    ['a step', [{ type: 'progress', done: 1, total: 9, unit: 'steps' }], true],
    ['its own word', [{ type: 'status', state: 'running' }], true],
    ['loading', [{ type: 'status', state: 'loading' }], false],
    ['a plan', [{ type: 'progress', done: 0, total: 9 }], false],
    ['bytes that come', [{ type: 'progress', done: 5, total: 9, unit: 'bytes' }], false],
    ['a warning', [{ type: 'warning', warning: 'w' }], false],
  ])('has begun, or not, with %s', async (_, events, begun) => {
    const work: Work = async function* ({ signal }) {
      yield* events;
      await ended(signal);
    };
    const { ask, arbiter, clock } = open([createCardRuntime({ work })]);
    const run = ask('a');
    await clock.run(0);
    expect(arbiter.snapshot().held).toMatchObject([{ model: 'a', leases: 1, loading: !begun }]);
    run.cancel();
    await expect(run.result).rejects.toMatchObject({ code: 'client_closed' });
  });

  it.each<[string, Work]>([
    ['heeds it', holding],
    [
      'breaks',
      async function* ({ signal }) {
        yield { type: 'status', state: 'running' };
        await ended(signal).catch(() => {
          throw new DOMException('aborted', 'AbortError');
        });
      },
    ],
    [
      'answers after it',
      async function* ({ signal }) {
        await ended(signal).catch(() => {});
        yield chunk('too late');
        yield result('too late');
      },
    ],
    [
      'ends in silence',
      async function* ({ signal }) {
        yield { type: 'status', state: 'running' };
        await ended(signal).catch(() => {});
      },
    ],
    [
      'ignores it',
      async function* () {
        yield { type: 'status', state: 'loading' };
        await new Promise(() => {});
      },
    ],
  ])('ends with the reason for which its lease was taken back, where the runtime %s', async (_, work) => {
    const { ask, arbiter, clock } = open([createCardRuntime({ work })], { heedMs: 30 }, { leaseMs: 60_000 });
    const run = ask('a');
    await clock.run(59_000);
    expect(arbiter.snapshot().running).toHaveLength(1);
    await clock.run(61_000);
    await expect(run.result).rejects.toMatchObject({ code: 'upstream_idle', source: 'card' });
    await expect(run.started).rejects.toMatchObject({ code: 'upstream_idle' });
    expect(arbiter.snapshot().running).toEqual([]);
  });

  it('keeps its lease while it gives any sign of life', async () => {
    let clock!: ReturnType<typeof createVirtualClock>;
    const work: Work = async function* () {
      for (let step = 0; step < 5; step++) {
        yield { type: 'status', state: 'loading' };
        await clock.sleep(50_000);
      }
      yield* answering();
    };
    const opened = open([createCardRuntime({ work })], {}, { leaseMs: 60_000 });
    ({ clock } = opened);
    expect(await clock.finish(opened.ask('a').result)).toMatchObject({ text: 'ok' });
  });

  it('says what it cost', async () => {
    let clock!: ReturnType<typeof createVirtualClock>;
    const work: Work = async function* ({ model }) {
      yield { type: 'status', state: 'loading' };
      await clock.sleep(model.id === 'a' ? 1000 : 3000);
      yield chunk('x');
      await clock.sleep(5000);
      yield result('x');
    };
    const evict = async () => clock.sleep(500);
    const opened = open([createCardRuntime({ models: { a: 8, b: 8 }, work, evict })]);
    ({ clock } = opened);
    const [first, second] = [opened.ask('a'), opened.ask('b')];
    expect(second.cost).toBeUndefined();
    await clock.finish(second.result);
    expect(first.cost).toEqual({ queueMs: 0, swapMs: 1000, runMs: 5000, evicted: [] });
    expect(second.cost).toEqual({
      queueMs: 6000,
      swapMs: 3500,
      runMs: 5000,
      evicted: [{ runtime: 'card', model: 'a' }],
    });
  });
});

it('that waited too long says when to come back, as it was foreseen', async () => {
  const runtime = createCardRuntime({ models: { a: 8, b: 8 }, work: holding });
  const { ask, clock } = open([runtime], {}, { queueMs: 2000 });
  const first = ask('a');
  await clock.run(1000);
  const second = ask('b');
  await clock.run(1000);
  const told = second.eta!;
  expect(told).toBeGreaterThan(2);
  await clock.run(4000);
  await expect(second.result).rejects.toMatchObject({ code: 'overloaded', retryAfter: told });
  first.cancel();
});

describe('a run for which the card is too small', () => {
  const crowded = (work: Work) => createCardRuntime({ models: { a: 2, b: 2 }, work });

  it('is tried once more with the card to itself, and says so', async () => {
    const outgrown: unknown[][] = [];
    const runtime = crowded(answering);
    const needOf = () => ({ footprint: 2 * GB, extent: 512 });
    const { ask, arbiter, clock } = open([runtime], { needOf, outgrew: (...of) => void outgrown.push(of) });
    await clock.finish(ask('b').result);
    runtime.work = async function* () {
      if (runtime.calls.length > 2) return yield* answering();
      await clock.sleep(5000);
      yield* failing();
    };
    const run = ask('a');
    const { text, warnings } = await clock.finish(run.result);
    expect([text, runtime.calls]).toEqual(['ok', ['b', 'a', 'a']]);
    expect(runtime.evictions).toContain('b');
    expect(warnings).toEqual([expect.stringMatching(/^a did not fit .* once more with the card to itself/)]);
    expect(outgrown).toEqual([['card', 'a', 512, 2 * GB]]);
    expect(run.cost).toMatchObject({ queueMs: 0, swapMs: 5000, evicted: [{ model: 'b' }] });
    expect(arbiter.snapshot()).toMatchObject({ held: [{ model: 'a', leases: 0 }], running: [] });
  });

  it('keeps its place in the line', async () => {
    let clock!: ReturnType<typeof createVirtualClock>;
    const runtime = crowded(async function* (call) {
      if (call.model.id === 'b') return yield* holding(call);
      if (runtime.calls.length > 2) return yield* answering();
      await clock.sleep(5000);
      yield* failing();
    });
    const opened = open([runtime]);
    ({ clock } = opened);
    const { ask, arbiter } = opened;
    const busy = ask('b');
    await clock.run(1000);
    const run = ask('a');
    await clock.run(7000);
    expect(arbiter.snapshot().waiting).toMatchObject([{ model: 'a', since: 1000, footprint: 8 * GB }]);
    busy.cancel();
    expect(await clock.finish(run.result)).toMatchObject({ text: 'ok' });
  });

  it('is tried no third time', async () => {
    const runtime = crowded(failing);
    const { ask, arbiter, clock } = open([runtime]);
    const failure = clock.finish(ask('a').result);
    await expect(failure).rejects.toMatchObject({ code: 'insufficient_vram', status: 503 });
    expect(runtime.calls).toEqual(['a', 'a']);
    expect(arbiter.snapshot().running).toEqual([]);
  });

  it('is not tried again after something came out, nor for another failure', async () => {
    const runtime = crowded(async function* () {
      yield chunk('half');
      throw tooLittle();
    });
    const { ask, clock } = open([runtime]);
    await expect(clock.finish(ask('a').result)).rejects.toMatchObject({ code: 'insufficient_vram' });
    runtime.work = async function* () {
      yield { type: 'status', state: 'loading' };
      throw new GatewayError('upstream_error', 'Broken.');
    };
    await expect(clock.finish(ask('a').result)).rejects.toMatchObject({ code: 'upstream_error' });
    expect(runtime.calls).toEqual(['a', 'a']);
  });

  it('is refused where what is pinned leaves too little', async () => {
    const runtime = crowded(answering);
    const { ask, clock } = open([runtime], {}, { isPinned: (_, model) => model === 'b' });
    await clock.finish(ask('b').result);
    runtime.work = failing;
    await expect(clock.finish(ask('a').result)).rejects.toMatchObject({
      code: 'insufficient_vram',
      message: expect.stringContaining('pinned'),
    });
    expect([runtime.calls, runtime.evictions]).toEqual([['b', 'a'], expect.not.arrayContaining(['b'])]);
  });
});

describe('whoever leaves', () => {
  const phases: [string, (test: ReturnType<typeof crowd>) => boolean][] = [
    ['while it waits', ({ arbiter }) => arbiter.snapshot().waiting.some(({ model }) => model === 'b')],
    ['while room is made', ({ evicting }) => evicting.length > 0],
    ['while it loads', ({ runtime }) => runtime.calls.includes('b')],
    ['while it runs', ({ said }) => said.includes('b')],
  ];

  /** One model at a time; `a` is done when it is let go. */
  function crowd() {
    const evicting: string[] = [];
    const said: string[] = [];
    const release = Promise.withResolvers<void>();
    const evicted = Promise.withResolvers<void>();
    const loaded = Promise.withResolvers<void>();
    const work: Work = async function* ({ model, signal }) {
      if (model.id === 'a') {
        yield chunk('x');
        await release.promise;
        return yield result('x');
      }
      await Promise.race([loaded.promise, ended(signal)]);
      yield { type: 'status', state: 'running' };
      said.push(model.id);
      if (model.id === 'b') await ended(signal);
      yield result('x');
    };
    const evict = async (model: string) => {
      evicting.push(model);
      await evicted.promise;
    };
    const runtime = createCardRuntime({ models: { a: 8, b: 8, c: 8 }, work, evict });
    const opened = openScripted([runtime], { budget: 8 * GB });
    return { ...opened, runtime, evicting, said, release, evicted, loaded };
  }

  it.each(phases)('%s frees the card within a second', async (phase, isThere) => {
    const test = crowd();
    const ask = (model: string) => test.start('text.generate', { prompt: 'x', model });
    const first = ask('a');
    await first.started;
    const leaving = ask('b');
    if (phase !== 'while it waits') test.release.resolve();
    if (!/waits|room/.test(phase)) test.evicted.resolve();
    if (/runs/.test(phase)) test.loaded.resolve();
    await eventually(phase, () => isThere(test));
    leaving.cancel();
    await eventually('its place is free', () => {
      const { waiting, running } = test.arbiter.snapshot();
      return [...waiting, ...running].every(({ model }) => model !== 'b');
    });
    await expect(leaving.result).rejects.toMatchObject({ code: 'client_closed' });
    test.release.resolve();
    test.evicted.resolve();
    test.loaded.resolve();
    expect(await ask('c').result).toMatchObject({ text: 'x' });
    expect(test.gateway.active()).toBe(0);
  });

  it('does not leave the card to a runtime that goes on all the same', async () => {
    const ignored: string[][] = [];
    const work: Work = async function* ({ model }) {
      yield { type: 'status', state: 'running' };
      if (model.id === 'a') for (;;) await new Promise((resolve) => setTimeout(resolve, 5));
      yield result('x');
    };
    const runtime = createCardRuntime({ models: { a: 8, b: 8 }, work });
    const onIgnored = (...of: string[]) => void ignored.push(of);
    const { start, arbiter, gateway } = openScripted([runtime], { budget: 8 * GB, gateway: { heedMs: 60, onIgnored } });
    const deaf = start('text.generate', { prompt: 'x', model: 'a' });
    const next = start('text.generate', { prompt: 'x', model: 'b' });
    await eventually('both are there', () => arbiter.snapshot().waiting.length === 1);
    deaf.cancel();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([ignored, arbiter.snapshot().running.length]).toEqual([[], 1]);
    await expect(deaf.result).rejects.toMatchObject({ code: 'client_closed' });
    expect(ignored).toEqual([['card', 'a']]);
    expect(await next.result).toMatchObject({ text: 'x' });
    expect(gateway.active()).toBe(0);
  });
});
