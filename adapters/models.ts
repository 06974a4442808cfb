// Everything about models, put together: how they are got, which sit in memory, what they are called, and whether they fit.
import type { Arbiter } from '../src/arbiter/arbiter.ts';
import type { Catalog, Overlay } from '../src/catalog.ts';
import type { CapabilityId } from '../src/capabilities/index.ts';
import type { Config } from '../src/config.ts';
import type { GatewayOptions } from '../src/gateway.ts';
import { latestCard, type Hardware } from '../src/hardware.ts';
import type { Log } from '../src/http/context.ts';
import type { Hub } from '../src/hub.ts';
import { defaultContext, estimateVram, judge, toTooBig } from '../src/models/fit.ts';
import { createFootprints, type Footprints } from '../src/models/footprints.ts';
import { toNeed } from '../src/models/need.ts';
import { createPulls, type Advise, type Pulls } from '../src/models/pulls.ts';
import { createResidency, type Residency } from '../src/models/residency.ts';
import { createRooms, toBudget } from '../src/models/room.ts';
import { createRouting, type Routing } from '../src/models/routing.ts';
import type { Choice } from '../src/models/views.ts';
import type { Puller } from '../src/puller.ts';
import { memoryOf, type RuntimeAdapter } from '../src/runtime.ts';
import type { Store } from '../src/store.ts';

export interface ModelsOptions {
  config: Config;
  runtimes: RuntimeAdapter[];
  /** Beside those of runtimes: for folders that no runtime here reads. */
  pullers: Puller[];
  store: Store;
  hub: Hub;
  hardware: Hardware;
  now: () => number;
  log: Log;
  defaults: Partial<Record<CapabilityId, Choice>>;
  /** Both are made of what is opened here. */
  catalog: () => Catalog;
  arbiter: () => Arbiter;
}

export interface Models {
  routing: Routing;
  footprints: Footprints;
  pulls: Pulls;
  /** Says of what is being got that it is too big for the card. */
  advise: Advise;
  residency: Residency;
  overlay: Overlay;
  /** Bytes of VRAM that models may use beside `others`, which nobody's model holds, as far as anybody knows. */
  budget(others?: number): number | undefined;
  /** What a call needs of the card. */
  needOf: NonNullable<GatewayOptions['needOf']>;
  /** A call ran out of memory with what it was let in with. */
  outgrew: Footprints['outgrew'];
  /** Reads what is remembered. */
  load(): Promise<void>;
  close(): Promise<void>;
}

/** How long it may take to find out how large something is that is being got, in milliseconds. */
const ADVICE_MS = 15_000;

export function createModels(options: ModelsOptions): Models {
  const { config, runtimes, store, hub, hardware, now, log } = options;
  const { documents } = store;
  const warn = (message: string, fields: Record<string, unknown>) => log({ level: 'warn', message, ...fields });
  const routing = createRouting({ documents, aliases: config.aliases, defaults: options.defaults });
  const footprints = createFootprints(documents, { budget: () => room(0) });
  // Made late: catalog and arbiter ask what is opened here.
  const late = { catalog: options.catalog, arbiter: options.arbiter };
  const pulls = createPulls({
    pullers: [...runtimes.flatMap(({ puller }) => puller ?? []), ...options.pullers],
    documents,
    hub,
    concurrency: config.pull_concurrency,
    now,
    onChanged: async (runtime, model) => {
      await late.catalog().refreshOf(runtime);
      hub.publish({ type: 'model:changed', data: { runtime, model } });
    },
    warn,
  });
  const residency = createResidency({
    runtimes,
    catalog: late.catalog,
    arbiter: late.arbiter,
    documents,
    footprints,
    hasCard: () => hardware.latest() && latestCard(hardware) !== undefined,
    ttlS: config.idle_ttl_s,
    restoreMs: config.restore_s * 1000,
    now,
    onChanged: () => hub.publish({ type: 'model:changed', data: {} }),
    warn,
    note: (message, fields) => log({ level: 'info', message, ...fields }),
  });
  /** What others hold, as it was last seen. */
  let taken = 0;
  const room = (others: number) =>
    toBudget(latestCard(hardware), { said: config.vram, headroom: config.vram_headroom, others });

  const isPinned = (runtime: string, model: string) => residency.policyOf(runtime, model).pinned;
  const rooms = createRooms(() => late.arbiter().snapshot(), isPinned, residency.version);
  const usualContext = () => defaultContext(latestCard(hardware)?.vram.total);
  const overlay: Overlay = {
    version: () => pulls.version() + residency.version() + footprints.version() + rooms.version(),
    of(runtime, model) {
      const { name } = runtime;
      const state = pulls.pulling(name).has(model.id)
        ? ('pulling' as const)
        : residency.loading(name).has(model.id)
          ? ('loading' as const)
          : undefined;
      const vram = memoryOf(runtime) && estimateVram(model, footprints.of(name, model.id), undefined, usualContext());
      const fit = judge(vram, rooms.of(name, model.id));
      return {
        pinned: isPinned(name, model.id),
        ...(state ? { state } : {}),
        ...(vram ? { vram } : {}),
        ...(fit ? { fit } : {}),
      };
    },
    coming: ({ name }) => pulls.pulling(name),
  };
  const advise: Advise = async (want, signal) => {
    const plan = await pulls.plan(want, AbortSignal.any([signal, AbortSignal.timeout(ADVICE_MS)]));
    const { runtime, model, facts } = plan;
    if (!runtimes.find(({ name }) => name === runtime)?.gpu) return undefined;
    const vram = estimateVram(facts, footprints.of(runtime, model), undefined, usualContext());
    rooms.version(); // Looks at the card's books anew.
    const { budget: most, ...room } = rooms.of(runtime, model);
    if (!vram || most === undefined || judge(vram, { budget: most, ...room }) !== 'too_big') return undefined;
    return toTooBig(vram, most);
  };

  return {
    routing,
    footprints,
    pulls,
    advise,
    residency,
    budget: (others = taken) => room((taken = others)),
    needOf: (id, route, input) => toNeed(id, route, input, { footprints, usualContext, budget: () => room(taken) }),
    outgrew: footprints.outgrew,
    overlay,
    async load() {
      await Promise.all([routing.load(), footprints.load(), residency.read(), hardware.read()]);
    },
    async close() {
      residency.close();
      hardware.close();
      await pulls.close();
      await footprints.save(now()).catch(() => {});
    },
  };
}
