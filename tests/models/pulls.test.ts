// The pull engine over a puller that is scripted: one download for all, paused, cut, tried again, and never held by anybody.
import { describe, expect, it } from 'vitest';
import { GatewayError, type ErrorCode } from '../../src/error.ts';
import type { FollowEvent } from '../../src/models/pulls.ts';
import type { Puller } from '../../src/puller.ts';
import { createFakePuller } from '../support/fake-puller.ts';
import { createMemoryDocuments, openPulls } from '../support/open-pulls.ts';
import { eventually } from '../support/eventually.ts';

const progress = (events: FollowEvent[]) => events.flatMap((event) => (event.type === 'progress' ? [event] : []));
const statuses = (events: FollowEvent[]) => events.flatMap((event) => (event.type === 'status' ? [event] : []));
const claimsOf =
  (name: string): Puller['claims'] =>
  ({ model }) =>
    model === name ? 10 : undefined;
const last = (events: FollowEvent[]) => events.at(-1);

describe('one download', () => {
  it('for 20 who want the same, and all see it from its start to its end', async () => {
    const puller = createFakePuller();
    const { pulls, follow, changes } = openPulls([puller]);
    const followers = Array.from({ length: 20 }, () => follow({ model: 'm' }));
    await eventually('all have joined', () => pulls.list()[0]?.callers === 20);
    expect([...pulls.pulling('fake')]).toEqual(['m']);
    expect(await Promise.all(followers.map(({ end }) => end))).toEqual(Array(20).fill(undefined));
    expect(puller.begun).toEqual([{ model: 'm' }]);
    expect(puller.fetched()).toBe(1000);
    expect(changes).toEqual(['fake/m']);
    for (const { events } of followers) {
      expect(last(events)).toEqual({
        type: 'pulled',
        runtime: 'fake',
        model: 'm',
        files: [{ name: 'm.bin', size: 1000 }],
        already: false,
      });
      expect(progress(events).at(-1)).toMatchObject({ done: 1000, total: 1000, unit: 'bytes', label: 'm.bin' });
    }
    expect(pulls.list()).toEqual([]);
    expect(pulls.pulling('fake').size).toBe(0);
  });

  it('whoever comes late is told at once how far it is', async () => {
    const puller = createFakePuller({ holdAt: 500 });
    const { pulls, follow } = openPulls([puller]);
    const first = follow({ model: 'm' });
    await eventually('half has come', () => (pulls.list()[0]?.done ?? 0) >= 500);
    const late = follow({ model: 'm' });
    await eventually('it knows', () => late.events.length >= 2);
    expect(statuses(late.events)[0]).toMatchObject({ state: 'running' });
    expect(progress(late.events)[0]!.done).toBeGreaterThanOrEqual(500);
    puller.letGo();
    expect(await first.end).toBeUndefined();
    expect(await late.end).toBeUndefined();
  });

  it.each([
    [{ model: 'a' }, { model: 'a', runtime: 'fake' }, 1],
    [{ model: 'a' }, { model: 'fake/a' }, 1],
    [{ model: 'a' }, { model: 'b' }, 2],
    [{ model: 'a' }, { model: 'a', source: 'hf:org/repo' }, 2],
    [{ model: 'a' }, { model: 'a', sha256: 'f'.repeat(64) }, 2],
    [{ model: 'a' }, { model: 'a', kind: 'lora' as const }, 2],
  ])('%j and %j are %i', async (one, other, count) => {
    const puller = createFakePuller();
    const { pulls, follow } = openPulls([puller]);
    puller.hold();
    const followers = [follow(one), follow(other)];
    await eventually('both are there', () => pulls.list().reduce((sum, { callers }) => sum + callers, 0) === 2);
    expect(pulls.list()).toHaveLength(count);
    puller.letGo();
    await Promise.all(followers.map(({ end }) => end));
    expect(puller.begun).toHaveLength(count);
  });

  it('what was here already is said to be', async () => {
    const { follow } = openPulls([createFakePuller({ disk: new Map([['m', 1000]]) })]);
    const follower = follow({ model: 'm' });
    await follower.end;
    expect(last(follower.events)).toMatchObject({ type: 'pulled', already: true });
  });

  it('is done when the lists have it, and not before', async () => {
    const listed = Promise.withResolvers<void>();
    const puller = createFakePuller({ toId: (model) => `${model}:latest` });
    const asked: string[] = [];
    const { pulls, follow } = openPulls([puller], {
      onChanged: (runtime, model) => {
        asked.push(`${runtime}/${model}`);
        return listed.promise;
      },
    });
    const follower = follow({ model: 'm' });
    await eventually('it was asked', () => asked.length === 1);
    expect(asked).toEqual(['fake/m:latest']);
    expect(follower.events.some(({ type }) => type === 'pulled')).toBe(false);
    const { id } = pulls.list()[0]!;
    await expect(pulls.pause(id)).rejects.toMatchObject({ code: 'conflict' });
    await expect(pulls.cancel(id)).rejects.toMatchObject({ code: 'conflict' });
    listed.resolve();
    expect(await follower.end).toBeUndefined();
    expect(last(follower.events)).toMatchObject({ model: 'm:latest' });
  });
});

