// Bytes → base64, on every host alike.

/** Arguments of one call: more would not fit on some engines' stack. */
const PIECE = 8192;

export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += PIECE) text += String.fromCharCode(...bytes.subarray(at, at + PIECE));
  return btoa(text);
}

/** Undefined for what is no base64; its URL-safe letters and line breaks are fine. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  // One look at each letter, however long it is; where the padding stands, atob sees.
  if (/[^\w+/=\s-]/.test(text)) return undefined;
  try {
    const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
    const bytes = new Uint8Array(binary.length);
    for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
    return bytes;
  } catch {
    return undefined;
  }
}

export function toDataUrl(mediaType: string, bytes: Uint8Array): string {
  return `data:${mediaType};base64,${toBase64(bytes)}`;
}
