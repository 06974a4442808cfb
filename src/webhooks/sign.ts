// Signatures by the Standard Webhooks spec: HMAC-SHA256 over the id, the time of the try and the exact bytes that are sent.
import { toBase64 } from '../base64.ts';

const PREFIX = 'whsec_';
const SECRET_BYTES = 32;
const encoder = new TextEncoder();

/** A secret that still signs. */
export interface Secret {
  secret: string;
  /** Milliseconds since 1970 at which it stops signing; absent for the one in use. */
  until?: number;
}

export function createSecret(): string {
  return PREFIX + toBase64(crypto.getRandomValues(new Uint8Array(SECRET_BYTES)));
}

/** The headers of one try. Every secret that is still valid signs, so that a receiver can change over in its own time. */
export async function sign(message: {
  id: string;
  payload: string;
  secrets: readonly Secret[];
  /** Milliseconds since 1970; the time of this try, not of the event. */
  at: number;
}): Promise<Record<string, string>> {
  const { id, payload, at } = message;
  const timestamp = String(Math.floor(at / 1000));
  const signed = encoder.encode(`${id}.${timestamp}.${payload}`);
  const valid = message.secrets.filter(({ until }) => until === undefined || until > at);
  const signatures = await Promise.all(valid.map(async ({ secret }) => `v1,${await toMac(secret, signed)}`));
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures.join(' ') };
}

async function toMac(secret: string, signed: Uint8Array<ArrayBuffer>): Promise<string> {
  const bytes = Uint8Array.from(atob(secret.slice(PREFIX.length)), (character) => character.charCodeAt(0));
  const key = await crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return toBase64(new Uint8Array(await crypto.subtle.sign('HMAC', key, signed)));
}
