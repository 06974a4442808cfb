// A PNG without the texts in it: image programs write the prompt and the whole workflow there.
const SIGNATURE = 8;
/** Text in three forms, and the camera's notes. */
const TEXT_CHUNKS = new Set(['tEXt', 'zTXt', 'iTXt', 'eXIf']);

/** The same picture, piece by piece. Throws where the bytes are no PNG, or no whole one. */
export async function* withoutText(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held = new Uint8Array(0);
  let left = SIGNATURE;
  let keep = true;
  let ended = false;
  for await (const piece of source) {
    held = join(held, piece);
    for (;;) {
      if (left > 0) {
        const part = held.slice(0, left);
        left -= part.byteLength;
        held = held.slice(part.byteLength);
        if (keep && part.byteLength > 0) yield part;
        if (left > 0) break;
      }
      // Length and name of the next chunk; what stands behind the end of the picture is no part of it.
      if (ended || held.byteLength < 8) break;
      const name = String.fromCharCode(...held.subarray(4, 8));
      if (!/^[a-zA-Z]{4}$/.test(name)) throw new Error('not a PNG');
      keep = !TEXT_CHUNKS.has(name);
      ended = name === 'IEND';
      left = new DataView(held.buffer, held.byteOffset).getUint32(0) + 12;
    }
    if (ended && left === 0) held = new Uint8Array(0);
  }
  if (!ended || left > 0) throw new Error('the PNG is not whole');
}

function join(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(first.byteLength + second.byteLength);
  both.set(first);
  both.set(second, first.byteLength);
  return both;
}
