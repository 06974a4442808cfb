// OpenAI's way of paging: the id of the last one seen, in either order, over lists that know only the newest first.
import { z } from 'zod';
import { GatewayError } from '../../error.ts';

export const listQuery = z.object({
  after: z.string().max(256).optional().describe('The last id of the page before.'),
  limit: z.coerce.number().int().min(1).max(100).default(20),
});

export interface PageQuery {
  after?: string | undefined;
  limit: number;
  order?: 'asc' | 'desc' | undefined;
}

export function listOf<T extends z.ZodType>(item: T) {
  return z.object({
    object: z.literal('list'),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });
}

/** One page of `newest`, which gives the newest first. Throws invalid_request where `after` is not among them. */
export async function toPage<T extends { id: string }>(newest: AsyncIterable<T>, query: PageQuery) {
  const { after, limit, order = 'desc' } = query;
  const found = order === 'desc' ? await following(newest, after, limit) : await preceding(newest, after, limit);
  const data = found.slice(0, limit);
  return {
    object: 'list' as const,
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: found.length > limit,
  };
}

async function following<T extends { id: string }>(newest: AsyncIterable<T>, after: string | undefined, limit: number) {
  const page: T[] = [];
  let begun = after === undefined;
  for await (const item of newest) {
    if (begun) page.push(item);
    else begun = item.id === after;
    if (page.length > limit) break;
  }
  if (!begun) throw unknown();
  return page;
}

/** The oldest first: the last that come before `after`, or before the end. */
async function preceding<T extends { id: string }>(newest: AsyncIterable<T>, after: string | undefined, limit: number) {
  const last: T[] = [];
  for await (const item of newest) {
    if (item.id === after) return last.toReversed();
    last.push(item);
    if (last.length > limit + 1) last.shift();
  }
  if (after !== undefined) throw unknown();
  return last.toReversed();
}

function unknown(): GatewayError {
  return new GatewayError('invalid_request', 'after: there is nothing of this id in the list.', { param: 'after' });
}
