// Dials hosts that strangers chose: the name is resolved once, each address checked, and exactly a checked address is connected to.
import http from 'node:http';
import https from 'node:https';
import { isIP } from 'node:net';
import { Unreachable } from '../../src/webhooks/send.ts';
import type { Addresses } from './addresses.ts';
import { createLookup, lookupSystem, type Lookup } from './lookup.ts';

/** Name → addresses in the order in which they are to be tried. Throws Unreachable: `dns`, or `blocked` where one may not be dialled. */
export type Resolve = (name: string, signal: AbortSignal) => Promise<string[]>;

export interface Dial {
  url: URL;
  /** What TLS checks and what the receiver reads. */
  name: string;
  address: string;
  method: string;
  headers: Record<string, string | number>;
  /** A certificate authority to trust instead of the known ones, in PEM. */
  ca?: string | undefined;
}

/** Addresses of one name that are tried where nobody listens. */
const MAX_TRIES = 3;
const REFUSED = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL']);
const TLS = /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|EPROTO)/;

// No connection is kept, none goes through a proxy from the environment (Deno's default agents would), no session is resumed.
const agentOptions = { keepAlive: false, proxyEnv: {}, maxCachedSessions: 0 };
const agents = { 'http:': new http.Agent(agentOptions), 'https:': new https.Agent(agentOptions) };

/** `lookup`: in place of the name servers and the system's own; for tests. */
export function createResolve(addresses: Addresses, lookup?: Lookup): Resolve {
  const lookupStranger = createLookup();
  return async (name, signal) => {
    const find = lookup ?? (addresses.isNamed(name) ? lookupSystem : lookupStranger);
    const found = isIP(name) ? [name] : await unlessAborted(find(name), signal);
    // One that may not be reached spoils the name: which one a later lookup gives is its owner's to choose.
    if (!found.every((address) => addresses.permitsAddress(address, name))) throw new Unreachable('blocked');
    return inOrder(found);
  };
}

/** For names that the configuration gave: as every other program of this machine finds them, wherever they lie. */
export const resolveTrusted: Resolve = async (name, signal) =>
  inOrder(isIP(name) ? [name] : await unlessAborted(lookupSystem(name), signal));

/** One address after the other, as long as nobody listens there. */
export async function tryEach<T>(addresses: string[], attempt: (address: string) => Promise<T>): Promise<T> {
  for (const [index, address] of addresses.entries()) {
    try {
      return await attempt(address);
    } catch (error) {
      const last = index === addresses.length - 1;
      if (last || !(error instanceof Unreachable) || error.reason !== 'refused') throw error;
    }
  }
  throw new Unreachable('refused');
}

/** A request that is not sent before `end` is called on it. */
export function dial(to: Dial, onResponse: (response: http.IncomingMessage) => void): http.ClientRequest {
  const { url, name, ca } = to;
  const secure = url.protocol === 'https:';
  const options = {
    method: to.method,
    host: to.address,
    port: url.port || (secure ? 443 : 80),
    path: url.pathname + url.search,
    headers: { ...to.headers, host: url.host },
    agent: secure ? agents['https:'] : agents['http:'],
    ...(secure && {
      rejectUnauthorized: true,
      ...(!isIP(name) && { servername: name }),
      ...(ca !== undefined && { ca }),
    }),
  };
  return (secure ? https : http).request(options, onResponse);
}

export function toUnreachable(error: unknown): Unreachable {
  if (error instanceof Unreachable) return error;
  const code = (error as { code?: unknown } | undefined)?.code;
  if (typeof code !== 'string') return new Unreachable('broken', error);
  if (REFUSED.has(code)) return new Unreachable('refused', error);
  return new Unreachable(TLS.test(code) ? 'tls' : 'broken', error);
}

/** IPv4 first: many home networks have IPv6 addresses that lead nowhere. */
function inOrder(addresses: string[]): string[] {
  if (addresses.length === 0) throw new Unreachable('dns');
  return addresses.toSorted((a, b) => isIP(a) - isIP(b)).slice(0, MAX_TRIES);
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
