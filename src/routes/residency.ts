// Models in memory: which there are, bringing one there or sending it away, and what is wanted of them from now on.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { GatewayError } from '../error.ts';
import { readJson } from '../http/body.ts';
import { clientSignal, type AppContext, type AppEnv } from '../http/context.ts';
import { expectOwner } from '../http/guard.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';
import { loadInput, loadView, policyInput, residentView, unloadInput } from '../models/views.ts';

const loaded = z.object({
  object: z.literal('list'),
  data: z.array(residentView),
  problems: z.array(z.string()).describe('Runtimes that could not be asked, and why.'),
});
const unloaded = z.object({ object: z.literal('list'), data: z.array(loadView) });
const policyView = z.object({
  object: z.literal('model.policy'),
  model: z.string(),
  runtime: z.string(),
  pinned: z.boolean(),
  preload: z.boolean(),
  ttl_s: z.number().nullable(),
});

export function serveResidency(app: OpenAPIHono<AppEnv>): void {
  describeResidency(app);
  app.get('/models/loaded', async (c) => {
    const { residents, problems } = await c.var.app.residency.residents(clientSignal(c));
    return respondJson(c, { object: 'list', data: residents, problems } satisfies z.output<typeof loaded>);
  });
  app.post('/models/load', async (c) => {
    expectOwner(c, 'load models');
    const { model, keep_s } = await readJson(c, loadInput);
    refuseWhileDraining(c);
    const keep = keep_s === undefined ? {} : { keepS: keep_s };
    const view = await c.var.app.residency.load(model, { signal: clientSignal(c), ...keep });
    return respondJson(c, view satisfies z.output<typeof loadView>);
  });
  app.post('/models/unload', async (c) => {
    expectOwner(c, 'unload models');
    const { model } = await readJson(c, unloadInput);
    const data = await c.var.app.residency.unload(model, clientSignal(c));
    return respondJson(c, { object: 'list', data } satisfies z.output<typeof unloaded>);
  });
  app.put('/models/policy', async (c) => {
    expectOwner(c, 'say what stays in memory');
    const { model, pinned, preload, ttl_s } = await readJson(c, policyInput);
    const policy = await c.var.app.residency.setPolicy(model, {
      ...(pinned === undefined ? {} : { pinned }),
      ...(preload === undefined ? {} : { preload }),
      ...(ttl_s === undefined ? {} : { ttlS: ttl_s }),
    });
    const { ttlS = null, ...rest } = policy;
    return respondJson(c, { object: 'model.policy', ...rest, ttl_s: ttlS } satisfies z.output<typeof policyView>);
  });
}

function refuseWhileDraining(c: AppContext): void {
  if (!c.var.app.gateway.draining()) return;
  throw new GatewayError('draining', 'The gateway is shutting down.', { retryAfter: 5 });
}

function describeResidency(app: OpenAPIHono<AppEnv>): void {
  const tag = 'models';
  describeRoute(app, {
    method: 'get',
    path: '/models/loaded',
    tag,
    summary: 'Models in memory, of every runtime that tells',
    output: loaded,
  });
  describeRoute(app, {
    method: 'post',
    path: '/models/load',
    tag,
    summary: 'Bring a model to memory',
    description:
      'Waits for its turn at the card, makes room, and answers when the model is measured loaded. Who leaves ends the wait; the load itself ends with the last who waits. For the owner of the gateway.',
    input: loadInput,
    output: loadView,
  });
  describeRoute(app, {
    method: 'post',
    path: '/models/unload',
    tag,
    summary: 'Send a model away from memory, or all that are not in use',
    description:
      'Answers when they are measured gone; 409 while the one that was named is in use. A pinned model leaves as well. For the owner of the gateway.',
    input: unloadInput,
    output: unloaded,
  });
  describeRoute(app, {
    method: 'put',
    path: '/models/policy',
    tag,
    summary: 'Pin a model, preload it, or say after how long without use it leaves',
    description: 'What is not given stays as it is. For the owner of the gateway.',
    input: policyInput,
    output: policyView,
  });
}
