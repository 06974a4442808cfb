// The node classes of a server: megabytes that change only when somebody installs something, so they are kept.
import type { Client } from './client.ts';
import { cancelled } from './failure.ts';
import type { ObjectInfo } from './workflow.ts';

export interface Classes {
  /** Not older than `maxAgeMs`. Throws upstream_unavailable, upstream_invalid, client_closed. */
  get(signal: AbortSignal, maxAgeMs?: number): Promise<ObjectInfo>;
  /** The next who asks gets them anew. */
  forget(): void;
  /** Whether they were read longer ago than that, in milliseconds. */
  isOlder(ms: number): boolean;
}

const KEEP_MS = 5 * 60_000;

export function createClasses(client: Client): Classes {
  let known: { info: ObjectInfo; at: number } | undefined;
  let reading: Promise<ObjectInfo> | undefined;

  /** Shared, and not ended by one of its callers leaving. */
  function read(): Promise<ObjectInfo> {
    reading ??= client
      .objectInfo()
      .then((info) => {
        known = { info, at: performance.now() };
        return info;
      })
      .finally(() => (reading = undefined));
    return reading;
  }

  return {
    async get(signal, maxAgeMs = KEEP_MS) {
      if (known && performance.now() - known.at <= maxAgeMs) return known.info;
      return orLeave(read(), signal);
    },
    forget: () => (known = undefined),
    isOlder: (ms) => known === undefined || performance.now() - known.at > ms,
  };
}

async function orLeave<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const left = Promise.withResolvers<never>();
  const leave = () => left.reject(cancelled());
  if (signal.aborted) leave();
  else signal.addEventListener('abort', leave, { once: true });
  // Whoever left does not hear how it ended.
  promise.catch(() => {});
  try {
    return await Promise.race([promise, left.promise]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
