// The store for several gateways: jobs, documents and events in Redis or Valkey, the order of jobs with BullMQ.
import type { Log } from '../../../src/http/context.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Store } from '../../../src/store.ts';
import { createDocuments } from './documents.ts';
import { createJobs } from './jobs.ts';
import { openJournal } from './journal.ts';
import { createKeeper, type Keeper } from './keeper.ts';
import { openLink } from './link.ts';
import { createOrder } from './order.ts';
import { openStreams } from './streams.ts';

export interface RedisStoreOptions {
  /** `redis://` or `rediss://`. */
  url: string;
  /** Gateways with the same one share their jobs. */
  prefix?: string;
  /** A file on this machine for what was promised and has not ended; without it, Redis alone is trusted. */
  journalPath?: string;
  /** Milliseconds since 1970. */
  now?: () => number;
  log?: Log;
}

/** Throws a ConfigError where the address does not answer or does not let us in. */
export async function openRedisStore(options: RedisStoreOptions): Promise<Store> {
  const { url, prefix = 'hono-ai', journalPath, now = Date.now, log = () => {} } = options;
  let keeper: Keeper | undefined;
  const link = await openLink({ url, prefix, onLost: () => keeper?.lost() });
  const journal = openJournal(journalPath);
  const streams = await openStreams(link);
  const { changes, spine } = streams;
  const order = createOrder(link, changes.tell);
  keeper = createKeeper({ link, order, journal, changes, now, log });
  let open = true;
  const asked = new Set<Promise<unknown>>();

  /** What was asked is finished before the store closes; what comes later is refused. */
  function toGated<T extends object>(parts: T): T {
    const gated = Object.entries(parts as Record<string, (...args: unknown[]) => unknown>).map(([name, work]) => {
      const ask = async (...args: unknown[]) => {
        if (!open) throw new GatewayError('storage_unavailable', 'The store is closed.', { retryAfter: 5 });
        const answer = work(...args) as Promise<unknown>;
        asked.add(answer);
        return answer.finally(() => asked.delete(answer));
      };
      return [name, ask];
    });
    return Object.fromEntries(gated) as T;
  }

  const jobs = createJobs({ link, order, journal, changes, now });
  const store: Store = {
    name: 'redis',
    jobs: { ...toGated(jobs), onChange: jobs.onChange },
    documents: toGated(createDocuments(link, now)),
    spine,
    health: async () => (open ? keeper.health() : { ok: false, problems: ['The store is closed.'] }),
    async close() {
      if (!open) return;
      open = false;
      await Promise.allSettled(asked);
      await keeper.close();
      streams.close();
      await order.close();
      journal.close();
      link.disconnect();
    },
  };
  try {
    await keeper.begin();
  } catch (error) {
    await store.close();
    throw error;
  }
  return store;
}
