// Models on their way here: look, pause, resume, cancel. They begin with POST /models/pull.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import type { AppEnv } from '../http/context.ts';
import { expectOwner } from '../http/guard.ts';
import { describeRoute, type RouteDescription } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';
import { pullView } from '../models/views.ts';

const pullList = z.object({
  object: z.literal('list'),
  data: z.array(pullView),
  has_more: z.boolean(),
  next_cursor: z.string().nullable(),
});
const cancelled = z.object({ id: z.string(), object: z.literal('pull'), cancelled: z.literal(true) });

const MAY = 'say what is pulled';

export function servePulls(app: OpenAPIHono<AppEnv>): void {
  const describe = (route: Omit<RouteDescription, 'tag'>) => describeRoute(app, { ...route, tag: 'models' });
  describe({
    method: 'get',
    path: '/models/pulls',
    summary: 'Models on their way here: how far, how fast, how long yet',
    output: pullList,
  });
  app.get('/models/pulls', (c) => {
    const data = c.var.app.pulls.list();
    return respondJson(c, { object: 'list', data, has_more: false, next_cursor: null } satisfies z.output<
      typeof pullList
    >);
  });
  const path = '/models/pulls/{id}';
  describe({ method: 'get', path, summary: 'One of them', output: pullView });
  app.get('/models/pulls/:id', (c) => respondJson(c, c.var.app.pulls.get(c.req.param('id'))));
  describe({
    method: 'post',
    path: `${path}/pause`,
    summary: 'Stop fetching for now, also over a restart of the gateway; what has come stays',
    output: pullView,
  });
  app.post('/models/pulls/:id/pause', async (c) => {
    expectOwner(c, MAY);
    return respondJson(c, await c.var.app.pulls.pause(c.req.param('id')));
  });
  describe({ method: 'post', path: `${path}/resume`, summary: 'Go on where it was paused', output: pullView });
  app.post('/models/pulls/:id/resume', async (c) => {
    expectOwner(c, MAY);
    return respondJson(c, await c.var.app.pulls.resume(c.req.param('id')));
  });
  describe({
    method: 'delete',
    path,
    summary: 'Cancel it for all who wait; what has come is used should it be asked for again',
    output: cancelled,
  });
  app.delete('/models/pulls/:id', async (c) => {
    expectOwner(c, MAY);
    const id = c.req.param('id');
    await c.var.app.pulls.cancel(id);
    return respondJson(c, { id, object: 'pull', cancelled: true } satisfies z.output<typeof cancelled>);
  });
}
