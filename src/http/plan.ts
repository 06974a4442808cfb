// `?plan=1` on the route of a capability: what the same request would come to, without doing any of it.
import type { MiddlewareHandler } from 'hono';
import { z } from 'zod';
import { capabilities, type CapabilityId } from '../capabilities/index.ts';
import { planRun, type PlanView } from '../hardware/plan.ts';
import type { JobOptions } from '../jobs/options.ts';
import { readBytes, toInput, toJson } from './body.ts';
import type { AppContext, AppEnv } from './context.ts';
import { expectOwner } from './guard.ts';
import { forgetBrought, readRequest, toChecked } from './inputs.ts';
import { toPreference } from './prefer.ts';
import { respondJson } from './respond.ts';

export const planQuery = z.object({
  plan: z
    .enum(['0', '1'])
    .optional()
    .describe('1: nothing is done; the answer tells what it would come to, as POST /gpu/plan does.'),
});

/** Goes before the handler of the route, and before its Idempotency-Key: a plan is no answer to keep. */
export function orPlan(id: CapabilityId, schema: z.ZodObject): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const asked = c.req.query('plan');
    if (asked === undefined || asked === '0') return next();
    toInput(planQuery, { plan: asked });
    if (capabilities[id].own) expectOwner(c, capabilities[id].summary.toLowerCase());
    try {
      return respondJson(c, await plan(c, id, schema));
    } finally {
      await forgetBrought(c);
    }
  };
}

async function plan(c: AppContext, id: CapabilityId, schema: z.ZodObject): Promise<PlanView> {
  const { job, ...input } = (await readUnkept(c, schema)) as Record<string, unknown> & { job?: JobOptions };
  const { makes, own } = capabilities[id] as { makes?: unknown; own?: unknown };
  const isJob = makes !== undefined || job !== undefined || toPreference(c.req.header('prefer')) !== undefined;
  return planRun(c.var.app.gateway, id, {
    model: typeof input['model'] === 'string' ? input['model'] : undefined,
    known: input,
    whole: input,
    caller: c.var.caller,
    class: job?.priority ?? (isJob && !own ? 'normal' : 'interactive'),
  });
}

/** The files of a form have to be read to find its fields; those in JSON are left as they came, and nothing is kept. */
async function readUnkept(c: AppContext, schema: z.ZodObject): Promise<Record<string, unknown>> {
  if (/^multipart\//i.test(c.req.header('content-type') ?? '')) return readRequest(c, schema);
  return toChecked(schema, toJson(await readBytes(c, c.var.app.config.max_body)));
}