describe('who leaves', () => {
  it('lets it go on for the others', async () => {
    const puller = createFakePuller();
    const { pulls, follow } = openPulls([puller]);
    puller.hold();
    const [gone, stays] = [follow({ model: 'm' }), follow({ model: 'm' })];
    await eventually('both are there', () => pulls.list()[0]?.callers === 2);
    gone.leave();
    expect((await gone.end)?.code).toBe('client_closed');
    expect(pulls.list()[0]?.callers).toBe(1);
    puller.letGo();
    expect(await stays.end).toBeUndefined();
    expect(puller.begun).toHaveLength(1);
  });

  it('as the last stops it, and what has come is used by the next', async () => {
    const puller = createFakePuller({ holdAt: 300 });
    const { pulls, follow, published } = openPulls([puller]);
    const first = follow({ model: 'm' });
    await eventually('some has come', () => (puller.disk.get('m') ?? 0) >= 300);
    first.leave();
    expect(pulls.list()).toEqual([]);
    await eventually('it has stopped', () => puller.running() === 0);
    const came = puller.disk.get('m')!;
    expect(published.at(-1)!.data).toMatchObject({ state: 'cancelled' });
    puller.letGo();
    const next = follow({ model: 'm' });
    expect(await next.end).toBeUndefined();
    expect(progress(next.events)[0]!.done).toBeGreaterThanOrEqual(came);
    expect(puller.fetched()).toBe(1000);
  });

  it('also where nobody reads: the signal is enough', async () => {
    const puller = createFakePuller();
    const { pulls } = openPulls([puller]);
    puller.hold();
    const abort = new AbortController();
    const events = pulls.follow({ model: 'm' }, abort.signal);
    await events.next();
    expect(pulls.list()).toHaveLength(1);
    abort.abort();
    expect(pulls.list()).toEqual([]);
    await eventually('it has stopped', () => puller.running() === 0);
  });

  it('and who reads slowly holds nobody and keeps only the latest', async () => {
    const puller = createFakePuller({ size: 5000, step: 10, ms: 0 });
    const { pulls, follow } = openPulls([puller]);
    const slow = pulls.follow({ model: 'm' }, new AbortController().signal);
    await slow.next();
    const quick = follow({ model: 'm' });
    expect(await quick.end).toBeUndefined();
    const left: FollowEvent[] = [];
    for await (const event of slow) left.push(event);
    expect(left.length).toBeLessThanOrEqual(4);
    expect(progress(left)).toMatchObject([{ done: 5000 }]);
    expect(last(left)).toMatchObject({ type: 'pulled' });
  });
});

