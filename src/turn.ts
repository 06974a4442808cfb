// A run's turn at the card: how long it may wait for it, the lease it works under, and what comes of one that needed more than was thought.
import type { Arbiter, Cost, Lease, Request } from './arbiter/arbiter.ts';
import type { Want } from './arbiter/policy.ts';
import { WaitTooLong } from './catalog/fallback.ts';
import type { Route } from './catalog.ts';
import { GatewayError, toGatewayError } from './error.ts';
import type { RunEvent, StatusEvent, WarningEvent } from './event.ts';
import { untilAborted, untilHeeded } from './timers.ts';

/** What a call needs of the card. */
export type Need = Pick<Want, 'footprint' | 'extent'> & { work?: string };

export interface Turn extends Pick<Request, 'signal' | 'caller' | 'class'> {
  route: Route;
  need: Need;
  /** When its wait began, on the arbiter's clock; now if absent. */
  since?: number | undefined;
  /** Another answers rather than have it wait longer than this, in milliseconds. */
  limitMs?: number | undefined;
  addCost(read: () => Cost): void;
}

export interface TurnOptions {
  arbiter: Pick<Arbiter, 'acquire' | 'plan' | 'dismiss' | 'snapshot'>;
  /** How long a runtime has to end what it was told to end, in milliseconds. */
  heedMs: number;
  /** The arbiter's clock; without it, who asks again goes to the end of the line. */
  now?: (() => number) | undefined;
  onIgnored(runtime: string, model: string): void;
  /** It did not fit, though it was let in with that many bytes. */
  outgrew?: ((runtime: string, model: string, extent: number | undefined, footprint: number) => void) | undefined;
}

/** Given the signal of the run and of its lease together. */
type Handling<Event> = (signal: AbortSignal) => AsyncIterable<Event>;

export interface Turns {
  /**
   * Waits for the card and gives what `work` gives, with the card until that has ended. Throws WaitTooLong, what `acquire` and
   * `work` throw, and the reason for which the lease was taken back.
   */
  take<Event extends RunEvent<unknown, unknown>>(
    turn: Turn,
    work: Handling<Event>,
  ): AsyncGenerator<StatusEvent | WarningEvent | Event, void>;
}

export function createTurns({ arbiter, heedMs, now, onIgnored, outgrew }: TurnOptions): Turns {
  async function* take<Event extends RunEvent<unknown, unknown>>(
    turn: Turn,
    work: Handling<Event>,
  ): AsyncGenerator<StatusEvent | WarningEvent | Event, void> {
    const { route, need } = turn;
    const { runtime, model } = route;
    const failure = yield* attempt(turn, need, work);
    if (!failure) return;
    outgrew?.(runtime.name, model.id, need.extent, need.footprint);
    yield {
      type: 'warning',
      warning: `${model.id} did not fit on the card as it was: it is tried once more with the card to itself.`,
    };
    // It comes anew, when everything else has left: what is there of it now may be half of it.
    const { signal } = turn;
    await untilAborted(arbiter.dismiss({ runtime: runtime.name, model: model.id }, { signal }), signal);
    const footprint = Math.max(need.footprint, arbiter.snapshot().budget ?? 0);
    const again = yield* attempt(turn, { ...need, footprint }, work);
    if (again) throw again;
  }

  /** Returns the failure of one that had too little memory before anything came out of it. */
  async function* attempt<Event extends RunEvent<unknown, unknown>>(
    turn: Turn,
    need: Need,
    work: Handling<Event>,
  ): AsyncGenerator<StatusEvent | Event, GatewayError | undefined> {
    const { route, addCost, since } = turn;
    // Of the time since then, what came before this is no waiting of this one.
    const beforeMs = since === undefined || !now ? 0 : now() - since;
    const lease = yield* wait(turn, need);
    addCost(() => lessQueue(lease.cost(), beforeMs));
    const signal = AbortSignal.any([turn.signal, lease.signal]);
    const onLeft = () => onIgnored(route.runtime.name, route.model.id);
    let begun = false;
    let isWhole = false;
    try {
      for await (const event of untilHeeded(work(signal), signal, { ms: heedMs, onLeft })) {
        // What is made after the card was given to others is nobody's.
        lease.signal.throwIfAborted();
        lease.beat();
        if (isWork(event)) lease.running();
        begun ||= event.type === 'chunk' || event.type === 'result';
        isWhole ||= event.type === 'result';
        yield event;
      }
      lease.signal.throwIfAborted();
      isWhole = true;
      return undefined;
    } catch (thrown) {
      // Whatever broke because the lease was taken back, that is the reason.
      if (lease.signal.aborted) throw lease.signal.reason;
      const error = toGatewayError(thrown);
      if (begun || turn.signal.aborted || error.code !== 'insufficient_vram') throw error;
      return error;
    } finally {
      lease.release(isWhole ? 'whole' : 'cut');
    }
  }

  async function* wait(turn: Turn, need: Need): AsyncGenerator<StatusEvent, Lease> {
    const { route, signal, caller, class: of, since, limitMs } = turn;
    const { runtime, model } = route;
    const want = {
      ...need,
      runtime: runtime.name,
      model: model.id,
      ...(caller === undefined ? {} : { caller }),
      ...(of === undefined ? {} : { class: of }),
      ...(since === undefined ? {} : { since }),
    };
    if (limitMs !== undefined) expectSoon(route, want, limitMs);
    const limit = limitMs === undefined ? {} : { limitMs };
    let eta: number | undefined;
    const acquiring = arbiter.acquire({ ...want, ...limit, tenant: runtime.gpu!, signal });
    try {
      for (;;) {
        const { done, value } = await acquiring.next();
        if (done) return value;
        eta = value.eta ?? eta;
        yield value;
      }
    } catch (thrown) {
      const error = toGatewayError(thrown);
      if (error.code !== 'overloaded') throw error;
      if (limitMs !== undefined) throw new WaitTooLong(route, `longer than ${toSeconds(limitMs)}`);
      throw eta === undefined ? error : toRetryAfter(error, eta);
    } finally {
      // Nothing happens where it has ended; who leaves in the middle leaves the line.
      await acquiring.return(undefined as never);
    }
  }

  function expectSoon(route: Route, want: Parameters<Arbiter['plan']>[0], limitMs: number): void {
    const { would, because, queueMs = 0, swapMs = 0 } = arbiter.plan(want);
    if (queueMs + swapMs > limitMs) throw new WaitTooLong(route, toSeconds(queueMs + swapMs));
    // Nobody can tell when the card is given back.
    const isUnknown = queueMs + swapMs === 0 && arbiter.snapshot().closed !== undefined;
    if (would === 'wait' && isUnknown) throw new WaitTooLong(route, `for the card (${because})`);
  }

  return { take };
}

/** The runtime has begun. One that loads, or that only says what it will do, has not. */
function isWork(event: RunEvent<unknown, unknown>): boolean {
  if (event.type === 'status') return event.state === 'running';
  if (event.type === 'progress') return event.done > 0 && event.unit !== 'bytes';
  return event.type !== 'warning';
}

function lessQueue(cost: Cost, ms: number): Cost {
  return { ...cost, queueMs: Math.max(0, cost.queueMs - ms) };
}

function toSeconds(ms: number): string {
  return `${Math.ceil(ms / 1000)} s`;
}

/** What was foreseen is a better guess at when to come back. */
function toRetryAfter(error: GatewayError, eta: number): GatewayError {
  const { code, message, source, hint } = error;
  return new GatewayError(code, message, {
    source,
    retryAfter: Math.max(1, Math.ceil(eta)),
    ...(hint === undefined ? {} : { hint }),
  });
}
