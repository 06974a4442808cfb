// Which models sit in memory, and what shall: loaded, unloaded, pinned, preloaded, and sent away when idle for long.
import type { Arbiter } from '../arbiter/arbiter.ts';
import type { Catalog } from '../catalog.ts';
import { toGatewayError, type GatewayError } from '../error.ts';
import { memoryOf, type Resident, type RuntimeAdapter } from '../runtime.ts';
import type { DocumentStore } from '../store.ts';
import type { Footprints } from './footprints.ts';
import { unref, untilAborted } from '../timers.ts';
import { createIdle } from './residency/idle.ts';
import type { Spot } from './residency/load.ts';
import { createLoads, type Wish } from './residency/loads.ts';
import { createLook } from './residency/look.ts';
import { createPolicies, type PolicyChange } from './residency/policies.ts';
import { createPreloads } from './residency/preload.ts';
import { createRestore } from './residency/restore.ts';
import { unloadModel } from './residency/unload.ts';
import { toResidentView } from './residency/views.ts';
import type { LoadView, ResidentView } from './views.ts';

export interface ModelPolicy {
  runtime: string;
  model: string;
  pinned: boolean;
  preload: boolean;
  /** Seconds without use until it is sent away. */
  ttlS?: number;
}

export interface ResidencyOptions {
  runtimes: RuntimeAdapter[];
  /** Both are made of this, so they are asked for when they are needed. */
  catalog: () => Catalog;
  arbiter: () => Arbiter;
  documents: DocumentStore;
  footprints: Footprints;
  /** Whether this machine has a card; undefined where nobody knows. */
  hasCard?: () => boolean | undefined;
  /** Seconds without use until any model is sent away; undefined: runtimes decide. */
  ttlS: number | undefined;
  /** Milliseconds without use of the card until what is to be in memory, and had to leave, comes back; undefined: it stays out. */
  restoreMs?: number;
  /** Milliseconds, on the arbiter's clock. */
  now: () => number;
  limits?: Partial<ResidencyLimits>;
  onChanged(): void;
  warn(message: string, fields: Record<string, unknown>): void;
  note?(message: string, fields: Record<string, unknown>): void;
}

/** Milliseconds. */
export interface ResidencyLimits {
  /** Between two looks at idle models. */
  sweep: number;
  /** For a runtime to tell what it holds, where people wait for a list. */
  look: number;
  /** The same where a load or unload depends on it. */
  patience: number;
  /** For a model to be there, or gone, after its runtime has said so. */
  verify: number;
}

const LIMITS: ResidencyLimits = { sweep: 2000, look: 1500, patience: 10_000, verify: 10_000 };

/** A load by name. */
export type Asked = Pick<Wish, 'signal' | 'caller' | 'class' | 'limitMs'> & { keepS?: number };

export interface Residency {
  /** Makes room as a request for it would. Resolves when it is measured loaded. Throws not_supported, model_not_found, insufficient_vram. */
  load(name: string, options: Asked): Promise<LoadView>;
  /** Resolves when it is measured gone. Throws conflict while it is in use, not_supported. Without a name: all that are not in use. */
  unload(name: string | undefined, signal: AbortSignal): Promise<LoadView[]>;
  /** What sits in memory, of every runtime that tells. One that does not answer is left out, and named. */
  residents(signal: AbortSignal): Promise<{ residents: ResidentView[]; problems: string[] }>;
  policyOf(runtime: string, model: string): ModelPolicy;
  /** By any name of a model, or one of those that have a policy. Throws model_not_found, conflict where there are too many. */
  setPolicy(name: string, change: PolicyChange): Promise<ModelPolicy>;
  /** What a call tells its runtime: see `Call.keep`. */
  keepOf(runtime: string, model: string): number | undefined;
  /** A call begins to use a model; what it returns is to be called when that has ended. */
  use(runtime: string, model: string): () => void;
  /** A runtime was restarted and holds nothing any more: what is to be in memory comes back. */
  lost(runtime: string): void;
  /** Models that are on their way to memory now. */
  loading(runtime: string): ReadonlySet<string>;
  /** Grows with every change of policies and of what `loading` tells. */
  version(): number;
  /** Reads the policies. */
  read(): Promise<void>;
  /** Reads the policies, loads what is to be preloaded, and looks after idle models from now on. */
  start(): Promise<void>;
  close(): void;
}

