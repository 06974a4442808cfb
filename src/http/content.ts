// A file as an answer: conditional, in ranges, at the reader's pace, and nothing in it can act on this gateway's pages.
import { toDisposition } from '../artifacts/names.ts';
import { toServed } from '../artifacts/sniff.ts';
import { GatewayError } from '../error.ts';
import type { AppContext } from './context.ts';
import { selectBytes, toPulledStream } from './ranges.ts';

export interface Content {
  name: string;
  mediaType: string;
  size: number;
  /** Strong, with its quotes: other bytes, another tag. */
  etag: string;
  headers: Record<string, string>;
  /** `end` is exclusive. Undefined where the bytes are lost. */
  open(range?: { start: number; end: number }): Promise<AsyncIterable<Uint8Array> | undefined>;
}

/** Throws `range_not_satisfiable`, `not_found`. */
export async function respondContent(c: AppContext, content: Content): Promise<Response> {
  const { name, mediaType, size, etag, open } = content;
  const asked = {
    range: c.req.header('range'),
    ifRange: c.req.header('if-range'),
    ifNoneMatch: c.req.header('if-none-match'),
  };
  const selected = selectBytes(asked, etag, size);
  if (selected.status === 416) {
    c.var.headers['content-range'] = `bytes */${size}`;
    throw new GatewayError('range_not_satisfiable', `The file has ${size} bytes; that range is not among them.`);
  }
  const headers: Record<string, string> = { ...c.var.headers, ...content.headers, etag, 'accept-ranges': 'bytes' };
  if (selected.status === 304) return new Response(null, { status: 304, headers });
  const { contentType, inline } = toServed(mediaType);
  const range = selected.status === 206 ? selected.range : undefined;
  Object.assign(headers, {
    'content-type': contentType,
    'content-length': String(range ? range.end - range.start : size),
    'content-disposition': toDisposition(name, inline),
    // Opened as a page it is a stranger: no scripts, no forms, no cookies, nothing loaded.
    'content-security-policy': "sandbox; default-src 'none'",
    ...(range ? { 'content-range': `bytes ${range.start}-${range.end - 1}/${size}` } : {}),
  });
  const source = await open(range);
  if (!source) throw new GatewayError('not_found', 'The bytes of this artifact are lost.');
  if (c.req.method === 'HEAD') {
    await source[Symbol.asyncIterator]().return?.();
    return new Response(null, { status: selected.status, headers });
  }
  return new Response(toPulledStream(source), { status: selected.status, headers });
}