describe('pause', () => {
  it('stops the work and nobody who waits; resume goes on where it was', async () => {
    const puller = createFakePuller({ holdAt: 300 });
    const documents = createMemoryDocuments();
    const { pulls, follow, published } = openPulls([puller], { documents });
    const follower = follow({ model: 'm' });
    await eventually('some has come', () => (puller.disk.get('m') ?? 0) >= 300);
    const { id } = pulls.list()[0]!;
    const paused = await pulls.pause(id);
    expect(paused).toMatchObject({ state: 'paused', callers: 1, bytes_per_s: null, eta_s: null });
    expect((await pulls.pause(id)).state).toBe('paused');
    await eventually('it has stopped', () => puller.running() === 0);
    const came = puller.disk.get('m')!;
    const says = `/models/pulls/${id}/resume`;
    await eventually('it is told', () => statuses(follower.events).at(-1)!.message!.includes(says));
    expect(documents.size()).toBe(1);
    puller.letGo();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(puller.disk.get('m')).toBe(came);
    expect((await pulls.resume(id)).state).toBe('running');
    expect((await pulls.resume(id)).state).toBe('running');
    expect(await follower.end).toBeUndefined();
    expect(documents.size()).toBe(0);
    expect(puller.fetched()).toBe(1000);
    const states = published.map(({ data }) => data['state']);
    expect(states.indexOf('paused')).toBeGreaterThan(states.indexOf('running'));
    expect(states.at(-1)).toBe('done');
  });

  it('lasts over a restart: who comes back finds it paused, until somebody resumes it', async () => {
    const puller = createFakePuller({ holdAt: 300 });
    const documents = createMemoryDocuments();
    const before = openPulls([puller], { documents });
    const job = before.follow({ model: 'm', kind: 'lora' });
    await eventually('some has come', () => (puller.disk.get('m') ?? 0) >= 300);
    const { id } = before.pulls.list()[0]!;
    await before.pulls.pause(id);
    await before.pulls.close();
    job.leave();
    await job.end;
    puller.letGo();
    const came = puller.disk.get('m')!;

    const after = openPulls([puller], { documents });
    await eventually('it is known', () => after.pulls.list().length === 1);
    expect(after.pulls.get(id)).toMatchObject({ id, state: 'paused', callers: 0, total: 1000, done: came });
    const again = after.follow({ model: 'm', kind: 'lora' });
    await eventually('it is told', () => again.events.length > 0);
    expect(statuses(again.events)[0]!.message).toContain('Paused');
    expect(puller.begun).toHaveLength(1);
    await after.pulls.resume(id);
    expect(await again.end).toBeUndefined();
    expect(documents.size()).toBe(0);
    expect(puller.fetched()).toBe(1000);
  });

  it('lasts also for whom nobody claims anything yet after the restart, and for those noted beside it', async () => {
    const documents = createMemoryDocuments();
    const pullers = ['a', 'b'].map((runtime) => createFakePuller({ runtime, claims: claimsOf(runtime) }));
    const before = openPulls(pullers, { documents });
    for (const puller of pullers) puller.hold();
    const jobs = ['a', 'b'].map((model) => before.follow({ model }));
    await eventually('both are there', () => before.pulls.list().length === 2);
    for (const { id } of before.pulls.list()) await before.pulls.pause(id);
    await before.pulls.close();
    for (const job of jobs) job.leave();

    const [first, second] = pullers;
    let knows = false;
    const unsure: Puller = {
      ...first!,
      claims: (want) => (knows ? first!.claims(want) : undefined),
      ready: async () => void (knows = true),
    };
    const after = openPulls([unsure, second!], { documents });
    await eventually('both are known', () => after.pulls.list().length === 2);
    expect(after.warnings).toEqual([]);
    const begun = first!.begun.length;
    const again = after.follow({ model: 'a' });
    await eventually('it is told', () => again.events.length > 0);
    expect(statuses(again.events)[0]!.message).toContain('Paused');
    expect(first!.begun).toHaveLength(begun);
    again.leave();
    await again.end;
  });

  it('of one that the last leaves is forgotten', async () => {
    const documents = createMemoryDocuments();
    const puller = createFakePuller();
    const { pulls, follow } = openPulls([puller], { documents });
    puller.hold();
    const follower = follow({ model: 'm' });
    await eventually('it is there', () => pulls.list().length === 1);
    await pulls.pause(pulls.list()[0]!.id);
    follower.leave();
    await eventually('nothing is left', () => documents.size() === 0 && pulls.list().length === 0);
  });
});

describe('cancel', () => {
  it.each([false, true])('ends it for all (paused: %s)', async (paused) => {
    const documents = createMemoryDocuments();
    const puller = createFakePuller();
    const { pulls, follow } = openPulls([puller], { documents });
    puller.hold();
    const followers = [follow({ model: 'm' }), follow({ model: 'm' })];
    await eventually('both are there', () => pulls.list()[0]?.callers === 2);
    const { id } = pulls.list()[0]!;
    if (paused) await pulls.pause(id);
    await pulls.cancel(id);
    const ends = await Promise.all(followers.map(({ end }) => end));
    expect(ends.map((error) => error?.code)).toEqual(['cancelled', 'cancelled']);
    expect(documents.size()).toBe(0);
    expect(() => pulls.get(id)).toThrow(expect.objectContaining({ code: 'not_found' }));
    await expect(pulls.cancel(id)).rejects.toMatchObject({ code: 'not_found' });
    await eventually('it has stopped', () => puller.running() === 0);
  });
});

