// Places of files as strangers name them: what is taken is a plain way down from a folder, on every file system alike.
import { GatewayError } from '../../src/error.ts';

/** Bytes of one part of a path on most file systems. */
const MAX_PART = 255;
const MAX_PATH = 1024;
const MAX_DEPTH = 32;
/** What stands beside a file while it is fetched; the longest one must fit behind its name. */
export const UNFINISHED = { part: '.part', facts: '.part.json', draft: '.part.new', lock: '.part.lock' } as const;
const UNFINISHED_NAME = /\.part(\.json|\.new|\.lock)?$/i;
/** Devices on Windows, with any ending: what is written there never becomes a file. */
const RESERVED = /^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)/i;
/** Control characters, what Windows forbids, and what turns the direction of text round. */
// oxlint-disable-next-line no-control-regex
const FORBIDDEN = /[\u0000-\u001f\u007f-\u009f\\:*?"<>|\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;

/** The parts of a path below a folder. Throws invalid_request for one that leads elsewhere or cannot be written everywhere. */
export function toParts(path: string): string[] {
  const wrong = fault(path);
  if (wrong === undefined) return path.split('/');
  throw new GatewayError('invalid_request', `A file cannot be kept under this name: ${wrong}.`, {
    hint: 'Choose a plain file name, or report it to whoever offers these files.',
    retry: false,
  });
}

export function isSafePath(path: unknown): path is string {
  return typeof path === 'string' && fault(path) === undefined;
}

function fault(path: string): string | undefined {
  if (path.length > MAX_PATH) return 'it is too long';
  if (!path.isWellFormed()) return 'it is no valid text';
  const parts = path.split('/');
  if (parts.length > MAX_DEPTH) return 'it is too deep';
  for (const part of parts) {
    if (part === '' || part === '.' || part === '..') return 'it leads elsewhere';
    if (FORBIDDEN.test(part)) return 'it holds characters that names of files may not have';
    if (/[. ]$|^ /.test(part)) return 'it begins or ends with a space, or ends with a dot';
    if (RESERVED.test(part)) return 'it is the name of a device';
    if (new TextEncoder().encode(part).length > MAX_PART) return 'it is too long';
  }
  const name = parts.at(-1)!;
  if (UNFINISHED_NAME.test(name)) return 'it ends as unfinished files do';
  if (new TextEncoder().encode(name).length > MAX_PART - UNFINISHED.facts.length) return 'it is too long';
  return undefined;
}
