// Residency over runtimes in memory, with the real catalog, arbiter and gateway; a second one can take over the documents.
import { createArbiter } from '../../src/arbiter/arbiter.ts';
import { createClock } from '../../src/arbiter/clock.ts';
import type { Closed } from '../../src/arbiter/policy.ts';
import { createCatalog } from '../../src/catalog.ts';
import { createGateway } from '../../src/gateway.ts';
import { createFootprints } from '../../src/models/footprints.ts';
import { createResidency, type ResidencyOptions } from '../../src/models/residency.ts';
import type { GpuTenant, RuntimeAdapter } from '../../src/runtime.ts';
import { createMemoryDocuments } from './open-pulls.ts';
import { GB } from './loading-runtime.ts';

export interface ResidencyTest {
  /** GiB. */
  budget?: number;
  documents?: ReturnType<typeof createMemoryDocuments>;
  ttlS?: number;
  restoreMs?: number;
  quiet?: () => Closed | undefined;
  limits?: ResidencyOptions['limits'];
}

export function openResidency(runtimes: RuntimeAdapter[], options: ResidencyTest = {}) {
  const { budget = 8, documents = createMemoryDocuments(), ttlS, limits, restoreMs, quiet } = options;
  let ahead = 0;
  const now = () => Date.now() + ahead;
  const warnings: string[] = [];
  const notes: string[] = [];
  let changes = 0;
  const tenants: Record<string, GpuTenant> = {};
  for (const runtime of runtimes) if (runtime.gpu) tenants[runtime.name] = runtime.gpu;
  const footprints = createFootprints(documents);
  const catalog = createCatalog({ runtimes, ttlMs: 60_000, deadlineMs: 1000 });
  const residency = createResidency({
    runtimes,
    catalog: () => catalog,
    arbiter: () => arbiter,
    documents,
    footprints,
    ttlS,
    now,
    limits: { sweep: 10, look: 200, patience: 500, verify: 150, ...limits },
    onChanged: () => void changes++,
    warn: (message) => void warnings.push(message),
    note: (message) => void notes.push(message),
    ...(restoreMs === undefined ? {} : { restoreMs }),
  });
  const arbiter = createArbiter({
    tenants,
    budget: () => budget * GB,
    isPinned: (runtime, model) => residency.policyOf(runtime, model).pinned,
    queueMs: 5000,
    ...(quiet ? { quiet } : {}),
    clock: createClock(now),
    onResidents: (runtime, residents) => residents.forEach((one) => footprints.learn(runtime, one)),
  });
  const gateway = createGateway({ catalog, arbiter, maxRuns: 100, keepOf: residency.keepOf, use: residency.use });
  const signal = () => new AbortController().signal;
  return {
    residency,
    arbiter,
    catalog,
    gateway,
    footprints,
    documents,
    warnings,
    notes,
    changes: () => changes,
    load: (model: string, keepS?: number) =>
      residency.load(model, { signal: signal(), ...(keepS === undefined ? {} : { keepS }) }),
    unload: (model?: string) => residency.unload(model, signal()),
    residents: () => residency.residents(signal()),
    run: (model: string) =>
      gateway.run('text.generate', { prompt: 'x', model } as never, { signal: signal(), requestId: 'req' }).result,
    /** Moves the clock on. */
    wait: (seconds: number) => void (ahead += seconds * 1000),
  };
}
