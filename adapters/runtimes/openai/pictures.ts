// Pictures travel inside the request: a URL would have the runtime fetch, from its place in the network, what the caller chose.
import { Buffer } from 'node:buffer';
import { GatewayError } from '../../../src/error.ts';

/** Throws `invalid_request` for a picture that is not a data: URL. */
export function assertInline(url: unknown, param: string, source: string): void {
  if (typeof url === 'string' && /^data:/i.test(url)) return;
  throw new GatewayError('invalid_request', 'Pictures must come as data: URLs.', {
    param,
    source,
    hint: 'Fetch the picture yourself and send it as data:image/png;base64,…',
  });
}

/** The same for a body that is passed on unread. */
export function assertInlineBody(body: Uint8Array, source: string): void {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  // A key can be spelt with escapes, so those are reason enough to look.
  if (!text.includes('_url') && !text.includes('\\u00')) return;
  const { messages } = toJson(text.toString());
  if (!Array.isArray(messages)) return;
  for (const [index, message] of messages.entries()) {
    const parts: unknown = message?.content;
    for (const [at, part] of Array.isArray(parts) ? parts.entries() : []) {
      for (const [name, value] of Object.entries((part as object | null) ?? {})) {
        if (!name.endsWith('_url')) continue;
        const url = typeof value === 'object' ? (value as { url?: unknown } | null)?.url : value;
        assertInline(url, `messages.${index}.content.${at}.${name}`, source);
      }
    }
  }
}

function toJson(text: string): { messages?: { content?: unknown }[] } {
  try {
    return (JSON.parse(text) as object | null) ?? {};
  } catch {
    throw new GatewayError('invalid_json', 'The body is not JSON.');
  }
}
