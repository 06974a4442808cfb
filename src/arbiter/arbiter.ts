// Owns the card: queues who wants it, carries out what the policy decides, and hands out leases.
import type { StatusEvent } from '../event.ts';
import type { GpuTenant, Resident } from '../runtime.ts';
import { createBooks, type Place } from './books.ts';
import { at, createClock, type Clock } from './clock.ts';
import { createDemands } from './demand.ts';
import { cancelled, queueTimeout } from './failures.ts';
import { createFloor } from './floor.ts';
import { forecast } from './forecast.ts';
import { createHours, type Hours } from './hours.ts';
import { createLeases, type Lease } from './leases.ts';
import { toPlan, type Plan } from './plan.ts';
import { decide, toKey } from './policy.ts';
import type { Class, Closed, Decision, Held, Policy, Snapshot, Waiting, Want } from './policy.ts';
import { createPromises } from './promise.ts';
import { createQueue, type Waiter } from './queue.ts';
import { createShares } from './shares.ts';
import { createSwaps } from './swaps.ts';
import { createTimings, type Timings } from './timings.ts';
import { toWaitingView, type SwapRecord, type View } from './view.ts';

export type { Cost, Lease } from './leases.ts';
export type { Plan } from './plan.ts';
export type { SwapRecord, View } from './view.ts';

export interface Request extends Want {
  tenant: GpuTenant;
  signal: AbortSignal;
  /** Whose share of the card it is. */
  caller?: string;
  /** Default interactive. */
  class?: Class;
  /** Tells apart what takes differently long: the capability, the size of what is made. */
  work?: string;
  /** When the wait began, on the arbiter's clock, where that was before now: a later step of something keeps its place. */
  since?: number;
  /** Milliseconds after which it would rather not wait, also where the card is closed; never longer than anybody may. */
  limitMs?: number;
}

export interface Arbiter extends Pick<Hours, 'close' | 'open'> {
  /** Yields where the request stands while it waits; returns the lease. Throws insufficient_vram, overloaded, client_closed. */
  acquire(request: Request): AsyncGenerator<StatusEvent, Lease>;
  /** What `acquire` would come to now; nothing is done. */
  plan(want: Omit<Request, 'tenant' | 'signal'>): Plan;
  /**
   * Sends a model away by hand or for its idleness; whoever asks for it meanwhile waits, and then has it loaded. Resolves when
   * it is measured gone; with `in_use`, and nothing done, where a lease uses it, or where `usedAt` is given and it has been
   * used since or somebody waits for it. Throws insufficient_vram, client_closed, upstream failures.
   */
  dismiss(place: Place, options?: { usedAt?: number; signal?: AbortSignal }): Promise<'gone' | 'in_use'>;
  /** What a runtime holds of the card now; the books follow. Throws what the runtime throws. */
  look(runtime: string, signal: AbortSignal): Promise<Resident[]>;
  /** What is on the card and who waits, for people and tests. */
  snapshot(): View;
}

export interface ArbiterOptions {
  tenants: Record<string, GpuTenant>;
  /** Bytes of VRAM that models may use, asked at each decision, given what others hold; undefined: one model at a time. */
  budget: (others: number) => number | undefined;
  /** Nothing larger than the budget is let in. Default true. */
  isFirm?: boolean;
  /** Never unloaded to make room. */
  isPinned?: (runtime: string, model: string) => boolean;
  /** Longest wait for the card, in milliseconds. */
  queueMs: number;
  /** A lease that gives no sign of life for this long, in milliseconds, is taken back. */
  leaseMs?: number;
  /** How long, at least, everybody lets others go before him, in milliseconds; see promise.ts. Default one minute. */
  patienceMs?: number;
  /** What a caller may have of the card, against the 1 of others. */
  shareOf?: (caller: string) => number;
  /** Background work that runs may be ended for somebody at the screen. Default false. */
  preempts?: boolean;
  /** Nothing of the background begins while it tells why. */
  quiet?: () => Closed | undefined;
  /** Bytes of the card in use by anybody, as the card itself tells; undefined where it does not. */
  used?: (signal: AbortSignal) => Promise<number | undefined>;
  /** A runtime gave no sign of life, or did not unload. Resolves when it was dealt with: true where it may be tried again. */
  onWedged?: (runtime: string, how: 'silent' | 'holds_on') => Promise<boolean>;
  clock?: Clock;
  policy?: Policy;
  /** Those who wait are told when it will be done. Default true. */
  foresee?: boolean;
  timings?: Timings;
  /** Called when who holds the card, or who waits for it, has changed. None of these may throw. */
  onChange?: () => void;
  /** Called with what a runtime was just seen to hold; `contextWindow` is the largest extent that it was let in with where it tells none. */
  onResidents?: (runtime: string, residents: readonly Resident[]) => void;
  onSwap?: (swap: SwapRecord) => void;
  /** Somebody has the card: how long that was expected to take when the wait began, how long it took, and how long it might have. */
  onGrant?: (waiting: Waiting, wait: { expectedMs: number | undefined; ms: number; promisedMs: number }) => void;
}

