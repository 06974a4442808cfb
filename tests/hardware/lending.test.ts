// The card lent to a person: emptied, kept shut until the time is over or it is given back, and also after a restart.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createArbiter } from '../../src/arbiter/arbiter.ts';
import { createClock } from '../../src/arbiter/clock.ts';
import type { StatusEvent } from '../../src/event.ts';
import { createLending, toHoldView, type Lending, type Lent } from '../../src/hardware/lending.ts';
import { readSpan } from '../../src/hardware/span.ts';
import { createLoading, GB, type LoadingRuntime } from '../support/loading-runtime.ts';
import { createMemoryDocuments } from '../support/open-pulls.ts';

const MINUTE = 60_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

interface Given {
  documents?: ReturnType<typeof createMemoryDocuments>;
  queueMs?: number;
  unload?: (signal: AbortSignal) => Promise<unknown>;
  /** Milliseconds that the clock is ahead of timers: a machine that slept. */
  ahead?: () => number;
}

function open(given: Given = {}) {
  const { documents = createMemoryDocuments(), queueMs = 10 * MINUTE, ahead = () => 0, unload } = given;
  const runtime = createLoading();
  const now = () => Date.now() + ahead();
  const clock = createClock(now);
  const arbiter = createArbiter({ tenants: { r: runtime.gpu! }, budget: () => 8 * GB, queueMs, clock });
  const told: (Lent | undefined)[] = [];
  const onChange = (lent: Lent | undefined) => void told.push(lent);
  const lending = createLending({ arbiter, documents, now, onChange, ...(unload ? { unload } : {}) });
  return { arbiter, lending, documents, runtime, told, ask: (model: string) => ask(arbiter, runtime, model) };
}

/** A request for the card: what it is told, and when it has it. */
function ask(arbiter: ReturnType<typeof open>['arbiter'], runtime: LoadingRuntime, model: string) {
  const told: StatusEvent[] = [];
  const abort = new AbortController();
  const request = { runtime: 'r', model, footprint: 4 * GB, tenant: runtime.gpu!, signal: abort.signal };
  const asked = { told, abort, release: undefined as (() => void) | undefined, error: undefined as unknown };
  const work = async () => {
    const events = arbiter.acquire(request);
    for (;;) {
      const { done, value } = await events.next();
      if (!done) told.push(value);
      else {
        runtime.inside.set(model, { model, vram: 4 * GB });
        return void (asked.release = () => value.release());
      }
    }
  };
  work().catch((error: unknown) => (asked.error = error));
  return asked;
}

/** Lets what is under way come to rest. */
const settle = (ms = 100) => vi.advanceTimersByTimeAsync(ms);

const lend = async (lending: Lending, ms: number, reason?: string) => {
  const lent = lending.lend(ms, reason);
  await settle();
  return lent;
};

