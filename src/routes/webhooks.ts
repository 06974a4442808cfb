// Webhooks: a caller's endpoints, their secrets, and what became of every delivery.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { readJson, toInput } from '../http/body.ts';
import type { AppEnv } from '../http/context.ts';
import { describeRoute, type RouteDescription } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';
import {
  deliveryList,
  deliveryStates,
  deliveryView,
  endpointChange,
  endpointInput,
  endpointList,
  endpointView,
  endpointWithSecret,
  newSecret,
  secretView,
  testView,
} from '../webhooks/records.ts';
import type { Webhooks } from '../webhooks/webhooks.ts';

const deliveryQuery = z.object({
  state: z.enum(deliveryStates).optional(),
  endpoint: z.string().optional().describe('Only those of one endpoint.'),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  cursor: z.string().optional().describe('next_cursor of the page before.'),
});
const removed = z.object({ id: z.string(), object: z.literal('webhook'), deleted: z.literal(true) });

export function serveWebhooks(app: OpenAPIHono<AppEnv>, webhooks: Webhooks): void {
  // Before the routes of one endpoint: `deliveries` and `secret` are no ids.
  serveDeliveries(app, webhooks);
  serveSecret(app, webhooks);
  serveEndpoints(app, webhooks);
}

function describe(app: OpenAPIHono<AppEnv>, route: Omit<RouteDescription, 'tag'>): void {
  describeRoute(app, { ...route, tag: 'webhooks' });
}

function serveEndpoints(app: OpenAPIHono<AppEnv>, { endpoints }: Webhooks): void {
  describe(app, {
    method: 'post',
    path: '/webhooks',
    summary: 'Have events sent to an address; the answer shows the secret, this once',
    input: endpointInput,
    output: endpointWithSecret,
    status: 201,
  });
  app.post('/webhooks', async (c) => {
    const input = await readJson(c, endpointInput);
    const made = await endpoints.create(c.var.caller, input);
    return respondJson(c, made, { status: 201, headers: { location: `/webhooks/${made.id}` } });
  });
  describe(app, { method: 'get', path: '/webhooks', summary: 'Your endpoints', output: endpointList });
  app.get('/webhooks', async (c) => {
    const data = await endpoints.list(c.var.caller);
    return respondJson(c, { object: 'list', data, has_more: false, next_cursor: null });
  });
  const path = '/webhooks/{id}';
  describe(app, {
    method: 'get',
    path,
    summary: 'One endpoint, and why it is disabled if it is',
    output: endpointView,
  });
  app.get('/webhooks/:id', async (c) => respondJson(c, await endpoints.get(c.var.caller, c.req.param('id'))));
  describe(app, {
    method: 'patch',
    path,
    summary: 'Change its address or events, disable it, or enable it again',
    input: endpointChange,
    output: endpointView,
  });
  app.patch('/webhooks/:id', async (c) => {
    const change = await readJson(c, endpointChange);
    return respondJson(c, await endpoints.update(c.var.caller, c.req.param('id'), change));
  });
  describe(app, {
    method: 'delete',
    path,
    summary: 'Remove it; nothing is sent there once this is answered',
    output: removed,
  });
  app.delete('/webhooks/:id', async (c) => {
    const id = c.req.param('id');
    await endpoints.remove(c.var.caller, id);
    return respondJson(c, { id, object: 'webhook', deleted: true } satisfies z.output<typeof removed>);
  });
  describe(app, {
    method: 'post',
    path: '/webhooks/{id}/rotate',
    summary: 'A new secret, shown this once; the old one signs too for a day',
    output: endpointWithSecret,
  });
  app.post('/webhooks/:id/rotate', async (c) =>
    respondJson(c, await endpoints.rotate(c.var.caller, c.req.param('id'))),
  );
  describe(app, {
    method: 'post',
    path: '/webhooks/{id}/test',
    summary: 'Send a webhook.test now, and tell what came of it',
    output: testView,
  });
  app.post('/webhooks/:id/test', async (c) => respondJson(c, await endpoints.test(c.var.caller, c.req.param('id'))));
}

function serveSecret(app: OpenAPIHono<AppEnv>, { secret }: Webhooks): void {
  const path = '/webhooks/secret';
  describe(app, {
    method: 'get',
    path,
    summary: 'Since when you have a secret for the webhooks that jobs name themselves; never the secret',
    output: secretView,
  });
  app.get(path, async (c) => respondJson(c, { object: 'webhook.secret', ...(await secret.get(c.var.caller)) }));
  describe(app, {
    method: 'post',
    path,
    summary: 'A new one, shown this once; an old one signs too for a day',
    output: newSecret,
    status: 201,
  });
  app.post(path, async (c) => {
    const made = { object: 'webhook.secret', ...(await secret.rotate(c.var.caller)) };
    return respondJson(c, made, { status: 201 });
  });
}

function serveDeliveries(app: OpenAPIHono<AppEnv>, { deliveries }: Webhooks): void {
  const path = '/webhooks/deliveries';
  describe(app, {
    method: 'get',
    path,
    summary: 'What is to be sent, what has arrived, and what nobody took',
    query: deliveryQuery,
    output: deliveryList,
  });
  app.get(path, async (c) => {
    const { deliveries: data, next } = await deliveries.list(c.var.caller, toInput(deliveryQuery, c.req.query()));
    return respondJson(c, { object: 'list', data, has_more: next !== undefined, next_cursor: next ?? null });
  });
  describe(app, {
    method: 'post',
    path: '/webhooks/deliveries/{id}/replay',
    summary: 'Send a dead or delivered one again, under the same webhook-id',
    status: 202,
    output: deliveryView,
  });
  app.post('/webhooks/deliveries/:id/replay', async (c) =>
    respondJson(c, await deliveries.replay(c.var.caller, c.req.param('id')), { status: 202 }),
  );
}
