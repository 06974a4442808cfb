// Models that had to leave the card and are to be there: they come back when nobody wants it, and are in nobody's way.
import { afterEach, describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import type { Closed } from '../../src/arbiter/policy.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { eventually } from '../support/eventually.ts';
import { createLoading, GB, type LoadingRuntime } from '../support/loading-runtime.ts';
import { openResidency, type ResidencyTest } from '../support/open-residency.ts';

const opened: { residency: { close(): void } }[] = [];
const open = (runtimes: RuntimeAdapter[], options?: ResidencyTest) => {
  const test = openResidency(runtimes, { budget: 6, restoreMs: 60_000, ...options });
  opened.push(test);
  return test;
};
afterEach(() => opened.splice(0).forEach(({ residency }) => residency.close()));
const moment = (ms = 60) => new Promise((resolve) => setTimeout(resolve, ms));
const inside = (runtime: LoadingRuntime) => [...runtime.inside.keys()];

/** `a` is to be there from the start, and has just had to leave for `b`. */
async function openWithout(runtime: LoadingRuntime, options?: ResidencyTest, more: RuntimeAdapter[] = []) {
  const test = open([runtime, ...more], options);
  await test.residency.setPolicy('a', { preload: true });
  await test.residency.start();
  await eventually('it is there from the start', () => runtime.inside.has('a'));
  await moment(20);
  await test.run('b');
  expect(inside(runtime)).toEqual(['b']);
  await moment(20);
  const acquire = (model: string) => {
    const [signal, tenant] = [new AbortController().signal, runtime.gpu!];
    return test.arbiter.acquire({ runtime: 'r', model, footprint: 4 * GB, tenant, signal });
  };
  return { ...test, acquire };
}

describe('a model that had to leave', () => {
  it('comes back when nobody has used the card for long enough, in the place of what is idle', async () => {
    const runtime = createLoading();
    const { wait, notes, warnings, arbiter, run } = await openWithout(runtime);
    wait(40);
    await run('b');
    wait(40);
    await moment();
    expect(inside(runtime)).toEqual(['b']);
    wait(25);
    await eventually('it is back', () => runtime.inside.has('a'));
    await eventually('that is told', () => notes.length === 1);
    expect([inside(runtime), notes, warnings]).toEqual([['a'], ['a is back on the card.'], []]);
    expect(arbiter.snapshot().held).toMatchObject([{ model: 'a', leases: 0 }]);
    wait(500);
    await moment();
    expect(runtime.loads.filter(({ model }) => model === 'a')).toHaveLength(2);
  });

  it('waits while the card is used, waited for, or lent, and the whole time after that', async () => {
    const runtime = createLoading();
    const { wait, arbiter, acquire } = await openWithout(runtime);
    const turn = await acquire('b').next();
    await moment(20);
    wait(100);
    await moment();
    expect(inside(runtime)).toEqual(['b']);
    if (turn.done) turn.value.release();
    arbiter.close({ until: undefined, because: 'the card is lent' });
    await moment();
    wait(100);
    await moment();
    expect(inside(runtime)).toEqual(['b']);
    arbiter.open();
    await moment();
    wait(50);
    await moment();
    expect(inside(runtime)).toEqual(['b']);
    wait(15);
    await eventually('it is back', () => runtime.inside.has('a'));
  });

  it('comes beside what fits, and not at all where it is no longer wanted or has come by itself', async () => {
    const runtime = createLoading({ models: { a: 4, b: 4, c: 2 } });
    const { wait, run, residency, unload } = await openWithout(runtime);
    await unload('b');
    await run('c');
    wait(61);
    await eventually('it is back', () => inside(runtime).length === 2);
    await run('b');
    await run('a');
    const loads = runtime.loads.length;
    wait(61);
    await moment();
    await run('b');
    await residency.setPolicy('a', { preload: false });
    wait(61);
    await moment();
    expect([runtime.loads.length, inside(runtime)]).toEqual([loads, expect.not.arrayContaining(['a'])]);
  });

  it.each([
    ['sent away by hand', undefined],
    ['idle for as long as it may be', 10],
  ])('but not one that was %s', async (_, ttlS) => {
    const runtime = createLoading();
    const { residency, wait, unload } = open([runtime]);
    await residency.setPolicy('a', { preload: true, ...(ttlS === undefined ? {} : { ttlS }) });
    await residency.start();
    await eventually('it is there from the start', () => runtime.inside.has('a'));
    await moment(20);
    if (ttlS === undefined) await unload('a');
    else wait(11);
    await eventually('it leaves', () => !runtime.inside.has('a'));
    wait(1000);
    await moment();
    expect(inside(runtime)).toEqual([]);
  });

  it('comes back after the card was lent and emptied, pinned or preloaded', async () => {
    const runtime = createLoading({ models: { a: 2, b: 2, c: 2 } });
    const { residency, arbiter, load, wait } = open([runtime]);
    await residency.setPolicy('a', { preload: true });
    await residency.setPolicy('b', { pinned: true });
    await residency.start();
    for (const model of 'abc') await load(model);
    await moment(20);
    arbiter.close({ until: undefined, because: 'the card is lent' }, { empty: true });
    await eventually('the card is empty', () => runtime.inside.size === 0);
    await moment(20);
    arbiter.open();
    await moment(20);
    wait(61);
    await eventually('both are back', () => runtime.inside.size === 2);
    await moment();
    expect(inside(runtime).toSorted()).toEqual(['a', 'b']);
  });

  it('comes back after its runtime was restarted', async () => {
    const runtime = createLoading();
    const { residency, wait } = open([runtime]);
    await residency.setPolicy('a', { preload: true });
    await residency.start();
    await eventually('it is there from the start', () => runtime.inside.has('a'));
    await moment(20);
    runtime.inside.clear();
    residency.lost('r');
    await moment();
    expect(inside(runtime)).toEqual([]);
    wait(61);
    await eventually('it is back', () => runtime.inside.has('a'));
  });
});

describe('what comes back', () => {
  it.each([
    [
      'is pinned',
      async ({ residency }: ReturnType<typeof open>) => void (await residency.setPolicy('b', { pinned: true })),
    ],
    ['is to be there as well', async ({ residency }) => void (await residency.setPolicy('b', { preload: true }))],
  ] satisfies [string, (test: ReturnType<typeof open>) => Promise<void>][])(
    'sends nothing away that %s',
    async (_, change) => {
      const runtime = createLoading();
      const test = await openWithout(runtime);
      await change(test);
      test.wait(1000);
      await moment();
      expect(inside(runtime)).toEqual(['b']);
    },
  );

  it('sends nothing away that came some other way: others may use it', async () => {
    const runtime = createLoading();
    const { wait, arbiter } = await openWithout(runtime);
    runtime.inside.clear();
    runtime.inside.set('stranger', { model: 'stranger', vram: 4 * GB });
    await arbiter.look('r', new AbortController().signal);
    wait(1000);
    await moment();
    expect(inside(runtime)).toEqual(['stranger']);
  });

  it('gives way to whoever waits for something else, and tries again when that is done', async () => {
    const runtime = createLoading({ loadMs: 300 });
    const { wait, acquire, arbiter, run } = await openWithout(runtime);
    wait(61);
    await eventually('it is loading', () => runtime.loads.length === 2);
    const turn = acquire('b');
    let lease;
    for (;;) {
      const { done, value } = await turn.next();
      if (done) {
        lease = value;
        break;
      }
    }
    expect(runtime.aborted).toEqual(['a']);
    lease.release();
    await run('b');
    await moment();
    expect(arbiter.snapshot().waiting).toEqual([]);
    wait(61);
    await eventually('it is back', () => runtime.inside.has('a'));
    expect(runtime.loads).toHaveLength(3);
  });

  it('lets a request for the same model have it as soon as it is there', async () => {
    const runtime = createLoading({ loadMs: 100 });
    const { wait, load, notes } = await openWithout(runtime);
    wait(61);
    await eventually('it is loading', () => runtime.loads.length === 2);
    await load('a');
    await eventually('it is told', () => notes.length === 1);
    expect([runtime.loads.length, runtime.aborted]).toEqual([2, []]);
  });

  it('stays out for longer each time that it comes back for nothing, until somebody uses it', async () => {
    const runtime = createLoading();
    const { wait, run, notes } = await openWithout(runtime);
    const comesAfter = async (seconds: number, times: number) => {
      wait(seconds - 2);
      await moment();
      expect(notes).toHaveLength(times - 1);
      wait(3);
      await eventually(`it comes back for the ${times}th time`, () => notes.length === times);
      await moment(20);
    };
    await comesAfter(60, 1);
    await run('b');
    await moment(20);
    await comesAfter(120, 2);
    await run('b');
    await moment(20);
    await comesAfter(240, 3);
    await run('a');
    await moment(20);
    await run('b');
    await moment(20);
    await comesAfter(60, 4);
  });

  it('waits for quiet hours to end, where its load is background work', async () => {
    const runtime = createLoading();
    let quiet: Closed | undefined = { until: undefined, because: 'quiet hours until 07:00' };
    const { wait, warnings } = await openWithout(runtime, { quiet: () => quiet });
    for (let minute = 0; minute < 5; minute++) {
      wait(61);
      await moment(30);
    }
    expect([inside(runtime), warnings]).toEqual([['b'], []]);
    quiet = undefined;
    wait(6);
    await eventually('it is back', () => runtime.inside.has('a'));
  });

  it('that fails is told, and tried again later and later', async () => {
    const runtime = createLoading();
    const { wait, warnings } = await openWithout(runtime);
    runtime.behave.fails = new GatewayError('insufficient_vram', 'r ran out of memory.', { source: 'r' });
    wait(61);
    await eventually('it is told', () => warnings.length === 1);
    expect(warnings).toEqual(['a could not be brought back: r ran out of memory. It is tried again.']);
    // The try has used the card.
    wait(61);
    await eventually('it is told again', () => warnings.length === 2);
    wait(61);
    await moment();
    expect(warnings).toHaveLength(2);
    delete runtime.behave.fails;
    wait(60);
    await eventually('it is back', () => runtime.inside.has('a'));
  });

  it('waits for a runtime that is away, however long', async () => {
    const runtime = createLoading();
    const { wait, warnings } = await openWithout(runtime);
    runtime.behave.down = true;
    wait(61);
    await eventually('it is told', () => warnings.length === 1);
    expect(warnings).toEqual(['a is brought back as soon as r can be reached.']);
    wait(10_000);
    await moment();
    runtime.behave.down = false;
    runtime.inside.clear();
    wait(6);
    await eventually('it is back', () => runtime.inside.has('a'));
    expect(warnings).toHaveLength(1);
  });

  it('comes no more when the gateway closes', async () => {
    const runtime = createLoading({ loadMs: 200 });
    const { wait, residency, arbiter } = await openWithout(runtime);
    wait(61);
    await eventually('it is loading', () => runtime.loads.length === 2);
    residency.close();
    await eventually('it is given up', () => runtime.aborted.length === 1);
    await eventually('nothing is held', () => arbiter.snapshot().held.every(({ leases }) => leases === 0));
    wait(1000);
    await moment();
    expect(runtime.inside.has('a')).toBe(false);
  });
});

it('a load that somebody asks for does not wait with one in the background', async () => {
  const runtime = createLoading();
  const quiet: Closed = { until: undefined, because: 'quiet hours' };
  const { residency, load, arbiter } = open([runtime], { quiet: () => quiet });
  const { signal } = new AbortController();
  const inBackground = residency.load('a', { signal, class: 'background' });
  const refused = expect(inBackground).rejects.toMatchObject({ code: 'client_closed' });
  await eventually('it waits', () => arbiter.snapshot().waiting.length === 1);
  expect(await load('a')).toMatchObject({ state: 'loaded' });
  await refused;
});
