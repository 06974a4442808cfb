// Sends webhooks to addresses that callers chose: resolved once, checked, and then dialled at exactly the address that was checked.
import http from 'node:http';
import https from 'node:https';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { Unreachable, type HookAnswer, type HookRequest, type SendHook } from '../../src/webhooks/send.ts';
import { createAddresses, toName } from './addresses.ts';
import { createLookup, lookupSystem, type Lookup } from './lookup.ts';

export interface GuardedOptions {
  /** Names, addresses and networks inside the own network that may be reached. */
  allow: readonly string[];
  /** In place of the name servers and the system's own; for tests. */
  lookup?: Lookup;
  /** A certificate authority to trust instead of the known ones, in PEM. */
  ca?: string;
}

/** Bytes of an answer that are read, so that the receiver may end it in peace. */
const MAX_ANSWER = 64 * 1024;
/** How long its body is waited for, in milliseconds: the status has said all. */
const BODY_MS = 1000;
/** Addresses of one name that are tried where nobody listens. */
const MAX_TRIES = 3;

const REFUSED = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL']);
const TLS = /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|EPROTO)/;

// No connection is kept, none goes through a proxy from the environment (Deno's default agents would), no session is resumed.
const agentOptions = { keepAlive: false, proxyEnv: {}, maxCachedSessions: 0 };
const agents = { 'http:': new http.Agent(agentOptions), 'https:': new https.Agent(agentOptions) };

/** Throws a ConfigError where `allow` cannot be used. */
export function createGuardedSend(options: GuardedOptions): SendHook {
  const addresses = createAddresses(options.allow);
  const lookupStranger = createLookup();

  async function resolve(name: string, signal: AbortSignal): Promise<string[]> {
    const find = options.lookup ?? (addresses.isNamed(name) ? lookupSystem : lookupStranger);
    const found = isIP(name) ? [name] : await unlessAborted(find(name), signal);
    if (found.length === 0) throw new Unreachable('dns');
    // One that may not be reached spoils the name: which one a later lookup gives is its owner's to choose.
    if (!found.every((address) => addresses.permitsAddress(address, name))) throw new Unreachable('blocked');
    // IPv4 first: many home networks have IPv6 addresses that lead nowhere.
    return found.toSorted((a, b) => isIP(a) - isIP(b)).slice(0, MAX_TRIES);
  }

  async function deliver(request: HookRequest, signal: AbortSignal): Promise<HookAnswer> {
    const url = new URL(request.url);
    const name = toName(url.hostname);
    if (!addresses.permitsHost(name)) throw new Unreachable('blocked');
    const found = await resolve(name, signal);
    for (const [index, address] of found.entries()) {
      try {
        return await post({ url, name, address, request, signal, ca: options.ca });
      } catch (error) {
        const last = index === found.length - 1;
        if (last || !(error instanceof Unreachable) || error.reason !== 'refused') throw error;
      }
    }
    throw new Unreachable('refused');
  }

  const send = async (request: HookRequest): Promise<HookAnswer> => {
    const abort = new AbortController();
    const onAbort = () => abort.abort(new Unreachable('broken'));
    const timer = setTimeout(() => abort.abort(new Unreachable('timeout')), request.timeoutMs);
    request.signal.addEventListener('abort', onAbort, { once: true });
    if (request.signal.aborted) onAbort();
    try {
      return await deliver(request, abort.signal);
    } finally {
      clearTimeout(timer);
      request.signal.removeEventListener('abort', onAbort);
    }
  };
  return Object.assign(send, { permits: addresses.permitsHost });
}

/** The address is dialled; the name is what TLS checks and what the receiver reads. */
function post(to: {
  url: URL;
  name: string;
  address: string;
  request: HookRequest;
  signal: AbortSignal;
  ca: string | undefined;
}): Promise<HookAnswer> {
  const { url, name, address, signal, ca } = to;
  if (signal.aborted) return Promise.reject(signal.reason);
  const { promise, resolve, reject } = Promise.withResolvers<HookAnswer>();
  const secure = url.protocol === 'https:';
  const bytes = Buffer.from(to.request.body);
  const options = {
    method: 'POST',
    host: address,
    port: url.port || (secure ? 443 : 80),
    path: url.pathname + url.search,
    headers: { ...to.request.headers, host: url.host, 'content-length': bytes.length },
    agent: secure ? agents['https:'] : agents['http:'],
    ...(secure && {
      rejectUnauthorized: true,
      ...(!isIP(name) && { servername: name }),
      ...(ca !== undefined && { ca }),
    }),
  };
  let answer: HookAnswer | undefined;
  const request = (secure ? https : http).request(options, (response) => {
    const retryAfter = response.headers['retry-after'];
    answer = { status: response.statusCode ?? 0, ...(retryAfter !== undefined && { retryAfter }) };
    void drain(response).then(() => end());
  });
  /** Where the status has come, whatever happens later changes nothing. */
  const end = (error?: unknown) => {
    signal.removeEventListener('abort', onAbort);
    if (answer) resolve(answer);
    else reject(toUnreachable(error));
    request.destroy();
  };
  const onAbort = () => end(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  request.on('error', end);
  request.on('close', () => {
    if (!answer) end();
  });
  request.end(bytes);
  return promise;
}

/** A lookup cannot be broken off, but nobody waits for it any longer. */
async function unlessAborted(found: Promise<string[]>, signal: AbortSignal): Promise<string[]> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([found, promise]);
  } catch (error) {
    throw error instanceof Unreachable ? error : new Unreachable('dns', error);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Reads and forgets, up to a limit of bytes and of time. */
async function drain(response: IncomingMessage): Promise<void> {
  let size = 0;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, BODY_MS);
    const end = () => {
      clearTimeout(timer);
      resolve();
    };
    response.on('data', (bytes: Uint8Array) => {
      size += bytes.length;
      if (size >= MAX_ANSWER) end();
    });
    for (const event of ['end', 'close', 'error']) response.on(event, end);
  });
}

function toUnreachable(error: unknown): Unreachable {
  if (error instanceof Unreachable) return error;
  const code = (error as { code?: unknown } | undefined)?.code;
  if (typeof code !== 'string') return new Unreachable('broken', error);
  if (REFUSED.has(code)) return new Unreachable('refused', error);
  return new Unreachable(TLS.test(code) ? 'tls' : 'broken', error);
}
