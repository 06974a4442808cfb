// What a file is, read from its first bytes; what its sender calls it counts only where bytes cannot say.

export interface Sniffed {
  /** Without parameters: `image/png`, `text/plain`, `application/octet-stream`. */
  mediaType: string;
  /** Without a dot; `bin` where nothing is known. */
  extension: string;
}

/** Text that is told apart by its name alone, and what such files are called. */
const TEXTS: Record<string, string> = {
  'text/plain': 'txt',
  'text/markdown': 'md',
  'text/csv': 'csv',
  'text/tab-separated-values': 'tsv',
  'text/vtt': 'vtt',
  'application/x-subrip': 'srt',
  'application/json': 'json',
  'application/jsonl': 'jsonl',
  'application/x-ndjson': 'ndjson',
  'application/yaml': 'yaml',
  'text/javascript': 'js',
  'text/css': 'css',
};
/** Sound without a header: no byte of it says what it is. */
const RAW = /^audio\/(pcm|l16|l24|basic)$/;
/** Types with a signature so short that ordinary text may begin with it. */
const SHORT_SIGNATURE = /^(image|audio|video|font)\/|^application\/(x-msdownload|x-compress|x-unix-archive)/;
/** Runs scripts, or lets what runs be hidden in it, where a browser shows it. */
const ACTIVE = /html|xml|svg|script|^multipart\/|^message\/|x-mixed|x-shockwave|wasm/;
const SHOWN = /^(image|audio|video)\/|^text\/(plain|vtt)$|^application\/json$/;

/** `head` is the beginning of the file, or all of it. */
export async function sniff(head: Uint8Array, label?: string): Promise<Sniffed> {
  const told = label?.split(';')[0]!.trim().toLowerCase();
  const text = toText(head);
  // Loaded by the first file: starting need not pay for it.
  const { fileTypeFromBuffer } = await import('file-type');
  const found = await fileTypeFromBuffer(head).catch(() => undefined);
  const mediaType = found?.mime.split(';')[0];
  if (found && mediaType && !(text !== undefined && SHORT_SIGNATURE.test(mediaType))) {
    if (mediaType === 'application/xml' && text !== undefined) return toMarkup(text) ?? { mediaType, extension: 'xml' };
    return { mediaType, extension: found.ext };
  }
  if (text === undefined) {
    if (told && RAW.test(told)) return { mediaType: told, extension: 'pcm' };
    return { mediaType: 'application/octet-stream', extension: 'bin' };
  }
  const markup = toMarkup(text);
  if (markup) return markup;
  if (told && told in TEXTS && told !== 'text/plain') return { mediaType: told, extension: TEXTS[told]! };
  if (looksLikeJson(text)) return { mediaType: 'application/json', extension: 'json' };
  return { mediaType: 'text/plain', extension: 'txt' };
}

/** How a file may be sent: what a browser could run is sent as plain bytes, and all but pictures, sound, video and text is saved. */
export function toServed(mediaType: string): { contentType: string; inline: boolean } {
  if (ACTIVE.test(mediaType)) return { contentType: 'application/octet-stream', inline: false };
  const inline = SHOWN.test(mediaType);
  const isText = mediaType.startsWith('text/') || mediaType === 'application/json';
  return { contentType: isText ? `${mediaType}; charset=utf-8` : mediaType, inline };
}

/** The text, if it is one: UTF-8 without control characters. A character cut off at the end does not count against it. */
function toText(head: Uint8Array): string | undefined {
  if (head.byteLength === 0) return '';
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(head, { stream: true });
    // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
    return /[\0-\x08\x0e-\x1a\x1c-\x1f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/** Any markup counts as active: browsers find HTML behind comments, declarations and space. */
function toMarkup(text: string): Sniffed | undefined {
  const start = text.replace(/^\uFEFF/, '').trimStart();
  if (!start.startsWith('<')) {
    // Tags further in make plain text no page, but a page may begin with a word.
    return /<(!doctype html|html|script|body|iframe)\b/i.test(start.slice(0, 1024)) ? HTML : undefined;
  }
  if (/<svg[\s/>]/i.test(start)) return { mediaType: 'image/svg+xml', extension: 'svg' };
  if (/^<\?xml/i.test(start) && !/<html[\s/>]/i.test(start)) return { mediaType: 'application/xml', extension: 'xml' };
  return /^<[a-z!?/]/i.test(start) ? HTML : undefined;
}

const HTML: Sniffed = { mediaType: 'text/html', extension: 'html' };

/** A whole value, or the beginning of one. */
function looksLikeJson(text: string): boolean {
  if (!/^\s*(\{\s*("|\}|$)|\[\s*(["{[\d\-tfn\]]|$))/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return text.length > 2000;
  }
}
