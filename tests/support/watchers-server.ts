// A gateway of nothing but events, for tests and bench/watchers.mjs: it runs on each engine and is told over HTTP what to publish.
import { OpenAPIHono } from '@hono/zod-openapi';
import { currentHost } from '../../adapters/hosts/host.ts';
import { openSocketIo } from '../../adapters/hosts/socketio.ts';
import { resolveConfig } from '../../src/config.ts';
import { toGatewayError } from '../../src/error.ts';
import type { AppContext, AppEnv, AppOptions } from '../../src/http/context.ts';
import { guard } from '../../src/http/guard.ts';
import { respondError } from '../../src/http/respond.ts';
import { respondWatch } from '../../src/http/watch.ts';
import { createLocalSpine, isTerminal, openHub } from '../../src/hub.ts';
import { createRealtime } from '../../src/realtime/realtime.ts';
import type { Snapshot } from '../../src/realtime/notice.ts';
import { serveEvents } from '../../src/routes/events.ts';

/** What a test says: events to publish, a job's state being what was last said of it. */
export interface Said {
  owner?: string;
  type: string;
  job?: string;
  /** Fields of the event beside the job. */
  data?: Record<string, unknown>;
  /** How often. */
  times?: number;
}

const { config } = resolveConfig({ env: process.env });
const jobs = new Map<string, { owner: string; type: string }>();
const hub = await openHub({ spine: createLocalSpine(), window: config.event_window, now: Date.now });

async function snapshot(caller: string, job: string | undefined): Promise<Snapshot | undefined> {
  // As long as a store takes to look.
  await new Promise((resolve) => setTimeout(resolve, 2));
  const mine = [...jobs].filter(([id, { owner }]) => owner === caller && (job === undefined || id === job));
  if (job !== undefined && mine.length === 0) return undefined;
  const told = job === undefined ? mine.filter(([, state]) => !isTerminal(state)) : mine;
  return {
    events: told.map(([id, { type }]) => ({ type, data: { job: { id } } })),
    ended: mine.some(([id, state]) => id === job && isTerminal(state)),
  };
}

const realtime = createRealtime({ hub, snapshot, maxWatchers: config.max_watchers });
const options = { config, log: () => {}, version: 'test' } as unknown as AppOptions;
const app = new OpenAPIHono<AppEnv>();
app.use('*', guard(options));
serveEvents(app, { realtime, socketIo: openSocketIo(realtime) });
app.get('/jobs/:id/events', (c: AppContext) => {
  const job = c.req.param('id')!;
  return respondWatch(c, { hub, job, snapshot: () => snapshot(c.var.caller, job) });
});

app.post('/test/publish', async (c) => {
  for (const said of (await c.req.json()) as Said[]) for (let n = 0; n < (said.times ?? 1); n++) publish(said, n);
  return c.text('ok');
});
app.get('/test/stats', (c) => {
  // Before and after must not differ by what is only not collected yet.
  const { gc, Bun } = globalThis as { gc?: () => void; Bun?: { gc(force: boolean): void } };
  gc?.();
  Bun?.gc(true);
  const { rss, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  return c.json({ rss, heapUsed, cpuMs: (user + system) / 1000, watchers: hub.watchers() });
});
app.post('/test/close', (c) => {
  realtime.close();
  return c.text('ok');
});
app.onError((error, c) => respondError(c, toGatewayError(error)));

function publish({ owner, type, job, data = {} }: Said, n: number): void {
  const lasting = job !== undefined && !/progress|preview/.test(type);
  if (lasting) jobs.set(job, { owner: owner ?? 'owner', type });
  const about = lasting ? { job: { id: job } } : { id: job, n };
  hub.publish({ type, ...(owner ? { owner } : {}), ...(job ? { job } : {}), data: { ...about, ...data } });
}

const host = await currentHost();
const listening = await host.listen({
  app: { fetch: (request, bindings) => app.fetch(request, bindings ?? {}), routes: [] },
  hostname: '127.0.0.1',
  port: 0,
  requestMs: 60_000,
});
process.stdout.write(`${listening.port}\n`);
process.on('SIGTERM', () => {
  listening.stop();
  realtime.close();
});
