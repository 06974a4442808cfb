// Runs: replay, many readers, cancellation, and failures that reach everybody.
import { describe, expect, it } from 'vitest';
import { GatewayError } from '../src/error.ts';
import type { RunEvent } from '../src/event.ts';
import { startRun, type RunContext } from '../src/run.ts';

type Event = RunEvent<string, { text: string }>;

function start(source: (context: RunContext) => AsyncIterable<Event>, signal = new AbortController().signal) {
  return startRun<string, { text: string }>({
    id: 'run',
    signal,
    source: (context) => {
      context.setTarget({ model: 'm', runtime: 'r' });
      return source(context);
    },
  });
}

async function* three(): AsyncGenerator<Event> {
  yield { type: 'chunk', chunk: 'a' };
  await new Promise((resolve) => setTimeout(resolve, 5));
  yield { type: 'warning', warning: 'w' };
  yield { type: 'warning', warning: 'w' };
  yield { type: 'chunk', chunk: 'b' };
  yield { type: 'result', result: { text: 'ab' } };
}

const all = async (events: AsyncIterable<unknown>) => {
  const list: unknown[] = [];
  for await (const event of events) list.push(event);
  return list;
};

describe('run', () => {
  it('gives every reader every event, early or late, from any number on', async () => {
    const run = start(three);
    const [first, second] = await Promise.all([all(run.events()), all(run.events(1))]);
    expect(first).toHaveLength(4);
    expect(second).toEqual(first.slice(1));
    expect(await all(run.events())).toEqual(first);
    expect(first.at(-1)).toEqual({ type: 'result', result: { text: 'ab', model: 'm', runtime: 'r', warnings: ['w'] } });
    expect(await run.result).toMatchObject({ text: 'ab', warnings: ['w'] });
  });

  it('goes on when a reader stops', async () => {
    const run = start(three);
    for await (const _ of run.events()) break;
    expect(await run.result).toMatchObject({ text: 'ab' });
  });

  it('never waits for a reader', async () => {
    const run = start(async function* () {
      for (let index = 0; index < 1000; index++) yield { type: 'chunk', chunk: 'x' };
      yield { type: 'result', result: { text: 'x' } };
    });
    const reading = run.events()[Symbol.asyncIterator]();
    await reading.next();
    await run.result;
  });

  it('cancels at the source, and tells readers and the result', async () => {
    let stopped = false;
    const run = start(async function* ({ signal }) {
      yield { type: 'chunk', chunk: 'a' };
      await new Promise((_, reject) =>
        signal.addEventListener('abort', () => {
          stopped = true;
          reject(new Error('connection reset'));
        }),
      );
    });
    await run.started;
    run.cancel();
    await expect(run.result).rejects.toMatchObject({ code: 'client_closed' });
    await expect(all(run.events())).rejects.toMatchObject({ code: 'client_closed' });
    expect(stopped).toBe(true);
    run.cancel();
  });

  it('does not start for a caller who has left', async () => {
    const run = start(async function* ({ signal }) {
      signal.throwIfAborted();
      yield { type: 'chunk', chunk: 'never' };
    }, AbortSignal.abort());
    await expect(run.started).rejects.toMatchObject({ code: 'client_closed' });
  });

  it('fails when the source fails, or ends without a result', async () => {
    const failing = start(async function* () {
      yield { type: 'chunk', chunk: 'a' };
      throw new GatewayError('upstream_idle', 'Silence.');
    });
    await expect(all(failing.events())).rejects.toMatchObject({ code: 'upstream_idle' });
    const empty = start(async function* () {});
    await expect(empty.started).rejects.toMatchObject({ code: 'upstream_truncated' });
    const broken = start(async function* () {
      yield { type: 'status', state: 'running' };
      throw new TypeError('x is not a function');
    });
    await expect(broken.result).rejects.toMatchObject({
      code: 'internal',
      message: expect.not.stringContaining('x is'),
    });
  });
});

it('a run adds up what its turns at the card cost, as it is when it is asked', async () => {
  const place = { runtime: 'r', model: 'x' };
  const go = Promise.withResolvers<void>();
  let runMs = 5;
  const run = start(async function* ({ addCost }) {
    addCost(() => ({ queueMs: 1, swapMs: 2, runMs, evicted: [place] }));
    await go.promise;
    addCost(() => ({ queueMs: 10, swapMs: 20, runMs: 30, evicted: [] }));
    yield { type: 'result', result: { text: 'x' } };
  });
  expect(start(three).cost).toBeUndefined();
  expect([run.cost, run.ended]).toEqual([{ queueMs: 1, swapMs: 2, runMs: 5, evicted: [place] }, false]);
  runMs = 6;
  go.resolve();
  await run.result;
  expect([run.cost, run.ended]).toEqual([{ queueMs: 11, swapMs: 22, runMs: 36, evicted: [place] }, true]);
});

it('a run that waits knows when it will be done, until something comes out', async () => {
  const go = Promise.withResolvers<void>();
  const run = start(async function* () {
    yield { type: 'status', state: 'queued', eta: 90 };
    yield { type: 'status', state: 'queued', eta: 60 };
    yield { type: 'status', state: 'loading' };
    await go.promise;
    yield { type: 'chunk', chunk: 'x' };
    yield { type: 'result', result: { text: 'x' } };
  });
  await new Promise((resolve) => setTimeout(resolve, 1));
  expect(run.eta).toBe(60);
  go.resolve();
  await run.started;
  expect(run.eta).toBeUndefined();
});
