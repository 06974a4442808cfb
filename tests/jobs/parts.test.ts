// The small parts of the engine: progress, pauses, time, preferences.
import { describe, expect, it } from 'vitest';
import { toPreference } from '../../src/http/prefer.ts';
import { createProgressMeter } from '../../src/jobs/progress.ts';
import { delayOf } from '../../src/jobs/retry.ts';
import { createStopwatch } from '../../src/jobs/timings.ts';

describe('progress', () => {
  it('never goes back, never beyond 100, and knows what is no number', () => {
    let at = 0;
    const meter = createProgressMeter(() => (at += 1000));
    const percent = (done: number, total = 100) => meter.progress({ type: 'progress', done, total })?.percent;
    expect([percent(10), percent(5), percent(300), percent(Number.NaN), percent(1, 0)]).toEqual([
      10,
      10,
      100,
      undefined,
      undefined,
    ]);
  });

  it('of bytes tells the speed, and how many have come where nobody knows how many there are', () => {
    let at = 0;
    const meter = createProgressMeter(() => (at += 1000));
    const bytes = { type: 'progress' as const, unit: 'bytes' };
    expect(meter.progress({ ...bytes, done: 5, total: 0 })).toEqual({ percent: 0, done: 5, unit: 'bytes' });
    expect(meter.eta).toBeUndefined();
    const told = meter.progress({ ...bytes, done: 50, total: 100, rate: 5, eta: 10, label: 'a.bin' });
    expect(told).toEqual({ percent: 50, done: 50, total: 100, unit: 'bytes', rate: 5, label: 'a.bin' });
    expect(meter.eta).toBeLessThan(10);
    expect(meter.status({ type: 'status', state: 'queued', message: 'Paused.' })).toEqual({
      percent: 50,
      done: 50,
      total: 100,
      unit: 'bytes',
      label: 'a.bin',
      message: 'Paused.',
    });
    expect(meter.eta).toBeNull();
  });

  it('is told at most ten times a second, but its end always', () => {
    let at = 0;
    const meter = createProgressMeter(() => at);
    let told = 0;
    for (let done = 1; done <= 1000; done++) {
      at += 1;
      if (meter.progress({ type: 'progress', done, total: 1000 })) told++;
    }
    expect(told).toBeLessThanOrEqual(12);
    expect(meter.latest?.percent).toBe(100);
  });
});

it('pauses double, keep to retry-after, and end at a minute', () => {
  const middle = () => 0.5;
  expect([1, 2, 3, 10, 60].map((tries) => delayOf(tries, 0, middle))).toEqual([1000, 2000, 4000, 60_000, 60_000]);
  expect(delayOf(1, 30, middle)).toBe(30_000);
});

it('time is told apart: waiting, making room, working', () => {
  let at = 0;
  const watch = createStopwatch(50, () => at);
  watch.status('queued');
  at = 100;
  watch.status('swapping');
  at = 300;
  watch.working();
  at = 1000;
  expect(watch.read()).toEqual({ queue_ms: 150, swap_ms: 200, run_ms: 700 });
});

it.each([
  [undefined, undefined],
  ['return=minimal', undefined],
  ['respond-async', { async: true, applied: 'respond-async' }],
  ['wait=10', { async: false, waitMs: 10_000, applied: 'wait=10' }],
  ['Respond-Async, wait=100; foo=bar', { async: true, waitMs: 100_000, applied: 'respond-async, wait=100' }],
  ['wait=-1', undefined],
  ['wait=abc, respond-async', { async: true, applied: 'respond-async' }],
])('Prefer: %s', (header, preference) => {
  expect(toPreference(header)).toEqual(preference);
});
