// Everything about jobs, put together: where they are kept, who works on them, who is told.
import { createArtifacts, type Artifacts } from '../src/artifacts.ts';
import { createInputs, type Inputs } from '../src/artifacts/inputs.ts';
import { sniff } from '../src/artifacts/sniff.ts';
import { capabilities, type CapabilityId } from '../src/capabilities/index.ts';
import type { Config } from '../src/config.ts';
import { registerBatchEnd } from '../src/dialects/openai/batch-output.ts';
import type { Gateway } from '../src/gateway.ts';
import type { Hub } from '../src/hub.ts';
import { finishFiles, toConversion, type MediaTools } from '../src/media.ts';
import type { Log } from '../src/http/context.ts';
import { createBatches, type Batches } from '../src/jobs/batches.ts';
import { createJobs, type JobFiles, type Jobs } from '../src/jobs/jobs.ts';
import { createRealtime, type Realtime } from '../src/realtime/realtime.ts';
import type { DocumentStore, Failpoint, Store } from '../src/store.ts';
import { createWebhooks, type Webhooks } from '../src/webhooks/webhooks.ts';
import { openBlobs } from './stores/index.ts';
import { createGuardedSend } from './transports/guarded.ts';
import { isWorkerAlive, toWorkerName } from './worker-name.ts';

export interface Work {
  store: Store;
  hub: Hub;
  jobs: Jobs;
  batches: Batches;
  artifacts: Artifacts;
  inputs: Inputs;
  webhooks: Webhooks;
  realtime: Realtime;
  /** Begins to work on jobs and to deliver webhooks. */
  start(): Promise<void>;
  close(): Promise<void>;
}

export interface WorkOptions {
  config: Config;
  stateDir: string;
  instance: string;
  store: Store;
  hub: Hub;
  gateway: Gateway;
  tools: MediaTools;
  now: () => number;
  log: Log;
  failpoint?: Failpoint | undefined;
}

/** Dead letters can be looked at and sent again for this long, in milliseconds. */
const DEAD_LETTER_MS = 30 * 86_400_000;

export async function openWork(options: WorkOptions): Promise<Work> {
  const { config, instance, store, hub, gateway, tools, now, log, failpoint } = options;
  const { documents } = store;
  const artifacts = createArtifacts({
    documents,
    blobs: await openBlobs(options),
    key: await loadSecret(documents, 'artifact links'),
    now,
    keepMs: config.artifact_keep_ms,
    budget: config.artifact_budget,
    urlMs: config.artifact_url_ms,
    maxUpload: config.max_upload,
    measure: tools.measure,
    log,
  });
  const inputs = createInputs(artifacts, { pixels: config.max_pixels, imageBytes: config.max_image });
  const webhooks = createWebhooks({
    documents,
    send: createGuardedSend({ allow: config.webhook_allow }),
    now,
    log,
    timeoutMs: config.webhook_timeout_ms,
    concurrency: config.webhook_concurrency,
    keepMs: DEAD_LETTER_MS,
    ...(failpoint ? { failpoint } : {}),
  });
  const warn = (message: string, fields: Record<string, unknown>) => log({ level: 'warn', message, ...fields });
  const worker = toWorkerName(instance);
  const jobs = createJobs({
    store,
    gateway,
    hub,
    files: toJobFiles(artifacts, inputs, tools),
    hooks: webhooks,
    worker,
    isAlive: (other) => isWorkerAlive(other, worker),
    concurrency: config.job_concurrency,
    attempts: config.job_attempts,
    limits: { queue: config.job_queue_ms, run: config.job_run_ms, total: config.job_total_ms },
    leaseMs: config.job_lease_ms,
    keepMs: config.job_keep_ms,
    maxQueued: config.job_max_queued,
    memory: config.memory,
    now,
    onSweep: (at) => artifacts.sweep(at),
    warn,
    ...(failpoint ? { failpoint } : {}),
  });
  const realtime = createRealtime({
    hub,
    snapshot: (caller, job) => jobs.snapshot(caller, job),
    maxWatchers: config.max_watchers,
  });
  const batches = createBatches({ store, jobs, hooks: webhooks, now, keepMs: config.job_keep_ms, warn });
  registerBatchEnd({ batches, store, artifacts, now });
  return {
    store,
    hub,
    jobs,
    batches,
    artifacts,
    inputs,
    webhooks,
    realtime,
    async start() {
      await jobs.start();
      await batches.start();
      webhooks.start();
      for (const problem of (await store.health()).problems) log({ level: 'warn', message: problem });
    },
    async close() {
      await jobs.stop();
      await webhooks.stop();
      realtime.close();
      await artifacts.close();
      await store.close();
    },
  };
}

/** The artifacts, as jobs use them. */
function toJobFiles(artifacts: Artifacts, inputs: Inputs, tools: MediaTools): JobFiles {
  const find = (owner: string, ids: string[]) =>
    Promise.all(ids.map((id) => artifacts.get(owner, id).catch(() => undefined)));
  return {
    open: inputs.open,
    finish: (files, { capability, input }, signal) => {
      const { makes } = capabilities[capability as CapabilityId];
      return finishFiles(files, makes && toConversion(makes, input as Record<string, unknown>), {
        tools,
        sniff,
        signal,
      });
    },
    identify: (owner, capability, input) => inputs.identify(owner, capabilities[capability].input, input),
    stage: (files, about) => artifacts.stage(files, about),
    views: async (owner, ids) => {
      const records = (await find(owner, ids)).filter((record) => record !== undefined);
      return Promise.all(records.map((record) => artifacts.view(record)));
    },
    share: async (from, ids, to) => {
      const records = (await find(from, ids)).filter((record) => record !== undefined);
      if (records.length < ids.length) return undefined;
      return from === to.owner ? { ids, puts: [] } : artifacts.adopt(records, to);
    },
  };
}

/** A secret that all gateways on a store share; made by whichever comes first. */
async function loadSecret(documents: DocumentStore, name: string): Promise<Uint8Array<ArrayBuffer>> {
  const kind = 'secret';
  const fresh = crypto.getRandomValues(new Uint8Array(32));
  await documents.put([{ kind, id: name, owner: 'gateway', value: [...fresh], if: 'absent' }]);
  const known = await documents.get<number[]>(kind, name);
  return Uint8Array.from(known!.value);
}
