// Models: all of them and one, what names stand for, and deleting; what could be got is in model-search.ts.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { pulledFile } from '../capabilities/model/fields.ts';
import { GatewayError } from '../error.ts';
import { readJson, toInput } from '../http/body.ts';
import { clientSignal, type AppContext, type AppEnv } from '../http/context.ts';
import { expectOwner } from '../http/guard.ts';
import { toHeader } from '../http/headers.ts';
import { describeRoute, type RouteDescription } from '../http/openapi.ts';
import { respond, respondJson } from '../http/respond.ts';
import { toCard, toCardText, toWords } from '../models/cards.ts';
import { toList } from '../models/choices.ts';
import { estimateVram, judge } from '../models/fit.ts';
import { toRoomOf } from '../models/room.ts';
import {
  contextQuery,
  aliasMap,
  aliasPatch,
  choice,
  fits,
  modelCard,
  modelDetails,
  modelStates,
  type Choice,
} from '../models/views.ts';

type Listing = Parameters<typeof toCard>[0];

const runtimeView = z.object({
  name: z.string(),
  ok: z.boolean(),
  models: z.int(),
  error: z.string().optional(),
  hint: z.string().optional(),
});
const list = z.object({
  models: z.array(modelCard),
  has_more: z.boolean(),
  defaults: z
    .record(z.string(), z.string())
    .describe('Capability → the model that answers where none is named, as things stand now.'),
  aliases: z.record(z.string(), choice),
  runtimes: z.array(runtimeView),
});
const listQuery = z.object({
  capability: z.string().optional().describe('Only those that can do it: text.chat, image.generate, …'),
  runtime: z.string().optional().describe('Only those of this runtime.'),
  state: z.enum(modelStates).optional().describe('Only those in this state.'),
  fit: z.enum(fits).optional().describe('Only those of which this is known.'),
  q: z.string().max(200).optional().describe('Words in their names; all of them.'),
  limit: z.coerce.number().int().min(1).max(10_000).optional().describe('All of them if absent.'),
  after: z.string().optional().describe('The last id of the page before.'),
});
const detailsQuery = z.object({
  context: contextQuery,
});
const removed = z.object({
  id: z.string(),
  object: z.literal('model'),
  deleted: z.literal(true),
  runtime: z.string(),
  freed: z.int().nullable().describe('Bytes that became free; null where nobody says.'),
  files: z.array(pulledFile),
});

/** Below /models, and no ids: their routes are elsewhere. */
const WORDS = /^(?:aliases|defaults|search|plan|pull|pulls|pulls\/.*|load|loaded|unload|policy)$/;

function describe(app: OpenAPIHono<AppEnv>, route: Omit<RouteDescription, 'tag'>): void {
  describeRoute(app, { ...route, tag: 'models' });
}

export function serveModels(app: OpenAPIHono<AppEnv>): void {
  describe(app, {
    method: 'get',
    path: '/models',
    summary: 'Every model, the defaults, the aliases and the runtimes',
    query: listQuery,
    output: list,
  });
  app.get('/models', listModels);
  serveNames(app, 'aliases', 'What names stand for: one model, several in order, or whichever of several is in memory');
  serveNames(app, 'defaults', 'What answers where no model is named, by capability');
  const path = '/models/{id}';
  describe(app, {
    method: 'get',
    path,
    summary: 'All about one model; ids may hold / and :',
    query: detailsQuery,
    output: modelDetails,
  });
  app.get('/models/:id{.+}', (c, next) => (WORDS.test(c.req.param('id')) ? next() : showModel(c, c.req.param('id'))));
  describe(app, {
    method: 'delete',
    path,
    summary: 'Delete a model from disk',
    description:
      'One that is in use is refused (409). Files that other models need stay. For the owner of the gateway.',
    output: removed,
  });
  app.delete('/models/:id{.+}', (c, next) =>
    WORDS.test(c.req.param('id')) ? next() : deleteModel(c, c.req.param('id')),
  );
}

