// What happens, as it happens: server-sent events, WebSocket and Socket.IO.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { GatewayError } from '../error.ts';
import { readBytes } from '../http/body.ts';
import { clientSignal, type AppContext, type AppEnv } from '../http/context.ts';
import { describeRoute } from '../http/openapi.ts';
import { respond } from '../http/respond.ts';
import { lastSeen, respondWatch } from '../http/watch.ts';
import type { Realtime } from '../realtime/realtime.ts';
import { createSession, type SocketSession } from '../realtime/session.ts';
import { MAX_POST, type SocketIo } from '../realtime/socketio.ts';

const TAG = 'events';

export function serveEvents(
  app: OpenAPIHono<AppEnv>,
  { realtime, socketIo }: { realtime: Realtime; socketIo?: SocketIo },
): void {
  const { hub, snapshot } = realtime;
  describeRoute(app, {
    method: 'get',
    path: '/events',
    tag: TAG,
    summary: 'Everything that happens to your jobs, as server-sent events',
    description:
      'Begins with the jobs that have not ended. `Last-Event-ID`, or `?after=`, resumes without a gap; where that reaches back too far, `event: reset` comes first.',
    output: z.object({}).describe('Data of one event'),
    streams: true,
  });
  app.get('/events', (c) => respondWatch(c, { hub, snapshot: () => snapshot(c.var.caller, undefined) }));

  app.get('/ws', (c) => {
    const upgrade = toUpgrade(c);
    realtime.refuseConnection();
    return upgrade(createSession(realtime, { caller: c.var.caller, job: c.req.query('job'), after: lastSeen(c) }));
  });

  app.on(['GET', 'POST'], '/socket.io/', async (c) => {
    if (!socketIo) throw new GatewayError('not_supported', 'This gateway does not speak Socket.IO.');
    const upgrade = isUpgrade(c) ? toUpgrade(c) : undefined;
    // A session that is there already goes on.
    if (c.req.query('sid') === undefined) realtime.refuseConnection();
    const { pathname, search } = new URL(c.req.url);
    const answer = await socketIo(
      {
        method: c.req.method,
        target: pathname + search,
        headers: c.req.raw.headers,
        body: c.req.method === 'POST' ? new TextDecoder().decode(await readBytes(c, MAX_POST)) : '',
        signal: clientSignal(c),
        upgrade: upgrade !== undefined,
      },
      c.var.caller,
    );
    if (isSession(answer)) return upgrade!(answer);
    const { status, contentType, body } = answer;
    return respond(c, body, { status, contentType });
  });
}

function isUpgrade(c: AppContext): boolean {
  return c.req.header('upgrade')?.toLowerCase() === 'websocket';
}

/** How this request becomes a WebSocket. Throws where it cannot. */
function toUpgrade(c: AppContext): (session: SocketSession) => Response {
  if (!isUpgrade(c)) {
    c.var.headers['upgrade'] = 'websocket';
    throw new GatewayError('upgrade_required', 'This path speaks WebSocket only.', {
      hint: 'GET /events tells the same as server-sent events.',
    });
  }
  const upgrade = c.env?.upgrade;
  if (upgrade) return upgrade;
  throw new GatewayError('not_supported', 'There is no socket here that could be upgraded.', {
    hint: 'GET /events tells the same as server-sent events.',
  });
}

function isSession(answer: object): answer is SocketSession {
  return 'open' in answer;
}
