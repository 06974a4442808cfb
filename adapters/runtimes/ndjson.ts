// Cuts a byte stream into the lines of newline-delimited JSON, however the network cut it.
import { GatewayError } from '../../src/error.ts';

const NEWLINE = 0x0a;
const MAX_LINE_BYTES = 16 * 1024 * 1024;

/**
 * Yields each line that is not empty, without its line end; the last one needs none.
 * Throws `upstream_invalid` for a line longer than `maxLineBytes`; `source` is who is blamed for it.
 */
export async function* readLines(
  body: AsyncIterable<Uint8Array>,
  maxLineBytes: number = MAX_LINE_BYTES,
  source: string = 'gateway',
): AsyncGenerator<string> {
  // Split as bytes, then decode: no byte of a multi-byte character is a newline, so a cut character waits in the decoder.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let carried = '';
  let carriedBytes = 0;
  for await (const bytes of body) {
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, start)) {
      if (carriedBytes + end - start > maxLineBytes) throw tooLong(maxLineBytes, source);
      const line = toLine(carried + decoder.decode(bytes.subarray(start, end)));
      carried = '';
      carriedBytes = 0;
      start = end + 1;
      if (line !== '') yield line;
    }
    if (start === bytes.length) continue;
    carriedBytes += bytes.length - start;
    if (carriedBytes > maxLineBytes) throw tooLong(maxLineBytes, source);
    carried += decoder.decode(start === 0 ? bytes : bytes.subarray(start), { stream: true });
  }
  const line = toLine(carried + decoder.decode());
  if (line !== '') yield line;
}

function toLine(text: string): string {
  return text.endsWith('\r') ? text.slice(0, -1) : text;
}

function tooLong(maxLineBytes: number, source: string): GatewayError {
  return new GatewayError('upstream_invalid', `${source} sent a line of more than ${maxLineBytes} bytes.`, {
    source,
    retry: false,
  });
}
