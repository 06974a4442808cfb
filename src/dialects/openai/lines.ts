// Bytes → lines of text, however they were cut, none longer than a limit.

export interface Line {
  /** Counting from 1. */
  number: number;
  /** Undefined where it is no UTF-8, or too long. */
  text: string | undefined;
}

const LF = 10;

/** Lines that hold more than space. One that is too long is passed over without being kept. */
export async function* toLines(source: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Line> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let number = 0;
  let pieces: Uint8Array[] = [];
  let size = 0;
  const keep = (piece: Uint8Array) => {
    size += piece.byteLength;
    if (size <= maxBytes) pieces.push(piece);
    else pieces = [];
  };
  const take = (): Line => {
    const text = size <= maxBytes ? decode(decoder, pieces, size) : undefined;
    pieces = [];
    size = 0;
    return { number, text };
  };
  for await (const chunk of source) {
    let from = 0;
    for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, from)) {
      keep(chunk.subarray(from, at));
      from = at + 1;
      number++;
      const line = take();
      if (line.text?.trim() !== '') yield line;
    }
    // A copy: whoever gave the chunk may use its memory again.
    if (from < chunk.byteLength) keep(chunk.slice(from));
  }
  number++;
  const last = take();
  if (last.text?.trim() !== '') yield last;
}

function decode(decoder: TextDecoder, pieces: Uint8Array[], size: number): string | undefined {
  const [only] = pieces;
  let whole = only ?? new Uint8Array();
  if (pieces.length > 1) {
    whole = new Uint8Array(size);
    let offset = 0;
    for (const piece of pieces) {
      whole.set(piece, offset);
      offset += piece.byteLength;
    }
  }
  try {
    return decoder.decode(whole);
  } catch {
    return undefined;
  }
}
