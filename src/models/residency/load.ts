// Brings one model to memory as a request for it would: takes its turn at the card, has it loaded, and looks whether it is there.
import type { Arbiter, Lease, Request } from '../../arbiter/arbiter.ts';
import { LOAD } from '../../arbiter/timings.ts';
import { GatewayError } from '../../error.ts';
import { memoryOf, type Model, type Resident, type RuntimeAdapter } from '../../runtime.ts';
import type { LoadView } from '../views.ts';
import { findResident, toSpillWarning, type Look } from './look.ts';

/** A model and the runtime that has it. */
export interface Spot {
  runtime: RuntimeAdapter;
  model: Model;
}

export interface LoadOrder extends Pick<Request, 'caller' | 'class' | 'limitMs'> {
  signal: AbortSignal;
  /** Seconds that it shall stay when idle, -1 for ever. */
  keep?: number | undefined;
  /** Only tells the runtime how long to keep what is there: nothing is loaded. */
  renew?: boolean;
  /** The runtime begins to load it. */
  onLoading(): void;
}

export interface LoadOptions {
  arbiter: () => Pick<Arbiter, 'acquire' | 'snapshot'>;
  look: Look;
  now: () => number;
  hasCard: () => boolean | undefined;
  /** How long a model that was loaded may take to show, in milliseconds. */
  verifyMs: number;
}

const POLL_MS = 100;

/** Throws not_supported, model_not_found for one that must be pulled first, insufficient_vram, overloaded, upstream failures. */
export async function loadModel(spot: Spot, order: LoadOrder, options: LoadOptions): Promise<LoadView> {
  const { runtime, model } = spot;
  const { keep } = order;
  const memory = memoryOf(runtime);
  if (!memory?.load) throw cannotLoad(spot);
  if (model.state === 'available') throw mustBePulled(spot);
  const begun = options.now();
  // Making room for what is only to be told something would be the wrong way round.
  if (order.renew && !findResident(await options.look(runtime, order.signal), model))
    return toView(spot, undefined, [], { tookMs: 0 });
  const lease = await takeLease(spot, order, options);
  const signal = lease ? AbortSignal.any([order.signal, lease.signal]) : order.signal;
  try {
    const before = await options.look(runtime, signal);
    let mine = findResident(before, model);
    const evicted = (lease?.evicted ?? []).map((place) => place.model);
    if (!mine || keep !== undefined || order.renew) {
      if (!mine) order.onLoading();
      await memory.load(model, { signal, ...(keep === undefined ? {} : { keep }) });
      const after = await untilThere(spot, signal, options);
      mine = findResident(after, model);
      evicted.push(...missing(before, after));
    }
    // It is there now: how long that took is worth knowing.
    lease?.running();
    return toView(spot, mine, evicted, { tookMs: options.now() - begun, hasCard: options.hasCard() });
  } catch (thrown) {
    // Whatever broke because the lease was taken back, that is the reason.
    throw lease?.signal.aborted ? lease.signal.reason : thrown;
  } finally {
    lease?.release();
  }
}

function toView(
  { runtime, model }: Spot,
  mine: Resident | undefined,
  evicted: string[],
  { tookMs, hasCard }: { tookMs: number; hasCard?: boolean | undefined },
): LoadView {
  const warning = mine && toSpillWarning(runtime, mine, hasCard);
  return {
    model: model.id,
    runtime: runtime.name,
    state: mine ? 'loaded' : 'ready',
    vram: mine?.vram ?? null,
    took_ms: Math.max(0, tookMs),
    evicted: [...new Set(evicted)],
    warnings: warning ? [warning] : [],
  };
}

/** Whatever waits for the card waits in one line; what waits here is told nobody. */
async function takeLease(spot: Spot, order: LoadOrder, { arbiter }: LoadOptions): Promise<Lease | undefined> {
  const { runtime, model } = spot;
  const { signal, caller, class: of, limitMs } = order;
  const tenant = runtime.gpu;
  if (!tenant) return undefined;
  const footprint = tenant.footprint(model);
  const turn = arbiter().acquire({
    runtime: runtime.name,
    model: model.id,
    footprint,
    work: LOAD,
    tenant,
    signal,
    ...(caller === undefined ? {} : { caller }),
    ...(of === undefined ? {} : { class: of }),
    ...(limitMs === undefined ? {} : { limitMs }),
  });
  for (;;) {
    const { done, value } = await turn.next();
    if (done) return value;
  }
}

/** A runtime's word is not enough: what it holds is. What takes nothing here runs elsewhere, and never shows. */
async function untilThere(spot: Spot, signal: AbortSignal, { look, verifyMs }: LoadOptions): Promise<Resident[]> {
  const end = performance.now() + verifyMs;
  const isElsewhere = spot.runtime.gpu?.footprint(spot.model) === 0;
  for (;;) {
    let failure: unknown;
    const residents = await look(spot.runtime, signal).catch((error: unknown) => {
      failure = error;
      return [];
    });
    signal.throwIfAborted();
    if (isElsewhere || findResident(residents, spot.model)) return residents;
    if (performance.now() >= end) throw failure ?? notThere(spot);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function missing(before: readonly Resident[], after: readonly Resident[]): string[] {
  return before.map(({ model }) => model).filter((name) => !after.some(({ model }) => model === name));
}

function cannotLoad({ runtime, model }: Spot): GatewayError {
  return new GatewayError('not_supported', `${runtime.name} cannot load a model ahead of its first use.`, {
    param: 'model',
    source: runtime.name,
    hint: `Just use it: the first request loads ${model.id}.`,
  });
}

function mustBePulled({ runtime, model }: Spot): GatewayError {
  return new GatewayError('model_not_found', `${model.id} is not on this machine yet.`, {
    param: 'model',
    source: runtime.name,
    hint: `To get it: ${runtime.pullHint?.(model.id) ?? `hono-ai models pull ${model.id}`}`,
  });
}

function notThere({ runtime, model }: Spot): GatewayError {
  return new GatewayError(
    'upstream_error',
    `${runtime.name} says that it has loaded ${model.id}, but does not hold it.`,
    {
      source: runtime.name,
      retryAfter: 10,
      hint: `Look at the log of ${runtime.name}.`,
    },
  );
}
