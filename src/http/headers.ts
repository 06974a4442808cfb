// Text → what a header may hold.

/** Names and warnings may hold anything; headers only printable ASCII. */
export function toHeader(text: string): string {
  return text
    .replace(/[’‘]/g, "'")
    .replace(/[“”]/g, '"')
    .replace(/[^\x20-\x7e]/g, '?');
}
