// Workflows: graphs that a runtime runs as models; list, look, check, add, remove.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { GatewayError } from '../error.ts';
import { readJson, toInput } from '../http/body.ts';
import { clientSignal, type AppContext, type AppEnv } from '../http/context.ts';
import { expectOwner } from '../http/guard.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';
import {
  workflowCheck,
  workflowDetails,
  workflowInput,
  workflowProposal,
  workflowView,
  type WorkflowDesk,
  type WorkflowView,
} from '../workflows.ts';

const page = z.object({
  object: z.literal('list'),
  data: z.array(workflowView),
  has_more: z.boolean(),
  next_cursor: z.string().nullable(),
});
const removed = z.object({ id: z.string(), object: z.literal('workflow'), deleted: z.literal(true) });
const query = z.object({
  runtime: z.string().max(64).optional().describe('Only of this one; the first that has workflows if absent.'),
});

export function serveWorkflows(app: OpenAPIHono<AppEnv>): void {
  describeWorkflows(app);
  app.get('/workflows', async (c) => {
    const { runtime } = toInput(query, c.req.query());
    const lists = await Promise.all(findPlaces(c, runtime).map(({ desk }) => desk.list(clientSignal(c))));
    const data: WorkflowView[] = lists.flat();
    const answer = { object: 'list' as const, data, has_more: false, next_cursor: null };
    return respondJson(c, answer satisfies z.output<typeof page>);
  });
  app.post('/workflows', async (c) => {
    // A graph is a program for the machine that runs it: who may have pictures made may not say how.
    expectOwner(c, 'change its workflows');
    const input = await readJson(c, workflowInput);
    const desk = findDesk(c);
    const added = await desk.add(input, clientSignal(c));
    await c.var.app.gateway.catalog.refresh();
    return respondJson(c, added, { status: 201, headers: { location: `/workflows/${added.id}` } });
  });
  app.post('/workflows/validate', async (c) => {
    const proposal = await readJson(c, workflowProposal);
    const desk = findDesk(c);
    return respondJson(c, await desk.check(proposal, clientSignal(c)));
  });
  app.get('/workflows/:id', async (c) => {
    const desk = findDesk(c);
    return respondJson(c, await desk.get(c.req.param('id'), clientSignal(c)));
  });
  app.delete('/workflows/:id', async (c) => {
    expectOwner(c, 'change its workflows');
    const id = c.req.param('id');
    const desk = findDesk(c);
    await desk.remove(id);
    await c.var.app.gateway.catalog.refresh();
    return respondJson(c, { id, object: 'workflow', deleted: true } satisfies z.output<typeof removed>);
  });
}

/** The one that was named, else the first that has workflows. */
function findDesk(c: AppContext): WorkflowDesk {
  const { runtime } = toInput(query, c.req.query());
  const [place] = findPlaces(c, runtime);
  if (place) return place.desk;
  throw new GatewayError('not_supported', `${runtime ?? 'No runtime'} ${runtime ? 'has no' : 'has'} workflows now.`, {
    ...(runtime === undefined ? {} : { param: 'runtime' }),
    hint: 'Start ComfyUI and set HONO_AI_COMFYUI_URL.',
  });
}

function findPlaces(c: AppContext, wanted: string | undefined) {
  const desks = c.var.app.gateway.catalog.desks();
  return desks.filter(({ runtime }) => wanted === undefined || runtime === wanted);
}

function describeWorkflows(app: OpenAPIHono<AppEnv>): void {
  const tag = 'workflows';
  const path = '/workflows/{id}';
  describeRoute(app, {
    method: 'get',
    path: '/workflows',
    tag,
    summary: 'Every workflow, whether it can run, and what is wrong with it if not',
    query,
    output: page,
  });
  describeRoute(app, {
    method: 'post',
    path: '/workflows',
    tag,
    summary: 'Add a graph of your own: it becomes a model',
    description:
      'What of a request goes where is found in the graph, or said by a binding. For the owner of the gateway.',
    query,
    input: workflowInput,
    output: workflowDetails,
    status: 201,
  });
  describeRoute(app, {
    method: 'post',
    path: '/workflows/validate',
    tag,
    summary: 'Check a graph against what the server has, and show what would be bound',
    query,
    input: workflowProposal,
    output: workflowCheck,
  });
  describeRoute(app, {
    method: 'get',
    path,
    tag,
    summary: 'One workflow: its graph, its binding and its problems',
    query,
    output: workflowDetails,
  });
  describeRoute(app, { method: 'delete', path, tag, summary: 'Remove one of yours', query, output: removed });
}
