// What a watcher is told, over whichever wire, and the state of things that it is told first.
import type { Entry } from '../hub.ts';

export interface Notice {
  /** By which a watcher resumes; what is no event but a state has none. */
  id?: string;
  type: string;
  /** The data, as JSON. */
  json: string;
}

/** How things stand: told to a watcher that is new, or that missed more than the window holds. */
export interface Snapshot {
  events: { type: string; data: unknown }[];
  /** The job has ended: its last event is among these, and no other will come. */
  ended: boolean;
}

/** What a watcher has seen is not in the window any more: a snapshot follows. */
export const RESET: Notice = { type: 'reset', json: '{}' };

let latest: { entry: Entry; notice: Notice } | undefined;

/** The same object for the same entry, as long as one entry is told to many in a row. */
export function toNotice(entry: Entry): Notice {
  if (latest?.entry !== entry) {
    const { id, event, json } = entry;
    latest = { entry, notice: { id, type: event.type, json } };
  }
  return latest!.notice;
}

export function toStateNotice({ type, data }: { type: string; data: unknown }): Notice {
  return { type, json: JSON.stringify(data ?? {}) };
}

/** A text for each notice, made once as long as one notice is sent to many in a row. */
export function memoize<T>(encode: (notice: Notice) => T): (notice: Notice) => T {
  let last: { notice: Notice; encoded: T } | undefined;
  return (notice) => {
    if (last?.notice !== notice) last = { notice, encoded: encode(notice) };
    return last!.encoded;
  };
}
