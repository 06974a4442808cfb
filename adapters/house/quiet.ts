// Quiet hours: when nothing of the background begins, by the clock on the wall.
import type { Closed } from '../../src/arbiter/policy.ts';

/** Minutes since midnight on the wall, of a time in milliseconds since 1970. */
export type Wall = (ms: number) => number;

const MINUTE = 60_000;
/** The longest day that clocks on walls have, in minutes: one that they are set back in, by as much as anywhere. */
const DAY = 26 * 60;

/**
 * `hours`: `23:00-07:00`, in the time of this machine; from a time to the same time is none at all. `now` in milliseconds since 1970.
 * What is told holds until the wall shows the end, however clocks are set forward or back meanwhile.
 */
export function createQuiet(
  hours: string | undefined,
  now: () => number,
  wall: Wall = wallOfThisMachine,
): () => Closed | undefined {
  const [from, to] = (hours ?? '').split('-').map(toMinutes);
  if (from === undefined || to === undefined || from === to) return () => undefined;
  const isQuiet = (ms: number) => {
    const at = wall(ms);
    return from < to ? at >= from && at < to : at >= from || at < to;
  };
  const because = `quiet hours until ${hours!.slice(-5)}`;
  let known = { since: 0, until: 0 };
  return () => {
    const at = now();
    if (at >= known.since && at < known.until) return { until: known.until, because };
    if (!isQuiet(at)) return undefined;
    // An end that is reckoned may be an hour that does not exist, or one that comes twice; the first minute that is not quiet is neither.
    let until = (Math.floor(at / MINUTE) + 1) * MINUTE;
    for (let minute = 0; minute < DAY && isQuiet(until); minute++) until += MINUTE;
    known = { since: at, until };
    return { until, because };
  };
}

function toMinutes(time: string): number | undefined {
  const [, hour, minute] = /^([01]\d|2[0-3]):([0-5]\d)$/.exec(time) ?? [];
  return hour === undefined ? undefined : Number(hour) * 60 + Number(minute);
}

function wallOfThisMachine(ms: number): number {
  const date = new Date(ms);
  return date.getHours() * 60 + date.getMinutes();
}
