// What is done to the card, one thing at a time: looked at, made room on, emptied. Nothing is loaded onto memory that is not free.
import { GatewayError } from '../error.ts';
import type { GpuTenant, Resident } from '../runtime.ts';
import type { Books, Place } from './books.ts';
import { createDeadline, type Clock } from './clock.ts';
import { insufficient } from './failures.ts';
import type { Held } from './policy.ts';

export interface Floor {
  /** Something is being done to the card, or waits for its turn. */
  readonly busy: boolean;
  /** Bytes that no runtime here holds, as they were last seen. */
  readonly others: number;
  /** Does `work` to the card, mixed with nothing else: at once, or in its turn. */
  alone(work: () => Promise<void>): Promise<void>;
  /** Reads what really is there. A runtime that does not answer holds what it was last known to hold. */
  look(): Promise<void>;
  /** Sends them away one after the other, each measured gone before the next. Throws insufficient_vram, upstream failures. */
  evict(victims: readonly Held[], onGone?: (victim: Place) => void): Promise<void>;
}

export interface FloorOptions {
  tenants: Record<string, GpuTenant>;
  books: Books;
  clock: Clock;
  used: ((signal: AbortSignal) => Promise<number | undefined>) | undefined;
  onWedged: (runtime: string, how: 'holds_on') => Promise<boolean>;
  onChange: () => void;
  /** One that would not leave may be asked again. */
  onAgain: () => void;
}

/** Longest time an eviction may take, in milliseconds; a runtime that holds on longer is wedged. */
const EVICT_MS = 30_000;
/** How long one that would not leave is not asked again, in milliseconds. */
const STUCK_MS = 30_000;
/** Longest time that dealing with one that holds on may take, in milliseconds. */
const WEDGED_MS = 120_000;
/** The same of one that did not answer a moment ago: nobody waits for it again and again. */
const HUNG_MS = 300;
/** Longest time that a runtime may take to say what it holds, in milliseconds: all who wait for the card wait for it. */
const LOOK_MS = 5000;
/** With less than this share of it still in use, a model has left the card. */
const GONE = 0.5;

export function createFloor(options: FloorOptions): Floor {
  const { tenants, books, clock, used, onWedged, onChange, onAgain } = options;
  /** Settles when what was asked for last has been done. */
  let last: Promise<void> | undefined;
  /** Runtimes that did not answer in time, and until when they are not waited for. */
  const hungUntil = new Map<string, number>();
  let others = 0;

  async function isMended(runtime: string): Promise<boolean> {
    const limit = createDeadline(clock, WEDGED_MS);
    return limit
      .hold(onWedged(runtime, 'holds_on'))
      .catch(() => false)
      .finally(limit.done);
  }

  /** Bytes of the card in use; undefined where nobody tells, or not in time. */
  async function read(): Promise<number | undefined> {
    if (!used) return undefined;
    const limit = createDeadline(clock, LOOK_MS);
    return limit
      .hold(used(limit.signal))
      .catch(() => undefined)
      .finally(limit.done);
  }

  async function lookAt(runtime: string): Promise<Resident[]> {
    const isHung = (hungUntil.get(runtime) ?? 0) > clock.now();
    const limit = createDeadline(clock, isHung ? HUNG_MS : LOOK_MS);
    try {
      const residents = await limit.hold(books.look(runtime, limit.signal));
      hungUntil.delete(runtime);
      return residents;
    } catch (error) {
      if (limit.signal.aborted) hungUntil.set(runtime, clock.now() + STUCK_MS);
      throw error;
    } finally {
      limit.done();
    }
  }

  const sum = (some: readonly Held[]) => some.reduce((bytes, { footprint }) => bytes + footprint, 0);

  /** Of a runtime that cannot be asked: the card tells that its model is gone, by how much is in use beside all the others. */
  async function isFree(victim: Held): Promise<boolean> {
    const inUse = await read();
    if (inUse === undefined) return false;
    const rest = sum(books.held.filter((one) => one !== victim));
    return inUse - others - rest < victim.footprint * GONE;
  }

  async function evictOne(victim: Held): Promise<void> {
    for (let again = true; ; again = false) {
      const limit = createDeadline(clock, EVICT_MS);
      try {
        return await limit.hold(tenants[victim.runtime]!.evict(victim.model, limit.signal));
      } catch (error) {
        if (again && (await isMended(victim.runtime))) continue;
        if (isDown(error) && (await isFree(victim))) return;
        victim.stuck = true;
        clock.after(STUCK_MS, () => {
          victim.stuck = false;
          onAgain();
        });
        if (error instanceof GatewayError && !isDown(error)) throw error;
        throw insufficient(`${victim.runtime} did not let go of ${victim.model}.`, {
          remedy: `Look at its log, or restart ${victim.runtime}.`,
          cause: error,
        });
      } finally {
        limit.done();
      }
    }
  }

  return {
    get busy() {
      return last !== undefined;
    },
    get others() {
      return others;
    },
    async alone(work) {
      const before = last;
      const { promise, resolve } = Promise.withResolvers<void>();
      last = promise;
      try {
        if (before) await before;
        await work();
      } finally {
        if (last === promise) last = undefined;
        resolve();
      }
    },
    async look() {
      const reading = read();
      const names = Object.keys(tenants);
      const answers = await Promise.allSettled(names.map(lookAt));
      const inUse = await reading;
      if (inUse === undefined) return;
      let seen = 0;
      let unseen = 0;
      for (const [index, answer] of answers.entries()) {
        if (answer.status === 'rejected') unseen += sum(books.held.filter(({ runtime }) => runtime === names[index]));
        else for (const { vram } of answer.value) seen += vram;
      }
      // Whether what was not told of is there still nobody knows: as before, where that can be.
      const [least, most] = [Math.max(0, inUse - seen - unseen), Math.max(0, inUse - seen)];
      others = Math.min(most, Math.max(least, others));
    },
    async evict(victims, onGone = () => {}) {
      for (const victim of victims) victim.leaving = true;
      try {
        for (const victim of victims) {
          await evictOne(victim);
          books.strike(victim);
          onGone({ runtime: victim.runtime, model: victim.model });
          onChange();
        }
      } finally {
        for (const victim of victims) victim.leaving = false;
      }
    },
  };
}

/** It cannot be reached. */
function isDown(error: unknown): boolean {
  return error instanceof GatewayError && error.code === 'upstream_unavailable';
}
