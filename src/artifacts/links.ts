// Signed links: an address that opens one file for a while, for whoever has it.
import { toBase64 } from '../base64.ts';
const FORM = /^exp=([1-9]\d{0,11})&sig=([A-Za-z0-9_-]{43})$/;

export interface LinkSigner {
  /** `/artifacts/{id}/content?exp=…&sig=…`; `until` is milliseconds since 1970. */
  sign(id: string, until: number): Promise<{ path: string; until: number }>;
  /** Until when it works, in milliseconds since 1970; undefined where this is not the one form of a link that we gave. */
  check(id: string, query: string): Promise<number | undefined>;
}

/** `key` is 32 random bytes. Whoever has it can open everything. */
export function createLinkSigner(key: Uint8Array<ArrayBuffer>): LinkSigner {
  const imported = crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);

  async function toSignature(id: string, exp: string): Promise<string> {
    const text = new TextEncoder().encode(`artifact\n${id}\n${exp}`);
    const bytes = new Uint8Array(await crypto.subtle.sign('HMAC', await imported, text));
    return toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replace('=', '');
  }

  return {
    async sign(id, until) {
      const exp = String(Math.floor(until / 1000));
      return {
        path: `/artifacts/${id}/content?exp=${exp}&sig=${await toSignature(id, exp)}`,
        until: Number(exp) * 1000,
      };
    },
    async check(id, query) {
      const match = FORM.exec(query);
      if (!match) return undefined;
      const [, exp, sig] = match as unknown as [string, string, string];
      // Texts are compared, not bytes: base64 would let another last character stand for the same ones.
      return sameText(sig, await toSignature(id, exp)) ? Number(exp) * 1000 : undefined;
    },
  };
}

/** Takes the same time whichever character differs; both have the same length. */
function sameText(given: string, expected: string): boolean {
  let difference = given.length ^ expected.length;
  for (let index = 0; index < expected.length; index++) {
    difference |= given.charCodeAt(index) ^ expected.charCodeAt(index);
  }
  return difference === 0;
}
