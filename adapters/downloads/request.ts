// One request for a file: its address and that of every redirect checked before it is dialled, each token sent to its own origin only.
import type { IncomingMessage } from 'node:http';
import { GatewayError } from '../../src/error.ts';
import { Unreachable } from '../../src/webhooks/send.ts';
import { createAddresses, toName } from '../transports/addresses.ts';
import { createResolve, dial, resolveTrusted, toUnreachable, tryEach } from '../transports/dial.ts';
import type { Lookup } from '../transports/lookup.ts';
import { notAllowed, tooManyRedirects, wrongRedirect } from './failures.ts';

export interface RequestsOptions {
  tokens: Record<string, string>;
  trusted: string[];
  allow: string[];
  stallMs: number;
  /** In place of the name servers and the system's own; for tests. */
  lookup?: Lookup | undefined;
}

export interface AskOptions {
  method: 'GET' | 'HEAD';
  headers?: Record<string, string>;
  signal: AbortSignal;
  /** The answer that is enough, though it is a redirect. */
  enough?: (answer: Answer) => boolean;
}

export interface Answer {
  status: number;
  /** Of the last answer, the one with the body. */
  header(name: string): string | undefined;
  /** What the first host that knows the file says of it, before it sends elsewhere for the bytes. */
  linked: { size: number | undefined; sha256: string | undefined };
  /** The host of the first request gave it, or said why it does not. */
  atHome: boolean;
  /** Throws Unreachable where it is cut (`broken`) or silent (`timeout`), and the signal's reason. */
  body(): AsyncGenerator<Uint8Array, void>;
  /** For an answer whose body is not wanted. */
  drop(): void;
}

export interface Requests {
  /** Throws invalid_request for an address that may not be reached, whoever asks. */
  check(url: string): URL;
  /** Any status resolves. Throws Unreachable where no answer comes, and the signal's reason. */
  ask(url: string, options: AskOptions): Promise<Answer>;
}

const MAX_REDIRECTS = 5;
const MAX_URL = 8192;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** Throws a ConfigError where `allow` cannot be used. */
export function createRequests(options: RequestsOptions): Requests {
  const addresses = createAddresses(options.allow, 'HONO_AI_PULL_ALLOW');
  const resolveStranger = createResolve(addresses, options.lookup);
  const trusted = new Set(options.trusted);
  const tokens = new Map(Object.entries(options.tokens));

  function check(text: string): URL {
    if (text.length > MAX_URL || !URL.canParse(text)) throw notAllowed('it is no address');
    const url = new URL(text);
    if (trusted.has(url.origin) && /^https?:$/.test(url.protocol)) return withoutSecrets(url);
    if (url.protocol !== 'https:') throw notAllowed('only https addresses are');
    if (!addresses.permitsHost(toName(url.hostname))) throw notAllowed('it lies inside the own network');
    return withoutSecrets(url);
  }

  async function hop(url: URL, { method, headers, signal }: AskOptions): Promise<IncomingMessage> {
    const name = toName(url.hostname);
    const token = tokens.get(url.origin);
    const found = await (trusted.has(url.origin) ? resolveTrusted : resolveStranger)(name, signal);
    const sent = {
      'user-agent': 'hono-ai',
      accept: '*/*',
      'accept-encoding': 'identity',
      ...headers,
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    };
    return tryEach(found, (address) => get({ url, name, address, method, headers: sent }, signal));
  }

  async function ask(text: string, asked: AskOptions): Promise<Answer> {
    let url = check(text);
    const home = url.origin;
    const linked: Answer['linked'] = { size: undefined, sha256: undefined };
    for (let hops = 0; ; hops++) {
      const limit = createLimit(asked.signal, options.stallMs);
      const response = await hop(url, { ...asked, signal: limit.signal }).finally(limit.end);
      const header = (name: string) => [response.headers[name] ?? []].flat().join(', ') || undefined;
      if (url.origin === home) {
        linked.size ??= toSize(header('x-linked-size'));
        linked.sha256 ??= /^"?([0-9a-f]{64})"?$/.exec(header('x-linked-etag') ?? '')?.[1];
      }
      const answer: Answer = {
        status: response.statusCode ?? 0,
        header,
        linked,
        atHome: url.origin === home,
        body: () => read(response, asked.signal, options.stallMs),
        drop: () => void response.destroy(),
      };
      const next = REDIRECTS.has(answer.status) ? header('location') : undefined;
      if (next === undefined || asked.enough?.(answer)) return answer;
      answer.drop();
      if (hops >= MAX_REDIRECTS) throw tooManyRedirects();
      url = follow(next, url);
    }
  }

  function follow(next: string, from: URL): URL {
    if (!URL.canParse(next, from)) throw wrongRedirect();
    try {
      return check(new URL(next, from).href);
    } catch (error) {
      throw error instanceof GatewayError ? wrongRedirect(error.message) : error;
    }
  }

  return { check, ask };
}

export function toSize(header: string | undefined): number | undefined {
  if (header === undefined || !/^\d{1,16}$/.test(header)) return undefined;
  const size = Number(header);
  return Number.isSafeInteger(size) ? size : undefined;
}

function withoutSecrets(url: URL): URL {
  if (url.username !== '' || url.password !== '') throw notAllowed('it holds a user name or a password');
  url.hash = '';
  return url;
}

/** Until the headers are there. The body has a limit of its own: one byte in time is enough. */
function get(to: Parameters<typeof dial>[0], signal: AbortSignal): Promise<IncomingMessage> {
  if (signal.aborted) return Promise.reject(signal.reason);
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = dial(to, (response) => {
    // What goes wrong before somebody reads is told to whoever reads.
    response.on('error', () => {});
    response.once('close', () => request.destroy());
    resolve(response);
  });
  const onAbort = () => {
    reject(signal.reason);
    request.destroy();
  };
  signal.addEventListener('abort', onAbort, { once: true });
  request.on('error', (error) => reject(toUnreachable(error)));
  request.on('close', () => reject(new Unreachable('broken')));
  request.end();
  return promise.finally(() => signal.removeEventListener('abort', onAbort));
}

async function* read(
  response: IncomingMessage,
  signal: AbortSignal,
  stallMs: number,
): AsyncGenerator<Uint8Array, void> {
  let failure: unknown;
  const stop = (reason: unknown) => {
    failure ??= reason;
    response.destroy();
  };
  const onAbort = () => stop(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  let last = Date.now();
  let reading = true;
  // One timer looks at the clock now and then; a reader that takes its time is no silence.
  const watch = () => {
    const left = reading ? last + stallMs - Date.now() : stallMs;
    if (left <= 0) stop(new Unreachable('timeout'));
    else timer = setTimeout(watch, left);
  };
  let timer = setTimeout(watch, stallMs);
  try {
    for await (const bytes of response as AsyncIterable<Uint8Array>) {
      reading = false;
      yield bytes;
      last = Date.now();
      reading = true;
    }
    if (failure !== undefined) throw failure;
    if (response.complete === false) throw new Unreachable('broken');
  } catch (error) {
    throw failure ?? toUnreachable(error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    response.destroy();
  }
}

/** The caller's signal, or no headers in time. */
function createLimit(signal: AbortSignal, ms: number) {
  const abort = new AbortController();
  const onAbort = () => abort.abort(signal.reason);
  const timer = setTimeout(() => abort.abort(new Unreachable('timeout')), ms);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  return {
    signal: abort.signal,
    end() {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    },
  };
}
