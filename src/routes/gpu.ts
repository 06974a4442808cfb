// The card: who holds it, who waits for it and why, what made room for what, what a request would come to, and lending it.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { GatewayError } from '../error.ts';
import { gpuView, holdView, swapView } from '../hardware.ts';
import { toHoldView } from '../hardware/lending.ts';
import { planInput, planRun, planView, toKnown } from '../hardware/plan.ts';
import { readSpan } from '../hardware/span.ts';
import type { Viewer } from '../hardware/tell.ts';
import { capabilities } from '../capabilities/index.ts';
import { readJson, toInput } from '../http/body.ts';
import type { AppContext, AppEnv } from '../http/context.ts';
import { expectOwner, OWNER } from '../http/guard.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';

const gpuQuery = z.object({
  history: z.enum(['0', '1']).optional().describe('0 leaves the history and the timeline out. Default 1.'),
});
const swapQuery = z.object({
  limit: z.coerce.number().int().min(1).max(500).optional().describe('Default 50; the last 500 are kept.'),
});
const swapList = z.object({ object: z.literal('list'), data: z.array(swapView) });
const SPAN = 'a time such as 90s, 30m or 2h';
const holdInput = z.strictObject({
  for: z
    .union([z.string(), z.number()], { error: `must be ${SPAN}` })
    .describe('How long: 90s, 30m, 2h, 1h30m, or a number of seconds; 24 h at most.'),
  reason: z.string().optional().describe('One line that whoever waits is told: gaming.'),
});
const holdState = z.object({
  object: z.literal('gpu.hold'),
  hold: holdView.nullable().describe('null: the card is not lent.'),
  remaining: z
    .array(z.object({ runtime: z.string(), model: z.string(), in_use: z.int() }))
    .describe('While it is lent: models that are still on the card; they leave when they are done.'),
  waiting: z.int().describe('Requests that wait for the card.'),
});
export type HoldState = z.output<typeof holdState>;

export function serveGpu(app: OpenAPIHono<AppEnv>): void {
  describeGpu(app);
  app.get('/gpu', async (c) => {
    const { history } = toInput(gpuQuery, c.req.query());
    const { gpu, lending, timings, now } = c.var.app;
    const view = await gpu.view({ history: history !== '0', viewer: toViewer(c), now: now() });
    const hold = toHoldView(lending.now(), now());
    return respondJson(c, { ...view, hold, eta_error: timings.view() } satisfies z.output<typeof gpuView>);
  });
  app.get('/gpu/swaps', (c) => {
    const { limit = 50 } = toInput(swapQuery, c.req.query());
    const data = c.var.app.gpu.swaps(limit, toViewer(c));
    return respondJson(c, { object: 'list', data } satisfies z.output<typeof swapList>);
  });
  app.post('/gpu/plan', async (c) => {
    const { capability, model, input = {}, priority } = await readJson(c, planInput);
    if (capabilities[capability].own) expectOwner(c, capabilities[capability].summary.toLowerCase());
    const given = model === undefined ? input : { ...input, model };
    const { known, whole } = toKnown(capability, given);
    const { makes } = capabilities[capability] as { makes?: unknown };
    const name = (known as { model?: string }).model;
    const plan = await planRun(c.var.app.gateway, capability, {
      model: name,
      known,
      whole,
      caller: c.var.caller,
      class: priority ?? (makes === undefined ? 'interactive' : 'normal'),
    });
    return respondJson(c, plan satisfies z.output<typeof planView>);
  });
  serveHold(app);
}

function serveHold(app: OpenAPIHono<AppEnv>): void {
  app.get('/gpu/hold', (c) => respondJson(c, toState(c)));
  app.post('/gpu/hold', async (c) => {
    expectOwner(c, 'lend the card');
    const { for: span, reason } = await readJson(c, holdInput);
    const ms = typeof span === 'number' ? span * 1000 : readSpan(span);
    if (ms === undefined) {
      throw new GatewayError('invalid_request', `for: must be ${SPAN}`, { param: 'for' });
    }
    await c.var.app.lending.lend(ms, reason);
    return respondJson(c, toState(c));
  });
  app.delete('/gpu/hold', async (c) => {
    expectOwner(c, 'give the card back');
    await c.var.app.lending.giveBack();
    return respondJson(c, toState(c));
  });
}

function toState(c: AppContext): HoldState {
  const { lending, gateway, now } = c.var.app;
  const hold = toHoldView(lending.now(), now());
  const { held, waiting } = gateway.arbiter.snapshot();
  const remaining = held.map(({ runtime, model, leases }) => ({ runtime, model, in_use: leases }));
  return { object: 'gpu.hold', hold, remaining: hold ? remaining : [], waiting: waiting.length };
}

function toViewer(c: AppContext): Viewer {
  return { caller: c.var.caller, isOwner: c.var.caller === OWNER };
}

function describeGpu(app: OpenAPIHono<AppEnv>): void {
  const tag = 'gpu';
  describeRoute(app, {
    method: 'get',
    path: '/gpu',
    tag,
    summary: 'The card by owner, who waits for it, and the last quarter of an hour',
    query: gpuQuery,
    output: gpuView,
  });
  describeRoute(app, {
    method: 'get',
    path: '/gpu/swaps',
    tag,
    summary: 'Which models had to leave the card for which, and why',
    description: 'Newest first, since the gateway was started.',
    query: swapQuery,
    output: swapList,
  });
  describeRoute(app, {
    method: 'post',
    path: '/gpu/plan',
    tag,
    summary: 'What a request would come to: what would leave the card, how long it would take, and why',
    description:
      'Nothing is done: no model is loaded or sent away, and nobody loses a place. Times are expected ones. `?plan=1` on the route of a capability answers the same for a whole request.',
    input: planInput,
    output: planView,
  });
  describeRoute(app, {
    method: 'get',
    path: '/gpu/hold',
    tag,
    summary: 'Whether the card is lent, until when and what for',
    output: holdState,
  });
  describeRoute(app, {
    method: 'post',
    path: '/gpu/hold',
    tag,
    summary: 'Lend the card to a person',
    description:
      'Nothing begins on it, idle models leave at once and busy ones when they are done; whoever waits goes on waiting, and that time does not count. Asked again it is lent for longer. Survives a restart. For the owner of the gateway.',
    input: holdInput,
    output: holdState,
  });
  describeRoute(app, {
    method: 'delete',
    path: '/gpu/hold',
    tag,
    summary: 'Give the card back at once',
    description: 'No error where it is not lent. For the owner of the gateway.',
    output: holdState,
  });
}
