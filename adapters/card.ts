// Everything about the card, put together: who owns it, what is promised of it, when it rests, and what wakes a runtime that is wedged.
import { createArbiter, type Arbiter, type SwapRecord } from '../src/arbiter/arbiter.ts';
import { createClock } from '../src/arbiter/clock.ts';
import { createTimings, type Timings } from '../src/arbiter/timings.ts';
import type { Config } from '../src/config.ts';
import { chosenCard, type Hardware } from '../src/hardware.ts';
import type { Log } from '../src/http/context.ts';
import { createLedger } from '../src/models/ledger.ts';
import type { GpuTenant, RuntimeAdapter } from '../src/runtime.ts';
import type { Store } from '../src/store.ts';
import { createPower } from './house/power.ts';
import { createQuiet } from './house/quiet.ts';
import { createWatchdog } from './house/watchdog.ts';
import type { Models } from './models.ts';
import { unref } from '../src/timers.ts';

export interface CardOptions {
  config: Config;
  runtimes: RuntimeAdapter[];
  hardware: Hardware;
  models: Models;
  store: Store;
  now: () => number;
  log: Log;
  /** Who holds the card, or who waits for it, has changed. */
  onChange: () => void;
  onSwap: (swap: SwapRecord) => void;
}

export interface OpenCard {
  arbiter: Arbiter;
  timings: Timings;
  /** Reads what is remembered. */
  load(): Promise<void>;
  close(): Promise<void>;
}

/** How often what was learned of times is written down, in milliseconds. */
const SAVE_MS = 60_000;

export function createCard(options: CardOptions): OpenCard {
  const { config, runtimes, hardware, models, store, now, log, onChange, onSwap } = options;
  const tenants: Record<string, GpuTenant> = {};
  for (const runtime of runtimes) if (runtime.gpu) tenants[runtime.name] = runtime.gpu;
  const timings = createTimings(store.documents);
  const power = createPower({ watts: config.background_power_w, hardware, documents: store.documents, log });
  const closing = new AbortController();
  const onWedged = createWatchdog({
    restart: config.restart,
    health: async (name, signal) => runtimes.find((one) => one.name === name)?.health(signal),
    log,
    onRestarted: (name) => models.residency.lost(name),
    signal: closing.signal,
    now,
  });
  const ledger = createLedger({
    footprints: models.footprints,
    held: () => arbiter.snapshot().held,
    look: (runtime, signal) => arbiter.look(runtime, signal),
    read: async (maxAgeMs) => chosenCard(await hardware.read(maxAgeMs))?.vram.used,
  });
  const arbiter = createArbiter({
    tenants,
    budget: models.budget,
    isFirm: config.vram !== undefined,
    isPinned: (runtime, model) => models.residency.policyOf(runtime, model).pinned,
    queueMs: config.queue_ms,
    leaseMs: config.lease_ms,
    patienceMs: config.patience_s * 1000,
    preempts: config.preempt,
    shareOf: (caller) => (Object.hasOwn(config.shares, caller) ? config.shares[caller]! : 1),
    quiet: createQuiet(config.quiet_hours, now),
    used: ledger.used,
    onWedged,
    clock: createClock(now),
    timings,
    onResidents: ledger.onResidents,
    onSwap,
    onGrant: (_, wait) => timings.learnWait(wait),
    onChange: () => {
      power.follow(arbiter.snapshot);
      ledger.changed();
      onChange();
    },
  });
  const saving = setInterval(() => void timings.save(now()).catch(() => {}), SAVE_MS);
  return {
    arbiter,
    timings,
    async load() {
      void power.load();
      await timings.load();
      unref(saving);
    },
    async close() {
      clearInterval(saving);
      ledger.close();
      closing.abort();
      await power.close();
      await timings.save(now()).catch(() => {});
    },
  };
}