async function listModels(c: AppContext): Promise<Response> {
  const { gateway, routing } = c.var.app;
  const query = toInput(listQuery, c.req.query());
  const [all, defaults, runtimes] = await Promise.all([
    gateway.catalog.list(),
    gateway.catalog.defaults(),
    gateway.catalog.runtimes(),
  ]);
  const found = select(all, query);
  const { limit = found.length, after } = query;
  const start = after === undefined ? 0 : found.findIndex(({ id }) => id === after) + 1;
  if (after !== undefined && start === 0) {
    throw new GatewayError('invalid_request', 'There is no such model in this list.', {
      param: 'after',
      hint: 'Begin again without it.',
    });
  }
  const rest = {
    has_more: start + limit < found.length,
    defaults: Object.fromEntries([...defaults].map(([id, listing]) => [id, listing.id])),
    aliases: Object.fromEntries(routing.aliases()),
    runtimes,
  } satisfies Omit<z.output<typeof list>, 'models'>;
  // Cards are written down once: most of what is sent has been sent before.
  const cards = found
    .slice(start, start + limit)
    .map(toCardText)
    .join(',');
  return respond(c, `{"models":[${cards}],${JSON.stringify(rest).slice(1)}`, { contentType: 'application/json' });
}

function select(all: readonly Listing[], { capability, runtime, state, fit, q = '' }: z.output<typeof listQuery>) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  if (capability === undefined && !runtime && !state && !fit && words.length === 0) return all;
  return all.filter(
    (listing) =>
      (capability === undefined || (listing.capabilities as string[]).includes(capability)) &&
      (runtime === undefined || listing.runtime === runtime) &&
      (state === undefined || listing.state === state) &&
      (fit === undefined || listing.fit === fit) &&
      words.every((word) => toWords(listing).includes(word)),
  );
}

async function showModel(c: AppContext, name: string): Promise<Response> {
  const { gateway, routing, residency, footprints } = c.var.app;
  const { context } = toInput(detailsQuery, c.req.query());
  const { catalog, arbiter } = gateway;
  const listing = await catalog.find(name);
  const { runtime, model } = listing;
  const [aliases, defaults] = await Promise.all([catalog.aliases(), catalog.defaults()]);
  const leading = (names: ReadonlyMap<string, Listing>) =>
    [...names].flatMap(([each, target]) => (target === listing ? [each] : []));
  const { pinned, preload, ttlS } = residency.policyOf(runtime, model.id);
  const card = toCard(listing);
  let { vram, fit } = card;
  if (vram && context !== undefined) {
    const isPinned = (...place: [string, string]) => residency.policyOf(...place).pinned;
    vram = estimateVram(model, footprints.of(runtime, model.id, context), context) ?? null;
    fit = judge(vram ?? undefined, toRoomOf(arbiter.snapshot(), isPinned)(runtime, model.id)) ?? null;
  }
  const details: z.output<typeof modelDetails> = {
    ...card,
    vram,
    fit,
    digest: model.digest ?? null,
    aliases: [...new Set([...leading(aliases), ...(model.aliases ?? [])])].filter(
      (each) => !routing.aliases().has(each) || aliases.has(each),
    ),
    default_for: leading(defaults),
    policy: { pinned, preload, ttl_s: ttlS ?? null },
    pull: model.state === 'available' ? `POST /models/pull ${JSON.stringify({ model: model.id, runtime })}` : null,
    why: await whyOf(c, listing, fit),
  };
  return respondJson(c, details);
}

async function whyOf(c: AppContext, { runtime, state }: Listing, fit: Listing['fit'] | null): Promise<string | null> {
  if (state === 'pulling') return 'It is being fetched: GET /models/pulls tells how far it is.';
  if (state === 'unavailable') {
    const status = (await c.var.app.gateway.catalog.runtimes()).find(({ name }) => name === runtime);
    return [status?.error, status?.hint].filter(Boolean).join(' ') || null;
  }
  return fit === 'too_big' ? 'It is larger than the memory of the card that models may use.' : null;
}

