// The composition root of every host and of the CLI: configuration → runtimes → gateway → app.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createApp, type App } from '../src/app.ts';
import { capabilities, capabilityIds, type CapabilityId } from '../src/capabilities/index.ts';
import { createCatalog } from '../src/catalog.ts';
import { ConfigError, type Config, type Origin } from '../src/config.ts';
import { createGateway, type Gateway } from '../src/gateway.ts';
import type { Log } from '../src/http/context.ts';
import type { Hardware } from '../src/hardware.ts';
import { createGpu } from '../src/hardware/gpu.ts';
import { createLending, toHoldView } from '../src/hardware/lending.ts';
import { toGpuEvent, toSwapEvent } from '../src/hardware/tell.ts';
import { openHub } from '../src/hub.ts';
import { createOnDemand } from '../src/models/on-demand.ts';
import { createMoves } from '../src/models/residency/moves.ts';
import { toPullHandler } from '../src/models/pulls.ts';
import type { Choice } from '../src/models/views.ts';
import type { RuntimeAdapter } from '../src/runtime.ts';
import { fetchTransport, type Transport } from '../src/upstream.ts';
import { loadAsset } from './assets.ts';
import { createCard } from './card.ts';
import { createClock } from './clock.ts';
import { openSocketIo } from './hosts/socketio.ts';
import { createFailpoint } from './failpoint.ts';
import { createDownloads } from './downloads/index.ts';
import { createDoctor } from './doctor/index.ts';
import { openHardware } from './hardware/index.ts';
import { createLog } from './log.ts';
import { createModels } from './models.ts';
import { openMediaTools } from './media/index.ts';
import { createNotify } from './notify.ts';
import { openPullers, openRuntimes } from './runtimes/index.ts';
import { loadConfig, type Env } from './settings.ts';
import { defaultStateDir, openStateDir } from './state.ts';
import { openStore } from './stores/index.ts';
import { openWork, type Work } from './work.ts';

export interface OpenGateway {
  app: App;
  gateway: Gateway;
  config: Config;
  origins: Record<string, Origin>;
  stateDir: string;
  instance: string;
  version: string;
  /** Jobs and what belongs to them. */
  work: Work;
  /** Stops workers and frees what is held; jobs that run go back to wait. Runs that have not ended are not waited for: drain first. */
  close(): Promise<void>;
}

export interface OpenOptions {
  env: Env;
  /** Settings from the command line, by their name in the file. */
  flags?: Record<string, unknown>;
  /** How the host's bytes travel; fetch if absent. */
  transport?: Transport;
  /** For people: `node 24.1.0`. */
  host?: string;
  log?: Log;
  /** In place of those the configuration names; for tests. */
  runtimes?: RuntimeAdapter[];
  /** In place of this machine's; for tests. */
  hardware?: Hardware;
  /** false: take jobs and tell of them, but work on one only where somebody waits for it. */
  work?: boolean;
}

export const version: string = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;

