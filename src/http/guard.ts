// The front door: request ids, Host and Origin checks, the key, and one log line for every request.
import type { MiddlewareHandler } from 'hono';
import { isLoopback, type Config } from '../config.ts';
import { GatewayError } from '../error.ts';
import type { AppContext, AppEnv, AppOptions } from './context.ts';
import { isSigned, toQuery } from './links.ts';
import { respond, respondError } from './respond.ts';

/** What anybody may read without a key. Everything else needs it, routes that do not exist included. */
export const publicPaths = new Set([
  '/',
  '/health',
  '/ready',
  '/docs',
  '/redoc',
  '/openapi.json',
  '/llms.txt',
  '/assets/site.css',
  '/favicon.ico',
]);
const PUBLIC_PREFIX = '/docs/assets/';

/** Whose jobs they are where no key is asked for, or the one of HONO_AI_API_KEY is given. */
export const OWNER = 'owner';

/** Throws forbidden for everybody else. `what` completes “Only the owner of this gateway may …”. */
export function expectOwner(c: AppContext, what: string): void {
  if (c.var.caller === OWNER) return;
  throw new GatewayError('forbidden', `Only the owner of this gateway may ${what}.`, {
    hint: 'Ask with the key in HONO_AI_API_KEY.',
  });
}

/** Who comes with a signed link: no caller has this name, so nothing is theirs. */
const NOBODY = '';

/** Browsers cannot send headers with a WebSocket or an EventSource: there, and only there, the key may stand in the query. */
const QUERY_KEY = /^\/(ws|events|socket\.io\/?|jobs\/[^/]+\/events)$/;

/** Origins of programs rather than of web sites. */
const APP_ORIGIN = /^(?:app|capacitor|tauri|vscode-webview|chrome-extension|moz-extension|safari-web-extension):\/\//;

export function guard(options: AppOptions): MiddlewareHandler<AppEnv> {
  const { config, log, version } = options;
  const hosts = new Set(config.allowed_hosts.map((host) => host.toLowerCase()));
  const origins = new Set(config.allowed_origins.map((origin) => origin.toLowerCase()));
  const keyed = config.api_key !== undefined || config.callers !== undefined;
  return async (c, next) => {
    const begun = performance.now();
    const path = c.req.path;
    const requestId = toRequestId(c.req.header('x-request-id'));
    const logged: Record<string, unknown> = {};
    c.set('app', options);
    c.set('requestId', requestId);
    c.set('caller', OWNER);
    c.set('logged', logged);
    c.set('headers', {
      'x-request-id': requestId,
      'x-hono-ai': version,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
    });
    let refusal: Response | undefined;
    try {
      checkHost(c.req.header('host'), config, hosts);
      const origin = c.req.header('origin');
      const site = c.req.header('sec-fetch-site');
      if (origin !== undefined || site !== undefined) {
        checkOrigin(c, origin, site, origins);
        if (c.req.method === 'OPTIONS' && c.req.header('access-control-request-method')) refusal = preflight(c);
      }
      if (isLink(c)) c.set('caller', NOBODY);
      else if (!refusal && keyed && !isPublic(c.req.method, path)) c.set('caller', toCaller(c, config));
    } catch (error) {
      refusal = respondError(c, error);
    }
    if (!refusal) await next();
    const { status } = refusal ?? c.res;
    const level = status >= 500 && status !== 501 ? 'warn' : 'info';
    log({
      level,
      message: 'request',
      id: requestId,
      method: c.req.method,
      path,
      status,
      ms: Math.round(performance.now() - begun),
      ...logged,
    });
    return refusal;
  };
}

/** A signed link needs no key; its own route believes nothing but the signature. */
function isLink(c: AppContext): boolean {
  return isSigned(c.req.path, toQuery(c.req.url));
}

function isPublic(method: string, path: string): boolean {
  if (method !== 'GET' && method !== 'HEAD') return false;
  return publicPaths.has(path) || path.startsWith(PUBLIC_PREFIX);
}