describe('failures', () => {
  const healable: ErrorCode[] = [
    'upstream_terminated',
    'upstream_idle',
    'upstream_unavailable',
    'upstream_timeout',
    'overloaded',
    'rate_limited',
  ];
  it.each(healable)('%s is tried again, and nothing goes back', async (code) => {
    const puller = createFakePuller({
      fails: (_, count, done) =>
        count <= 3 && done >= count * 200 ? new GatewayError(code, 'The line was cut.', { source: 'fake' }) : undefined,
    });
    const { follow, published } = openPulls([puller]);
    const follower = follow({ model: 'm' });
    expect(await follower.end).toBeUndefined();
    expect(puller.begun).toHaveLength(4);
    expect(statuses(follower.events).some(({ message }) => message?.includes('The line was cut.'))).toBe(true);
    expect(published.some(({ data }) => data['state'] === 'waiting')).toBe(true);
    const all = progress(follower.events).map(({ done }) => done);
    expect(all).toEqual(all.toSorted((a, b) => a - b));
  });

  it('go on for ever as long as something comes in between, and end after five tries that bring nothing', async () => {
    const cut = () => new GatewayError('upstream_terminated', 'The line was cut.', { source: 'fake' });
    const puller = createFakePuller({
      fails: (_, count, done) => (done >= Math.min(700, count * 100) ? cut() : undefined),
    });
    const { follow, published } = openPulls([puller]);
    const follower = follow({ model: 'm' });
    expect((await follower.end)?.code).toBe('upstream_terminated');
    // Seven that brought something, then five that did not.
    expect(puller.begun).toHaveLength(12);
    expect(published.at(-1)!.data).toMatchObject({
      state: 'failed',
      error: { code: 'upstream_terminated' },
      done: 700,
    });
  });

  it.each<[ErrorCode, number | undefined]>([
    ['model_not_found', undefined],
    ['digest_mismatch', undefined],
    ['storage_full', undefined],
    ['model_unavailable', undefined],
    ['internal', undefined],
  ])('%s ends it at once, for all', async (code, retryAfter) => {
    const puller = createFakePuller({ fails: () => new GatewayError(code, 'No.', retryAfter ? { retryAfter } : {}) });
    const { follow } = openPulls([puller]);
    const ends = await Promise.all([follow({ model: 'm' }).end, follow({ model: 'm' }).end]);
    expect(ends.map((error) => error?.code)).toEqual([code, code]);
    expect(puller.begun).toHaveLength(1);
  });

  it('model_unavailable is tried again where it says when', async () => {
    const asked: (number | undefined)[] = [];
    const puller = createFakePuller({
      fails: (_, count) =>
        count === 1 ? new GatewayError('model_unavailable', 'Later.', { retryAfter: 7 }) : undefined,
    });
    const { follow } = openPulls([puller], { backoff: (_, retryAfter) => (asked.push(retryAfter), 5) });
    expect(await follow({ model: 'm' }).end).toBeUndefined();
    expect(asked).toEqual([7]);
  });
});

describe('so many at a time', () => {
  it('two of five work, the others know their place, and all are done', async () => {
    const puller = createFakePuller();
    const { pulls, follow } = openPulls([puller], { concurrency: 2 });
    puller.hold();
    const followers = ['a', 'b', 'c', 'd', 'e'].map((model) => follow({ model }));
    await eventually('two work', () => puller.running() === 2);
    expect(pulls.list().map(({ state }) => state)).toEqual(['running', 'running', 'queued', 'queued', 'queued']);
    await eventually('the last knows', () => statuses(followers[4]!.events).at(-1)?.position === 3);
    puller.letGo();
    expect(await Promise.all(followers.map(({ end }) => end))).toEqual(Array(5).fill(undefined));
    expect(puller.most()).toBe(2);
    expect(puller.begun.map(({ model }) => model)).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(new Set(statuses(followers[4]!.events).map(({ position }) => position))).toEqual(
      new Set([3, 2, 1, undefined]),
    );
  });

  it('one that is paused, or waits for another try, leaves its place to the next', async () => {
    const puller = createFakePuller({
      fails: ({ model }, count) =>
        model === 'b' && count === 1 ? new GatewayError('upstream_idle', 'Silence.') : undefined,
    });
    const { pulls, follow } = openPulls([puller], { concurrency: 1, backoff: () => 60_000 });
    puller.hold();
    const [a, b, c] = ['a', 'b', 'c'].map((model) => follow({ model }));
    await eventually('the first works', () => puller.running() === 1 && pulls.list().length === 3);
    const { id } = pulls.list()[0]!;
    await pulls.pause(id);
    puller.letGo();
    expect(await c!.end).toBeUndefined();
    expect(pulls.list().map(({ state }) => state)).toEqual(['paused', 'waiting']);
    await pulls.resume(id);
    expect(await a!.end).toBeUndefined();
    b!.leave();
    expect((await b!.end)?.code).toBe('client_closed');
  });
});
