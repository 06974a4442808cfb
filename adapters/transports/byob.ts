// The transport on Deno: fetch, its bodies read into memory of ours, which costs a quarter of iterating over them there.
import { fetchTransport, type Transport } from '../../src/upstream.ts';

/** Larger than any event and than what a socket gives at once. */
const BUFFER_BYTES = 64 * 1024;

export const byobTransport: Transport = async (request) => {
  const reply = await fetchTransport(request);
  return reply.body instanceof ReadableStream ? { ...reply, body: read(reply.body) } : reply;
};

async function* read(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader({ mode: 'byob' });
  let buffer = new Uint8Array(BUFFER_BYTES);
  try {
    for (;;) {
      const { done, value } = await reader.read(buffer);
      if (done || !value) return;
      // What is handed out may still be waiting for a slow reader. Little is copied, so that the memory can be used
      // again; much is given away.
      const small = value.byteLength < BUFFER_BYTES / 4;
      const bytes = small ? value.slice() : value;
      buffer = small ? new Uint8Array(value.buffer) : new Uint8Array(BUFFER_BYTES);
      yield bytes;
    }
  } finally {
    // A reader that stopped early must free the connection; at the end there is nothing left to cancel.
    await reader.cancel().catch(() => {});
  }
}
