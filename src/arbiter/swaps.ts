// Swaps as they are carried out: look, make room, look again, let in; and the record of them.
import type { Place } from './books.ts';
import type { Clock } from './clock.ts';
import { insufficient, toRefusal } from './failures.ts';
import type { Floor } from './floor.ts';
import type { Decision, Swap } from './policy.ts';
import type { Queue, Waiter } from './queue.ts';
import type { SwapRecord } from './view.ts';

export interface Swaps {
  /** The newest last. */
  readonly records: readonly SwapRecord[];
  /** Brings the next model to the card, or refuses what can never come; nothing where neither is to be done any more. */
  next(): Promise<void>;
}

export interface SwapsOptions {
  clock: Clock;
  floor: Floor;
  queue: Queue;
  /** What is to be done with the card as it is now; that something is being done to it does not count. */
  decide: () => Decision;
  grant: (waiter: Waiter) => void;
  onSwap: (swap: SwapRecord) => void;
}

/** Looks and evictions for one swap, until it fits. */
const ROUNDS = 4;
const MAX_RECORDS = 500;

export function createSwaps({ clock, floor, queue, decide, grant, onSwap }: SwapsOptions): Swaps {
  const records: SwapRecord[] = [];

  /** Looks before a model comes to the card, for memory that others took must count; makes room, looks again, lets it in. */
  async function swap(): Promise<void> {
    let last: Waiter | undefined;
    try {
      for (let round = 0; round < ROUNDS; round++) {
        await floor.look();
        const { swap: next, refuse } = decide();
        for (const refusal of refuse) queue.settle(refusal.waiting.id, (one) => (one.error = toRefusal(refusal)));
        const waiter = next && queue.waiters.get(next.for.id);
        if (last !== waiter) waitAgain(last);
        last = waiter;
        if (!next || !last) return;
        if (next.victims.length === 0) return queue.settle(last.id, grant);
        if (!(await makeRoom(last, next))) return;
      }
      if (last) queue.settle(last.id, (one) => (one.error = insufficient('The card does not become free.')));
    } finally {
      waitAgain(last);
    }
  }

  /** Room was made for it, and somebody else goes first now. */
  function waitAgain(waiter: Waiter | undefined): void {
    if (waiter?.status.state !== 'swapping' || !queue.waiters.has(waiter.id)) return;
    const { message: _old, ...status } = waiter.status;
    queue.report(waiter, { ...status, state: 'queued' });
  }

  /** Whether it was made. */
  async function makeRoom(waiter: Waiter, { victims, because }: Swap): Promise<boolean> {
    const { id, runtime, model, caller } = waiter;
    const at = clock.now();
    const evicted: Place[] = [];
    let failure: Error | undefined;
    queue.report(waiter, { ...waiter.status, state: 'swapping', message: because });
    await floor
      .evict(victims, (victim) => {
        evicted.push(victim);
        waiter.evicted.push(victim);
      })
      .catch((error: Error) => (failure = error));
    const tookMs = clock.now() - at;
    waiter.swapMs += tookMs;
    const record = { at, runtime, model, caller, evicted, because, tookMs };
    records.push(failure ? { ...record, failure: failure.message } : record);
    if (records.length > MAX_RECORDS) records.shift();
    onSwap(records.at(-1)!);
    // Never load onto a card that is not free: this request fails, the next one looks again.
    if (failure) queue.settle(id, (one) => (one.error = failure!));
    return failure === undefined;
  }

  return { records, next: () => floor.alone(swap) };
}
