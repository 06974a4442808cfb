// Owns the card: queues who wants it, carries out what the policy decides, and hands out leases.
import { GatewayError } from '../error.ts';
import type { StatusEvent } from '../event.ts';
import type { GpuTenant } from '../runtime.ts';
import { decide, type Held, type Want } from './policy.ts';

export interface Lease {
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
  /** What is on the card and who waits, for people and tests. */
  snapshot(): { held: readonly Held[]; waiting: { runtime: string; model: string }[]; budget: number | undefined };
}

export interface ArbiterOptions {
  tenants: Record<string, GpuTenant>;
  /** Bytes of VRAM that models may use; undefined: one model at a time. */
  budget: number | undefined;
  /** Longest wait for the card, in milliseconds. */
  queueMs: number;
  /** Called when who holds the card, or who waits for it, has changed. */
  onChange?: () => void;
}

/** Longest time an eviction may take, in milliseconds; a runtime that holds on longer is wedged. */
const EVICT_MS = 30_000;

interface Waiter {
  request: Request;
  status: StatusEvent;
  lease?: Lease;
  error?: Error;
  /** Called whenever `status`, `lease` or `error` changed. */
  wake: () => void;
}

export function createArbiter({ tenants, budget, queueMs, onChange = () => {} }: ArbiterOptions): Arbiter {
  const held: Held[] = [];
  const queue: Waiter[] = [];
  let swapping = false;

  function grant(want: Want): Lease {
    let entry = held.find((model) => model.runtime === want.runtime && model.model === want.model);
    if (!entry) {
      entry = { runtime: want.runtime, model: want.model, footprint: want.footprint, leases: 0, usedAt: 0 };
      held.push(entry);
    }
    const mine = entry;
    mine.leases++;
    mine.usedAt = performance.now();
    onChange();
    let released = false;
    return {
      release() {
        if (released) return;
        released = true;
        mine.leases--;
        mine.usedAt = performance.now();
        onChange();
        void pump();
      },
    };
  }

  /** First come, first served: whoever arrives later never overtakes, so nobody starves. */
  async function pump(): Promise<void> {
    while (!swapping && queue.length > 0) {
      const waiter = queue[0]!;
      const want = waiter.request;
      let decision = decide({ want, held, budget, swapping });
      if (decision.do !== 'grant' || !isHeld(want)) {
        // A new model comes to the card: look first what really is there. Memory that others took must count.
        swapping = true;
        try {
          await sync();
        } finally {
          swapping = false;
        }
        if (queue[0] !== waiter) continue;
        decision = decide({ want, held, budget, swapping });
      }
      if (decision.do === 'grant') {
        queue.shift();
        waiter.lease = grant(want);
        waiter.wake();
      } else if (decision.do === 'refuse') {
        queue.shift();
        waiter.error = insufficient(`${decision.because}.`);
        waiter.wake();
      } else if (decision.do === 'wait') {
        report(waiter, { type: 'status', state: 'queued', position: 1, message: decision.because });
        break;
      } else {
        const names = decision.victims.map((victim) => victim.model).join(', ');
        report(waiter, { type: 'status', state: 'swapping', position: 1, message: `making room: unloading ${names}` });
        await evict(waiter, decision.victims);
      }
    }
    queue.forEach((waiter, index) => {
      if (waiter.status.position !== index + 1) report(waiter, { ...waiter.status, position: index + 1 });
    });
  }

  async function evict(waiter: Waiter, victims: readonly Held[]): Promise<void> {
    swapping = true;
    try {
      for (const victim of victims) {
        await tenants[victim.runtime]!.evict(victim.model, AbortSignal.timeout(EVICT_MS));
        held.splice(held.indexOf(victim), 1);
        onChange();
      }
    } catch (error) {
      // Never load onto a card that is not free: this request fails, the next one looks again.
      remove(waiter);
      waiter.error = error instanceof GatewayError ? error : insufficient('The card could not be freed.', error);
      waiter.wake();
    } finally {
      swapping = false;
    }
  }

  async function sync(): Promise<void> {
    const known = await Promise.all(
      Object.entries(tenants).map(async ([runtime, tenant]) => ({
        runtime,
        // A runtime that does not answer holds what it was last known to hold.
        residents: await tenant.residents(AbortSignal.timeout(EVICT_MS)).catch(() => undefined),
      })),
    );
    for (const { runtime, residents } of known) {
      if (!residents) continue;
      for (let index = held.length - 1; index >= 0; index--) {
        const entry = held[index]!;
        if (entry.runtime !== runtime || entry.leases > 0) continue;
        if (!residents.some((resident) => resident.model === entry.model)) held.splice(index, 1);
      }
      for (const { model, vram } of residents) {
        const entry = held.find((other) => other.runtime === runtime && other.model === model);
        if (entry) entry.footprint = Math.max(entry.footprint, vram);
        else if (vram > 0) held.push({ runtime, model, footprint: vram, leases: 0, usedAt: 0 });
      }
    }
  }

  function isHeld(want: Want): boolean {
    return held.some((model) => model.runtime === want.runtime && model.model === want.model);
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
    if (queue.length === 0 && !swapping && isHeld(request)) return grant(request);
    let wake = () => {};
    const status: StatusEvent = { type: 'status', state: 'queued', position: queue.length + 1 };
    const waiter: Waiter = { request, status, wake: () => wake() };
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
    snapshot: () => ({
      held: held.map((entry) => ({ ...entry })),
      waiting: queue.map(({ request }) => ({ runtime: request.runtime, model: request.model })),
      budget,
    }),
  };
}

function insufficient(message: string, cause?: unknown): GatewayError {
  return new GatewayError('insufficient_vram', message, {
    retryAfter: 30,
    hint: 'Choose a smaller model, or raise HONO_AI_VRAM if the card has more.',
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
