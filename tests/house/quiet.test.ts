// Quiet hours by the clock on the wall: over midnight, and over the days on which clocks are set.
import { describe, expect, it } from 'vitest';
import { createQuiet, type Wall } from '../../adapters/house/quiet.ts';

const utc: Wall = (ms) => Math.floor(ms / 60_000) % 1440;

/** The wall clock of a place. */
function wallOf(timeZone: string): Wall {
  const format = new Intl.DateTimeFormat('en-GB', { timeZone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
  return (ms) => {
    const [hour, minute] = format.format(ms).split(':').map(Number);
    return hour! * 60 + minute!;
  };
}

function at(time: string, hours: string | undefined, wall: Wall = utc) {
  const told = createQuiet(hours, () => Date.parse(time), wall)();
  return told && { ...told, until: new Date(told.until!).toISOString().slice(0, 16) };
}

describe('quiet hours', () => {
  it.each([
    ['2026-03-01T22:59:59.999Z', undefined],
    ['2026-03-01T23:00:00.000Z', '2026-03-02T07:00'],
    ['2026-03-02T00:00:00.000Z', '2026-03-02T07:00'],
    ['2026-03-02T06:59:59.999Z', '2026-03-02T07:00'],
    ['2026-03-02T07:00:00.000Z', undefined],
    ['2026-03-02T12:00:00.000Z', undefined],
  ])('over midnight: %s → %s', (time, until) => {
    expect(at(time, '23:00-07:00')).toEqual(until && { until, because: 'quiet hours until 07:00' });
  });

  it.each([
    ['2026-03-01T12:59:00Z', undefined],
    ['2026-03-01T13:00:00Z', '2026-03-01T14:30'],
    ['2026-03-01T14:29:59Z', '2026-03-01T14:30'],
    ['2026-03-01T14:30:00Z', undefined],
  ])('within a day: %s → %s', (time, until) => {
    expect(at(time, '13:00-14:30')?.until).toBe(until);
  });

  it('are none where nothing is set, nothing sensible, or no time at all', () => {
    for (const hours of [undefined, '', 'at night', '25:00-26:00', '07:00', '07:00-07:00']) {
      expect(at('2026-03-01T07:00:00Z', hours), String(hours)).toBeUndefined();
    }
  });

  it('end when the wall shows the end, on the days on which clocks are set', () => {
    const berlin = wallOf('Europe/Berlin');
    // Forward at 01:00Z: 02:00 becomes 03:00, so seven hours from 23:00 to 07:00.
    expect(at('2026-03-28T22:00:00Z', '23:00-07:00', berlin)?.until).toBe('2026-03-29T05:00');
    // Back at 01:00Z: 03:00 becomes 02:00, so nine.
    expect(at('2026-10-24T21:00:00Z', '23:00-07:00', berlin)?.until).toBe('2026-10-25T06:00');
  });

  it('end with the hour that their end would be in, where that hour does not exist', () => {
    const berlin = wallOf('Europe/Berlin');
    expect(at('2026-03-28T23:00:00Z', '23:00-02:30', berlin)?.until).toBe('2026-03-29T01:00');
    expect(at('2026-03-29T01:00:00Z', '23:00-02:30', berlin)).toBeUndefined();
  });

  it('never end in the past, where the wall shows the same time twice', () => {
    const berlin = wallOf('Europe/Berlin');
    expect(at('2026-10-25T00:20:00Z', '23:00-02:30', berlin)?.until).toBe('2026-10-25T00:30');
    expect(at('2026-10-25T00:40:00Z', '23:00-02:30', berlin)).toBeUndefined();
    expect(at('2026-10-25T01:10:00Z', '23:00-02:30', berlin)?.until).toBe('2026-10-25T01:30');
  });

  it('begin and end as time goes on, each at its minute', () => {
    let now = Date.parse('2026-03-01T22:00:00Z');
    const quiet = createQuiet('23:00-07:00', () => now, utc);
    const seen: string[] = [];
    for (let minute = 0; minute < 2 * 1440; minute++, now += 60_000) {
      const is = quiet() !== undefined;
      if (is !== (seen.length % 2 === 1)) seen.push(new Date(now).toISOString().slice(11, 16));
    }
    expect(seen).toEqual(['23:00', '07:00', '23:00', '07:00']);
  });

  it('are in the time of this machine', () => {
    const date = new Date(2026, 5, 15, 23, 30);
    const told = createQuiet('23:00-07:00', () => date.getTime())();
    expect(told?.until).toBe(new Date(2026, 5, 16, 7, 0).getTime());
  });
});
