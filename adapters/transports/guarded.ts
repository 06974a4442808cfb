// Sends webhooks to addresses that callers chose: resolved once, checked, and then dialled at exactly the address that was checked.
import type { IncomingMessage } from 'node:http';
import { Unreachable, type HookAnswer, type HookRequest, type SendHook } from '../../src/webhooks/send.ts';
import { createAddresses, toName } from './addresses.ts';
import { createResolve, dial, toUnreachable, tryEach } from './dial.ts';
import type { Lookup } from './lookup.ts';

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

/** Throws a ConfigError where `allow` cannot be used. */
export function createGuardedSend(options: GuardedOptions): SendHook {
  const addresses = createAddresses(options.allow);
  const resolve = createResolve(addresses, options.lookup);

  async function deliver(request: HookRequest, signal: AbortSignal): Promise<HookAnswer> {
    const url = new URL(request.url);
    const name = toName(url.hostname);
    if (!addresses.permitsHost(name)) throw new Unreachable('blocked');
    const found = await resolve(name, signal);
    return tryEach(found, (address) => post({ url, name, address, request, signal, ca: options.ca }));
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
  const bytes = Buffer.from(to.request.body);
  const headers = { ...to.request.headers, 'content-length': bytes.length };
  let answer: HookAnswer | undefined;
  const request = dial({ url, name, address, method: 'POST', headers, ca }, (response) => {
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
