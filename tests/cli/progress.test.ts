// How a waiting job, or one at work, is told on a terminal and in a log.
import { describe, expect, it } from 'vitest';
import type { Invocation } from '../../cli/command.ts';
import { createProgressLine, toOrdinal, toQueued } from '../../cli/progress.ts';

function openLine(isTTY: boolean) {
  const lines: string[] = [];
  const out = {
    status: (text: string) => lines.push(text),
    note: (text: string) => lines.push(text),
    clearStatus: () => {},
  };
  const invocation = { io: { stderr: { isTTY } }, out } as unknown as Invocation;
  const line = createProgressLine(invocation, ['job_1'], true);
  const tell = (job: object) => line.onEvent({ type: 'job:x', data: { job: { id: 'job_1', ...job } } });
  return { lines, line, tell };
}

describe('a job that waits', () => {
  it('is told by its place and when it will be done', () => {
    const { lines, line, tell } = openLine(false);
    tell({ state: 'queued', position: 3, eta_s: 130, progress: null });
    line.onEvent({
      type: 'job:progress',
      data: { id: 'job_1', percent: 30, done: 6, total: 20, unit: 'steps', eta_s: 12 },
    });
    expect(lines).toEqual(['queued 3rd, ~2 min', 'running: 30 %, 6 of 20 steps, about 12 s left']);
  });

  it('is told less where less is known', () => {
    expect(toQueued(2)).toBe('queued 2nd');
    expect(toQueued(undefined, 40)).toBe('queued, ~40 s');
    expect(toQueued()).toBe('queued');
  });
});

it('places are counted as people do', () => {
  const places = [1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 23, 101, 111, 112, 1003];
  expect(places.map(toOrdinal).join(' ')).toBe(
    '1st 2nd 3rd 4th 10th 11th 12th 13th 21st 22nd 23rd 101st 111th 112th 1003rd',
  );
  expect(toOrdinal(10_001)).toBe('after 10000 others');
});
