// Models brought to memory and sent away: measured, shared by all who wait, never against what uses the card.
import { afterEach, describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import { eventually } from '../support/eventually.ts';
import { createLoading, GB } from '../support/loading-runtime.ts';
import { openResidency, type ResidencyTest } from '../support/open-residency.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';

const opened: { residency: { close(): void } }[] = [];
const open = (runtimes: RuntimeAdapter[], options?: ResidencyTest) => {
  const test = openResidency(runtimes, options);
  opened.push(test);
  return test;
};
afterEach(() => opened.splice(0).forEach(({ residency }) => residency.close()));

describe('load', () => {
  it('makes room, loads, measures, learns, and leaves the books right', async () => {
    const runtime = createLoading();
    const { load, arbiter, footprints, catalog } = open([runtime]);
    await load('a');
    await load('c');
    const view = await load('b');
    expect(view).toMatchObject({
      model: 'b',
      runtime: 'r',
      state: 'loaded',
      vram: 4 * GB,
      warnings: [],
    });
    // Both were asked for a moment ago, and to load either would take a moment.
    const [gone] = view.evicted;
    expect(['a', 'c']).toContain(gone);
    expect([view.evicted, runtime.evictions]).toEqual([[gone], [gone]]);
    const { held } = arbiter.snapshot();
    expect(held.map(({ model, leases }) => [model, leases])).toEqual([
      [gone === 'a' ? 'c' : 'a', 0],
      ['b', 0],
    ]);
    expect(held.every(({ usedAt }) => usedAt > 0)).toBe(true);
    expect(footprints.of('r', 'b')).toMatchObject({ bytes: 4 * GB, extent: 4096 });
    expect((await catalog.find('b')).state).toBe('loaded');
  });

  it('returns at once where the model is there, and counts that as use', async () => {
    const runtime = createLoading();
    const { load, arbiter, wait } = open([runtime]);
    await load('a');
    const before = arbiter.snapshot().held[0]!.usedAt;
    wait(5);
    expect(await load('a')).toMatchObject({ state: 'loaded', evicted: [] });
    expect(runtime.loads).toHaveLength(1);
    expect(arbiter.snapshot().held[0]!.usedAt).toBeGreaterThan(before);
  });

  it('is one load for all who ask, which goes on while anybody waits', async () => {
    const runtime = createLoading({ loadMs: 60 });
    const { residency } = open([runtime]);
    const leaving = new AbortController();
    const first = residency.load('a', { signal: leaving.signal });
    const others = Array.from({ length: 5 }, () => residency.load('a', { signal: new AbortController().signal }));
    await eventually('the load begins', () => runtime.loads.length > 0);
    expect([...residency.loading('r')]).toEqual(['a']);
    leaving.abort();
    await expect(first).rejects.toMatchObject({ code: 'client_closed' });
    for (const view of await Promise.all(others)) expect(view).toMatchObject({ state: 'loaded' });
    expect([runtime.loads.length, runtime.aborted, residency.loading('r').size]).toEqual([1, [], 0]);
  });

  it('is given up when the last who waits leaves, and can be asked for again at once', async () => {
    const runtime = createLoading({ loadMs: 200 });
    runtime.behave.lingers = 40;
    const { residency, load, arbiter } = open([runtime]);
    const leaving = [new AbortController(), new AbortController()];
    const both = leaving.map(({ signal }) => residency.load('a', { signal }));
    await eventually('the load begins', () => runtime.loads.length > 0);
    for (const one of leaving) one.abort();
    for (const one of both) await expect(one).rejects.toMatchObject({ code: 'client_closed' });
    const again = load('a');
    expect(await again).toMatchObject({ state: 'loaded' });
    expect(runtime.aborted).toEqual(['a']);
    expect(arbiter.snapshot().held).toMatchObject([{ leases: 0 }]);
  });

  it('is never begun for somebody who left before it was their turn', async () => {
    const runtime = createLoading();
    const { residency, arbiter } = open([runtime], { budget: 4 });
    const signal = new AbortController().signal;
    const { gpu } = runtime;
    const turn = await arbiter.acquire({ runtime: 'r', model: 'b', footprint: 4 * GB, tenant: gpu!, signal }).next();
    const leaving = new AbortController();
    const waiting = residency.load('a', { signal: leaving.signal });
    await eventually('it waits for the card', () => arbiter.snapshot().waiting.length === 1);
    leaving.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'client_closed' });
    if (turn.done) turn.value.release();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect([runtime.loads, arbiter.snapshot().waiting]).toEqual([[], []]);
    await expect(residency.load('a', { signal: leaving.signal })).rejects.toMatchObject({ code: 'client_closed' });
  });

  it('believes memory, not words', async () => {
    const runtime = createLoading();
    runtime.behave.lies = true;
    const { load, arbiter } = open([runtime]);
    await expect(load('a')).rejects.toMatchObject({ code: 'upstream_error', source: 'r' });
    expect(arbiter.snapshot().held.filter(({ leases }) => leases > 0)).toEqual([]);
    runtime.behave.lies = false;
    expect(await load('a')).toMatchObject({ state: 'loaded' });
  });

  it('tells its failure to all who wait, and is not in the way of the next', async () => {
    const runtime = createLoading({ loadMs: 20 });
    runtime.behave.fails = new GatewayError('insufficient_vram', 'r ran out of memory.', { source: 'r' });
    const { load, residency } = open([runtime]);
    const both = await Promise.allSettled([load('a'), load('a')]);
    expect(both).toMatchObject([{ reason: { code: 'insufficient_vram' } }, { reason: { code: 'insufficient_vram' } }]);
    expect([runtime.loads.length, residency.loading('r').size]).toEqual([1, 0]);
    delete runtime.behave.fails;
    expect(await load('a')).toMatchObject({ state: 'loaded' });
  });

  it('counts what a model really takes, and says what is not on the card', async () => {
    const runtime = createLoading();
    runtime.behave.takes = { a: 6 };
    const { load, arbiter } = open([runtime]);
    await load('a');
    expect(arbiter.snapshot().held).toMatchObject([{ footprint: 6 * GB }]);
    expect((await load('b')).evicted).toEqual(['a']);
    runtime.inside.clear();
    runtime.behave.spills = 0.4;
    expect((await load('c')).warnings).toEqual([expect.stringMatching(/^Only 60 % of c is on the card/)]);
    runtime.inside.clear();
    runtime.behave.spills = 1;
    expect((await load('b')).warnings).toEqual([expect.stringContaining('runs on the processor')]);
  });

  it('refuses with the remedy: what cannot be loaded, is not here, is unknown, or is kept out by a pin', async () => {
    const lazy = createLoading({ name: 'lazy', models: { l: 1 }, noLoad: true });
    const runtime = createLoading({ models: { a: 5, b: 4 } });
    const { load, residency } = open([runtime, lazy]);
    await expect(load('l')).rejects.toMatchObject({
      code: 'not_supported',
      hint: expect.stringContaining('first request'),
    });
    await expect(load('nobody')).rejects.toMatchObject({ code: 'model_not_found' });
    await residency.setPolicy('a', { pinned: true });
    await load('a');
    const refused = await load('b').catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'insufficient_vram', hint: expect.stringContaining('models pin a --off') });
    expect(runtime.evictions).toEqual([]);
  });

  it('works off the books as well', async () => {
    const runtime = createLoading({ gpu: false });
    const { load, unload, arbiter, footprints } = open([runtime]);
    expect(await load('a')).toMatchObject({ state: 'loaded', vram: 4 * GB });
    expect(footprints.of('r', 'a')).toMatchObject({ bytes: 4 * GB });
    runtime.inside.get('a')!.busy = true;
    await expect(unload('a')).rejects.toMatchObject({ code: 'conflict' });
    runtime.inside.get('a')!.busy = false;
    expect(await unload('a')).toMatchObject([{ model: 'a', state: 'ready' }]);
    expect([runtime.inside.size, arbiter.snapshot().held]).toEqual([0, []]);
  });

  it('joins a load that says nothing of how long to stay, and then says it', async () => {
    const runtime = createLoading({ loadMs: 30 });
    const { load } = open([runtime]);
    await Promise.all([load('a'), load('a', 60)]);
    expect(runtime.loads.map(({ keep }) => keep)).toEqual([undefined, 60]);
  });

  it('ends within a moment when the gateway closes', async () => {
    const runtime = createLoading({ loadMs: 5000 });
    const { load, residency } = open([runtime]);
    const loading = load('a');
    await eventually('the load begins', () => runtime.loads.length > 0);
    residency.close();
    await expect(loading).rejects.toMatchObject({ code: 'draining' });
    await expect(load('b')).rejects.toMatchObject({ code: 'draining' });
  });
});

