// One connection that listens over a socket: which events it hears, and what happens when it does not keep up.
import { GatewayError } from '../error.ts';
import { isTerminal } from '../hub.ts';
import { MAX_BUFFERED, openFeed, type Feed } from './feed.ts';
import { memoize, type Notice } from './notice.ts';
import type { Realtime } from './realtime.ts';

/** What carries it: a WebSocket or a Socket.IO connection. No function throws. */
export interface Wire {
  tell(notice: Notice): void;
  close(code: number, reason: string): void;
  /** Bytes that wait to be sent. */
  buffered(): number;
}

export interface Listener {
  /**
   * Hears a job from now on, or everything of its caller. A connection that asks for a job hears only the jobs it asked for.
   * `accepted` is called before the first event. Throws not_found and overloaded; then nothing changes.
   */
  subscribe(
    to: { job?: string | undefined; after?: string | undefined },
    accepted?: (ended: boolean) => void,
  ): Promise<void>;
  /** No longer hears the job; without one, anything. */
  unsubscribe(job?: string): void;
  /** Call for every message that comes in. False where they come too fast: the connection is closed. */
  allow(): boolean;
  /** Call when the connection has ended. */
  close(): void;
}

/** Close codes of RFC 6455 and its registry. */
export const closeCodes = { unsupported: 1003, policy: 1008, tooBig: 1009, restart: 1012, tooSlow: 1013 } as const;

const MAX_ROOMS = 256;
/** Messages that may come at once, and per second from then on. */
const BURST = 100;
const PER_SECOND = 20;
/** Jobs whose end was told and is remembered, so that it is told once. */
const MAX_ENDS = 1000;
/** The key of the feed of everything. */
const ALL = '';

export function createListener(realtime: Realtime, caller: string, wire: Wire): Listener {
  const feeds = new Map<string, Feed>();
  /** The latest wish for each feed; an older one that is still under way gives up. */
  const wishes = new Map<string, symbol>();
  const ends = new Set<string>();
  let closed = false;
  let credit = BURST;
  let counted = performance.now();

  function tell(notice: Notice): void {
    if (closed) return;
    if (wire.buffered() > MAX_BUFFERED) return cut(closeCodes.tooSlow, 'too slow');
    if (isRepeatedEnd(notice)) return;
    wire.tell(notice);
  }

  /** The same end may come by two feeds, one that ends and one that begins. */
  function isRepeatedEnd(notice: Notice): boolean {
    if (!/^job:(queued|running|done|failed|cancelled)$/.test(notice.type)) return false;
    const job = toJobId(notice);
    if (job === undefined) return false;
    if (!isTerminal(notice)) return ends.delete(job) && false;
    if (ends.has(job)) return true;
    ends.add(job);
    if (ends.size > MAX_ENDS) ends.delete(ends.values().next().value!);
    return false;
  }

  function cut(code: number, reason: string): void {
    close();
    wire.close(code, reason);
  }

  function close(): void {
    if (closed) return;
    closed = true;
    realtime.listeners.delete(listener);
    drop();
  }

  function drop(): void {
    for (const feed of feeds.values()) feed.close();
    feeds.clear();
    wishes.clear();
  }

  async function subscribe(
    { job, after }: { job?: string | undefined; after?: string | undefined },
    accepted?: (ended: boolean) => void,
  ): Promise<void> {
    const key = job ?? ALL;
    // One that replaces another adds none.
    if (!feeds.has(key) && !feeds.has(ALL)) realtime.refuseWatch();
    if (wishes.size >= MAX_ROOMS && !wishes.has(key)) {
      throw new GatewayError('overloaded', `One connection hears at most ${MAX_ROOMS} jobs.`);
    }
    const wish = Symbol(key);
    wishes.set(key, wish);
    // What happens meanwhile waits there, or it would be told twice.
    const all = feeds.get(ALL);
    all?.hold(true);
    let feed: Feed;
    try {
      const { hub, snapshot } = realtime;
      feed = await openFeed({ hub, owner: caller, job, after, snapshot: () => snapshot(caller, job) });
    } catch (error) {
      if (wishes.get(key) === wish && !feeds.has(key)) wishes.delete(key);
      all?.hold(false);
      throw error;
    }
    if (closed || wishes.get(key) !== wish) {
      feed.close();
      all?.hold(false);
      return;
    }
    for (const [other, old] of feeds) {
      if (other !== key && other !== ALL && job !== undefined) continue;
      old.close();
      feeds.delete(other);
      if (other !== key) wishes.delete(other);
    }
    feeds.set(key, feed);
    accepted?.(feed.ended);
    feed.start({ tell, buffered: wire.buffered, end: () => onEnd(key, feed) });
  }

  function onEnd(key: string, feed: Feed): void {
    if (feeds.get(key) !== feed) return;
    feeds.delete(key);
    wishes.delete(key);
  }

  const listener: Listener & { restart(): void } = {
    subscribe,
    unsubscribe(job) {
      if (job === undefined) return drop();
      feeds.get(job)?.close();
      feeds.delete(job);
      wishes.delete(job);
    },
    allow() {
      const now = performance.now();
      credit = Math.min(BURST, credit + ((now - counted) / 1000) * PER_SECOND) - 1;
      counted = now;
      if (credit >= 0) return true;
      cut(closeCodes.policy, 'too many messages');
      return false;
    },
    close,
    restart: () => cut(closeCodes.restart, 'the gateway ends'),
  };
  realtime.listeners.add(listener);
  return listener;
}

/** The job that an event of its life is about. */
const toJobId = memoize(({ json }): string | undefined => {
  const { job } = JSON.parse(json) as { job?: { id?: unknown } };
  return typeof job?.id === 'string' ? job.id : undefined;
});