/** A name of ours or a loopback one: a page that points its own name at 127.0.0.1 (DNS rebinding) gets nothing. */
function checkHost(host: string | undefined, config: Config, allowed: Set<string>): void {
  if (allowed.has('*') || host === undefined) return;
  const name = host.replace(/:\d+$/, '').replace(/\.$/, '').toLowerCase();
  if (isLoopback(name) || allowed.has(name) || allowed.has(host.toLowerCase())) return;
  // Beyond loopback the key protects, and the names under which people reach the box are theirs to choose.
  if (!isLoopback(config.host) && allowed.size === 0) return;
  throw new GatewayError('misdirected_request', 'This gateway does not answer to that Host name.', {
    hint: 'Add the name to HONO_AI_ALLOWED_HOSTS.',
  });
}

function checkOrigin(c: AppContext, origin: string | undefined, site: string | undefined, allowed: Set<string>): void {
  if (origin === undefined) {
    // A link from elsewhere may open the public pages, nothing more.
    if (site !== 'cross-site' || isPublic(c.req.method, c.req.path) || isLink(c)) return;
  } else if (allowedOrigin(origin.toLowerCase(), c.req.header('host')?.toLowerCase(), allowed)) {
    c.var.headers['access-control-allow-origin'] = origin;
    c.var.headers['access-control-expose-headers'] =
      'x-request-id, retry-after, x-model, x-model-reason, x-runtime, x-warning, x-gpu, x-eta, x-job-id, x-cache, location, preference-applied, idempotent-replayed, etag, content-range, accept-ranges, content-disposition';
    c.var.headers['vary'] = 'origin';
    return;
  }
  c.var.headers['vary'] = 'origin';
  throw new GatewayError('forbidden_origin', 'Web pages of this origin may not call the gateway.', {
    hint: 'Add the origin to HONO_AI_ALLOWED_ORIGINS.',
  });
}

function allowedOrigin(origin: string, host: string | undefined, allowed: Set<string>): boolean {
  if (allowed.has(origin) || allowed.has('*') || APP_ORIGIN.test(origin)) return true;
  const match = /^https?:\/\/(\[[^\]]+\]|[^/:]+)(?::\d+)?$/.exec(origin);
  if (!match) return false;
  return isLoopback(match[1]!) || origin.slice(origin.indexOf('//') + 2) === host;
}

function preflight(c: AppContext): Response {
  const headers: Record<string, string> = {
    'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE',
    'access-control-max-age': '600',
    vary: 'origin, access-control-request-headers',
  };
  // SDKs send a changing set of x-stainless-* headers: what is asked for is allowed, to an origin that is.
  const asked = c.req.header('access-control-request-headers');
  if (asked !== undefined && /^[\w\-, ]{1,2000}$/.test(asked)) headers['access-control-allow-headers'] = asked;
  return respond(c, '', { status: 200, contentType: 'text/plain', headers });
}

/** Whose key it is. Every known key is compared, so that the time tells nothing. */
function toCaller(c: AppContext, { api_key, callers = {} }: Config): string {
  const authorization = c.req.header('authorization');
  const bearer = authorization === undefined ? undefined : /^bearer ([^\s,]+)$/i.exec(authorization)?.[1];
  const inQuery = QUERY_KEY.test(c.req.path) ? c.req.query('key') : undefined;
  const given = bearer ?? c.req.header('x-api-key') ?? c.req.header('api-key') ?? inQuery;
  let caller: string | undefined;
  if (given !== undefined) {
    for (const [name, key] of Object.entries(callers)) if (sameText(given, key)) caller = name;
    if (api_key !== undefined && sameText(given, api_key)) caller = OWNER;
  }
  if (caller !== undefined) return caller;
  throw new GatewayError(
    'invalid_api_key',
    given === undefined ? 'This gateway needs a key.' : 'The key is not right.',
    {
      hint: 'Send it as Authorization: Bearer <key>, or x-api-key.',
    },
  );
}

/** Takes the same time whichever character differs. */
function sameText(given: string, expected: string): boolean {
  let difference = given.length ^ expected.length;
  for (let index = 0; index < expected.length; index++)
    difference |= given.charCodeAt(index) ^ expected.charCodeAt(index);
  return difference === 0;
}

function toRequestId(given: string | undefined): string {
  return given !== undefined && /^[\w.-]{1,128}$/.test(given)
    ? given
    : `req_${crypto.randomUUID().replaceAll('-', '')}`;
}
