// What the arbiter knows, as callers are told it: in seconds and ISO times, and of others' callers nothing.
import type { SwapRecord, View } from '../arbiter/arbiter.ts';
import type { SwapView, WaitView } from '../hardware.ts';

/** Who looks, and whether that is the owner of the gateway, who sees who asks for what. */
export interface Viewer {
  caller: string;
  isOwner: boolean;
}

export function toSwapView(swap: SwapRecord, viewer: Viewer): SwapView {
  const { at, runtime, model, caller, evicted, because, tookMs, failure } = swap;
  return {
    at: new Date(at).toISOString(),
    runtime,
    model,
    caller: toSeen(caller, viewer),
    evicted: evicted.map((place) => ({ runtime: place.runtime, model: place.model })),
    because,
    took_s: toSeconds(tookMs),
    failure: failure ?? null,
  };
}

export function toWaitView(waiting: View['waiting'][number], viewer: Viewer, now: number): WaitView {
  const { runtime, model, position, caller, since, eta, message } = waiting;
  return {
    runtime,
    model,
    position,
    class: waiting.class,
    caller: toSeen(caller, viewer),
    waited_s: toSeconds(Math.max(0, now - since)),
    eta_s: eta ?? null,
    why: message ?? null,
  };
}

/** For everybody who watches: events of the card have no owner. */
export function toGpuEvent({ held, waiting, budget, closed }: View) {
  return {
    held: held.map(({ runtime, model, footprint, leases }) => ({ runtime, model, footprint, leases })),
    waiting: waiting.map(({ runtime, model, position, eta = null, ...rest }) => {
      return { runtime, model, position, class: rest.class, eta_s: eta };
    }),
    budget: budget ?? null,
    closed: closed ? closed.because : null,
  };
}

export function toSwapEvent(swap: SwapRecord): Omit<SwapView, 'caller'> {
  const { caller: _, ...view } = toSwapView(swap, { caller: '', isOwner: false });
  return view;
}

/** Seconds with one decimal at most. */
export function toSeconds(ms: number): number {
  return Math.round(ms / 100) / 10;
}

function toSeen(caller: string, viewer: Viewer): string | null {
  return caller !== '' && (viewer.isOwner || caller === viewer.caller) ? caller : null;
}
