// A card in virtual time: runtimes that load, run and unload as they are told to, well or badly, and what is really in memory at every instant.
import { createVirtualClock, type VirtualClock } from '../../bench/arbiter/virtual-time.ts';
import { createArbiter, type Arbiter, type ArbiterOptions, type Lease } from '../../src/arbiter/arbiter.ts';
import type { Request } from '../../src/arbiter/arbiter.ts';
import { GatewayError } from '../../src/error.ts';
import type { StatusEvent } from '../../src/event.ts';
import type { GpuTenant, Resident } from '../../src/runtime.ts';

/** How a runtime answers, asked anew for each call. `deaf` hangs whatever its signal says. */
export interface Manners {
  residents?: 'true' | 'stale' | 'nothing' | 'more' | 'ghost' | 'absurd' | 'throws' | 'hangs' | 'deaf';
  evict?: 'well' | 'throws' | 'hangs' | 'deaf' | 'lies';
  /** Milliseconds. */
  answerMs?: number;
  unloadMs?: number;
  /** Bytes that a model takes beyond what was asked for it. */
  beyond?: number;
}

export interface Work {
  loadMs: number;
  runMs: number;
  /** Milliseconds between signs of life; none where it is missing. */
  beatMs?: number;
  /** The runtime fails in the middle. */
  fails?: 'load' | 'run';
}

export interface FakeCard {
  clock: VirtualClock;
  arbiter: Arbiter;
  tenants: Record<string, GpuTenant>;
  /** Bytes in memory now, and at most so far. */
  inside(): number;
  most(): number;
  has(runtime: string, model: string): boolean;
  /** Models that were sent away, in order. */
  evictions: string[];
  /** It is there though nobody of ours asked for it. */
  put(runtime: string, model: string, bytes: number): void;
  /** Loads and runs on a lease, as a handler does; releases nothing. Throws what the runtime throws, and when the lease or `signal` ends. */
  work(
    lease: Lease,
    want: { runtime: string; model: string; footprint: number },
    work: Work,
    signal?: AbortSignal,
  ): Promise<void>;
  /** Everything is lost at once, and what runs there fails. */
  crash(runtime: string): void;
  /** Asks for the card and reads until it has it. */
  take(request: Partial<Request> & { model: string }, statuses?: StatusEvent[]): Promise<Lease>;
}

export interface FakeCardOptions extends Partial<Omit<ArbiterOptions, 'tenants' | 'budget' | 'clock'>> {
  budget?: number | undefined;
  runtimes?: Record<string, (() => Manners) | Manners>;
  /** Called whenever anything may have changed, on the card or in the books. */
  check?: () => void;
  slots?: GpuTenant['slots'];
  /** What the clock shows at the beginning, in milliseconds. */
  start?: number;
}

/** As a real clock has it: of so many milliseconds the smallest fractions are lost. */
export const TODAY = 1_795_000_000_000.25;

