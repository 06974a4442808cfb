// Sends one model away by hand: not while it is in use, and done only when its runtime does not hold it any more.
import type { Arbiter } from '../../arbiter/arbiter.ts';
import type { Place } from '../../arbiter/books.ts';
import { GatewayError } from '../../error.ts';
import { memoryOf } from '../../runtime.ts';
import { untilAborted } from '../../timers.ts';
import type { LoadView } from '../views.ts';
import type { Spot } from './load.ts';
import { findResident, type Look } from './look.ts';

export interface UnloadOptions {
  arbiter: () => Pick<Arbiter, 'dismiss' | 'snapshot'>;
  look: Look;
  now: () => number;
  /** How long a model that was sent away may still show, in milliseconds. */
  verifyMs: number;
  /** It is on its way to memory. */
  isLoading?: boolean;
}

const POLL_MS = 100;
const EVICT_MS = 30_000;

/** Throws not_supported, conflict while it is in use, insufficient_vram where it stays. */
export async function unloadModel(spot: Spot, signal: AbortSignal, options: UnloadOptions): Promise<LoadView> {
  const { runtime, model } = spot;
  const { arbiter, look, now, verifyMs } = options;
  const memory = memoryOf(runtime);
  if (!memory?.evict) throw cannotUnload(spot);
  if (options.isLoading) throw inUse(spot);
  const begun = now();
  const there = findResident(await look(runtime, signal), model);
  const place = { runtime: runtime.name, model: there?.model ?? model.id };
  // A run may have only just begun to load it.
  if (there || isHeld(arbiter().snapshot().held, place)) {
    // On the card, what the gateway runs counts; anywhere else only the runtime knows.
    if (runtime.gpu) {
      if ((await untilAborted(arbiter().dismiss(place, { signal }), signal)) === 'in_use') throw inUse(spot);
    } else {
      if (there?.busy) throw inUse(spot);
      const limit = AbortSignal.any([signal, AbortSignal.timeout(EVICT_MS)]);
      await untilAborted(memory.evict(place.model, limit), limit);
    }
    await untilGone(spot, signal, look, verifyMs);
  }
  return {
    model: model.id,
    runtime: runtime.name,
    state: 'ready',
    vram: null,
    took_ms: Math.max(0, now() - begun),
    evicted: [],
    warnings: [],
  };
}

function isHeld(held: readonly Place[], { runtime, model }: Place): boolean {
  return held.some((entry) => entry.runtime === runtime && entry.model === model);
}

async function untilGone(spot: Spot, signal: AbortSignal, look: Look, verifyMs: number): Promise<void> {
  const end = performance.now() + verifyMs;
  while (findResident(await look(spot.runtime, signal), spot.model)) {
    if (performance.now() >= end) throw stillThere(spot);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    signal.throwIfAborted();
  }
}

function cannotUnload({ runtime, model }: Spot): GatewayError {
  return new GatewayError('not_supported', `${runtime.name} cannot be told to unload ${model.id}.`, {
    param: 'model',
    source: runtime.name,
    hint: `Its memory is free when ${runtime.name} is stopped.`,
  });
}

function inUse({ runtime, model }: Spot): GatewayError {
  return new GatewayError('conflict', `${model.id} is in use.`, {
    param: 'model',
    source: runtime.name,
    retryAfter: 10,
    hint: 'Wait until that has ended, or cancel it; hono-ai ps and hono-ai jobs ls show what runs.',
  });
}

function stillThere({ runtime, model }: Spot): GatewayError {
  return new GatewayError('insufficient_vram', `${runtime.name} still holds ${model.id}.`, {
    source: runtime.name,
    retryAfter: 10,
    hint: 'Somebody else may have loaded it again; try again, or stop what uses it.',
  });
}
