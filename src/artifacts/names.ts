// Names of files as people and other machines give them, and what is left of them that is safe to give to others.

/** UTF-8 bytes; file systems take 255. */
const MAX_BYTES = 200;
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\.|$)/i;

/** The last part of a path as a plain name: no folders, drives, hidden, reserved or reversed names. Undefined where nothing is left. */
export function toFileName(given: string | undefined): string | undefined {
  if (given === undefined) return undefined;
  const last = given.slice(0, 8192).toWellFormed().normalize('NFC').split(/[/\\]/).at(-1)!;
  const plain = last
    // Control, invisible and direction characters: they show another name than there is.
    .replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\uFFFD]/gu, '')
    .replaceAll(/[:*?"<>|]/g, '_')
    .replace(/^[.\s]+/, '')
    .replace(/[.\s]+$/, '');
  if (plain === '') return undefined;
  return cut(RESERVED.test(plain) ? `_${plain}` : plain);
}

/** With an ending, so that other programs know what it is. */
export function withExtension(name: string, extension: string): string {
  return /\.[\p{L}\p{N}]{1,8}$/u.test(name) ? name : cut(`${name}.${extension}`);
}

/** RFC 6266 and 8187: plain letters for old readers, the whole name for the others. */
export function toDisposition(name: string, inline: boolean): string {
  const plain = name.replaceAll(/[^\x20-\x7e]|["\\%]/g, '_');
  const whole = encodeURIComponent(name).replaceAll(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  const extended = plain === name ? '' : `; filename*=UTF-8''${whole}`;
  return `${inline ? 'inline' : 'attachment'}; filename="${plain}"${extended}`;
}

/** The name in a Content-Disposition that somebody sent. */
export function fromDisposition(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  const extended = /;\s*filename\*\s*=\s*utf-8'[^']*'([^\s;]+)/i.exec(header)?.[1];
  if (extended !== undefined) {
    try {
      return decodeURIComponent(extended);
    } catch {
      // The other form may still be there.
    }
  }
  const match = /;\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))/i.exec(header);
  return match?.[1]?.replaceAll(/\\(.)/g, '$1') ?? match?.[2];
}

function cut(name: string): string {
  const encoder = new TextEncoder();
  const dot = name.lastIndexOf('.');
  const ending = dot > 0 && name.length - dot <= 12 ? name.slice(dot) : '';
  const letters = Array.from(name.slice(0, name.length - ending.length));
  const room = MAX_BYTES - encoder.encode(ending).byteLength;
  let bytes = 0;
  const kept = letters.filter((letter) => (bytes += encoder.encode(letter).byteLength) <= room);
  return kept.join('') + ending;
}
