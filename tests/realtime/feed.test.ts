// One watcher's way through the events: in whatever order things happen, nothing is missed and the end is told once.
import { describe, expect, it } from 'vitest';
import { createLocalSpine, isTerminal, openHub } from '../../src/hub.ts';
import { openFeed, type Feed } from '../../src/realtime/feed.ts';
import type { Notice, Snapshot } from '../../src/realtime/notice.ts';

/** A job with a state that is committed before it is told, and a store that takes its time. */
async function open(window = 1000) {
  const hub = await openHub({ spine: createLocalSpine(), window, now: () => 1 });
  let state = 'job:running';
  const say = (type: string) => {
    if (!/progress|preview/.test(type)) state = type;
    hub.publish({ type, owner: 'a', job: 'j', data: { job: { id: 'j' } } });
  };
  const commit = (type: string) => (state = type);
  const look = (): Snapshot => ({
    events: [{ type: state, data: { job: { id: 'j' } } }],
    ended: isTerminal({ type: state }),
  });
  const snapshot = async () => {
    await pause();
    const seen = look();
    await pause();
    return seen;
  };
  const follow = async (after?: string, job: string | undefined = 'j') => {
    const feed = await openFeed({ hub, owner: 'a', job, after, snapshot });
    return { feed, ...listen(feed) };
  };
  return { hub, say, commit, look, follow };
}

function listen(feed: Feed) {
  const heard: Notice[] = [];
  const state = { ends: 0 };
  feed.start({ tell: (notice) => heard.push(notice), buffered: () => 0, end: () => state.ends++ });
  return { heard, state, types: () => heard.map(({ type }) => type) };
}

/** Zero to a few turns of the loop. */
async function pause(turns = Math.floor(Math.random() * 4)): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe('a thousand watchers, each at another moment of a job', () => {
  it.each([
    ['new', false],
    ['coming back', true],
  ])('%s: each hears the end exactly once, and then no more', async (_, resumes) => {
    let seenAfter = 0;
    for (let round = 0; round < 1000; round++) {
      const { hub, say, commit, follow } = await open();
      const before = hub.watch({ owner: 'a', onEntry: () => {} });
      say('job:running');
      const after = resumes ? before.take().entries[0]!.id : undefined;
      const job = (async () => {
        await pause();
        say('job:progress');
        await pause();
        commit('job:done');
        await pause();
        say('job:done');
        await pause();
        say('job:progress');
      })();
      await pause(round % 8);
      const { heard, state, types } = await follow(after);
      await job;
      await pause(5);
      expect(types().filter((type) => type === 'job:done')).toHaveLength(1);
      expect(types().at(-1)).toBe('job:done');
      expect(state.ends).toBe(1);
      const ids = heard.map(({ id }) => id).filter(Boolean);
      expect(new Set(ids).size).toBe(ids.length);
      if (types().length === 1) seenAfter++;
      expect(hub.watchers()).toBe(1);
    }
    // Otherwise the rounds did not race.
    expect(seenAfter).toBeGreaterThan(20);
    expect(seenAfter).toBeLessThan(980);
  });
});

describe('a watcher', () => {
  it('who reads slowly gets what it missed at its own pace, and all of it', async () => {
    const { hub, say, look } = await open(10_000);
    const watch = hub.watch({ owner: 'a', onEntry: () => {} });
    say('job:queued');
    const after = watch.take().entries[0]!.id;
    for (let n = 0; n < 900; n++) hub.publish({ type: 'job:progress', owner: 'a', data: { fill: 'x'.repeat(2000) } });
    const feed = await openFeed({ hub, owner: 'a', after, snapshot: async () => look() });
    let [waiting, most, heard] = [0, 0, 0];
    const reading = setInterval(() => (waiting = Math.max(0, waiting - 300_000)), 5);
    const done = Promise.withResolvers<void>();
    const tell = ({ type, json }: Notice) => {
      heard++;
      most = Math.max(most, (waiting += json.length));
      if (type === 'job:done') done.resolve();
    };
    feed.start({ tell, buffered: () => waiting, end: () => {} });
    say('job:done');
    await done.promise;
    clearInterval(reading);
    expect(heard).toBe(901);
    expect(most).toBeLessThan(300_000);
  });

  it('for whom there is no room misses what is passing, and nothing else', async () => {
    const { hub, say, look } = await open();
    const feed = await openFeed({ hub, owner: 'a', snapshot: async () => look() });
    const heard: string[] = [];
    let waiting = 0;
    feed.start({ tell: ({ type }) => heard.push(type), buffered: () => waiting, end: () => {} });
    await pause(1);
    waiting = 900_000;
    say('job:progress');
    say('job:done');
    waiting = 0;
    say('job:preview');
    expect(heard).toEqual(['job:running', 'job:done', 'job:preview']);
  });

  it('who has seen the end and comes back is told that it is over', async () => {
    const { hub, say, follow } = await open();
    const watch = hub.watch({ owner: 'a', onEntry: () => {} });
    say('job:done');
    const { feed } = await follow(watch.take().entries[0]!.id);
    expect(feed.over).toBe(true);
  });

  it('who saw an end hears of the next try', async () => {
    const { hub, say, follow } = await open();
    const watch = hub.watch({ owner: 'a', onEntry: () => {} });
    say('job:failed');
    const after = watch.take().entries[0]!.id;
    say('job:queued');
    const { feed, types, state } = await follow(after);
    expect(feed.over).toBe(false);
    say('job:done');
    expect(types()).toEqual(['job:queued', 'job:done']);
    expect(state.ends).toBe(1);
  });

  it('who comes back to an end whose event was lost hears it from the state', async () => {
    const { hub, say, commit, follow } = await open();
    const watch = hub.watch({ owner: 'a', onEntry: () => {} });
    say('job:progress');
    commit('job:done');
    const { types, state } = await follow(watch.take().entries[0]!.id);
    expect(types()).toEqual(['job:done']);
    expect(state.ends).toBe(1);
  });

  it('who fell behind while the state was looked up is told to look anew', async () => {
    const { hub, say, look } = await open();
    const slow = Promise.withResolvers<void>();
    let looks = 0;
    const snapshot = async () => {
      if (looks++ === 0) await slow.promise;
      return look();
    };
    const opening = openFeed({ hub, owner: 'a', snapshot });
    for (let n = 0; n < 5000; n++) say('job:queued');
    slow.resolve();
    const { types } = listen(await opening);
    await pause(5);
    say('job:done');
    expect(types()).toEqual(['job:queued', 'reset', 'job:queued', 'job:done']);
  });

  it('of everything goes on after the end of a job', async () => {
    const { say, hub, look } = await open();
    const { types, state } = listen(await openFeed({ hub, owner: 'a', snapshot: async () => look() }));
    await pause(1);
    say('job:done');
    say('job:queued');
    expect(types()).toEqual(['job:running', 'job:done', 'job:queued']);
    expect(state.ends).toBe(0);
  });

  it('of a job that is not there leaves nothing behind', async () => {
    const { hub } = await open();
    const wanted = openFeed({ hub, owner: 'a', job: 'k', snapshot: async () => undefined });
    await expect(wanted).rejects.toMatchObject({ code: 'not_found' });
    expect(hub.watchers()).toBe(0);
  });

  it('hears the end of the hub as an end', async () => {
    const { hub, follow } = await open();
    const { state } = await follow();
    hub.close();
    expect(state.ends).toBe(1);
    expect(hub.watchers()).toBe(0);
  });
});
