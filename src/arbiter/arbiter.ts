// Owns the card: queues who wants it, carries out what the policy decides, and hands out leases.
import { GatewayError } from '../error.ts';
import type { StatusEvent } from '../event.ts';
import type { GpuTenant, Resident } from '../runtime.ts';
import { createBooks, type Place } from './books.ts';
import { decide, type Held, type Want } from './policy.ts';

export interface Lease {
  /** What had to leave the card for it. */
  readonly evicted: readonly Place[];
  /** To be called once, when the runtime is done with the request. Further calls do nothing. */
  release(): void;
}

export interface Request extends Want {
  tenant: GpuTenant;
  signal: AbortSignal;
}

export interface Arbiter {
  /** Yields where the request stands while it waits; returns the lease. Throws insufficient_vram, overloaded, client_closed. */
  acquire(request: Request): AsyncGenerator<StatusEvent, Lease>;
  /**
   * Sends a model away by hand or for its idleness; whoever asks for it meanwhile waits, and then has it loaded. Resolves when
   * it is measured gone; with `in_use`, and nothing done, where a lease uses it, or where `usedAt` is given and it has been
   * used since or somebody waits for it. Throws insufficient_vram, client_closed, upstream failures.
   */
  dismiss(place: Place, options?: { usedAt?: number; signal?: AbortSignal }): Promise<'gone' | 'in_use'>;
  /** What a runtime holds of the card now; the books follow. Throws what the runtime throws. */
  look(runtime: string, signal: AbortSignal): Promise<Resident[]>;
  /** What is on the card and who waits, for people and tests. */
  snapshot(): { held: readonly Held[]; waiting: { runtime: string; model: string }[]; budget: number | undefined };
}

export interface ArbiterOptions {
  tenants: Record<string, GpuTenant>;
  /** Bytes of VRAM that models may use, asked at each decision; undefined: one model at a time. */
  budget: () => number | undefined;
  /** Nothing larger than the budget is let in. Default true. */
  isFirm?: boolean;
  /** Never unloaded to make room. */
  isPinned?: (runtime: string, model: string) => boolean;
  /** Longest wait for the card, in milliseconds. */
  queueMs: number;
  /** Milliseconds, on a clock that does not jump. */
  now?: () => number;
  /** Called when who holds the card, or who waits for it, has changed. */
  onChange?: () => void;
  /** Called with what a runtime was just seen to hold. */
  onResidents?: (runtime: string, residents: readonly Resident[]) => void;
}

/** Longest time an eviction may take, in milliseconds; a runtime that holds on longer is wedged. */
const EVICT_MS = 30_000;
/** Longest time that a runtime may take to say what it holds, in milliseconds: all who wait for the card wait for it. */
const LOOK_MS = 5000;

interface Waiter {
  request: Request;
  status: StatusEvent;
  /** What has left the card for it so far. */
  evicted: Place[];
  lease?: Lease;
  error?: Error;
  /** Called whenever `status`, `lease` or `error` changed. */
  wake: () => void;
}

