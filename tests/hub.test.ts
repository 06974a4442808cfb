// The hub: who is told what, from where, and what waits for whom.
import { describe, expect, it } from 'vitest';
import { createLocalSpine, openHub, type Watch, type WatchOptions } from '../src/hub.ts';

const open = async (window = 100) => {
  const spine = createLocalSpine();
  const hub = await openHub({ spine, window, now: () => 1 });
  const watch = (options: Partial<WatchOptions> = {}) => hub.watch({ owner: 'a', onEntry: () => {}, ...options });
  const publish = (type: string, fields: object = {}) => hub.publish({ type, owner: 'a', data: {}, ...fields });
  return { hub, watch, publish, spine };
};
const types = (watch: Watch) => watch.take().entries.map(({ event }) => event.type);

describe('a watch', () => {
  it('is told what is its owner’s and what is everybody’s', async () => {
    const { watch, publish } = await open();
    const [a, b] = [watch(), watch({ owner: 'b' })];
    publish('one');
    publish('two', { owner: 'b' });
    publish('all', { owner: undefined });
    expect(types(a)).toEqual(['one', 'all']);
    expect(types(b)).toEqual(['two', 'all']);
  });

  it('of a job is told of that job only, and only its owner is', async () => {
    const { watch, publish } = await open();
    const [mine, others] = [watch({ job: 'j' }), watch({ owner: 'b', job: 'j' })];
    publish('yes', { job: 'j' });
    publish('no', { job: 'k' });
    publish('neither');
    expect(types(mine)).toEqual(['yes']);
    expect(types(others)).toEqual([]);
  });

  it('is told nothing when it is closed, and counts no more', async () => {
    const { hub, watch, publish } = await open();
    const closed = watch();
    closed.close();
    closed.close();
    publish('one');
    expect(types(closed)).toEqual([]);
    expect(hub.watchers()).toBe(0);
  });

  it('learns when the hub closes, and not after', async () => {
    const { hub, watch, publish } = await open();
    let ends = 0;
    const first = watch({ onClose: () => ends++ });
    watch({ job: 'j', onClose: () => ends++ });
    watch({ onClose: () => ends++ }).close();
    hub.close();
    publish('late');
    expect(ends).toBe(2);
    expect(types(first)).toEqual([]);
  });
});

describe('a watcher who comes back', () => {
  it.each([0, 1, 10, 99])('after %i missed events gets them all, in order', async (missed) => {
    const { watch, publish } = await open(100);
    const seen = watch();
    publish('last');
    const after = seen.take().entries[0]!.id;
    for (let n = 0; n < missed; n++) publish(`missed ${n}`);
    const back = watch({ after });
    const { reset, entries } = back.take();
    expect(reset).toBe(false);
    expect(entries.map(({ event }) => event.type)).toEqual(Array.from({ length: missed }, (_, n) => `missed ${n}`));
    publish('next');
    expect(types(back)).toEqual(['next']);
  });

  it('beyond the window is told to look anew', async () => {
    const { watch, publish } = await open(100);
    const seen = watch();
    publish('seen');
    const after = seen.take().entries[0]!.id;
    for (let n = 0; n < 100; n++) publish('more');
    expect(watch({ after }).take()).toEqual({ reset: true, entries: [] });
    expect(watch({ after: 'of another start' }).take().reset).toBe(true);
  });

  it('finds what happened before this process in the history of the spine', async () => {
    const old = { type: 'old', owner: 'a', at: 1, data: {} };
    const spine = { ...createLocalSpine(), history: async () => ['1', '2'].map((id) => ({ id, event: old })) };
    const hub = await openHub({ spine, window: 10, now: () => 1 });
    expect(
      hub
        .watch({ owner: 'a', after: '1', onEntry: () => {} })
        .take()
        .entries.map(({ id }) => id),
    ).toEqual(['2']);
    expect(hub.find('1')?.event.type).toBe('old');
  });
});

describe('what waits for a watcher who does not take it', () => {
  it('loses what is passing first', async () => {
    const { watch, publish } = await open(10_000);
    const slow = watch();
    for (let n = 0; n < 1000; n++) publish(n % 10 === 0 ? 'job:queued' : 'job:progress');
    publish('job:done');
    const { reset, entries } = slow.take();
    expect(reset).toBe(false);
    expect(entries.filter(({ event }) => event.type === 'job:progress')).toEqual([]);
    expect(entries.at(-1)!.event.type).toBe('job:done');
    expect(entries).toHaveLength(101);
  });

  it('is given up when it is still too much', async () => {
    const { watch, publish } = await open(10_000);
    const slow = watch();
    for (let n = 0; n < 1001; n++) publish('job:queued');
    expect(slow.take()).toEqual({ reset: true, entries: [] });
  });

  it('is bounded in bytes too', async () => {
    const { watch, publish } = await open(10_000);
    const slow = watch();
    for (let n = 0; n < 30; n++) publish('job:preview', { data: { data: 'x'.repeat(100_000) } });
    const { entries } = slow.take();
    expect(entries.reduce((sum, { json }) => sum + json.length, 0)).toBeLessThan(1024 * 1024);
  });

  it('and the window itself hold bounded bytes', async () => {
    const { hub, watch, publish } = await open(10_000);
    const first = watch();
    publish('first');
    const { id } = first.take().entries[0]!;
    for (let n = 0; n < 40; n++) publish('job:preview', { data: { data: 'x'.repeat(1_000_000) } });
    expect(hub.find(id)).toBeUndefined();
  });
});