/** A load that takes longer than this, and than several times what was expected, holds up no other, in milliseconds. */
const LOAD_MS = 60_000;
const LOAD_TIMES = 3;
const LEASE_MS = 1_200_000;
const PATIENCE_MS = 60_000;
const ENDLESS = { model: Infinity, runtime: Infinity };

export function createArbiter(options: ArbiterOptions): Arbiter {
  const {
    tenants,
    isFirm = true,
    queueMs,
    leaseMs = LEASE_MS,
    patienceMs = PATIENCE_MS,
    clock = createClock(),
    policy = decide,
  } = options;
  const { timings = createTimings(), onChange = () => {}, onResidents = () => {} } = options;
  const { onWedged = async () => false, used, foresee = true, preempts = false } = options;
  const books = createBooks({ tenants, now: clock.now, loadMs: timings.loadMs, onResidents });
  const { held } = books;
  const demands = createDemands();
  const shares = createShares({ now: clock.now, ...(options.shareOf ? { shareOf: options.shareOf } : {}) });
  const onDone = (done: boolean) => {
    onChange();
    if (done) pump();
  };
  const leases = createLeases({ clock, books, timings, shares, leaseMs, onWedged, onChange: onDone });
  const floor = createFloor({ tenants, books, clock, used, onWedged, onChange, onAgain: pump });
  const hours = createHours(clock, () => onDone(true));
  const queue = createQueue(clock, hours);
  const swaps = createSwaps({
    clock,
    floor,
    queue,
    decide: () => policy({ ...toSnapshot(), swapping: held.some(isLoading) }),
    grant,
    onSwap: options.onSwap ?? (() => {}),
  });
  let cancelWake = () => {};
  let cancelTell = () => {};

  const isPinned = ({ runtime, model }: Place) => options.isPinned?.(runtime, model) ?? false;
  const budget = () => options.budget(floor.others);
  const slots = (runtime: string) => ({ ...ENDLESS, ...tenants[runtime]?.slots });
  const promises = createPromises({
    now: clock.now,
    leastMs: patienceMs,
    budget,
    slots: (runtime) => Math.min(slots(runtime).model, slots(runtime).runtime),
  });
  /** Until when it is waited for a model that is on its way. */
  const loadsUntil = ({ since, loadMs }: Held) => since + Math.max(LOAD_MS, loadMs * LOAD_TIMES);
  const isLoading = (entry: Held) => entry.loading && clock.now() < loadsUntil(entry);

  function toSnapshot(extra: readonly Waiting[] = []): Snapshot {
    return {
      now: clock.now(),
      waiting: [...queue.waiters.values(), ...extra],
      held,
      running: leases.running(),
      budget: budget(),
      most: options.budget(0),
      isFirm,
      swapping: floor.busy || held.some(isLoading),
      isPinned,
      slots,
      usage: shares.usage,
      demand: (want) => demands.of(toKey(want), clock.now()),
      preempts,
      closed: hours.closed,
      quiet: options.quiet?.(),
    };
  }

  /** Does what can be done now; called whenever something has happened. */
  function pump(): void {
    cancelWake();
    cancelTell();
    if (hours.empties) empty();
    if (queue.waiters.size === 0) return;
    // What is promised grows while there is much to do.
    const patience = promises.patienceMs();
    const closedMs = hours.closedMs;
    for (const waiter of queue.waiters.values()) {
      waiter.dueAt = waiter.since + patience + closedMs - waiter.closedBefore;
    }
    const decision = policy(toSnapshot());
    for (const { id } of decision.grant) queue.settle(id, grant);
    for (const entry of decision.preempt ?? []) leases.preempt(entry);
    // Whether something must be refused, or leave, is decided by what really is there.
    if ((decision.swap || decision.refuse.length > 0) && !floor.busy) void swaps.next().then(pump);
    tell(decision);
    const loads = held.filter(isLoading).map(loadsUntil);
    const wakeAt = Math.min(decision.wakeAt ?? Infinity, ...loads);
    if (queue.waiters.size > 0 && wakeAt < Infinity) cancelWake = clock.after(Math.max(1, wakeAt - clock.now()), pump);
  }

  /** Also while nothing happens: what was told grows old. */
  function tell(decision: Decision): void {
    cancelTell();
    if (queue.waiters.size === 0) return;
    const againMs = queue.tell(decision, foresee ? () => forecast(toSnapshot(), policy) : undefined);
    if (againMs < Infinity) cancelTell = clock.after(againMs, () => tell(decision));
  }

  function grant(waiter: Waiter): void {
    const { id, work, evicted, swapMs, since, expectedMs } = waiter;
    const ms = clock.now() - since;
    const onRan = (ran: number) => promises.ran(id, ran);
    waiter.lease = leases.grant(waiter, { work, evicted, swapMs, waitedMs: ms, onRan });
    const promisedMs = Math.max(waiter.promisedMs, promises.boundMs());
    options.onGrant?.(waiter, { expectedMs, ms, promisedMs });
    onChange();
  }

  async function dismiss(
    place: Place,
    { usedAt, signal }: { usedAt?: number; signal?: AbortSignal } = {},
  ): Promise<'gone' | 'in_use'> {
    let outcome: 'gone' | 'in_use' = 'in_use';
    try {
      await floor.alone(async () => {
        if (signal?.aborted) throw cancelled();
        // Decided here, where nothing comes between: what the asker has seen may be over.
        const entry = books.find(place);
        if (entry && entry.leases > 0) return;
        const awaited = [...queue.waiters.values()].some((waiter) => toKey(waiter) === toKey(place));
        if (usedAt !== undefined && (awaited || entry?.usedAt !== usedAt)) return;
        await floor.evict([entry ?? books.unknown(place)]);
        outcome = 'gone';
      });
    } finally {
      pump();
    }
    return outcome;
  }

  /** The card is lent and wanted empty: what nobody uses leaves. */
  function empty(): void {
    const idle = held.filter(({ leases: count, leaving, stuck }) => count === 0 && !leaving && !stuck);
    if (floor.busy || idle.length === 0) return;
    void floor.alone(() => floor.evict(idle).catch(() => {})).then(pump);
  }

  function toWaiting(request: Omit<Request, 'tenant' | 'signal'>): Omit<Waiting, 'id'> {
    const { runtime, model, footprint, extent, caller = '', class: of = 'interactive', work } = request;
    const want: Want = { runtime, model, footprint, ...(extent === undefined ? {} : { extent }) };
    const since = Math.min(request.since ?? Infinity, clock.now());
    const dueAt = since + promises.patienceMs();
    return { ...want, caller, class: of, since, dueAt, loadMs: timings.loadMs(want), runMs: timings.runMs(want, work) };
  }

  async function* acquire(request: Request): AsyncGenerator<StatusEvent, Lease> {
    if (request.signal.aborted) throw cancelled();
    demands.arrive(toKey(request), clock.now());
    const waiter = queue.add(toWaiting(request), request.work);
    promises.arrive(waiter);
    waiter.promisedMs = promises.boundMs();
    let wake = () => {};
    waiter.wake = () => wake();
    const leave = (error: Error) => {
      // It has its lease, and only its reader has not come for it yet.
      if (!queue.waiters.has(waiter.id)) return;
      queue.settle(waiter.id, () => (waiter.error = error));
      promises.left(waiter.id);
      onDone(true);
    };
    const onAbort = () => {
      // Given, and not yet taken by a reader who may never come.
      if (waiter.lease) waiter.lease.release();
      else leave(cancelled());
    };
    request.signal.addEventListener('abort', onAbort, { once: true });
    const stops = [queue.limit(waiter, queueMs, () => leave(queueTimeout(queueMs)))];
    const { limitMs } = request;
    if (limitMs !== undefined) stops.push(at(clock, clock.now() + limitMs, () => leave(queueTimeout(limitMs))));
    let finished = false;
    try {
      pump();
      if (!waiter.lease) onChange();
      let seen: StatusEvent | undefined;
      while (!waiter.lease && !waiter.error) {
        if (waiter.status === seen) await new Promise<void>((resolve) => (wake = resolve));
        else yield (seen = waiter.status);
      }
      if (waiter.error) throw waiter.error;
      if (request.signal.aborted) throw cancelled();
      finished = true;
      return waiter.lease!;
    } finally {
      for (const stop of stops) stop();
      request.signal.removeEventListener('abort', onAbort);
      // The reader left in the middle: neither its place in the queue nor a lease given meanwhile may stay.
      if (!finished) giveUp(waiter);
    }
  }

  function giveUp(waiter: Waiter): void {
    queue.remove(waiter.id);
    promises.left(waiter.id);
    if (waiter.lease) waiter.lease.release();
    else pump();
  }

  return {
    acquire,
    dismiss,
    plan: (want) => toPlan({ ...toWaiting(want), id: Number.MAX_SAFE_INTEGER }, toSnapshot, policy),
    close: hours.close,
    open: hours.open,
    look: books.look,
    snapshot: () => ({
      held: held.map((entry) => ({ ...entry })),
      running: leases.running(),
      // Made when it is looked at: there may be thousands, and most who look want to know of models.
      get waiting() {
        return [...queue.waiters.values()].map(toWaitingView);
      },
      budget: budget(),
      others: floor.others,
      closed: hours.closed,
      swaps: [...swaps.records],
    }),
  };
}
