// Pullers that misbehave, registries that are down, wants that nobody can fulfil, and whatever order people come and go in.
import fc from '../support/property.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import { createPullMeter } from '../../src/models/pulls/meter.ts';
import { toPullHandler } from '../../src/models/pulls.ts';
import type { Puller, PullEvent } from '../../src/puller.ts';
import type { RunEvent } from '../../src/event.ts';
import { createFakePuller } from '../support/fake-puller.ts';
import { eventually } from '../support/eventually.ts';
import { createMemoryDocuments, openPulls, type Follower } from '../support/open-pulls.ts';

const never = new Promise<never>(() => {});

describe('a puller that', () => {
  const rough: [string, Puller['pull'], string][] = [
    [
      'throws before it begins',
      () => {
        throw new Error('boom');
      },
      'internal',
    ],
    ['gives nothing to read', () => undefined as never, 'internal'],
    ['ends without a word', async function* () {}, 'upstream_truncated'],
    [
      'says nonsense',
      async function* () {
        yield undefined as never;
        yield { type: 'nonsense' } as never;
        yield { type: 'progress', done: NaN, total: 5 };
        yield { type: 'progress', done: -1, total: Infinity };
        yield { type: 'progress', done: 7, total: -3, unit: 'bytes' };
        yield { type: 'progress', done: 3, total: 5, unit: 'layers' };
        throw new GatewayError('digest_mismatch', 'Not what it should be.');
      },
      'digest_mismatch',
    ],
  ];
  it.each(rough)('%s fails, and the next one works', async (_, pull, code) => {
    const bad = createFakePuller({ runtime: 'bad', pull });
    const good = createFakePuller({ runtime: 'good' });
    const { pulls, follow } = openPulls([bad, good], { concurrency: 1 });
    const follower = follow({ model: 'm', runtime: 'bad' });
    expect((await follower.end)?.code).toBe(code);
    expect(await follow({ model: 'm', runtime: 'good' }).end).toBeUndefined();
    expect(pulls.list()).toEqual([]);
  });

  it('never says a word is given up where it may, and left where its caller goes', async () => {
    const puller = createFakePuller({ pull: () => ({ [Symbol.asyncIterator]: () => ({ next: () => never }) }) });
    const { pulls, follow } = openPulls([puller], { concurrency: 1, patience: { stopMs: 20, silenceMs: 40 } });
    expect((await follow({ model: 'm' }).end)?.code).toBe('upstream_idle');
    expect(puller.begun).toHaveLength(5);
    const follower = follow({ model: 'm' });
    await eventually('it is there', () => pulls.list().length === 1);
    follower.leave();
    expect((await follower.end)?.code).toBe('client_closed');
  });

  it('does not heed its abort is left behind, and its place is free again', async () => {
    const deaf = createFakePuller({
      runtime: 'deaf',
      async *pull() {
        yield { type: 'progress', done: 1, total: 2, unit: 'bytes' };
        await never;
      },
    });
    const good = createFakePuller({ runtime: 'good' });
    const { pulls, follow } = openPulls([deaf, good], { concurrency: 1, patience: { stopMs: 50 } });
    const follower = follow({ model: 'm', runtime: 'deaf' });
    await eventually('it works', () => deaf.running() === 1);
    const next = follow({ model: 'm', runtime: 'good' });
    await pulls.cancel(pulls.list()[0]!.id);
    expect((await follower.end)?.code).toBe('cancelled');
    expect(await next.end).toBeUndefined();
    await pulls.close();
  });

  it('never pauses does not keep others from anything', async () => {
    const greedy = createFakePuller({
      runtime: 'greedy',
      pull: () => ({
        [Symbol.asyncIterator]: () => ({
          next: () => Promise.resolve({ done: false, value: { type: 'progress', done: 1, total: 2 } as PullEvent }),
        }),
      }),
    });
    const { pulls, follow } = openPulls([greedy], { patience: { stopMs: 20 } });
    const follower = follow({ model: 'm' });
    await sleep(20);
    await pulls.cancel(pulls.list()[0]!.id);
    expect((await follower.end)?.code).toBe('cancelled');
    await pulls.close();
  });

  it('is not begun again before its last try has ended', async () => {
    let open = 0;
    let most = 0;
    const slow = createFakePuller({
      async *pull(_, signal) {
        most = Math.max(most, ++open);
        try {
          yield { type: 'progress', done: 1, total: 2, unit: 'bytes' };
          await sleep(10_000, undefined, { signal }).catch(() => sleep(60));
          throw signal.reason;
        } finally {
          open--;
        }
      },
    });
    const { pulls, follow } = openPulls([slow]);
    const follower = follow({ model: 'm' });
    await eventually('it works', () => open === 1);
    const { id } = pulls.list()[0]!;
    await pulls.pause(id);
    await pulls.resume(id);
    await pulls.cancel(id);
    await follower.end;
    const again = follow({ model: 'm' });
    await eventually('it was begun again', () => slow.begun.length >= 2);
    expect(most).toBe(1);
    again.leave();
    await again.end;
    await pulls.close();
  });

  it('has lists that cannot be read again is done all the same', async () => {
    const { follow, warnings } = openPulls([createFakePuller()], {
      onChanged: async () => {
        throw new Error('no list');
      },
    });
    expect(await follow({ model: 'm' }).end).toBeUndefined();
    expect(warnings).toHaveLength(1);
  });
});