export function createArbiter(options: ArbiterOptions): Arbiter {
  const { tenants, budget, isFirm = true, queueMs, now = Date.now } = options;
  const { onChange = () => {}, onResidents = () => {} } = options;
  const books = createBooks({ tenants, now, onResidents });
  const { held } = books;
  const queue: Waiter[] = [];
  /** On their way off the card: whoever wants one of them waits. */
  const leaving = new Set<Held>();
  /** Settles when the swap that is under way has ended. */
  let swap: Promise<void> | undefined;

  const isPinned = ({ runtime, model }: Place) => options.isPinned?.(runtime, model) ?? false;
  const toDecision = (want: Want) =>
    decide({ want, held, budget: budget(), isFirm, swapping: swap !== undefined, isPinned });

  /** One swap at a time: what `work` does to the card is not to be mixed with anything else. */
  async function swapping(work: () => Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    swap = promise;
    try {
      await work();
    } finally {
      swap = undefined;
      resolve();
    }
  }

  function grant(want: Want, evicted: readonly Place[] = []): Lease {
    const mine = books.enter(want);
    onChange();
    let released = false;
    return {
      evicted,
      release() {
        if (released) return;
        released = true;
        books.leave(mine);
        onChange();
        void pump();
      },
    };
  }

  /** First come, first served: whoever arrives later never overtakes, so nobody starves. */
  async function pump(): Promise<void> {
    while (!swap && queue.length > 0) {
      const waiter = queue[0]!;
      const want = waiter.request;
      let decision = toDecision(want);
      if (decision.do !== 'grant' || !books.find(want)) {
        // A new model comes to the card: look first what really is there. Memory that others took must count.
        await swapping(lookAtAll);
        if (queue[0] !== waiter) continue;
        decision = toDecision(want);
      }
      if (decision.do === 'grant') {
        queue.shift();
        waiter.lease = grant(want, waiter.evicted);
        waiter.wake();
      } else if (decision.do === 'refuse') {
        queue.shift();
        waiter.error = insufficient(`${decision.because}.`, decision);
        waiter.wake();
      } else if (decision.do === 'wait') {
        report(waiter, { type: 'status', state: 'queued', position: 1, message: decision.because });
        break;
      } else {
        const names = decision.victims.map((victim) => victim.model).join(', ');
        report(waiter, { type: 'status', state: 'swapping', position: 1, message: `making room: unloading ${names}` });
        await makeRoom(waiter, decision.victims);
      }
    }
    queue.forEach((waiter, index) => {
      if (waiter.status.position !== index + 1) report(waiter, { ...waiter.status, position: index + 1 });
    });
  }

  async function makeRoom(waiter: Waiter, victims: readonly Held[]): Promise<void> {
    try {
      await swapping(() => evict(victims, (victim) => waiter.evicted.push(victim)));
    } catch (error) {
      // Never load onto a card that is not free: this request fails, the next one looks again.
      remove(waiter);
      waiter.error =
        error instanceof GatewayError ? error : insufficient('The card could not be freed.', { cause: error });
      waiter.wake();
    }
  }

  async function evict(victims: readonly Held[], onGone: (victim: Place) => void = () => {}): Promise<void> {
    for (const victim of victims) leaving.add(victim);
    try {
      for (const victim of victims) {
        await tenants[victim.runtime]!.evict(victim.model, AbortSignal.timeout(EVICT_MS));
        books.strike(victim);
        onGone({ runtime: victim.runtime, model: victim.model });
        onChange();
      }
    } finally {
      for (const victim of victims) leaving.delete(victim);
    }
  }

  /** A runtime that does not answer holds what it was last known to hold. */
  async function lookAtAll(): Promise<void> {
    const signal = AbortSignal.timeout(LOOK_MS);
    await Promise.allSettled(Object.keys(tenants).map((runtime) => books.look(runtime, signal)));
  }

  async function dismiss(
    place: Place,
    { usedAt, signal }: { usedAt?: number; signal?: AbortSignal } = {},
  ): Promise<'gone' | 'in_use'> {
    for (let other = swap; other; other = swap) await other;
    if (signal?.aborted) throw cancelled();
    // Decided here, where nothing comes between: what the asker has seen may be over.
    const entry = books.find(place);
    if (entry && entry.leases > 0) return 'in_use';
    const awaited = queue.some(({ request }) => request.runtime === place.runtime && request.model === place.model);
    if (usedAt !== undefined && (awaited || entry?.usedAt !== usedAt)) return 'in_use';
    try {
      await swapping(() => evict([entry ?? { ...place, footprint: 0, leases: 0, usedAt: 0 }]));
    } finally {
      void pump();
    }
    return 'gone';
  }

  function remove(waiter: Waiter): void {
    const index = queue.indexOf(waiter);
    if (index >= 0) queue.splice(index, 1);
  }

  function report(waiter: Waiter, status: StatusEvent): void {
    waiter.status = status;
    waiter.wake();
  }

  async function* acquire(request: Request): AsyncGenerator<StatusEvent, Lease> {
    if (request.signal.aborted) throw cancelled();
    // The common case costs nothing: the model is there and nobody waits.
    const there = queue.length === 0 ? books.find(request) : undefined;
    if (there && !leaving.has(there)) return grant(request);
    let wake = () => {};
    const status: StatusEvent = { type: 'status', state: 'queued', position: queue.length + 1 };
    const waiter: Waiter = { request, status, evicted: [], wake: () => wake() };
    const leave = (error: Error) => {
      if (waiter.lease) return;
      remove(waiter);
      waiter.error ??= error;
      wake();
      void pump();
    };
    const onAbort = () => leave(cancelled());
    request.signal.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => leave(queueTimeout(queueMs)), queueMs);
    queue.push(waiter);
    onChange();
    void pump();
    let finished = false;
    try {
      let seen: StatusEvent | undefined;
      while (!waiter.lease && !waiter.error) {
        if (waiter.status === seen) await new Promise<void>((resolve) => (wake = resolve));
        else yield (seen = waiter.status);
      }
      if (waiter.error) throw waiter.error;
      finished = true;
      return waiter.lease!;
    } finally {
      clearTimeout(timer);
      request.signal.removeEventListener('abort', onAbort);
      // The reader left in the middle: neither its place in the queue nor a lease given meanwhile may stay.
      if (!finished) {
        remove(waiter);
        waiter.lease?.release();
      }
    }
  }

  return {
    acquire,
    dismiss,
    look: books.look,
    snapshot: () => ({
      held: held.map((entry) => ({ ...entry })),
      waiting: queue.map(({ request }) => ({ runtime: request.runtime, model: request.model })),
      budget: budget(),
    }),
  };
}

function insufficient(message: string, { remedy, cause }: { remedy?: string; cause?: unknown }): GatewayError {
  return new GatewayError('insufficient_vram', message, {
    retryAfter: 30,
    hint: remedy ?? 'Choose a smaller model, or raise HONO_AI_VRAM if the card has more.',
    ...(cause === undefined ? {} : { cause }),
  });
}

function cancelled(): GatewayError {
  return new GatewayError('client_closed', 'The request was cancelled while it waited for the card.');
}

function queueTimeout(queueMs: number): GatewayError {
  return new GatewayError('overloaded', `The card was not free within ${Math.round(queueMs / 1000)} s.`, {
    retryAfter: 30,
    hint: 'Ask again later, or raise HONO_AI_QUEUE_MS.',
  });
}
