// The events of the gateway for connections of every kind: what they share, and the limits that hold for all together.
import type { Hub } from '../hub.ts';
import { refuseBeyond } from './feed.ts';
import type { Snapshot } from './notice.ts';

/** A connection that can be told to end. */
export interface Restartable {
  restart(): void;
}

export interface Realtime {
  hub: Hub;
  /**
   * How a job stands, with `ended` and its last event where it has; without a job, how what has not ended of the caller's
   * stands. Undefined where the caller has no such job.
   */
  snapshot(caller: string, job: string | undefined): Promise<Snapshot | undefined>;
  /** Throws overloaded where no further connection may come. */
  refuseConnection(): void;
  /** Throws overloaded where a connection may watch nothing more. */
  refuseWatch(): void;
  /** Connections over sockets. */
  listeners: Set<Restartable>;
  /** Aborts when the gateway ends. */
  closing: AbortSignal;
  /** Ends every stream and connection; clients come back to the next gateway. */
  close(): void;
}

export function createRealtime(options: Pick<Realtime, 'hub' | 'snapshot'> & { maxWatchers: number }): Realtime {
  const { hub, snapshot, maxWatchers } = options;
  const listeners = new Set<Restartable>();
  const ending = new AbortController();
  return {
    hub,
    snapshot,
    listeners,
    refuseConnection: () => refuseBeyond(maxWatchers, Math.max(hub.watchers(), listeners.size)),
    refuseWatch: () => refuseBeyond(maxWatchers, hub.watchers()),
    closing: ending.signal,
    close() {
      for (const listener of listeners) listener.restart();
      hub.close();
      ending.abort();
    },
  };
}