describe('who gets it', () => {
  const sure = (runtime: string, ...claims: [RegExp, number][]) =>
    createFakePuller({ runtime, claims: ({ model }) => claims.find(([name]) => name.test(model))?.[1] });
  const { pulls } = openPulls([
    sure('ollama', [/:/, 60], [/./, 10]),
    sure('comfyui', [/^sdxl$/, 100], [/safetensors/, 60]),
    sure('twin', [/safetensors/, 60]),
    { ...sure('broken'), claims: () => JSON.parse('{') as number },
  ]);
  it.each([
    [{ model: 'qwen3:8b' }, 'ollama'],
    [{ model: 'sdxl' }, 'comfyui'],
    [{ model: 'a.safetensors' }, 'comfyui'],
    [{ model: 'a.safetensors', runtime: 'twin' }, 'twin'],
    [{ model: 'twin/a.safetensors' }, 'twin'],
    [{ model: 'twin/qwen3:8b' }, 'ollama'],
    [{ model: 'anything' }, 'ollama'],
  ])('%j → %s', (wanted, runtime) => {
    expect(pulls.choose(wanted).runtime).toBe(runtime);
  });

  it.each([
    [{ model: 'x', runtime: 'nowhere' }, 'not_found', 'ollama, comfyui'],
    [{ model: 'x', runtime: 'comfyui' }, 'not_supported', 'source'],
    [{ model: 'x', runtime: 'broken' }, 'not_supported', 'source'],
  ])('%j: %s with a remedy', (wanted, code, remedy) => {
    const failure = expect.objectContaining({ code, hint: expect.stringContaining(remedy) as string });
    expect(() => pulls.choose(wanted)).toThrow(failure);
  });

  it('is nobody where nothing runs, which is said with what could', () => {
    expect(() => openPulls([]).pulls.choose({ model: 'x' })).toThrow(
      expect.objectContaining({ code: 'not_supported', hint: expect.stringContaining('Ollama') as string }),
    );
  });
});

