// What is wanted of models in memory: pinned ones stay, idle ones leave, preloaded ones come, over restarts and troubles.
import { afterEach, describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { eventually } from '../support/eventually.ts';
import { createLoading, GB } from '../support/loading-runtime.ts';
import { openResidency, type ResidencyTest } from '../support/open-residency.ts';

const opened: { residency: { close(): void } }[] = [];
const open = (runtimes: RuntimeAdapter[], options?: ResidencyTest) => {
  const test = openResidency(runtimes, options);
  opened.push(test);
  return test;
};
afterEach(() => opened.splice(0).forEach(({ residency }) => residency.close()));
const moment = (ms = 60) => new Promise((resolve) => setTimeout(resolve, ms));

describe('policies', () => {
  it('last over a restart, change in parts, and are forgotten when they ask for nothing', async () => {
    const { residency, documents } = open([createLoading()]);
    expect(await residency.setPolicy('a', { pinned: true, ttlS: 60 })).toEqual({
      runtime: 'r',
      model: 'a',
      pinned: true,
      preload: false,
      ttlS: 60,
    });
    await Promise.all([residency.setPolicy('a', { preload: true }), residency.setPolicy('r/b', { ttlS: 5 })]);
    const { residency: next } = open([createLoading()], { documents });
    await next.read();
    expect(next.policyOf('r', 'a')).toMatchObject({ pinned: true, preload: true, ttlS: 60 });
    expect(next.policyOf('r', 'b')).toMatchObject({ ttlS: 5 });
    const version = next.version();
    await next.setPolicy('a', { pinned: false, preload: false, ttlS: null });
    await next.setPolicy('b', { ttlS: null });
    expect(next.version()).toBeGreaterThan(version);
    expect([next.policyOf('r', 'a').pinned, documents.size()]).toEqual([false, 0]);
  });

  it('can be taken back from a model that is in no list any more, but not given to one', async () => {
    const { residency, documents } = open([createLoading()]);
    await residency.setPolicy('a', { pinned: true });
    const { residency: next } = open([createLoading({ models: { b: 1 } })], { documents });
    expect(await next.setPolicy('a', { pinned: false })).toMatchObject({ runtime: 'r', pinned: false });
    await expect(next.setPolicy('a', { pinned: true })).rejects.toMatchObject({ code: 'model_not_found' });
  });

  it('tell runtimes how long to keep a model', async () => {
    const { residency, load, run } = open([createLoading()], { ttlS: 300 });
    expect(residency.keepOf('r', 'a')).toBe(300);
    await residency.setPolicy('a', { ttlS: 20 });
    expect(residency.keepOf('r', 'a')).toBe(20);
    await residency.setPolicy('a', { pinned: true });
    expect(residency.keepOf('r', 'a')).toBe(-1);
    await load('a');
    await run('a');
    expect(open([createLoading()]).residency.keepOf('r', 'a')).toBeUndefined();
  });

  it('reach what is in memory at once, and load nothing', async () => {
    const runtime = createLoading();
    const { residency, load } = open([runtime], { budget: 6 });
    await load('a');
    await residency.setPolicy('a', { pinned: true });
    await residency.setPolicy('b', { pinned: true });
    await eventually('the runtime is told', () => runtime.loads.length === 2);
    await residency.setPolicy('a', { pinned: false });
    await eventually('the runtime is told', () => runtime.loads.length === 3);
    await moment();
    expect(runtime.loads.map(({ model, keep }) => [model, keep])).toEqual([
      ['a', undefined],
      ['a', -1],
      ['a', undefined],
    ]);
    expect([[...runtime.inside.keys()], runtime.evictions]).toEqual([['a'], []]);
  });

  it('keep pinned models through any pressure', async () => {
    const runtime = createLoading({ models: { a: 3, b: 4, c: 4, d: 5 } });
    const { residency, load, run } = open([runtime]);
    await residency.setPolicy('a', { pinned: true });
    await load('a');
    const all = await Promise.allSettled([...'bcbcbc'].map((model) => run(model)));
    expect(all.every(({ status }) => status === 'fulfilled')).toBe(true);
    expect(runtime.evictions).not.toContain('a');
    await load('d');
    expect(runtime.inside.has('a')).toBe(true);
  });
});

describe('idle models', () => {
  it('leave after their time, by policy or for all; used ones, pinned ones and strangers stay', async () => {
    const runtime = createLoading({ models: { a: 1, b: 1, c: 1, d: 1 } });
    const { residency, load, run, wait, arbiter } = open([runtime], { ttlS: 100 });
    await residency.setPolicy('b', { ttlS: 10 });
    await residency.setPolicy('c', { pinned: true, ttlS: 1 });
    for (const model of 'abcd') await load(model);
    runtime.inside.set('stranger', { model: 'stranger', vram: GB });
    await residency.start();
    wait(11);
    await eventually('b leaves', () => !runtime.inside.has('b'));
    expect([...runtime.inside.keys()]).toEqual(['a', 'c', 'd', 'stranger']);
    wait(60);
    await run('d');
    wait(40);
    await eventually('a leaves', () => !runtime.inside.has('a'));
    await moment();
    expect([...runtime.inside.keys()]).toEqual(['c', 'd', 'stranger']);
    expect(arbiter.snapshot().held.map(({ model }) => model)).not.toContain('a');
  });

  it('never leave while something uses them', async () => {
    const runtime = createLoading();
    const { residency, load, wait, arbiter } = open([runtime], { ttlS: 5 });
    await load('a');
    const signal = new AbortController().signal;
    const request = { runtime: 'r', model: 'a', footprint: 4 * GB, tenant: runtime.gpu!, signal };
    const turn = await arbiter.acquire(request).next();
    await residency.start();
    wait(100);
    await moment();
    expect(runtime.evictions).toEqual([]);
    if (turn.done) turn.value.release();
    await moment();
    // The end of a request is use as well.
    expect(runtime.evictions).toEqual([]);
    wait(6);
    await eventually('it leaves', () => runtime.evictions.length === 1);
  });

  it.each([
    ['works for somebody else', { busy: true }],
    ['was told by somebody else to stay', { expiresAt: Date.now() + 3_600_000 }],
  ])('that %s are left to their runtime', async (_, more) => {
    const runtime = createLoading();
    const { residency, load, wait } = open([runtime], { ttlS: 5 });
    await load('a');
    Object.assign(runtime.inside.get('a')!, more);
    await residency.start();
    wait(30);
    await moment();
    expect(runtime.evictions).toEqual([]);
  });

  it('stay as long as a load has said, until they are used again', async () => {
    const runtime = createLoading();
    const { residency, load, run, wait } = open([runtime], { ttlS: 5 });
    await load('a', -1);
    await load('c', 60);
    await residency.start();
    wait(30);
    await moment();
    expect(runtime.evictions).toEqual([]);
    wait(31);
    await eventually('c leaves', () => runtime.evictions.includes('c'));
    await run('a');
    wait(6);
    await eventually('a leaves', () => runtime.evictions.includes('a'));
  });

  it('that have gone by themselves are only struck off', async () => {
    const runtime = createLoading();
    const { residency, load, wait, arbiter } = open([runtime], { ttlS: 5 });
    await load('a');
    runtime.inside.clear();
    await residency.start();
    wait(6);
    await eventually('the books follow', () => arbiter.snapshot().held.length === 0);
    expect(runtime.evictions).toEqual([]);
  });

  it('leave runtimes as well that are not on the books of the card, once nothing uses them', async () => {
    const runtime = createLoading({ gpu: false });
    const { residency, load, run, wait, residents, warnings } = open([runtime], { ttlS: 5 });
    await run('a');
    await load('b', 60);
    runtime.inside.set('c', { model: 'c', vram: 0 });
    const end = residency.use('r', 'a');
    await residency.start();
    wait(30);
    await moment();
    expect(runtime.evictions).toEqual([]);
    expect((await residents()).residents.map(({ model, in_use }) => [model, in_use])).toEqual([
      ['a', 1],
      ['b', 0],
      ['c', 0],
    ]);
    end();
    end();
    await moment();
    expect(runtime.evictions).toEqual([]);
    runtime.inside.get('a')!.busy = true;
    wait(6);
    await moment();
    expect(runtime.evictions).toEqual([]);
    delete runtime.inside.get('a')!.busy;
    await eventually('a leaves', () => runtime.evictions.length === 1);
    wait(60);
    await eventually('b leaves', () => runtime.evictions.length === 2);
    expect([runtime.evictions, [...runtime.inside.keys()], warnings]).toEqual([['a', 'b'], ['c'], []]);
  });

  it('that are asked for while they leave come back: the request waits and then loads', async () => {
    const runtime = createLoading({ evictMs: 60 });
    const { residency, load, run, wait } = open([runtime], { ttlS: 5 });
    await load('a');
    const { evict } = runtime.gpu!;
    let leaving = false;
    runtime.gpu!.evict = (...args) => ((leaving = true), evict(...args));
    await residency.start();
    wait(6);
    await eventually('it is leaving', () => leaving);
    await Promise.all([run('a'), load('a')]);
    expect([runtime.evictions, [...runtime.inside.keys()]]).toEqual([['a'], ['a']]);
  });

  it('that do not leave are told of once, and left alone for a while', async () => {
    const runtime = createLoading();
    const { residency, load, wait, warnings } = open([runtime], { ttlS: 5 });
    await load('a');
    runtime.gpu!.evict = () => Promise.reject(new GatewayError('insufficient_vram', 'r holds on.', { source: 'r' }));
    await residency.start();
    wait(6);
    await eventually('it is told', () => warnings.length > 0);
    await moment();
    expect(warnings).toEqual(['a is idle but could not be unloaded: r holds on.']);
  });
});

describe('preload', () => {
  it('loads one after the other once the gateway has started, with what their policies say', async () => {
    const runtime = createLoading({ models: { a: 3, b: 3, c: 2 }, loadMs: 20 });
    const { residency, documents } = open([runtime]);
    await residency.setPolicy('a', { preload: true, pinned: true });
    await residency.setPolicy('c', { preload: true, ttlS: 60 });
    expect(runtime.loads).toEqual([]);
    const { residency: next } = open([runtime], { documents });
    await next.start();
    await eventually('both are loaded', () => runtime.inside.size === 2);
    expect(runtime.loads).toEqual([
      { model: 'a', keep: -1 },
      { model: 'c', keep: 60 },
    ]);
  });

  it('waits for a runtime that is away, and goes on with the others', async () => {
    const away = createLoading({ name: 'away', models: { x: 1 } });
    const runtime = createLoading();
    const { residency, documents } = open([away, runtime]);
    for (const model of ['x', 'a']) await residency.setPolicy(model, { preload: true });
    away.behave.down = true;
    const { residency: next, warnings, wait } = open([away, runtime], { documents });
    await next.start();
    await eventually('the other is loaded', () => runtime.inside.has('a'));
    expect(warnings).toEqual(['x is preloaded as soon as away can be reached.']);
    away.behave.down = false;
    wait(6);
    await eventually('it is loaded', () => away.inside.has('x'));
    expect(warnings).toHaveLength(1);
  });

  it('tells why it fails, tries again a few times, and then no more', async () => {
    const runtime = createLoading();
    runtime.behave.fails = new GatewayError('insufficient_vram', 'r ran out of memory.', { source: 'r' });
    const { residency, warnings, wait } = open([runtime]);
    await residency.setPolicy('a', { preload: true });
    await residency.start();
    for (let tries = 1; tries <= 4; tries++) {
      await eventually(`try ${tries}`, () => warnings.length === tries);
      wait(1000);
    }
    await moment();
    expect(runtime.loads).toHaveLength(4);
    expect(warnings[0]).toBe('a could not be preloaded: r ran out of memory. It is tried again.');
    expect(warnings[3]).toContain('It is not tried again.');
  });

  it('writes down what was measured now and then', async () => {
    const runtime = createLoading();
    const { residency, load, wait, documents } = open([runtime]);
    await load('a');
    await residency.start();
    await moment(30);
    expect(documents.size()).toBe(0);
    wait(31);
    await eventually('it is written', () => documents.size() === 1);
  });
});