async function deleteModel(c: AppContext, name: string): Promise<Response> {
  expectOwner(c, 'delete models');
  const { gateway, residency, pulls } = c.var.app;
  const { catalog, arbiter } = gateway;
  const { id, runtime, model, state } = await catalog.find(name);
  const names = [id, model.id, ...(model.aliases ?? [])];
  if (![...names, ...names.map((each) => `${runtime}/${each}`)].includes(name)) {
    throw new GatewayError('conflict', `“${name}” is an alias; it stands for ${id}.`, {
      hint: `DELETE /models/${id} deletes the model, PATCH /models/aliases {${JSON.stringify(name)}: null} the alias.`,
    });
  }
  const held = arbiter.snapshot().held.find((entry) => entry.runtime === runtime && entry.model === model.id);
  if (held && held.leases > 0) {
    throw new GatewayError('conflict', `${id} is in use.`, {
      retryAfter: 5,
      hint: 'Try again when its work has ended.',
    });
  }
  const signal = clientSignal(c);
  if (held || state === 'loaded') {
    // Where nothing can send it away, deleting it says what is to be done.
    await residency.unload(`${runtime}/${model.id}`, signal).catch((error: unknown) => {
      if (!(error instanceof GatewayError && error.code === 'not_supported')) throw error;
    });
  }
  const { freed, files } = await pulls.remove(runtime, model.id, signal);
  await catalog.refreshOf(runtime);
  const answer: z.output<typeof removed> = { id, object: 'model', deleted: true, runtime, freed: freed ?? null, files };
  return respondJson(c, answer);
}

function serveNames(app: OpenAPIHono<AppEnv>, kind: 'aliases' | 'defaults', what: string): void {
  const path = `/models/${kind}`;
  const output = z.object({
    object: z.literal(kind),
    [kind]: z.record(z.string(), choice).describe('As they are now, those of the configuration included.'),
    warnings: z.array(z.string()).describe('What will not work as things stand now.'),
  });
  const set = async (c: AppContext, choices: Record<string, Choice | null>, how: 'replace' | 'merge') => {
    expectOwner(c, `change ${kind}`);
    const { routing, hub } = c.var.app;
    await (kind === 'aliases' ? routing.setAliases(choices, how) : routing.setDefaults(choices, how));
    hub.publish({ type: 'model:changed', data: { [kind]: true } });
    const warnings = await warningsOf(c, kind, choices);
    const headers: Record<string, string> =
      warnings.length > 0 ? { 'x-warning': toHeader(warnings.join('; ')).slice(0, 2000) } : {};
    return respondJson(c, { object: kind, [kind]: Object.fromEntries(routing[kind]()), warnings }, { headers });
  };
  describe(app, {
    method: 'put',
    path,
    summary: `Set ${kind}: all of them`,
    description: `${what}. Replaces all that were set so; those of the configuration stay. For the owner of the gateway.`,
    input: aliasMap,
    output,
  });
  app.put(path, async (c) => set(c, await readJson(c, aliasMap), 'replace'));
  describe(app, {
    method: 'patch',
    path,
    summary: `Set some ${kind}; null removes one`,
    description: `${what}. The others stay. For the owner of the gateway.`,
    input: aliasPatch,
    output,
  });
  app.patch(path, async (c) => set(c, await readJson(c, aliasPatch), 'merge'));
}

/** What is not there may come: it is said, not refused. */
async function warningsOf(
  c: AppContext,
  kind: 'aliases' | 'defaults',
  choices: Record<string, Choice | null>,
): Promise<string[]> {
  const { gateway, routing } = c.var.app;
  const known = new Set<string>(['default', 'auto', 'warm', ...routing.aliases().keys()]);
  const models = new Map<string, readonly string[]>();
  for (const { id, runtime, model, capabilities } of await gateway.catalog.list()) {
    const names = [id, model.id, ...(model.aliases ?? [])];
    for (const name of names.flatMap((each) => [each, `${runtime}/${each}`])) {
      models.set(name, models.get(name) ?? capabilities);
    }
  }
  const members = Object.entries(choices).flatMap(([name, each]) =>
    each === null ? [] : toList(each).models.map((member) => ({ name, member })),
  );
  const unable = members.filter(
    ({ name, member }) => kind === 'defaults' && models.get(member)?.includes(name) === false,
  );
  const missing = [...new Set(members.map(({ member }) => member))].filter(
    (name) => !known.has(name) && !models.has(name),
  );
  const hidden =
    kind === 'aliases' ? Object.keys(choices).filter((name) => choices[name] !== null && models.has(name)) : [];
  const standing: ReadonlyMap<string, Choice> = routing[kind]();
  const stays = Object.keys(choices).filter((name) => choices[name] === null && standing.has(name));
  return [
    ...stays.map((name) => `"${name}" is in the configuration and stays: change it there`),
    ...missing.map((name) => `There is no model "${name}" now`),
    ...unable.map(({ name, member }) => `"${member}" does not offer ${name}`),
    ...hidden.map((name) => `"${name}" is the name of a model, which goes before the alias`),
  ];
}