describe('beside pulling', () => {
  const { signal } = new AbortController();

  it('search asks all, and those that are down are named', async () => {
    const down = createFakePuller({ runtime: 'down' });
    down.search = async () => {
      throw new GatewayError('upstream_unavailable', 'The hub cannot be reached.');
    };
    const { search: _, ...mute } = createFakePuller({ runtime: 'mute' });
    const { pulls } = openPulls([createFakePuller(), down, mute]);
    const found = await pulls.search('fox', signal);
    expect(found.offers).toMatchObject([{ model: 'fox', runtime: 'fake' }]);
    expect(found.problems).toEqual(['down: The hub cannot be reached.']);
  });

  it('nobody waits for one that does not answer', async () => {
    const deaf = createFakePuller({ runtime: 'deaf' });
    Object.assign(deaf, { search: () => never, plan: () => never, remove: () => never });
    const { pulls } = openPulls([deaf]);
    const gone = AbortSignal.timeout(30);
    await expect(pulls.search('fox', gone)).rejects.toThrow();
    await expect(pulls.plan({ model: 'm' }, gone)).rejects.toThrow();
    await expect(pulls.remove('deaf', 'm', gone)).rejects.toThrow();
    expect((await pulls.search('fox', signal)).problems).toEqual(['deaf: deaf did not answer in time.']);
  });

  it('nobody is shown what stands behind the question mark of an address, or before its host', async () => {
    const puller = createFakePuller({ holdAt: 300 });
    const { pulls, published, follow } = openPulls([puller]);
    const follower = follow({ model: 'https://me:secret@host.example/a.safetensors?token=secret#secret' });
    await eventually('some has come', () => (pulls.list()[0]?.done ?? 0) >= 300);
    const shown = 'https://host.example/a.safetensors';
    expect([...pulls.pulling('fake')]).toEqual([shown]);
    expect(pulls.list()[0]).toMatchObject({ model: shown });
    puller.letGo();
    await follower.end;
    // What the scripted puller itself makes of the name is its own.
    const told = follower.events.filter(({ type }) => type !== 'progress' && type !== 'pulled');
    const views = published.map(({ data }) => ({ ...data, file: null }));
    expect(JSON.stringify([views, told])).not.toContain('secret');
  });

  it('plan says for whom', async () => {
    const { pulls } = openPulls([createFakePuller()]);
    expect(await pulls.plan({ model: 'fake/m' }, signal)).toMatchObject({ runtime: 'fake', model: 'm', bytes: 1000 });
  });

  it('remove goes to the runtime, and the lists are read again; not while it is pulled', async () => {
    const puller = createFakePuller({ disk: new Map([['gone', 1000]]) });
    const { pulls, follow, changes } = openPulls([puller]);
    expect(await pulls.remove('fake', 'gone', signal)).toMatchObject({ freed: 1000 });
    expect(changes).toEqual(['fake/gone']);
    await expect(pulls.remove('fake', 'gone', signal)).rejects.toMatchObject({ code: 'model_not_found' });
    await expect(pulls.remove('other', 'gone', signal)).rejects.toMatchObject({ code: 'not_supported' });
    puller.hold();
    const follower = follow({ model: 'M' });
    await eventually('it is pulled', () => pulls.list().length === 1);
    await expect(pulls.remove('fake', 'm:latest', signal)).rejects.toMatchObject({ code: 'conflict' });
    follower.leave();
    await follower.end;
  });

  it('remove whose caller has left is seen through: the lists are read again, and nobody pulls it meanwhile', async () => {
    const puller = createFakePuller({ disk: new Map([['gone', 1000]]) });
    const { remove } = puller;
    const gate = Promise.withResolvers<void>();
    const slow: Puller = { ...puller, remove: async (...given) => gate.promise.then(() => remove!(...given)) };
    const { pulls, follow, changes } = openPulls([slow]);
    await expect(pulls.remove('fake', 'gone', AbortSignal.timeout(20))).rejects.toThrow();
    expect((await follow({ model: 'gone' }).end)?.code).toBe('conflict');
    gate.resolve();
    await eventually('the lists are read', () => changes.includes('fake/gone'));
    expect(await follow({ model: 'gone' }).end).toBeUndefined();
  });

  it('what is published comes four times a second, and at every change', async () => {
    const puller = createFakePuller({ size: 400, step: 1 });
    const { follow, published } = openPulls([puller]);
    const begun = performance.now();
    expect(await follow({ model: 'm' }).end).toBeUndefined();
    const states = published.filter(({ data }, index) => data['state'] !== published[index - 1]?.data['state']);
    expect(published.length - states.length).toBeLessThanOrEqual((performance.now() - begun) / 250 + 1);
    expect(published.every(({ type }) => type === 'model:pull')).toBe(true);
    expect(published.at(-1)!.data).toMatchObject({ state: 'done', percent: 100, done: 400, model: 'm' });
  });

  it('the handler of model.pull says at once what and for whom, and ends with the files', async () => {
    const { pulls } = openPulls([createFakePuller({ toId: () => 'm:latest' })]);
    const handle = toPullHandler(pulls);
    const targets: unknown[] = [];
    const call = { signal, requestId: 'r', setTarget: (target: unknown) => void targets.push(target) };
    const events: RunEvent<never, unknown>[] = [];
    for await (const event of handle({ model: 'fake/m', stream: false }, call)) events.push(event);
    expect(targets).toEqual([
      { runtime: 'fake', model: 'm' },
      { runtime: 'fake', model: 'm:latest' },
    ]);
    expect(events.at(-1)).toEqual({
      type: 'result',
      result: { files: [{ name: 'm.bin', size: 1000 }], already: false },
    });
    await expect(handle.check?.({ model: 'm', runtime: 'nowhere', stream: false })).rejects.toThrow('nowhere');
  });
});

