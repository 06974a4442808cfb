// Bytes → base64, on every host alike.

/** Arguments of one call: more would not fit on some engines' stack. */
const PIECE = 8192;

export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += PIECE) text += String.fromCharCode(...bytes.subarray(at, at + PIECE));
  return btoa(text);
}