export function openFakeCard(options: FakeCardOptions = {}): FakeCard {
  const { budget, runtimes = { r: {} }, check = () => {}, slots, start = 0, ...rest } = options;
  const clock = createVirtualClock(start);
  const never = new AbortController().signal;
  const memory = new Map<string, Map<string, number>>();
  const loading = new Map<string, Promise<void>>();
  const crashes = new Map<string, AbortController>();
  const evictions: string[] = [];
  let most = 0;

  const inside = () =>
    [...memory.values()].flatMap((models) => [...models.values()]).reduce((sum, each) => sum + each, 0);
  const of = (runtime: string) => memory.get(runtime)!;

  function set(runtime: string, model: string, bytes: number): void {
    of(runtime).set(model, bytes);
    most = Math.max(most, inside());
    check();
  }

  /** Ends early, and leaves no timer, when the signal aborts. */
  function nap(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const cancel = clock.after(ms, () => (signal.removeEventListener('abort', stop), resolve()));
      const stop = () => (cancel(), reject(signal.reason));
      signal.addEventListener('abort', stop, { once: true });
    });
  }

  function toTenant(runtime: string, manners: () => Manners): GpuTenant {
    let before: Resident[] = [];
    return {
      footprint: () => 0,
      ...(slots ? { slots } : {}),
      async residents(signal) {
        const { residents = 'true', answerMs = 0 } = manners();
        if (answerMs > 0) await nap(answerMs, signal);
        const really = [...of(runtime)].map(([model, vram]): Resident => ({ model, vram }));
        const stale = before;
        before = really;
        if (residents === 'throws') throw new GatewayError('upstream_unavailable', `${runtime} does not answer.`);
        if (residents === 'hangs') await nap(1e9, signal);
        if (residents === 'deaf') await new Promise(() => {});
        if (residents === 'stale') return stale;
        if (residents === 'nothing') return [];
        if (residents === 'more') return really.map(({ model, vram }) => ({ model, vram: vram * 1.5 }));
        if (residents === 'ghost') return [...really, { model: 'ghost', vram: 1 }];
        if (residents === 'absurd') return [...really, ...really, { model: '', vram: -1 }, { model: 'nan', vram: NaN }];
        return really;
      },
      async evict(model, signal) {
        const { evict = 'well', unloadMs = 0 } = manners();
        evictions.push(model);
        if (evict === 'throws') throw new GatewayError('insufficient_vram', `${model} does not leave the card.`);
        if (evict === 'hangs') await nap(1e9, signal);
        if (evict === 'deaf') await new Promise(() => {});
        if (evict === 'lies') return;
        if (unloadMs > 0) await nap(unloadMs, signal);
        of(runtime).delete(model);
        check();
      },
    };
  }

  async function load(
    runtime: string,
    model: string,
    footprint: number,
    ms: number,
    signal: AbortSignal,
  ): Promise<void> {
    const beyond = read(runtimes[runtime]).beyond ?? 0;
    const known = of(runtime).get(model);
    // What is loaded for more than it was grows in place.
    if (known !== undefined && known < footprint) set(runtime, model, footprint);
    const key = `${runtime} ${model}`;
    if (known === undefined) {
      set(runtime, model, footprint + beyond);
      const begun = nap(ms, crashes.get(runtime)!.signal).finally(() => loading.delete(key));
      begun.catch(() => {});
      loading.set(key, begun);
    }
    const over = Promise.withResolvers<never>();
    const stop = () => over.reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    try {
      // Whoever leaves does not end a load: the model comes to the card all the same.
      await Promise.race([loading.get(key), over.promise]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async function work(
    lease: Lease,
    { runtime, model, footprint }: Parameters<FakeCard['work']>[1],
    { loadMs, runMs, beatMs, fails }: Work,
    signal: AbortSignal = never,
  ): Promise<void> {
    const crash = crashes.get(runtime)!.signal;
    const ends = AbortSignal.any(signal === never ? [lease.signal, crash] : [lease.signal, signal, crash]);
    await load(runtime, model, footprint, loadMs, ends);
    if (fails === 'load') throw new GatewayError('upstream_error', `${model} cannot be loaded.`);
    ends.throwIfAborted();
    lease.running();
    check();
    for (let left = fails === 'run' ? runMs / 2 : runMs; left > 0; left -= beatMs ?? left) {
      await nap(Math.min(left, beatMs ?? left), ends);
      if (beatMs !== undefined) lease.beat();
    }
    if (fails === 'run') throw new GatewayError('upstream_error', `${model} broke.`);
  }

  const tenants: Record<string, GpuTenant> = {};
  for (const [runtime, manners] of Object.entries(runtimes)) {
    memory.set(runtime, new Map());
    crashes.set(runtime, new AbortController());
    tenants[runtime] = toTenant(runtime, () => read(manners));
  }
  const arbiter = createArbiter({
    queueMs: 120_000,
    leaseMs: 30_000,
    ...rest,
    tenants,
    clock,
    budget: () => budget,
    onChange: () => (rest.onChange?.(), check()),
  });

  async function take(request: Partial<Request> & { model: string }, statuses: StatusEvent[] = []): Promise<Lease> {
    const runtime = request.runtime ?? 'r';
    const full = { runtime, footprint: 1, tenant: tenants[runtime]!, signal: never, ...request };
    const waiting = arbiter.acquire(full);
    for (;;) {
      const { done, value } = await waiting.next();
      if (done) return value;
      statuses.push(value);
    }
  }

  return {
    clock,
    arbiter,
    tenants,
    inside,
    most: () => most,
    has: (runtime, model) => of(runtime).has(model),
    evictions,
    put: set,
    work,
    take,
    crash(runtime) {
      of(runtime).clear();
      crashes.get(runtime)!.abort(new GatewayError('upstream_error', `${runtime} has crashed.`));
      crashes.set(runtime, new AbortController());
      check();
    },
  };
}

/** Numbers from 0 to 1 that follow from the seed. */
export function createDice(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function read(manners: (() => Manners) | Manners | undefined): Manners {
  return typeof manners === 'function' ? manners() : (manners ?? {});
}
