// The edge Worker: proxies everything to a gateway behind a tunnel, streaming both ways and keeping nothing.
import { errorTable, type ErrorCode } from '../../src/error.ts';

/** Variables and secrets of the Worker; all are text. */
export interface EdgeEnv {
  /** Address of the tunnel, with an optional path prefix. */
  ORIGIN?: string;
  /** Milliseconds until the origin must begin its answer. */
  ORIGIN_TIMEOUT_MS?: string;
  /** `true`: requests without any key are answered 401 here, public paths excepted. */
  EDGE_REQUIRE_KEY?: string;
  /** Sent as `x-edge-token`. */
  EDGE_TOKEN?: string;
  CF_ACCESS_CLIENT_ID?: string;
  CF_ACCESS_CLIENT_SECRET?: string;
}

/** What only this host adds to a Response. */
interface WorkerResponse extends Response {
  webSocket?: unknown;
}

const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

/** Headers that say who the caller is or that a request is trusted: only this Worker may write them. */
const OURS = /^(cf-.*|x-forwarded-.*|forwarded|x-real-ip|true-client-ip|x-edge-token|cdn-loop)$/;

/** What the gateway shows to anybody (src/http/guard.ts), written again so that the Worker needs none of its libraries. */
const PUBLIC = /^\/(health|ready|docs|redoc|openapi\.json|llms\.txt|assets\/site\.css|favicon\.ico|docs\/assets\/.*)?$/;

const DEFAULT_TIMEOUT_MS = 110_000;
/** The slowest upload that is still waited for, and the size assumed of one that does not tell (Cloudflare's own limit). */
const SLOWEST_UPLOAD_BYTES_PER_MS = 64;
const UNKNOWN_UPLOAD_BYTES = 100 * 1024 ** 2;

export default {
  async fetch(request: Request, env: EdgeEnv): Promise<Response> {
    const url = new URL(request.url);
    const requestId = toRequestId(request.headers.get('x-request-id'));
    const origin = toOrigin(env.ORIGIN, url);
    if (origin === undefined) {
      return fail('internal', 'This edge has no gateway behind it.', {
        requestId,
        hint: 'Set ORIGIN to the http(s) address of the tunnel, not of this Worker.',
      });
    }
    if (isTrue(env.EDGE_REQUIRE_KEY) && !mayPass(request, url)) {
      return fail('invalid_api_key', 'This request has no API key.', {
        requestId,
        hint: 'Send Authorization: Bearer KEY, x-api-key or api-key.',
      });
    }
    return forward(request, toTarget(origin, url), env, requestId);
  },
};

async function forward(request: Request, target: URL, env: EdgeEnv, requestId: string): Promise<Response> {
  const limitMs = Number(env.ORIGIN_TIMEOUT_MS) || DEFAULT_TIMEOUT_MS;
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), limitMs + uploadMs(request));
  try {
    const reply: WorkerResponse = await fetch(target, {
      method: request.method,
      headers: toOriginHeaders(request, env, requestId),
      body: request.body,
      redirect: 'manual',
      // Answers belong to one caller, whatever their path ends in.
      cache: 'no-store',
      // Passed on while the body still streams: a caller who leaves stops the gateway, and the gateway the GPU.
      signal: AbortSignal.any([request.signal, deadline.signal]),
    });
    return notFromGateway(reply, requestId) ?? toCaller(reply, requestId);
  } catch {
    if (request.signal.aborted) return fail('client_closed', 'The request was cancelled.', { requestId });
    if (deadline.signal.aborted) return tooSlow(requestId);
    return unreachable(requestId);
  } finally {
    clearTimeout(timer);
  }
}

function toOriginHeaders(request: Request, env: EdgeEnv, requestId: string): Headers {
  const headers = withoutHopByHop(request.headers);
  const forged = [...headers.keys()].filter((name) => OURS.test(name));
  for (const name of forged) headers.delete(name);
  headers.delete('host');
  if (isWebSocket(request)) headers.set('upgrade', 'websocket');
  const url = new URL(request.url);
  headers.set('x-request-id', requestId);
  headers.set('x-forwarded-host', url.host);
  headers.set('x-forwarded-proto', url.protocol.slice(0, -1));
  // Cloudflare writes this one itself and overwrites what a caller sends.
  const address = request.headers.get('cf-connecting-ip');
  if (address) headers.set('x-forwarded-for', address);
  if (env.EDGE_TOKEN) headers.set('x-edge-token', env.EDGE_TOKEN);
  if (env.CF_ACCESS_CLIENT_ID && env.CF_ACCESS_CLIENT_SECRET) {
    headers.set('cf-access-client-id', env.CF_ACCESS_CLIENT_ID);
    headers.set('cf-access-client-secret', env.CF_ACCESS_CLIENT_SECRET);
  }
  return headers;
}

