// What would come of a run, without running it: which model would answer, and what the card would have to do for it.
import { z } from 'zod';
import { capabilities, capabilityIds, type CapabilityId } from '../capabilities/index.ts';
import type { Route, RuntimeStatus } from '../catalog.ts';
import { toReason } from '../catalog/fallback.ts';
import { GatewayError } from '../error.ts';
import type { Gateway, RunOptions } from '../gateway.ts';
import { within } from '../timers.ts';
import { toSeconds } from './tell.ts';

export const planInput = z.strictObject({
  capability: z.enum(capabilityIds as [CapabilityId, ...CapabilityId[]]),
  model: z.string().min(1).max(500).optional().describe('What would answer where none is named, if absent.'),
  input: z
    .record(z.string(), z.unknown())
    .optional()
    .describe('Fields of the request as far as they are known; sizes and lengths make the plan better.'),
  priority: z
    .enum(['interactive', 'normal', 'background'])
    .optional()
    .describe('Default interactive; normal for what is made as a job.'),
});

const place = z.object({ runtime: z.string(), model: z.string() });
const seconds = z.number().nullable();

export const planView = z.object({
  object: z.literal('gpu.plan'),
  capability: z.string(),
  model: z.string().nullable(),
  runtime: z.string().nullable(),
  reason: z.string().nullable().describe('Why it is this model.'),
  on_card: z.boolean(),
  would: z
    .enum(['run', 'load', 'swap', 'wait', 'refuse'])
    .describe(
      '`run` at once, `load` beside what is there, `swap` after sending something away, `wait` for others, `refuse`.',
    ),
  because: z.string(),
  remedy: z.string().nullable(),
  evicts: z.array(place).describe('What would leave the card for it.'),
  queue_s: seconds.describe('Waiting for others; null where nobody can tell.'),
  swap_s: seconds.describe('Making room, and loading.'),
  run_s: seconds,
  eta_s: seconds.describe('Seconds until it would be done.'),
});
export type PlanView = z.output<typeof planView>;

export type Planned = Pick<Gateway, 'catalog' | 'arbiter' | 'needOf' | 'gets' | 'draining'>;

/** Longest wait for runtimes to say what they hold, in milliseconds. */
const LOOK_MS = 1500;
/** Under way: whoever asks for many plans at once has no runtime asked for more. */
const looks = new WeakMap<object, Promise<void>>();

export interface Asked extends Pick<RunOptions, 'caller' | 'class'> {
  model: string | undefined;
  /** Fields of the request as far as they are known, checked. */
  known: object;
  /** The same where it is a whole request. */
  whole: object | undefined;
}

/** Throws what the run would throw where no model is found. */
export async function planRun(gateway: Planned, id: CapabilityId, asked: Asked): Promise<PlanView> {
  const base = { object: 'gpu.plan' as const, capability: id, ...NOTHING };
  if (gateway.draining()) return { ...base, would: 'refuse', because: 'The gateway is shutting down.' };
  if (capabilities[id].own) return { ...base, would: 'run', because: 'The gateway does it itself.' };
  const { model: name = null } = asked;
  const routes = await find(gateway, id, asked);
  if (!routes) return { ...base, model: name, would: 'load', because: `${name} is not here, and is got first.` };
  const route = routes[0]!;
  const { runtime, model } = route;
  const about = { ...base, model: model.id, runtime: runtime.name, reason: toReason(route, route.passed ?? []) };
  const statuses = await gateway.catalog.runtimes();
  const down = statuses.find((status) => status.name === runtime.name && !status.ok);
  if (down) {
    const because = down.error ?? `${runtime.name} cannot be reached.`;
    return { ...about, would: 'refuse', because, remedy: down.hint ?? null };
  }
  if (!runtime.gpu) {
    return { ...about, would: 'run', because: `${runtime.name} does not need the card.`, queue_s: 0, swap_s: 0 };
  }
  await lookAtCard(gateway, statuses);
  const need = gateway.needOf(id, route, asked.known);
  const { caller = '', class: of = 'interactive' } = asked;
  const plan = gateway.arbiter.plan({ runtime: runtime.name, model: model.id, work: id, ...need, caller, class: of });
  const { would, because, remedy = null, evicts } = plan;
  // What computes on the processor has its turn like all others, and takes nothing.
  const on_card = need.footprint > 0;
  return { ...about, on_card, would, because, remedy, evicts: evicts.map(toPlace), ...toTimes(plan) };
}

/** Each field that is given, checked, and the defaults of those that are not; `whole` where that makes a request. Throws invalid_request. */
export function toKnown(id: CapabilityId, given: Record<string, unknown>): Pick<Asked, 'known' | 'whole'> {
  const schema = capabilities[id].input as z.ZodObject;
  const known: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(schema.shape)) {
    const parsed = (field as z.ZodType).safeParse(given[name]);
    if (parsed.success && parsed.data !== undefined) known[name] = parsed.data;
    if (parsed.success || given[name] === undefined) continue;
    const param = `input.${name}`;
    throw new GatewayError('invalid_request', `${param}: ${parsed.error.issues[0]!.message}`, { param });
  }
  const whole = schema.safeParse(given);
  return { known, whole: whole.success ? whole.data : undefined };
}

const NOTHING = {
  model: null,
  runtime: null,
  reason: null,
  on_card: false,
  remedy: null,
  evicts: [],
  queue_s: null,
  swap_s: null,
  run_s: null,
  eta_s: null,
};

/** Undefined where the model is not here and would be got. */
async function find(
  { catalog, gets }: Planned,
  id: CapabilityId,
  { model, whole }: Asked,
): Promise<Route[] | undefined> {
  try {
    const routes = await catalog.resolve(id, model, whole);
    const isMissing = routes.length === 1 && routes[0]!.model.state === 'available';
    return isMissing && model !== undefined && gets(model) ? undefined : routes;
  } catch (thrown) {
    const isUnknown = thrown instanceof GatewayError && thrown.code === 'model_not_found';
    if (isUnknown && model !== undefined && gets(model)) return undefined;
    throw thrown;
  }
}

/** What came to the card or left it past the gateway counts as well. One that does not answer holds what it was last known to hold. */
function lookAtCard(gateway: Planned, statuses: readonly RuntimeStatus[]): Promise<void> {
  const { arbiter } = gateway;
  const looking = looks.get(arbiter) ?? lookAnew(gateway, statuses).finally(() => looks.delete(arbiter));
  looks.set(arbiter, looking);
  return looking;
}

async function lookAnew({ arbiter }: Planned, statuses: readonly RuntimeStatus[]): Promise<void> {
  const up = statuses.filter(({ ok }) => ok);
  const signal = AbortSignal.timeout(LOOK_MS);
  await within(LOOK_MS, Promise.all(up.map(({ name }) => arbiter.look(name, signal).catch(() => []))));
}

function toTimes({ queueMs, swapMs, runMs }: { queueMs?: number; swapMs?: number; runMs: number }) {
  const known = queueMs !== undefined && swapMs !== undefined;
  return {
    queue_s: queueMs === undefined ? null : toSeconds(queueMs),
    swap_s: swapMs === undefined ? null : toSeconds(swapMs),
    run_s: toSeconds(runMs),
    eta_s: known ? toSeconds(queueMs + swapMs + runMs) : null,
  };
}

function toPlace({ runtime, model }: { runtime: string; model: string }) {
  return { runtime, model };
}