/** Throws a ConfigError for a configuration that cannot be used. Never waits for the network beyond this machine. */
export async function openGateway(options: OpenOptions): Promise<OpenGateway> {
  const { config, origins } = loadConfig(options.env, options.flags);
  const stateDir = openStateDir(config.state_dir ?? defaultStateDir(options.env));
  const log = options.log ?? createLog(config.log_level);
  const transport = options.transport ?? fetchTransport;
  const tools = openMediaTools({ maxPixels: config.max_pixels });
  const instance = crypto.randomUUID();
  const clock = createClock();
  const failpoint = createFailpoint(options.env['HONO_AI_FAIL_AT']);
  const store = await openStore({ config, stateDir, now: clock.now, log, failpoint });
  const hub = await openHub({ spine: store.spine, window: config.event_window, now: clock.now });
  const downloads = createDownloads({
    tokens: config.hf_token === undefined ? {} : { [new URL(config.hf_endpoint).origin]: config.hf_token },
    trusted: [config.hf_endpoint, config.ollama_registry].map((address) => new URL(address).origin),
    allow: config.pull_allow,
    stallMs: config.pull_stall_ms,
    tries: config.pull_tries,
  });
  const hardware = options.hardware ?? openHardware({ card: config.gpu, now: clock.now });
  const parts = { config, transport, tools, downloads, hardware, stateDir, cacheDir: join(stateDir, 'models') };
  const runtimes = options.runtimes ?? (await openRuntimes(parts));
  const defaults = toDefaults(config);
  const models = createModels({
    config,
    runtimes,
    pullers: openPullers(parts, runtimes),
    store,
    hub,
    hardware,
    now: clock.now,
    log,
    defaults,
    catalog: () => catalog,
    arbiter: () => arbiter,
  });
  await models.load();
  const catalog = createCatalog({
    runtimes,
    routing: models.routing,
    overlay: models.overlay,
    ttlMs: config.catalog_ms,
    deadlineMs: config.control_ms,
  });
  const notify = createNotify();
  const noticeMoves = createMoves((runtime) => void catalog.refreshOf(runtime));
  const card = createCard({
    config,
    runtimes,
    hardware,
    models,
    store,
    now: clock.now,
    log,
    onChange: () => {
      noticeMoves(arbiter.snapshot().held);
      notify.changed('gpu', () => toGpuEvent(arbiter.snapshot()));
    },
    onSwap: (swap) => hub.publish({ type: 'gpu:swap', data: toSwapEvent(swap) }),
  });
  const { arbiter, timings } = card;
  await card.load();
  const lending = createLending({
    arbiter,
    documents: store.documents,
    now: clock.now,
    unload: (signal) => models.residency.unload(undefined, signal),
    onChange: (lent) => hub.publish({ type: 'gpu:hold', data: { hold: toHoldView(lent, clock.now()) } }),
  });
  const gateway = createGateway({
    catalog,
    arbiter,
    maxRuns: config.max_runs,
    toPng: tools.toPng,
    own: { 'model.pull': toPullHandler(models.pulls, models.advise) },
    ...(config.pull_on_use ? { onDemand: createOnDemand(models) } : {}),
    needOf: models.needOf,
    ...(config.overflow_s === undefined ? {} : { overflowMs: config.overflow_s * 1000 }),
    outgrew: models.outgrew,
    onIgnored: (runtime, model) =>
      log({ level: 'warn', message: 'a runtime goes on with what was given up', runtime, model }),
    now: clock.now,
    keepOf: models.residency.keepOf,
    use: models.residency.use,
  });
  const work = await openWork({
    config,
    stateDir,
    instance,
    store,
    hub,
    gateway,
    tools,
    now: clock.now,
    log,
    failpoint,
  });
  notify.to(work.hub);
  // Before anything begins: what was lent before a restart is lent still.
  await lending.load();
  if (options.work !== false) {
    await work.start();
    hardware.start();
    await models.residency.start();
  }
  const { pulls, residency, routing, footprints } = models;
  const app = createApp({
    ...work,
    pulls,
    residency,
    routing,
    footprints,
    hardware,
    gpu: createGpu({ runtimes, hardware, arbiter, residency }),
    lending,
    timings,
    doctor: createDoctor({
      config,
      env: options.env,
      stateDir,
      cacheDir: parts.cacheDir,
      hardware,
      runtimes,
      statuses: catalog.runtimes,
      health: () => store.health(),
      version,
    }),
    socketIo: openSocketIo(work.realtime),
    now: clock.now,
    gateway,
    config,
    version,
    host: options.host ?? 'in process',
    instance,
    log,
    asset: loadAsset,
  });
  return {
    app,
    gateway,
    config,
    origins,
    stateDir,
    instance,
    version,
    work,
    async close() {
      await models.close();
      lending.close();
      await card.close();
      await work.close();
      clock.close();
      notify.close();
      await Promise.all(runtimes.map((runtime) => runtime.close?.()));
    },
  };
}

/** Throws a ConfigError for a default of something that cannot be asked. */
function toDefaults({ defaults }: Config): Partial<Record<CapabilityId, Choice>> {
  for (const id of Object.keys(defaults)) {
    if (!Object.hasOwn(capabilities, id)) {
      throw new ConfigError(`defaults: there is no capability "${id}"; there are ${capabilityIds.join(', ')}`);
    }
  }
  return defaults;
}
