// What could be got: models by words, and what getting one would take before a byte of it comes.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { wanted } from '../capabilities/model/fields.ts';
import { GatewayError } from '../error.ts';
import { toInput } from '../http/body.ts';
import { latestCard } from '../hardware.ts';
import { clientSignal, type AppContext, type AppEnv } from '../http/context.ts';
import { expectOwner } from '../http/guard.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';
import { defaultContext, estimateVram, judge, toGb, toTooBig, type Facts } from '../models/fit.ts';
import { toRoomOf } from '../models/room.ts';
import { contextQuery, offerView, planView } from '../models/views.ts';

const searchQuery = z.object({
  q: z.string().max(200).default('').describe('Words of its name or title; what is known here if absent.'),
  limit: z.coerce.number().int().min(1).max(200).default(50).describe('At most so many, the best known first.'),
});
const found = z.object({
  object: z.literal('list'),
  data: z.array(offerView),
  problems: z.array(z.string()).describe('Where could not be looked, and why.'),
});
const planQuery = z.object({
  ...wanted,
  context: contextQuery,
});

/** Libraries and registries are far away; longest wait for them, in milliseconds. */
const AWAY_MS = 20_000;

export function serveModelSearch(app: OpenAPIHono<AppEnv>): void {
  const tag = 'models';
  describeRoute(app, {
    method: 'get',
    path: '/models/search',
    tag,
    summary: 'Models that could be got',
    query: searchQuery,
    output: found,
  });
  app.get('/models/search', searchModels);
  describeRoute(app, {
    method: 'get',
    path: '/models/plan',
    tag,
    summary: 'What getting a model would take: files, bytes, room on disk and on the card',
    query: planQuery,
    output: planView,
  });
  app.get('/models/plan', planModel);
}

async function searchModels(c: AppContext): Promise<Response> {
  const { q, limit } = toInput(searchQuery, c.req.query());
  const { offers, problems } = await inTime(c, (signal) => c.var.app.pulls.search(q, signal));
  const rate = toRating(c);
  const data = offers.slice(0, limit).map(({ model, runtime, title, capabilities, present, ...offer }) => {
    const { vram, fit } = rate({ ...pick(offer, 'size'), ...pick(offer, 'vram') });
    return {
      model,
      runtime,
      title: title ?? null,
      capabilities,
      size: offer.size ?? null,
      vram: vram?.bytes ?? null,
      fit: fit ?? null,
      license: offer.license ?? null,
      source: offer.source ?? null,
      present,
    };
  });
  return respondJson(c, { object: 'list', data, problems } satisfies z.output<typeof found>);
}

async function planModel(c: AppContext): Promise<Response> {
  // It reaches for any address, and for what only the owner's token opens.
  expectOwner(c, 'ask what a pull would take');
  const { context, ...want } = toInput(planQuery, c.req.query());
  const plan = await inTime(c, (signal) => c.var.app.pulls.plan(want, signal));
  const { model, runtime, files, bytes, free, license, source, facts } = plan;
  const { vram, fit, budget } = toRating(c)(facts, context, { runtime, model });
  const warnings = [...plan.warnings];
  if (bytes !== undefined && free !== undefined && bytes > free) {
    warnings.push(`It does not fit on the disk: ${toGb(bytes)} are to come, and ${toGb(free)} are free.`);
  }
  if (fit === 'too_big' && vram && budget !== undefined) {
    warnings.push(toTooBig(vram, budget));
  }
  return respondJson(c, {
    object: 'pull.plan',
    model,
    runtime,
    files,
    bytes: bytes ?? null,
    free: free ?? null,
    vram: vram ?? null,
    fit: fit ?? null,
    license: license ?? null,
    source: source ?? null,
    warnings,
  } satisfies z.output<typeof planView>);
}

/** Facts → what it would take of the card, and whether that is there. */
function toRating(c: AppContext) {
  const { gateway, residency, footprints, hardware } = c.var.app;
  const usual = defaultContext(latestCard(hardware)?.vram.total);
  const isPinned = (runtime: string, model: string) => residency.policyOf(runtime, model).pinned;
  const roomOf = toRoomOf(gateway.arbiter.snapshot(), isPinned);
  return (facts: Facts, context?: number, place?: { runtime: string; model: string }) => {
    const measured = place && footprints.of(place.runtime, place.model, context);
    const vram = estimateVram(facts, measured, context, usual);
    const room = roomOf(place?.runtime, place?.model);
    return { vram, fit: judge(vram, room), budget: room.budget };
  };
}

async function inTime<T>(c: AppContext, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const late = AbortSignal.timeout(AWAY_MS);
  try {
    return await work(AbortSignal.any([late, clientSignal(c)]));
  } catch (error) {
    if (!late.aborted) throw error;
    throw new GatewayError('upstream_timeout', 'The libraries of models did not answer in time.', { cause: error });
  }
}

function pick<T extends object, Name extends keyof T>(from: T, name: Name): Partial<Pick<T, Name>> {
  return from[name] === undefined ? {} : ({ [name]: from[name] } as Pick<T, Name>);
}