describe('how far it is', () => {
  it('never goes back and never beyond the end, whatever is said', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ done: fc.double(), total: fc.double(), again: fc.boolean() }), { maxLength: 50 }),
        (events) => {
          let now = 0;
          const meter = createPullMeter({}, () => (now += 50));
          let before = { done: 0, percent: 0 };
          for (const { done, total, again } of events) {
            if (again) meter.begin();
            meter.take({ type: 'progress', done, total });
            expect(meter.done).toBeGreaterThanOrEqual(before.done);
            expect(Number.isSafeInteger(meter.done)).toBe(true);
            if (meter.total !== undefined) expect(meter.total).toBeGreaterThanOrEqual(meter.done);
            const percent = meter.percent ?? before.percent;
            expect(percent).toBeGreaterThanOrEqual(before.percent);
            expect(percent).toBeLessThanOrEqual(100);
            for (const value of [meter.rate, meter.eta])
              if (value !== undefined) expect(value).toBeGreaterThanOrEqual(0);
            before = { done: meter.done, percent };
          }
        },
      ),
    );
  });

  it('has the speed of the last seconds, not of what was here before, and none once nothing moves', () => {
    let now = 0;
    const meter = createPullMeter({}, () => now);
    const take = (done: number) => meter.take({ type: 'progress', done, total: 2000, unit: 'bytes' });
    take(1000);
    expect(meter.rate).toBeUndefined();
    for (let step = 1; step <= 5; step++) {
      now += 1000;
      take(1000 + step * 100);
    }
    expect(meter.rate).toBeCloseTo(100);
    expect(meter.eta).toBeCloseTo(5);
    meter.begin();
    now += 1000;
    take(0);
    take(1600);
    now += 1000;
    take(1700);
    expect(meter.rate).toBeLessThan(2000);
    now += 60_000;
    expect(meter.rate).toBeUndefined();
    expect(meter.eta).toBeUndefined();
  });

  it('is as the puller says where it measures itself', () => {
    const meter = createPullMeter({}, () => 0);
    meter.take({ type: 'progress', done: 1, total: 100, rate: 10, eta: 42 });
    expect([meter.rate, meter.eta]).toEqual([10, 42]);
  });
});

describe('in whatever order people come, go, pause, resume and cancel', () => {
  const act = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('join' as const), model: fc.constantFrom('a', 'b', 'c') }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('leave' as const), who: fc.nat(9) }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constantFrom('pause' as const, 'resume' as const, 'cancel' as const),
        who: fc.nat(2),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('sleep' as const), ms: fc.nat(4) }) },
  );

  it('all end, nothing is left, and no more work than may', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 25 }), async (acts) => {
        const puller = createFakePuller({
          size: 300,
          ms: 0,
          fails: (_, count, done) =>
            count % 3 === 1 && done === 200 ? new GatewayError('upstream_terminated', 'Cut.') : undefined,
        });
        const documents = createMemoryDocuments();
        const { pulls, follow } = openPulls([puller], { documents, concurrency: 2, backoff: () => 1 });
        const followers: Follower[] = [];
        for (const one of acts) {
          if (one.kind === 'join') followers.push(follow({ model: one.model }));
          else if (one.kind === 'leave') followers[one.who]?.leave();
          else if (one.kind === 'sleep') await sleep(one.ms);
          else {
            const id = pulls.list()[one.who]?.id;
            // It may end in that moment.
            if (id !== undefined) await pulls[one.kind](id).catch(() => {});
          }
          expect(puller.most()).toBeLessThanOrEqual(2);
        }
        for (const { id, state } of pulls.list()) if (state === 'paused') await pulls.resume(id).catch(() => {});
        const ends = await Promise.all(followers.map(({ end }) => end));
        for (const [index, error] of ends.entries()) {
          expect(['client_closed', 'cancelled', undefined]).toContain(error?.code);
          if (!error) expect(followers[index]!.events.at(-1)).toMatchObject({ type: 'pulled' });
        }
        await pulls.close();
        expect(pulls.list()).toEqual([]);
        expect(documents.size()).toBe(0);
        expect(puller.running()).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});
