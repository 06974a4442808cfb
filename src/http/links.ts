// Which requests come with a signature instead of a key.
const CONTENT_PATH = /^\/artifacts\/art_[0-9a-f]{32}\/content$/;

/**
 * Whether a request says that a signature lets it in instead of a key. The guard then lets it pass without one, and the
 * route believes nothing but the signature. `query` is without the question mark.
 */
export function isSigned(path: string, query: string): boolean {
  return CONTENT_PATH.test(path) && /(?:^|&)(?:exp|sig)(?:=|&|$)/.test(query);
}

/** What `isSigned` and `check` are given; the guard and the route must read it alike. */
export function toQuery(url: string): string {
  return url.split('?')[1] ?? '';
}