describe('unload', () => {
  it('sends one away and measures that; one that is not there is no error', async () => {
    const runtime = createLoading();
    const { load, unload, arbiter } = open([runtime]);
    await load('a');
    expect(await unload('a')).toMatchObject([{ model: 'a', runtime: 'r', state: 'ready', vram: null }]);
    expect([runtime.inside.size, arbiter.snapshot().held]).toEqual([0, []]);
    expect(await unload('a')).toHaveLength(1);
    expect(runtime.evictions).toEqual(['a']);
  });

  it('is refused while a run uses the model', async () => {
    const runtime = createLoading();
    const { load, unload, arbiter } = open([runtime]);
    await load('a');
    const signal = new AbortController().signal;
    const request = { runtime: 'r', model: 'a', footprint: 4 * GB, tenant: runtime.gpu!, signal };
    const turn = await arbiter.acquire(request).next();
    await expect(unload('a')).rejects.toMatchObject({ code: 'conflict', status: 409 });
    if (turn.done) turn.value.release();
    expect(await unload('a')).toHaveLength(1);
  });

  it('tells when the model stays, and the books do not say that it left', async () => {
    const runtime = createLoading();
    const { load, unload, arbiter } = open([runtime]);
    await load('a');
    runtime.behave.lies = true;
    await expect(unload('a')).rejects.toMatchObject({ code: 'insufficient_vram' });
    expect(arbiter.snapshot().held).toMatchObject([{ model: 'a' }]);
  });

  it('sends away all that nobody uses, strangers and pinned ones too', async () => {
    const runtime = createLoading();
    const other = createLoading({ name: 'other', models: { x: 1 }, gpu: false });
    const down = createLoading({ name: 'down', models: {} });
    down.behave.down = true;
    const { load, unload, residency, arbiter } = open([runtime, other, down]);
    await residency.setPolicy('a', { pinned: true });
    await load('a');
    await load('c');
    await load('x');
    const signal = new AbortController().signal;
    const request = { runtime: 'r', model: 'c', footprint: 2 * GB, tenant: runtime.gpu!, signal };
    const turn = await arbiter.acquire(request).next();
    runtime.inside.set('stranger', { model: 'stranger', vram: 1 });
    expect((await unload()).map(({ model }) => model)).toEqual(['a', 'stranger', 'x']);
    expect([...runtime.inside.keys()]).toEqual(['c']);
    if (turn.done) turn.value.release();
  });
});

