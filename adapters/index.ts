// The composition root of every host and of the CLI: configuration → runtimes → gateway → app.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createApp, type App } from '../src/app.ts';
import { createArbiter } from '../src/arbiter/arbiter.ts';
import { capabilities, capabilityIds, type CapabilityId } from '../src/capabilities/index.ts';
import { createCatalog } from '../src/catalog.ts';
import { ConfigError, type Config, type Origin } from '../src/config.ts';
import { createGateway, type Gateway } from '../src/gateway.ts';
import type { Log } from '../src/http/context.ts';
import type { GpuTenant, RuntimeAdapter } from '../src/runtime.ts';
import { fetchTransport, type Transport } from '../src/upstream.ts';
import { loadAsset } from './assets.ts';
import { createClock } from './clock.ts';
import { openSocketIo } from './hosts/socketio.ts';
import { createFailpoint } from './failpoint.ts';
import { detectVram } from './hardware.ts';
import { createLog } from './log.ts';
import { openMediaTools } from './media/index.ts';
import { createNotify } from './notify.ts';
import { openRuntimes } from './runtimes/index.ts';
import { loadConfig, type Env } from './settings.ts';
import { defaultStateDir, openStateDir } from './state.ts';
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
  const runtimes =
    options.runtimes ??
    (await openRuntimes({ config, transport, tools, stateDir, cacheDir: join(stateDir, 'models') }));
  const catalog = createCatalog({
    runtimes,
    aliases: config.aliases,
    defaults: toDefaults(config),
    ttlMs: config.catalog_ms,
    deadlineMs: config.control_ms,
  });
  const tenants: Record<string, GpuTenant> = {};
  for (const runtime of runtimes) if (runtime.gpu) tenants[runtime.name] = runtime.gpu;
  const notify = createNotify();
  const arbiter = createArbiter({
    tenants,
    budget: config.vram ?? detectVram(),
    queueMs: config.queue_ms,
    onChange: () => notify.changed('gpu', () => ({ ...arbiter.snapshot() })),
  });
  const gateway = createGateway({
    catalog,
    arbiter,
    maxRuns: config.max_runs,
    toPng: tools.toPng,
    onPull: (pull) => notify.changed(`model:pull ${pull.runtime} ${pull.model}`, () => ({ ...pull })),
  });
  const instance = crypto.randomUUID();
  const clock = createClock();
  const work = await openWork({
    config,
    stateDir,
    instance,
    gateway,
    tools,
    now: clock.now,
    log,
    failpoint: createFailpoint(options.env['HONO_AI_FAIL_AT']),
  });
  notify.to(work.hub);
  if (options.work !== false) await work.start();
  const app = createApp({
    ...work,
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
      await work.close();
      clock.close();
      notify.close();
      await Promise.all(runtimes.map((runtime) => runtime.close?.()));
    },
  };
}

/** Throws a ConfigError for a default of something that cannot be asked. */
function toDefaults({ defaults }: Config): Partial<Record<CapabilityId, string>> {
  for (const id of Object.keys(defaults)) {
    if (!Object.hasOwn(capabilities, id)) {
      throw new ConfigError(`defaults: there is no capability "${id}"; there are ${capabilityIds.join(', ')}`);
    }
  }
  return defaults;
}
