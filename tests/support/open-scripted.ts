// A gateway without HTTP over scripted runtimes.
import { createArbiter, type ArbiterOptions } from '../../src/arbiter/arbiter.ts';
import { capabilities, type CapabilityId, type Output } from '../../src/capabilities/index.ts';
import { createCatalog, type CatalogOptions } from '../../src/catalog.ts';
import { createGateway, type GatewayOptions, type RunOptions } from '../../src/gateway.ts';
import type { RunEvent } from '../../src/event.ts';
import type { GpuTenant, RuntimeAdapter } from '../../src/runtime.ts';

export interface ScriptedOptions extends Partial<CatalogOptions> {
  maxRuns?: number;
  budget?: number;
  /** Beside what follows from the runtimes. */
  card?: Partial<ArbiterOptions>;
  gateway?: Partial<GatewayOptions>;
}

export function openScripted(runtimes: RuntimeAdapter[], options: ScriptedOptions = {}) {
  const { maxRuns = 100, budget, card, gateway: beside, ...lists } = options;
  const catalog = createCatalog({ runtimes, aliases: {}, defaults: {}, ttlMs: 60_000, deadlineMs: 1000, ...lists });
  const tenants: Record<string, GpuTenant> = {};
  for (const runtime of runtimes) if (runtime.gpu) tenants[runtime.name] = runtime.gpu;
  const arbiter = createArbiter({ tenants, budget: () => budget, queueMs: 5000, ...card });
  const gateway = createGateway({ catalog, arbiter, maxRuns, ...beside });
  const start = <Id extends CapabilityId>(
    id: Id,
    input: object,
    signal = new AbortController().signal,
    who: Partial<RunOptions> = {},
  ) => gateway.run(id, capabilities[id].input.parse(input) as never, { signal, requestId: 'req_test', ...who });
  return {
    arbiter,
    gateway,
    start,
    run: async <Id extends CapabilityId>(id: Id, input: object): Promise<Output<Id>> =>
      (await start(id, input).result) as Output<Id>,
    async events(id: CapabilityId, input: object): Promise<RunEvent<unknown, unknown>[]> {
      const all: RunEvent<unknown, unknown>[] = [];
      for await (const event of start(id, input).events()) all.push(event);
      return all;
    },
  };
}