describe('residents', () => {
  it('shows what sits where, how much of it on the card, and how long it has been idle', async () => {
    const runtime = createLoading();
    const cpu = createLoading({ name: 'cpu', models: { x: 1 }, gpu: false });
    const { load, residents, residency, wait } = open([runtime, cpu]);
    runtime.behave.spills = 0.25;
    await residency.setPolicy('a', { pinned: true, preload: true });
    await load('a');
    cpu.inside.set('x', { model: 'x', vram: 0, ram: GB, busy: true, expiresAt: Date.UTC(2030, 0, 1) });
    runtime.inside.set('odd', { model: 'odd', vram: Number.NaN, expiresAt: Infinity });
    wait(30);
    const { residents: all, problems } = await residents();
    expect(problems).toEqual([]);
    expect(all).toMatchObject([
      { model: 'a', runtime: 'r', vram: 3 * GB, ram: GB, on_card: 0.75, in_use: 0, pinned: true, preload: true },
      { model: 'odd', vram: 0, expires_at: null },
      {
        model: 'x',
        runtime: 'cpu',
        on_card: 0,
        in_use: 1,
        idle_s: 0,
        expires_at: '2030-01-01T00:00:00.000Z',
        warning: null,
      },
    ]);
    expect(all[0]!.idle_s).toBeGreaterThanOrEqual(30);
    expect(all[0]!.warning).toContain('Only 75 %');
  });

  it('names who does not answer, soon, and shows the rest', async () => {
    const [runtime, silent, down] = ['r', 'silent', 'down'].map((name) =>
      createLoading({ name, models: { [name]: 1 } }),
    );
    const { load, residents } = open([runtime!, silent!, down!]);
    await load('r');
    silent!.behave.silent = true;
    down!.behave.down = true;
    const { residents: all, problems } = await residents();
    expect(all.map(({ model }) => model)).toEqual(['r']);
    expect(problems).toEqual([expect.stringContaining('down'), expect.stringContaining('silent')]);
  });

  it('shows what is on its way', async () => {
    const runtime = createLoading({ loadMs: 50 });
    const { load, residents, residency } = open([runtime]);
    const version = residency.version();
    const loading = load('a');
    await eventually('the load begins', () => runtime.loads.length > 0);
    expect((await residents()).residents).toMatchObject([{ model: 'a', state: 'loading', vram: 0 }]);
    expect(residency.version()).toBeGreaterThan(version);
    await loading;
    expect((await residents()).residents).toMatchObject([{ model: 'a', state: 'loaded' }]);
  });
});

it('never holds more than the card offers, never loses a load, and never wedges, whatever comes together', async () => {
  const runtime = createLoading({ loadMs: 2, evictMs: 2 });
  const { residency, run, arbiter, residents } = open([runtime], { ttlS: 0.02 });
  await residency.start();
  let state = 5;
  const random = (below: number) => (state = (state * 1103515245 + 12345) % 2 ** 31) % below;
  const outcomes = new Set<string>();
  await Promise.all(
    Array.from({ length: 150 }, async () => {
      await new Promise((resolve) => setTimeout(resolve, random(150)));
      const model = 'abc'[random(3)]!;
      const leaving = new AbortController();
      const what = random(5);
      if (what === 0) setTimeout(() => leaving.abort(), random(20));
      const work =
        what < 2
          ? residency.load(model, { signal: leaving.signal })
          : what === 2
            ? residency.unload(random(4) === 0 ? undefined : model, leaving.signal)
            : what === 3
              ? residents()
              : run(model);
      await work.then(
        () => outcomes.add('done'),
        (error: GatewayError) => outcomes.add(error.code),
      );
    }),
  );
  for (const outcome of outcomes) expect(['done', 'client_closed', 'conflict', 'insufficient_vram']).toContain(outcome);
  expect(runtime.most()).toBeLessThanOrEqual(8);
  expect(arbiter.snapshot().waiting).toEqual([]);
  await eventually('all that is idle leaves', () => runtime.inside.size === 0);
  expect(arbiter.snapshot().held).toEqual([]);
});