/** How often footprints are written down, in milliseconds. */
const SAVE_MS = 30_000;
/** How long an answer waits for what only follows from it, in milliseconds. */
const BRIEFLY_MS = 1000;
/** How long a change of policy may wait for its turn at the card, in milliseconds. */
const RENEW_MS = 60_000;

export function createResidency(options: ResidencyOptions): Residency {
  const { runtimes, catalog, arbiter, documents, footprints, ttlS, now, onChanged, warn } = options;
  const limits = { ...LIMITS, ...options.limits };
  const closing = new AbortController();
  const policies = createPolicies(documents);
  const look = createLook({ arbiter, footprints, limitMs: limits.look });
  const patientLook = createLook({ arbiter, footprints, limitMs: limits.patience });
  const hasCard = options.hasCard ?? (() => undefined);
  const parts = { arbiter, look: patientLook, now, hasCard, verifyMs: limits.verify };
  let version = 0;
  let timer: ReturnType<typeof setInterval> | undefined;

  const changed = () => {
    version++;
    onChanged();
  };
  const loads = createLoads({ ...parts, onChange: changed });
  const idle = createIdle({
    runtimes,
    arbiter,
    look: patientLook,
    ttlOf,
    now,
    onMoved: (name) => void moved(name),
    warn,
  });
  const preloads = createPreloads({
    runtimes,
    isWanted: (runtime, model) => policies.of(runtime, model).preload,
    load: async (runtime, model, signal) => {
      // It may have been away when its list was read.
      await catalog().refreshOf(runtime);
      await load(`${runtime}/${model}`, { signal, class: 'normal' });
    },
    now,
    warn,
  });
  const restore =
    options.restoreMs === undefined
      ? undefined
      : createRestore({
          restoreMs: options.restoreMs,
          arbiter,
          policies: policies.all,
          policyOf: ({ runtime, model }) => policies.of(runtime, model),
          find: async ({ runtime, model }) => {
            await catalog().refreshOf(runtime);
            return find(`${runtime}/${model}`);
          },
          inMemory: patientLook,
          load: ({ runtime, model }, order) => load(`${runtime}/${model}`, order),
          add: preloads.add,
          now,
          note: options.note ?? (() => {}),
        });

  function ttlOf(runtime: string, model: string): number | undefined {
    const policy = policies.of(runtime, model);
    return policy.pinned ? undefined : (policy.ttlS ?? ttlS);
  }

  const keepOf = (runtime: string, model: string) => (policies.of(runtime, model).pinned ? -1 : ttlOf(runtime, model));

  async function find(name: string): Promise<Spot> {
    const { runtime, model } = await catalog().find(name);
    return { runtime: runtimes.find((one) => one.name === runtime)!, model };
  }

  /** A model has come to memory or left it: the list is to tell so, but nobody waits long for that. */
  async function moved(runtime: string): Promise<void> {
    changed();
    await briefly(catalog().refreshOf(runtime));
  }

  async function load(name: string, { keepS, ...wish }: Asked): Promise<LoadView> {
    await policies.read();
    const spot = await find(name);
    const place = [spot.runtime.name, spot.model.id] as const;
    const view = await loads.join(spot, { ...wish, keep: keepS ?? keepOf(...place) });
    idle.use(...place)();
    if (keepS !== undefined) idle.stay(...place, keepS);
    await moved(spot.runtime.name);
    return view;
  }

  async function unloadAll(signal: AbortSignal): Promise<LoadView[]> {
    const views: LoadView[] = [];
    const failures: GatewayError[] = [];
    for (const runtime of runtimes.filter((one) => memoryOf(one)?.evict)) {
      const residents = await patientLook(runtime, signal).catch((thrown: unknown) => {
        const error = toGatewayError(thrown);
        // What is down holds nothing.
        if (error.code !== 'upstream_unavailable') failures.push(error);
        return [];
      });
      for (const { model } of residents) {
        const spot: Spot = { runtime, model: { id: model, capabilities: [], state: 'loaded' } };
        await unloadModel(spot, signal, parts).then(
          (view) => views.push(view),
          (thrown: unknown) => {
            const error = toGatewayError(thrown);
            if (error.code !== 'conflict') failures.push(error);
          },
        );
      }
      signal.throwIfAborted();
      if (residents.length > 0) await moved(runtime.name);
    }
    if (failures.length > 0) throw failures[0]!;
    return views;
  }

  async function residentsOf(runtime: RuntimeAdapter, signal: AbortSignal): Promise<ResidentView[]> {
    const found = await look(runtime, signal);
    const loading = loads.loading(runtime.name);
    const coming = [...loading].filter((id) => !found.some(({ model }) => model === id));
    const all: Resident[] = [...found, ...coming.map((model) => ({ model, vram: 0 }))];
    return all.map((resident) =>
      toResidentView({
        runtime,
        resident,
        loading: loading.has(resident.model),
        policy: policies.of(runtime.name, resident.model),
        held: idle.find(runtime.name, resident.model),
        now: now(),
        hasCard: hasCard(),
      }),
    );
  }

  /** What is in memory learns of a change now, not with its next request. Never throws. */
  async function renew(spot: Spot): Promise<void> {
    const { runtime, model } = spot;
    if (!memoryOf(runtime)?.load) return;
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(RENEW_MS)]);
    const keep = keepOf(runtime.name, model.id);
    await loads.join(spot, { signal, renew: true, keep }).catch((thrown: unknown) => {
      const error = toGatewayError(thrown);
      if (signal.aborted || error.code === 'upstream_unavailable') return;
      warn(`${model.id} stays in memory as before until it is used: ${error.message}`, { runtime: runtime.name });
    });
  }

  let savedAt = now();
  async function tend(): Promise<void> {
    await idle.sweep(closing.signal);
    if (now() - savedAt < SAVE_MS) return;
    savedAt = now();
    await footprints.save(savedAt).catch((error: unknown) => {
      warn('What models take of the card could not be written down.', { cause: String(error) });
    });
  }

  return {
    load,
    async unload(name, signal) {
      if (name === undefined) return unloadAll(signal);
      const spot = await find(name);
      const view = await unloadModel(spot, signal, {
        ...parts,
        isLoading: loads.loading(spot.runtime.name).has(spot.model.id),
      });
      await moved(spot.runtime.name);
      return [view];
    },
    async residents(signal) {
      const problems: string[] = [];
      const lists = await Promise.all(
        runtimes
          .filter((runtime) => memoryOf(runtime))
          .map((runtime) =>
            residentsOf(runtime, signal).catch((thrown: unknown): ResidentView[] => {
              const { message } = toGatewayError(thrown);
              problems.push(message.includes(runtime.name) ? message : `${runtime.name}: ${message}`);
              return [];
            }),
          ),
      );
      signal.throwIfAborted();
      return { residents: lists.flat(), problems: problems.toSorted() };
    },
    policyOf: policies.of,
    async setPolicy(name, change) {
      await policies.read();
      const found = await find(name).catch((error: unknown) => {
        if (!policies.named(name)) throw error;
        return undefined;
      });
      const { runtime, model } = found ? { runtime: found.runtime.name, model: found.model.id } : policies.named(name)!;
      const policy = await policies.change(runtime, model, change);
      changed();
      if (found && (change.pinned !== undefined || change.ttlS !== undefined)) await briefly(renew(found));
      return policy;
    },
    keepOf,
    use: idle.use,
    lost: (runtime) => restore?.lost(runtime),
    loading: loads.loading,
    version: () => version + policies.version(),
    read: policies.read,
    async start() {
      await policies.read();
      for (const policy of policies.all()) if (policy.preload) preloads.add(policy);
      const tasks = [oneAtATime(tend), oneAtATime(() => preloads.work(closing.signal))];
      const tick = () => {
        restore?.look();
        tasks.forEach((task) => task());
      };
      timer = setInterval(tick, limits.sweep);
      unref(timer);
      tick();
    },
    close() {
      clearInterval(timer);
      closing.abort();
      loads.close();
    },
  };
}

/** Whatever is not done soon goes on without whoever waits. */
function briefly(work: Promise<void>): Promise<void> {
  return untilAborted(work, AbortSignal.timeout(BRIEFLY_MS)).catch(() => {});
}

/** Called while it works, it does nothing. */
function oneAtATime(work: () => Promise<void>): () => void {
  let working = false;
  return () => {
    if (working) return;
    working = true;
    void work().finally(() => (working = false));
  };
}
