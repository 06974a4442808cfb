// What the gateway keeps, as lists that come in pages and as single things: how all commands print them.
import type { Flag, Invocation } from './command.ts';
import { askJson, type Target } from './target.ts';

interface Page<T> {
  data: T[];
  has_more?: boolean;
  next_cursor?: string | null;
}

const PAGE = 100;

export const pageFlags: Record<string, Flag> = {
  limit: {
    type: 'string',
    valueHint: 'N',
    description: 'Show at most so many, the newest. (default: 20)',
    read(text) {
      if (!/^[1-9]\d{0,8}$/.test(text.trim())) throw new Error('a whole number above 0');
      return Number(text);
    },
  },
  all: { type: 'boolean', description: 'Show all.' },
  ids: { type: 'boolean', description: 'Print only ids, one a line, for other commands to read.' },
  'json-stream': { type: 'boolean', description: 'Print each as a line of JSON, as it comes.' },
};

export interface Listing<T> {
  query?: Record<string, string | undefined>;
  head: string[];
  /** The id is the first. */
  toRow(item: T): string[];
}

/** Prints a list as the flags above ask for it. How many it showed. */
export async function printList<T extends { id: string }>(
  { out, flags }: Invocation,
  target: Target,
  path: string,
  { query = {}, head, toRow }: Listing<T>,
): Promise<number> {
  const limit = flags['all'] ? Infinity : ((flags['limit'] as number | undefined) ?? 20);
  const pages = readPages<T>(target, path, query, limit);
  const kept: T[] = [];
  let count = 0;
  let step = await pages.next();
  for (; !step.done; step = await pages.next()) {
    count++;
    if (flags['json-stream']) out.jsonLine(step.value);
    else if (flags['ids']) out.line(step.value.id);
    else kept.push(step.value);
  }
  const more = step.value;
  if (flags['json-stream'] || flags['ids']) return count;
  if (flags.json) out.json({ object: 'list', data: kept, has_more: more });
  else {
    if (count > 0) out.table(head, kept.map(toRow));
    if (more) out.note('There are more: --all, or --limit N.');
  }
  return count;
}

/** Prints everything about a few things: what says something, one field a row; what is nested is JSON. */
export function printWhole({ out, flags }: Invocation, views: object[]): void {
  if (flags.json) return out.json(views.length === 1 ? views[0] : { object: 'list', data: views });
  for (const [index, view] of views.entries()) {
    if (index > 0) out.line('');
    const fields = Object.entries(view).filter(([name, value]) => name !== 'object' && !isEmpty(value));
    out.table(
      ['FIELD', 'VALUE'],
      fields.map(([name, value]) => [name, typeof value === 'object' ? JSON.stringify(value) : String(value)]),
    );
  }
}

/** Up to `limit` of a list, and at its end whether there are more. */
async function* readPages<T>(
  target: Target,
  path: string,
  query: Record<string, string | undefined>,
  limit: number,
): AsyncGenerator<T, boolean> {
  let left = limit;
  let cursor: string | undefined;
  for (;;) {
    const asked = { ...query, limit: String(Math.min(left, PAGE)), cursor };
    const given = Object.entries(asked).filter((pair): pair is [string, string] => pair[1] !== undefined);
    const page = await askJson<Page<T>>(target, { method: 'GET', path: `${path}?${new URLSearchParams(given)}` });
    yield* page.data.slice(0, left);
    left -= page.data.length;
    const more = page.has_more === true && typeof page.next_cursor === 'string';
    if (!more || left <= 0) return more;
    cursor = page.next_cursor!;
  }
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}
