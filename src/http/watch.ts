// Events as server-sent events: resumed where the reader left off, or begun with how things stand.
import type { Hub } from '../hub.ts';
import { MAX_BUFFERED, openFeed, refuseBeyond } from '../realtime/feed.ts';
import { memoize, type Snapshot } from '../realtime/notice.ts';
import type { AppContext } from './context.ts';
import { EVENT_HEADERS, respondPushed } from './respond.ts';

export interface WatchAnswer {
  hub: Hub;
  /** Only this job; the stream ends with it. */
  job?: string;
  /** The last event that the reader has seen; what the request says if absent. */
  after?: string;
  /** Taken after the watch began. Undefined, or a not_found of its own, where the caller has no such job. */
  snapshot: () => Promise<Snapshot | undefined>;
}

/** Milliseconds until a reader whose connection broke tries again. */
const RETRY = 'retry: 2000\n\n';

/** Throws overloaded beyond `max_watchers`, and not_found. A reader that has seen a job's end already gets 204, which ends its tries. */
export async function respondWatch(c: AppContext, { hub, job, after, snapshot }: WatchAnswer): Promise<Response> {
  if (c.req.method === 'HEAD') return new Response(null, { headers: { ...c.var.headers, ...EVENT_HEADERS } });
  refuseBeyond(c.var.app.config.max_watchers, hub.watchers());
  const feed = await openFeed({ hub, owner: c.var.caller, job, after: after ?? lastSeen(c), snapshot });
  if (feed.over) {
    feed.close();
    return new Response(null, { status: 204, headers: c.var.headers });
  }
  return respondPushed(c, {
    maxBacklog: MAX_BUFFERED,
    open(pipe) {
      pipe.send(RETRY);
      feed.start({
        tell: (notice) => pipe.send(toEventText(notice)),
        buffered: () => pipe.buffered(),
        end: () => pipe.end(),
      });
      return () => feed.close();
    },
  });
}

/** The id by which a reader resumes; what browsers cannot put into a header may stand in the query. */
export function lastSeen(c: AppContext): string | undefined {
  return c.req.header('last-event-id') || c.req.query('after') || c.req.query('last_event_id') || undefined;
}

/** JSON holds no line breaks; ids and types are ours but for what a store put into them. */
const toEventText = memoize(({ id, type, json }) => {
  const told = id === undefined ? '' : `id: ${toLine(id)}\n`;
  return `${told}event: ${toLine(type)}\ndata: ${json}\n\n`;
});

function toLine(text: string): string {
  return text.replace(/[\r\n\0]/g, ' ');
}
