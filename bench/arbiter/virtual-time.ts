// A clock that stands still while anything goes on and then jumps to what is due next: hours in a second, the same every time.
import type { Clock } from '../../src/arbiter/clock.ts';

export interface VirtualClock extends Clock {
  /** Lets everything due by `until`, in milliseconds, happen, and stands there then; without it, everything there is. */
  run(until?: number): Promise<void>;
  /** Runs until `work` is settled, and gives what it gives. Throws where it is not and nothing is left to happen by `until`: it would hang. */
  finish<T>(work: Promise<T>, until?: number): Promise<T>;
  sleep(ms: number): Promise<void>;
  /** What is still to happen. */
  pending(): number;
}

interface Timer {
  at: number;
  /** Of those at the same time, who was set first fires first. */
  order: number;
  /** Undefined once it has fired or was taken back. */
  call: (() => void) | undefined;
}

/** What `work` waits for must come from this clock alone: of real timers, files and sockets it knows nothing. */
export function createVirtualClock(start = 0): VirtualClock {
  let now = start;
  let order = 0;
  let live = 0;
  const heap: Timer[] = [];

  function after(ms: number, call: () => void): () => void {
    // What is never due would keep nothing going, and be in the way.
    if (ms === Infinity) return () => {};
    const timer: Timer = { at: now + (ms > 0 ? ms : 0), order: order++, call };
    push(heap, timer);
    live++;
    return () => {
      if (!timer.call) return;
      timer.call = undefined;
      live--;
    };
  }

  function next(): Timer | undefined {
    while (heap[0] && !heap[0].call) pop(heap);
    return heap[0];
  }

  function fire(timer: Timer): void {
    pop(heap);
    now = timer.at;
    const { call } = timer;
    timer.call = undefined;
    live--;
    call!();
  }

  async function run(until = Infinity): Promise<void> {
    await settled();
    for (let timer = next(); timer && timer.at <= until; timer = next()) {
      fire(timer);
      await settled();
    }
    if (until !== Infinity) now = Math.max(now, until);
  }

  async function finish<T>(work: Promise<T>, until = Infinity): Promise<T> {
    const state = { done: false };
    const mark = () => void (state.done = true);
    work.then(mark, mark);
    await settled();
    while (!state.done) {
      const timer = next();
      if (!timer || timer.at > until) throw new Error(`The work is not done at ${now} ms, and nothing will end it.`);
      fire(timer);
      await settled();
    }
    return work;
  }

  return {
    now: () => now,
    after,
    run,
    finish,
    sleep: (ms) => new Promise((resolve) => void after(ms, resolve)),
    pending: () => live,
  };
}

/** A turn of the event loop comes only when no promise has anything left to do. */
function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

function push(heap: Timer[], timer: Timer): void {
  let index = heap.length;
  for (; index > 0; index = (index - 1) >> 1) {
    const parent = heap[(index - 1) >> 1]!;
    if (!isBefore(timer, parent)) break;
    heap[index] = parent;
  }
  heap[index] = timer;
}

/** Takes the first away. */
function pop(heap: Timer[]): void {
  const last = heap.pop()!;
  if (heap.length === 0) return;
  let index = 0;
  for (;;) {
    let child = 2 * index + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
    if (!isBefore(heap[child]!, last)) break;
    heap[index] = heap[child]!;
    index = child;
  }
  heap[index] = last;
}
