// What other gateways are told: events in a stream that readers can resume in, and word of work, read on a connection of its own.
import type { Redis } from 'ioredis';
import type { EventSpine, Happening } from '../../../src/store.ts';
import type { Link } from './link.ts';

export interface Changes {
  listen(listener: () => void): () => void;
  /** Tells who listens here; others learn it from the stream that the scripts write. */
  tell(): void;
}

export interface Streams {
  spine: EventSpine;
  changes: Changes;
  close(): void;
}

/** Events that are kept for readers that resume. */
const LENGTH = 10_000;
/** Previews carry pictures; a window of them must not take all memory. */
const BYTES = 32 * 1024 * 1024;
/** How long one question for news waits, in milliseconds, and how long the answer may be late before the connection counts as dead. */
const BLOCK_MS = 2000;
const LATE_MS = 3000;
const RETRY_MS = 200;
const PIECE = 500;

type Entry = [id: string, fields: string[]];

export async function openStreams(link: Link): Promise<Streams> {
  const keys = { events: `${link.prefix}:events`, wake: `${link.prefix}:wake` };
  const listeners = new Set<() => void>();
  const watchers = new Set<(id: string, event: Happening) => void>();
  const seen = { events: await newest(link.redis, keys.events), wake: await newest(link.redis, keys.wake) };
  const reader = link.duplicate();
  let following = false;
  let telling = false;
  let closed = false;

  /** Once for everything that one turn of the event loop brought. */
  function tell(): void {
    if (telling || closed) return;
    telling = true;
    queueMicrotask(() => {
      telling = false;
      for (const listener of listeners) attempt(listener);
    });
  }

  function take(stream: string, entries: Entry[]): void {
    const last = entries.at(-1)![0];
    if (stream === keys.wake) {
      seen.wake = last;
      return tell();
    }
    for (const [id, fields] of entries) {
      const event = toEvent(fields);
      seen.events = id;
      if (event) for (const watcher of watchers) attempt(() => watcher(id, event));
    }
  }

  /** Ids go on from the newest by the clock of Redis; where its data is gone and that clock was set back they begin lower. */
  async function rewind(): Promise<void> {
    for (const name of ['events', 'wake'] as const) {
      if (isBefore(await newest(reader, keys[name]), seen[name])) seen[name] = '0-0';
    }
  }

  async function follow(): Promise<void> {
    reader.on('ready', () => void rewind().catch(() => {}));
    for (;;) {
      if (closed) return;
      if (reader.status !== 'ready') {
        await pause(RETRY_MS);
        continue;
      }
      const overdue = setTimeout(() => reader.disconnect(true), BLOCK_MS + LATE_MS);
      try {
        // Events wait until somebody watches: what was missed between `history` and `subscribe` is then still to come.
        const names = following ? [keys.wake, keys.events] : [keys.wake];
        const places = following ? [seen.wake, seen.events] : [seen.wake];
        const found = await reader.xread('COUNT', PIECE, 'BLOCK', BLOCK_MS, 'STREAMS', ...names, ...places);
        for (const [stream, entries] of (found ?? []) as [string, Entry[]][]) take(stream, entries);
      } catch {
        if (!closed) await pause(RETRY_MS);
      } finally {
        clearTimeout(overdue);
      }
    }
  }
  void follow();

  return {
    changes: {
      listen(listener) {
        // A wrapper, so that the same function may listen twice.
        const entry = () => listener();
        listeners.add(entry);
        return () => listeners.delete(entry);
      },
      tell,
    },
    spine: {
      publish(event) {
        link.run('publish', { length: LENGTH, bytes: BYTES }, [JSON.stringify(event)]).catch(() => {});
      },
      subscribe(listener) {
        const entry = (id: string, event: Happening) => listener(id, event);
        watchers.add(entry);
        if (!following) {
          following = true;
          // The question under way does not ask for events: it ends with the next word.
          link.redis.xadd(keys.wake, 'MAXLEN', '~', 16, '*', 'w', '1').catch(() => {});
        }
        return () => watchers.delete(entry);
      },
      async history(limit) {
        const entries = (await link.guard(
          link.redis.xrevrange(keys.events, '+', '-', 'COUNT', limit),
          5000,
        )) as Entry[];
        const last = entries[0]?.[0];
        if (!following && last !== undefined) seen.events = last;
        return entries.toReversed().flatMap(([id, fields]) => {
          const event = toEvent(fields);
          return event ? [{ id, event }] : [];
        });
      },
    },
    close() {
      closed = true;
      listeners.clear();
      watchers.clear();
      reader.disconnect();
    },
  };
}

async function newest(redis: Redis, key: string): Promise<string> {
  const [entry] = (await redis.xrevrange(key, '+', '-', 'COUNT', 1)) as Entry[];
  return entry?.[0] ?? '0-0';
}

function isBefore(one: string, other: string): boolean {
  const [ms = 0, n = 0] = one.split('-').map(Number);
  const [otherMs = 0, otherN = 0] = other.split('-').map(Number);
  return ms < otherMs || (ms === otherMs && n < otherN);
}

function toEvent([, text]: string[]): Happening | undefined {
  try {
    return JSON.parse(text!) as Happening;
  } catch {
    return undefined;
  }
}

/** One who fails to listen must not keep the others from hearing. */
function attempt(listener: () => void): void {
  try {
    listener();
  } catch {
    // It is the listener's own affair.
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms).unref());
