// Whether the gateway lives, can work, and what it is doing.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import type { AppEnv } from '../http/context.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';

const health = z.object({ status: z.literal('ok'), version: z.string(), instance: z.string() });
const ready = z.object({ ready: z.boolean() });
const status = z.object({
  version: z.string(),
  host: z.string(),
  instance: z.string(),
  uptime_s: z.number(),
  active_runs: z.int(),
  jobs: z.object({
    store: z.string(),
    queued: z.int(),
    running: z.int(),
    done: z.int(),
    failed: z.int(),
    cancelled: z.int(),
    problems: z.array(z.string()).describe('What is wrong or risky with the store, each with its remedy.'),
  }),
  runtimes: z.array(
    z.object({
      name: z.string(),
      ok: z.boolean(),
      models: z.int(),
      error: z.string().optional(),
      hint: z.string().optional(),
    }),
  ),
  card: z.object({
    budget: z.number().nullable().describe('Bytes of VRAM that models may use; null where nobody said.'),
    held: z.array(z.object({ runtime: z.string(), model: z.string(), footprint: z.number(), leases: z.int() })),
    waiting: z.array(z.object({ runtime: z.string(), model: z.string() })),
  }),
});

export function serveSystem(app: OpenAPIHono<AppEnv>): void {
  const tag = 'system';
  const startedAt = performance.now();
  describeRoute(app, {
    method: 'get',
    path: '/health',
    tag,
    summary: 'The process lives',
    output: health,
    public: true,
  });
  // Asks no runtime: a probe must never load a model or wait for one.
  app.get('/health', (c) => {
    const { version, instance } = c.var.app;
    return respondJson(c, { status: 'ok', version, instance });
  });
  describeRoute(app, {
    method: 'get',
    path: '/ready',
    tag,
    summary: 'New work is accepted',
    output: ready,
    public: true,
  });
  app.get('/ready', async (c) => {
    const { gateway, store } = c.var.app;
    const [runtimes, health] = await Promise.all([gateway.catalog.runtimes(), store.health()]);
    const isReady = !gateway.draining() && health.ok && runtimes.some((runtime) => runtime.ok);
    return respondJson(c, { ready: isReady }, { status: isReady ? 200 : 503 });
  });
  describeRoute(app, {
    method: 'get',
    path: '/system/status',
    tag,
    summary: 'Runtimes, the card and what runs',
    output: status,
  });
  app.get('/system/status', async (c) => {
    const { gateway, store, version, host, instance } = c.var.app;
    const { held, waiting, budget } = gateway.arbiter.snapshot();
    const health = await store.health();
    const none = { queued: 0, running: 0, done: 0, failed: 0, cancelled: 0 };
    const counts = health.ok ? await store.jobs.counts() : none;
    return respondJson(c, {
      version,
      host,
      instance,
      uptime_s: Math.round((performance.now() - startedAt) / 1000),
      active_runs: gateway.active(),
      jobs: { store: store.name, ...counts, problems: health.problems },
      runtimes: await gateway.catalog.runtimes(),
      card: {
        budget: budget ?? null,
        held: held.map(({ runtime, model, footprint, leases }) => ({ runtime, model, footprint, leases })),
        waiting: waiting.map(({ runtime, model }) => ({ runtime, model })),
      },
    } satisfies z.output<typeof status>);
  });
}
