// The model list in the shapes of OpenAI and Anthropic at once, from bytes that are kept until a model changes.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import type { Listing } from '../../catalog.ts';
import { GatewayError } from '../../error.ts';
import { toInput } from '../../http/body.ts';
import type { AppContext, AppEnv } from '../../http/context.ts';
import { describeRoute } from '../../http/openapi.ts';
import { selectBytes } from '../../http/ranges.ts';
import { respond, respondJson } from '../../http/respond.ts';
import { renamed, toCard, toCardText } from '../../models/cards.ts';
import { modelCard } from '../../models/views.ts';

const modelList = z.object({
  object: z.literal('list'),
  data: z.array(modelCard),
  has_more: z.boolean(),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
});

const pageQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).optional().describe('All of them if absent.'),
  after_id: z.string().optional().describe('Those that come after this one: last_id of the page before.'),
  before_id: z.string().optional().describe('Those that come before this one: first_id of the page after.'),
});

/** One entry of the list: its id, and its card as JSON. */
interface Entry {
  id: string;
  text: () => string;
}

/** What is made of one state of the catalog. */
interface Kept {
  entries: Entry[];
  places: Map<string, number>;
  /** Made when the whole list is first asked for. */
  whole?: Promise<{ bytes: Uint8Array<ArrayBuffer>; etag: string }>;
}

export function serveModelList(app: OpenAPIHono<AppEnv>): void {
  const tag = 'openai';
  describeRoute(app, {
    method: 'get',
    path: '/v1/models',
    tag,
    summary: 'Models and aliases, in the shapes of OpenAI and Anthropic',
    query: pageQuery,
    output: modelList,
  });
  app.get('/v1/models', listModels);
  describeRoute(app, {
    method: 'get',
    path: '/v1/models/{id}',
    tag,
    summary: 'One model or alias; ids may hold / and :',
    output: modelCard,
  });
  // Ids hold slashes: everything behind the prefix is the id.
  app.get('/v1/models/:id{.+}', async (c) => {
    const { catalog } = c.var.app.gateway;
    const id = c.req.param('id');
    const target = (await catalog.aliases()).get(id);
    return respondJson(c, target ? renamed(target, id) : toCard(await catalog.find(id)));
  });
}

/** Lists that were made of listings: who has the one has the other. */
const lists = new WeakMap<readonly Listing[], Kept>();

async function listModels(c: AppContext): Promise<Response> {
  const { limit, after_id, before_id } = toInput(pageQuery, c.req.query());
  const kept = await keptOf(c);
  if (limit !== undefined || after_id !== undefined || before_id !== undefined) {
    const page = toPage(kept, limit ?? kept.entries.length, after_id, before_id);
    return respond(c, toText(page.entries, page.hasMore), { contentType: 'application/json' });
  }
  const { bytes, etag } = await (kept.whole ??= toWhole(kept.entries));
  const headers = { etag, 'cache-control': 'private, no-cache' };
  const asked = { range: undefined, ifRange: undefined, ifNoneMatch: c.req.header('if-none-match') };
  if (selectBytes(asked, etag, bytes.byteLength).status === 304) {
    return c.body(null, 304, { ...c.var.headers, ...headers });
  }
  return respond(c, bytes, { contentType: 'application/json', headers });
}

async function keptOf(c: AppContext): Promise<Kept> {
  const { catalog } = c.var.app.gateway;
  const listings = await catalog.list();
  const known = lists.get(listings);
  if (known) return known;
  const aliases = await catalog.aliases();
  const entries: Entry[] = [
    ...listings.map((listing) => ({ id: listing.id, text: () => toCardText(listing) })),
    ...[...aliases].map(([name, listing]) => ({ id: name, text: () => JSON.stringify(renamed(listing, name)) })),
  ];
  const kept = { entries, places: new Map(entries.map(({ id }, place) => [id, place])) };
  lists.set(listings, kept);
  return kept;
}

function toPage({ entries, places }: Kept, limit: number, after: string | undefined, before: string | undefined) {
  if (after !== undefined && before !== undefined) {
    throw new GatewayError('invalid_request', 'A page is after one model or before one, not both.', {
      param: 'before_id',
    });
  }
  const place = (param: string, id: string) => {
    const found = places.get(id);
    if (found !== undefined) return found;
    throw new GatewayError('invalid_request', `There is no model “${id.slice(0, 120)}” in the list.`, {
      param,
      hint: 'Begin again without it.',
    });
  };
  if (before !== undefined) {
    const end = place('before_id', before);
    const start = Math.max(0, end - limit);
    return { entries: entries.slice(start, end), hasMore: start > 0 };
  }
  const start = after === undefined ? 0 : place('after_id', after) + 1;
  return { entries: entries.slice(start, start + limit), hasMore: start + limit < entries.length };
}

async function toWhole(entries: Entry[]): Promise<{ bytes: Uint8Array<ArrayBuffer>; etag: string }> {
  const bytes = new TextEncoder().encode(toText(entries, false));
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const etag = `"${[...hash.subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, '0')).join('')}"`;
  return { bytes, etag };
}

function toText(entries: Entry[], hasMore: boolean): string {
  const [first, last] = [entries[0]?.id ?? null, entries.at(-1)?.id ?? null].map((id) => JSON.stringify(id));
  const data = entries.map(({ text }) => text()).join(',');
  return `{"object":"list","data":[${data}],"has_more":${hasMore},"first_id":${first},"last_id":${last}}`;
}
