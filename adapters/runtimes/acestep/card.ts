// What ACE-Step means for the card: a book of the tasks that compute there, also of those whose callers have left.
import { GatewayError } from '../../../src/error.ts';
import type { GpuTenant } from '../../../src/runtime.ts';
import type { Client } from './wire.ts';

export interface Card {
  gpu: GpuTenant;
  /** A task is on its way to the server: until that answers, it may compute under an id that nobody knows yet. */
  sends(model: string, answered: Promise<unknown>): void;
  /** The task computes; to be called with its id when it is taken. */
  began(id: string, model: string): void;
  /** It is known to compute no more. */
  ended(id: string): void;
  /** Its caller has left: it is watched until it ends. */
  abandoned(id: string): void;
  close(): void;
}

/** Bytes of VRAM: weights of the 2-billion model and its decoder at work. An estimate from its documents, not measured. */
const FOOTPRINT = 8 * 1024 ** 3;
const POLL_MS = 1000;
/** Milliseconds after which an abandoned task is taken for ended, whatever the server says. */
const ABANDONED_MS = 10 * 60_000;
/** Answers in a row that there is no such task, or no answers, until that is believed. */
const MISSES = 5;

/**
 * The server can neither stop a task nor unload its model. While a task computes, the model counts as resident, and nothing else
 * is loaded beside it. An idle server counts as no resident at all: if it did, nothing could ever make it leave, and one request
 * for music would keep every other runtime off the card. With ACESTEP_OFFLOAD_TO_CPU=true that is how it is; without, its
 * weights stay beside the others, and HONO_AI_VRAM should be the card's memory less what they take.
 */
export function createCard(name: string, client: Client): Card {
  const working = new Map<string, string>();
  const watched = new Map<string, Promise<void>>();
  const closed = new AbortController();

  async function watch(id: string): Promise<void> {
    const deadline = Date.now() + ABANDONED_MS;
    for (let misses = 0; misses < MISSES && Date.now() < deadline && !closed.signal.aborted;) {
      await pause(POLL_MS);
      const found = await client.query(id, closed.signal).catch(() => undefined);
      if (found?.state === 'done' || found?.state === 'failed') break;
      misses = found?.state === 'working' ? 0 : misses + 1;
    }
    working.delete(id);
    watched.delete(id);
  }

  /** It ends a moment later, so that by then whoever sent it has said what became of it. */
  async function settle(id: string, answered: Promise<unknown>): Promise<void> {
    await answered.catch(() => {});
    await pause(0);
    working.delete(id);
    watched.delete(id);
  }

  return {
    sends(model, answered) {
      const id = crypto.randomUUID();
      working.set(id, model);
      watched.set(id, settle(id, answered));
    },
    began: (id, model) => void working.set(id, model),
    ended: (id) => void working.delete(id),
    abandoned(id) {
      if (!watched.has(id)) watched.set(id, watch(id));
    },
    close: () => closed.abort(),
    gpu: {
      footprint: () => FOOTPRINT,
      residents: async () =>
        [...new Set(working.values())].map((model) => ({ model, vram: FOOTPRINT, estimated: true })),
      async evict(model, signal) {
        const ends = () => [...watched].filter(([id]) => working.get(id) === model).map(([, end]) => end);
        for (let mine = ends(); mine.length > 0 && !signal.aborted; mine = ends()) {
          await Promise.race([Promise.all(mine), aborted(signal)]);
        }
        if (![...working.values()].includes(model)) return;
        throw new GatewayError('insufficient_vram', `${name} still computes a piece that nobody waits for any more.`, {
          source: name,
          retryAfter: 30,
          hint: 'It cannot be stopped from here: wait for its end, or restart the ACE-Step server.',
        });
      },
    },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** It must not keep a finished program alive. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer: unknown = setTimeout(resolve, ms);
    (timer as { unref?: () => void }).unref?.();
  });
}