describe('a card that is lent', () => {
  it('empties: idle models at once, busy ones when they are done', async () => {
    const { arbiter, lending, ask: request, runtime } = open();
    const idle = request('a');
    await settle();
    idle.release!();
    const busy = request('b');
    await settle();
    expect(arbiter.snapshot().held.map(({ model, leases }) => [model, leases])).toEqual([
      ['a', 0],
      ['b', 1],
    ]);
    await lend(lending, 30 * MINUTE, 'gaming');
    expect(runtime.evictions).toEqual(['a']);
    busy.release!();
    await settle();
    expect(runtime.evictions).toEqual(['a', 'b']);
    expect(arbiter.snapshot().held).toEqual([]);
  });

  it('begins nothing; who waits is told until when and what for, and goes on when it is given back', async () => {
    const { lending, ask: request, told } = open();
    await lend(lending, 30 * MINUTE, ' gaming ');
    const waits = request('a');
    await settle();
    expect(waits.release).toBeUndefined();
    const { message } = waits.told.at(-1)!;
    expect(message).toMatch(/^the card is lent until \d\d:\d\d \(gaming\)$/);
    const until = new Date(Date.now() + 30 * MINUTE - 200);
    expect(message).toContain(`${until.getHours()}:`.padStart(3, '0'));
    expect(await lending.giveBack()).toMatchObject({ reason: 'gaming' });
    await settle();
    expect(waits.release).toBeDefined();
    expect(told).toEqual([expect.objectContaining({ reason: 'gaming' }), undefined]);
    expect(await lending.giveBack()).toBeUndefined();
    expect(told).toHaveLength(2);
  });

  it('is back when the time is over, and that time does not count as waiting', async () => {
    const { lending, ask: request, documents } = open({ queueMs: MINUTE });
    await lend(lending, 30 * MINUTE);
    const waits = request('a');
    await settle(29 * MINUTE);
    expect([waits.release, waits.error]).toEqual([undefined, undefined]);
    expect(waits.told.at(-1)!.message).toMatch(/^the card is lent until \d\d:\d\d$/);
    await settle(MINUTE);
    expect(waits.release).toBeDefined();
    expect(lending.now()).toBeUndefined();
    expect(await documents.get('gpu.hold', 'card')).toBeUndefined();
  });

  it('is back in time where the machine slept meanwhile', async () => {
    let ahead = 0;
    const { arbiter, lending } = open({ ahead: () => ahead });
    await lend(lending, 30 * MINUTE);
    ahead = 60 * MINUTE;
    expect(lending.now()).toBeUndefined();
    await settle(MINUTE);
    expect(arbiter.snapshot().closed).toBeUndefined();
  });

  it('is lent for longer, never for shorter, and keeps its reason', async () => {
    const { lending } = open();
    const first = await lend(lending, 30 * MINUTE, 'gaming');
    await settle(10 * MINUTE);
    const second = await lend(lending, 30 * MINUTE);
    expect(second.until - first.until).toBeGreaterThanOrEqual(10 * MINUTE);
    expect(second).toMatchObject({ since: first.since, reason: 'gaming' });
    expect((await lend(lending, MINUTE, 'films')).until).toBe(second.until);
    // The end of the first time ends nothing.
    await settle(25 * MINUTE);
    expect(lending.now()).toMatchObject({ reason: 'films' });
  });

  it.each<[string, number, string | undefined, string]>([
    ['no time', 0, undefined, 'for'],
    ['more than a day', 24 * 60 * MINUTE + 1, undefined, 'for'],
    ['no number', Number.NaN, undefined, 'for'],
    ['a reason of two lines', MINUTE, 'a\nb', 'reason'],
    ['a reason that turns the text around', MINUTE, 'a\u202eb', 'reason'],
    ['a long reason', MINUTE, 'x'.repeat(101), 'reason'],
  ])('is not lent for %s', async (_, ms, reason, param) => {
    const { lending, arbiter } = open();
    await expect(lending.lend(ms, reason)).rejects.toMatchObject({ code: 'invalid_request', param });
    expect(arbiter.snapshot().closed).toBeUndefined();
  });

  it('is not lent where that cannot be written down', async () => {
    const documents = createMemoryDocuments();
    documents.put = async () => Promise.reject(new Error('disk full'));
    const { lending, arbiter } = open({ documents });
    await expect(lending.lend(MINUTE)).rejects.toThrow('disk full');
    expect([lending.now(), arbiter.snapshot().closed]).toEqual([undefined, undefined]);
  });

  it('waits a little, not for ever, for what is off the books to leave', async () => {
    const signals: AbortSignal[] = [];
    const unload = (signal: AbortSignal) => new Promise<void>(() => void signals.push(signal));
    const { lending } = open({ unload });
    const lent = vi.fn<() => void>();
    void lending.lend(MINUTE).then(lent);
    await settle(1000);
    expect(lent).not.toHaveBeenCalled();
    await settle(4000);
    expect(lent).toHaveBeenCalled();
    expect(signals[0]!.aborted).toBe(false);
    lending.close();
    expect(signals[0]!.aborted).toBe(true);
  });
});

describe('after a restart', () => {
  it('it is lent as before, until then', async () => {
    const before = open();
    const lent = await lend(before.lending, 30 * MINUTE, 'gaming');
    before.lending.close();
    await settle(10 * MINUTE);
    const after = open({ documents: before.documents });
    await after.lending.load();
    expect(after.lending.now()).toEqual(lent);
    const waits = after.ask('a');
    await settle(19 * MINUTE);
    expect(waits.release).toBeUndefined();
    await settle(MINUTE);
    expect(waits.release).toBeDefined();
  });

  it('it is nobody’s where the time was over, or what is written makes no sense', async () => {
    const before = open();
    await lend(before.lending, MINUTE);
    before.lending.close();
    await settle(2 * MINUTE);
    const put = (value: unknown) => before.documents.put([{ kind: 'gpu.hold', id: 'card', owner: 'gateway', value }]);
    for (const value of [undefined, { since: 0, until: 'later' }, null]) {
      if (value !== undefined) await put(value);
      const after = open({ documents: before.documents });
      await after.lending.load();
      expect([after.lending.now(), after.arbiter.snapshot().closed]).toEqual([undefined, undefined]);
    }
    await put({ since: 0, until: 1e17 });
    const after = open({ documents: before.documents });
    await after.lending.load();
    expect(after.lending.now()!.until - Date.now()).toBe(24 * 60 * MINUTE);
  });
});

it('is shown in whole seconds and ISO times', () => {
  expect(toHoldView({ since: 0, until: 90_500, reason: undefined }, 1000)).toEqual({
    since: '1970-01-01T00:00:00.000Z',
    until: '1970-01-01T00:01:30.500Z',
    left_s: 90,
    reason: null,
  });
  expect(toHoldView(undefined, 0)).toBeNull();
});

it.each([
  ['90s', 90_000],
  ['30m', 1_800_000],
  [' 2H ', 7_200_000],
  ['1h30m', 5_400_000],
  ['1h0m5s', 3_605_000],
  ['', undefined],
  ['0s', undefined],
  ['30', undefined],
  ['-5m', undefined],
  ['1.5h', undefined],
  ['30m1h', undefined],
  ['9999999999s', undefined],
])('%j is %s ms', (text, ms) => {
  expect(readSpan(text)).toBe(ms);
});