function toCaller(reply: WorkerResponse, requestId: string): Response {
  const headers = withoutHopByHop(reply.headers);
  if (!headers.has('cache-control')) headers.set('cache-control', 'no-store');
  if (!headers.has('x-request-id')) headers.set('x-request-id', requestId);
  const { status, statusText } = reply;
  if (status === 101) return new Response(null, { status, headers, webSocket: reply.webSocket } as ResponseInit);
  // The same stream object goes on, so the host pumps the bytes without waking this code for each chunk.
  return new Response(reply.body, { status, statusText, headers });
}

/** The gateway puts x-request-id on every answer; a failure without it was made on the way there, as a page for people. */
function notFromGateway(reply: Response, requestId: string): Response | undefined {
  if (reply.headers.has('x-request-id')) return undefined;
  const login = reply.status === 403 || isAccessLogin(reply.headers.get('location'));
  if (!login && reply.status < 502) return undefined;
  void reply.body?.cancel();
  if (login) {
    return fail('provider_auth', 'The tunnel refused this edge.', {
      requestId,
      hint: 'Check CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET, and the Access policy of the tunnel.',
    });
  }
  return reply.status === 504 || reply.status === 522 || reply.status === 524
    ? tooSlow(requestId)
    : unreachable(requestId);
}

function unreachable(requestId: string): Response {
  return fail('upstream_unavailable', 'The gateway behind this edge cannot be reached.', {
    requestId,
    hint: 'Start the gateway and its tunnel, and check ORIGIN.',
  });
}

function tooSlow(requestId: string): Response {
  return fail('upstream_timeout', 'The gateway behind this edge did not begin its answer in time.', {
    requestId,
    hint: 'Ask with "stream": true, which keeps the connection alive while a model loads or works.',
  });
}

function fail(code: ErrorCode, message: string, details: { requestId: string; hint?: string }): Response {
  const [status, type] = errorTable[code];
  const { requestId, hint } = details;
  const error = { message, type, code, param: null, request_id: requestId, source: 'edge', ...(hint ? { hint } : {}) };
  const headers: Record<string, string> = { 'cache-control': 'no-store', 'x-request-id': requestId };
  if (status === 401) headers['www-authenticate'] = 'Bearer';
  return Response.json({ error }, { status, headers });
}

/** A copy without what belongs to one connection, the names listed in Connection included. */
function withoutHopByHop(from: Headers): Headers {
  const headers = new Headers(from);
  const named = (from.get('connection') ?? '').split(',').map((name) => name.trim().toLowerCase());
  for (const name of [...HOP_BY_HOP, ...named]) {
    // Connection may hold anything a caller likes; only what can be a header name can be one to remove.
    if (/^[\w!#$%&'*+.^`|~-]+$/.test(name)) headers.delete(name);
  }
  return headers;
}

function mayPass(request: Request, url: URL): boolean {
  // A preflight carries no key, by definition.
  if (request.method === 'OPTIONS') return true;
  const reads = request.method === 'GET' || request.method === 'HEAD';
  // A browser cannot put a header on a WebSocket or an EventSource, so their key is in the query.
  if (reads && (PUBLIC.test(url.pathname) || url.searchParams.get('key'))) return true;
  return ['authorization', 'x-api-key', 'api-key'].some((name) => request.headers.get(name));
}

/** undefined where ORIGIN is unset, is no http(s) address, or is this Worker itself. */
function toOrigin(text: string | undefined, own: URL): URL | undefined {
  const origin = text && URL.canParse(text) ? new URL(text) : undefined;
  if (origin === undefined || !/^https?:$/.test(origin.protocol) || origin.host === own.host) return undefined;
  return origin;
}

function toTarget(origin: URL, url: URL): URL {
  const target = new URL(origin);
  // Set, never joined as text: a path that begins with // would else name another host.
  target.pathname = origin.pathname.replace(/\/+$/, '') + url.pathname;
  target.search = url.search;
  return target;
}

function uploadMs(request: Request): number {
  if (request.body === null) return 0;
  const length = request.headers.get('content-length');
  // Clamped, because a timer beyond 2^31 ms fires at once.
  return Math.min((length === null ? UNKNOWN_UPLOAD_BYTES : Number(length)) / SLOWEST_UPLOAD_BYTES_PER_MS, 86_400_000);
}

function isWebSocket(request: Request): boolean {
  return request.headers.get('upgrade')?.toLowerCase() === 'websocket';
}

function isAccessLogin(location: string | null): boolean {
  return location !== null && URL.canParse(location) && new URL(location).hostname.endsWith('.cloudflareaccess.com');
}

function isTrue(text: string | undefined): boolean {
  return /^(1|true|yes)$/i.test(text ?? '');
}

function toRequestId(given: string | null): string {
  return given !== null && /^[\w.-]{1,128}$/.test(given) ? given : crypto.randomUUID();
}
