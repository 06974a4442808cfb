// The headers of one part of a form → the field's name, the file's name and its type, or a refusal.
import { GatewayError } from '../error.ts';

export interface PartHead {
  name: string;
  /** As it was sent; undefined where the part is a field. */
  filename: string | undefined;
  mediaType: string | undefined;
}

const MAX_NAME = 256;
const PARAMETER = /;\s*([a-z]+\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))/gi;

/** Throws invalid_request, or body_too_large beyond `limit` bytes. */
export function toPartHead(headers: Record<string, string | string[]>, limit: number): PartHead {
  const size = Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + String(value).length + 4, 0);
  if (size > limit) {
    throw new GatewayError('body_too_large', `The form is too large: a part has more than ${limit} bytes of headers.`);
  }
  const told = headers['content-disposition'];
  // Space before a value is left in it where the network cut there.
  const disposition = typeof told === 'string' ? told.trim() : '';
  if (!/^form-data\s*(;|$)/i.test(disposition)) {
    throw refused('A part is not form-data.');
  }
  const parameters = toParameters(disposition);
  const name = parameters.get('name');
  if (name === undefined || name === '') throw refused('A part has no name.');
  if (name.length > MAX_NAME || hasControls(name)) throw refused('A part has a name that cannot be one.');
  const encoded = parameters.get('filename*');
  const type = headers['content-type'];
  return {
    name,
    filename: encoded === undefined ? parameters.get('filename') : decode(encoded),
    mediaType: typeof type === 'string' ? type.split(';')[0]!.trim().toLowerCase() : undefined,
  };
}

/** The last segment of what was sent. Throws invalid_request for what tries to be more than a name. */
export function toFileName(sent: string): string {
  const segments = sent.split(/[/\\]/);
  if (sent.length > MAX_NAME || hasControls(sent) || segments.includes('..')) {
    throw refused('The name of a file is not one.', 'filename');
  }
  return segments.at(-1)!.trim() || 'file';
}

function toParameters(disposition: string): Map<string, string> {
  const told = new Map<string, string>();
  for (const [, raw, quoted, plain] of disposition.matchAll(PARAMETER)) {
    const key = raw!.toLowerCase();
    // Two answers to one question: whichever is taken, another program takes the other.
    if (told.has(key)) throw refused(`A part says twice what its ${key} is.`);
    told.set(key, quoted === undefined ? plain! : quoted.replace(/\\(["\\])/g, '$1').replaceAll('%22', '"'));
  }
  return told;
}

/** `UTF-8''percent%20encoded`. */
function decode(encoded: string): string {
  const text = /^utf-8'[\w-]*'(.*)$/i.exec(encoded)?.[1];
  try {
    if (text !== undefined) return decodeURIComponent(text);
  } catch {
    // Told below, like every other encoding that is none.
  }
  throw refused('The name of a file is not one.', 'filename');
}

function hasControls(text: string): boolean {
  // Also those that turn the direction of writing, under which a name looks like another.
  return /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffd]/.test(text);
}

function refused(message: string, param?: string): GatewayError {
  return new GatewayError('invalid_request', message, param === undefined ? {} : { param });
}
