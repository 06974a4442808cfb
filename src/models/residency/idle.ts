// Sends away models that nobody has used for as long as was agreed; what others use or hold is theirs.
import type { Arbiter } from '../../arbiter/arbiter.ts';
import type { Held } from '../../arbiter/policy.ts';
import { toGatewayError } from '../../error.ts';
import { memoryOf, type RuntimeAdapter } from '../../runtime.ts';
import { untilAborted } from '../../timers.ts';
import type { Look } from './look.ts';

export interface Idle {
  /** A model begins to be used; what it returns is to be called when that has ended. For what is not on the arbiter's books. */
  use(runtime: string, model: string): () => void;
  /** Who uses it and since when nobody does, as far as that went through this gateway. */
  find(runtime: string, model: string): Use | undefined;
  /** A load said how long that model is to stay, until it is used the next time. In seconds, -1 for ever. */
  stay(runtime: string, model: string, keepS: number): void;
  /** Looks once at everything. Never throws. */
  sweep(signal: AbortSignal): Promise<void>;
}

export interface IdleOptions {
  runtimes: RuntimeAdapter[];
  arbiter: () => Pick<Arbiter, 'snapshot' | 'dismiss'>;
  look: Look;
  /** Seconds without use until a model is sent away; undefined: never by the gateway. */
  ttlOf: (runtime: string, model: string) => number | undefined;
  now: () => number;
  /** A model has come to memory or left it. */
  onMoved: (runtime: string) => void;
  warn(message: string, fields: Record<string, unknown>): void;
}

/** One that could not be sent away is left alone for so long, in milliseconds. */
const AGAIN_MS = 60_000;
/** A runtime that means to keep a model for longer than this, in milliseconds, has been asked to by somebody else. */
const SLACK_MS = 15_000;
const EVICT_MS = 30_000;
/** How often it is told that a model is used and so must be in memory, in milliseconds. */
const TOLD_MS = 10_000;

/** A model that is in use or was. */
export type Use = Pick<Held, 'runtime' | 'model' | 'leases' | 'usedAt'>;

export function createIdle({ runtimes, arbiter, look, ttlOf, now, onMoved, warn }: IdleOptions): Idle {
  const stays = new Map<string, { usedAt: number; keepS: number }>();
  const failedAt = new Map<string, number>();
  /** Of runtimes that are not on the arbiter's books. */
  const uses = new Map<string, Use>();
  const told = new Map<string, number>();

  const all = () => [...arbiter().snapshot().held, ...uses.values()];
  const find = (runtime: string, model: string) =>
    all().find((entry) => entry.runtime === runtime && entry.model === model);

  function use(runtime: string, model: string): () => void {
    const adapter = runtimes.find(({ name }) => name === runtime);
    if (!adapter || adapter.gpu || !memoryOf(adapter)?.evict) return () => {};
    const key = toKey(runtime, model);
    const entry = uses.get(key) ?? { runtime, model, leases: 0, usedAt: 0 };
    uses.set(key, entry);
    let over = false;
    const touch = (leases: number) => Object.assign(entry, { leases: entry.leases + leases, usedAt: now() });
    touch(1);
    return () => {
      if (over) return;
      over = true;
      touch(-1);
      if (now() - (told.get(key) ?? -Infinity) < TOLD_MS) return;
      // What was used is in memory, perhaps since then.
      told.set(key, now());
      onMoved(runtime);
    };
  }

  function isOver({ runtime, model, leases, usedAt }: Use): boolean {
    // Only what was used through this gateway can be known to be idle.
    if (leases > 0 || usedAt === 0) return false;
    const said = stays.get(toKey(runtime, model));
    const ttl = said?.usedAt === usedAt ? said.keepS : ttlOf(runtime, model);
    if (ttl === undefined || ttl < 0 || now() - usedAt < ttl * 1000) return false;
    return now() - (failedAt.get(toKey(runtime, model)) ?? -Infinity) >= AGAIN_MS;
  }

  async function sendAway(entry: Use, signal: AbortSignal): Promise<void> {
    const { runtime, model, usedAt } = entry;
    const adapter = runtimes.find(({ name }) => name === runtime);
    if (!adapter) return;
    const there = (await look(adapter, signal)).find((resident) => resident.model === model);
    // Gone by itself: looking has set the arbiter's books right.
    if (!there) return forget(entry, usedAt);
    if (there.busy) return;
    if (there.expiresAt !== undefined && there.expiresAt > now() + SLACK_MS) return;
    if (!adapter.gpu) {
      if (entry.leases > 0 || entry.usedAt !== usedAt) return;
      const limit = AbortSignal.any([signal, AbortSignal.timeout(EVICT_MS)]);
      await untilAborted(adapter.memory!.evict!(model, limit), limit);
      forget(entry, usedAt);
      onMoved(runtime);
    } else if ((await arbiter().dismiss({ runtime, model }, { usedAt, signal })) === 'gone') onMoved(runtime);
  }

  /** Unless it was used meanwhile. */
  function forget(entry: Use, usedAt: number): void {
    if (entry.leases === 0 && entry.usedAt === usedAt) uses.delete(toKey(entry.runtime, entry.model));
  }

  return {
    use,
    find,
    stay(runtime, model, keepS) {
      const entry = find(runtime, model);
      if (entry) stays.set(toKey(runtime, model), { usedAt: entry.usedAt, keepS });
    },
    async sweep(signal) {
      const entries = all();
      const names = new Set(entries.map(({ runtime, model }) => toKey(runtime, model)));
      for (const map of [stays, failedAt]) for (const key of map.keys()) if (!names.has(key)) map.delete(key);
      for (const entry of entries.filter(isOver)) {
        if (signal.aborted) return;
        const { runtime, model } = entry;
        await sendAway(entry, signal).catch((thrown: unknown) => {
          if (signal.aborted) return;
          failedAt.set(toKey(runtime, model), now());
          const { code, message } = toGatewayError(thrown);
          // Others use it, which is no trouble; what is down has nothing in memory.
          if (code === 'conflict' || code === 'upstream_unavailable') return;
          warn(`${model} is idle but could not be unloaded: ${message}`, { runtime, model });
        });
      }
    },
  };
}

function toKey(runtime: string, model: string): string {
  return `${runtime} ${model}`;
}
