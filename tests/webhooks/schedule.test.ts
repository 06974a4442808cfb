// What answers mean and when the next try is.
import { describe, expect, it } from 'vitest';
import { SCHEDULE, toFailure, toPause, toRetryAfter } from '../../src/webhooks/schedule.ts';

const now = Date.UTC(2026, 0, 1);

it('is the schedule of the spec', () => {
  const hours = [0, 5 / 3600, 5 / 60, 0.5, 2, 5, 10, 14, 20, 24];
  expect(SCHEDULE).toEqual(hours.map((count) => Math.round(count * 3_600_000)));
});

it.each([
  [200, undefined],
  [204, undefined],
  [299, undefined],
  [301, 'redirect'],
  [308, 'redirect'],
  [400, 'status'],
  [404, 'status'],
  [410, 'gone'],
  [429, 'status'],
  [500, 'status'],
  [0, 'status'],
])('%i means %s', (status, failure) => {
  expect(toFailure({ status })).toBe(failure);
});

describe('Retry-After', () => {
  it.each([
    ['120', 120_000],
    [' 5 ', 5000],
    ['0', 0],
    [new Date(now + 90_000).toUTCString(), 90_000],
    [new Date(now - 90_000).toUTCString(), 0],
    ['99999999999', 86_400_000],
    ['soon', undefined],
    ['-5', undefined],
    ['', undefined],
  ])('%j asks for %s ms', (retryAfter, wait) => {
    expect(toRetryAfter({ status: 429, retryAfter }, now)).toBe(wait);
    expect(toRetryAfter({ status: 503, retryAfter }, now)).toBe(wait);
  });

  it('counts for 429 and 503 only', () => {
    expect(toRetryAfter({ status: 500, retryAfter: '120' }, now)).toBeUndefined();
  });
});

describe('the pause', () => {
  const pause = (tries: number, retryAfter?: number, random = 0.5) =>
    toPause(tries, { schedule: SCHEDULE, retryAfter, random: () => random });

  it('grows as the schedule says, and ends', () => {
    expect([1, 2, 9].map((tries) => pause(tries))).toEqual([5000, 300_000, 86_400_000]);
    expect(pause(10)).toBeUndefined();
  });

  it('is up to a tenth shorter or longer', () => {
    expect([pause(2, undefined, 0), pause(2, undefined, 1)]).toEqual([270_000, 330_000]);
  });

  it('is never shorter than what the receiver asks for, nor shortened by it', () => {
    expect(pause(1, 60_000)).toBe(60_000);
    expect(pause(2, 60_000)).toBe(300_000);
  });
});
