// Files that an answer names by address: fetched from this server and those known to belong to it, and from nowhere else.
import { GatewayError } from '../../../src/error.ts';
import { join } from '../../../src/media.ts';
import { createUpstream } from '../../../src/upstream.ts';
import type { UpstreamOptions } from '../../../src/upstream.ts';
import { toRefusal } from './failure.ts';
import type { Flavour } from './quirks.ts';

/**
 * The bytes at an address that an answer gave. The key goes to the server's own origin only. Throws upstream_invalid for an address
 * elsewhere, for a redirect and for more bytes than an answer may have; what createUpstream throws.
 */
export type Fetch = (url: string, signal: AbortSignal) => Promise<Uint8Array<ArrayBuffer>>;

export function createFetch({ headers, ...options }: UpstreamOptions, flavour: Flavour): Fetch {
  const { name, limits, baseUrl } = options;
  const own = new URL(baseUrl).origin;

  function openFor(url: URL) {
    if (url.origin === own) return createUpstream({ ...options, baseUrl: url.origin, ...(headers ? { headers } : {}) });
    if (flavour === 'xai' && isXai(url)) return createUpstream({ ...options, baseUrl: url.origin });
    throw elsewhere(name);
  }

  return async (address, signal) => {
    const url = toUrl(address, baseUrl);
    if (!url || url.username || url.password) throw elsewhere(name);
    const upstream = openFor(url);
    const reply = await upstream.send(url.pathname + url.search, { method: 'GET', signal });
    if (reply.status >= 300 && reply.status < 400) {
      await reply.text();
      throw elsewhere(name);
    }
    if (reply.status !== 200) throw await toRefusal(upstream, reply);
    return readBytes(reply.body, limits.maxReplyBytes, name);
  };
}

export async function readBytes(
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
  source: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const bytes of body) {
    size += bytes.byteLength;
    if (size > maxBytes) {
      throw new GatewayError('upstream_invalid', `${source} sent more than ${maxBytes} bytes.`, {
        source,
        retry: false,
        hint: 'Raise HONO_AI_MAX_REPLY.',
      });
    }
    // A transport may fill the same memory again.
    pieces.push(bytes.slice());
  }
  return pieces.length === 1 ? pieces[0]! : join(pieces, size);
}

/** Its pictures and films lie on hosts of their own. */
function isXai({ protocol, port, hostname }: URL): boolean {
  return protocol === 'https:' && port === '' && (hostname === 'x.ai' || hostname.endsWith('.x.ai'));
}

/** An address without a host is one on the server. */
function toUrl(address: string, baseUrl: string): URL | undefined {
  try {
    return new URL(address, baseUrl);
  } catch {
    return undefined;
  }
}

function elsewhere(source: string): GatewayError {
  return new GatewayError('upstream_invalid', `${source} gave an address that is not its own; nothing was fetched.`, {
    source,
    retry: false,
    hint: 'Have it answer with b64_json, or reach it under the address that it gives.',
  });
}
