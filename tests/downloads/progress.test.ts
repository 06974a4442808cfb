// How far a download says it is: over all files, never backwards, with a speed that is that of the network.
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createProgress } from '../../adapters/downloads/progress.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'] }));
afterEach(() => void vi.useRealTimers());
const pass = (ms: number) => vi.setSystemTime(Date.now() + ms);

it('counts over all files, and never backwards where one is begun anew', () => {
  const progress = createProgress([100, 300]);
  progress.begin('a', 100);
  progress.end(100);
  progress.begin('b', 300);
  progress.at(250, 0);
  expect(progress.now()).toMatchObject({ done: 350, total: 400, unit: 'bytes', label: 'b' });
  progress.at(0, 0);
  expect(progress.now()).toMatchObject({ done: 350, total: 400 });
  progress.end(300);
  expect(progress.now()).toMatchObject({ done: 400, total: 400 });
});

it('learns sizes on the way, and its total is never less than what is done', () => {
  const progress = createProgress([undefined, 50]);
  progress.begin('a', undefined);
  progress.at(80, 80);
  expect(progress.now()).toMatchObject({ done: 80, total: 80 });
  progress.learn(100);
  expect(progress.now()).toMatchObject({ done: 80, total: 150 });
  progress.end(100);
  expect(progress.now()).toMatchObject({ done: 100, total: 150 });
});

it('tells the speed of what comes, not of what was there, and is silent in between', () => {
  const progress = createProgress([10_000]);
  progress.begin('a', 10_000);
  progress.at(5000, 0);
  pass(1000);
  expect(progress.next()).not.toHaveProperty('rate');
  for (let at = 5100; at <= 9000; at += 100) {
    pass(100);
    progress.at(at, 100);
    const event = progress.next();
    if (at % 200 !== 0) expect(event).toBeUndefined();
  }
  const last = progress.now();
  expect(last.rate).toBeGreaterThan(600);
  expect(last.rate).toBeLessThan(1100);
  expect(last.eta).toBe(Math.ceil(1000 / last.rate!));
});
