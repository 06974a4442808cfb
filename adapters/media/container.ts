// What bytes are, as far as the tools need to know: they are never left to guess, for a guess can be led to what runs programs.

export type Container = (typeof SIGNATURES)[number][0];

/** At which place which bytes stand, as Latin-1; the first that fits counts. */
const SIGNATURES = [
  ['png', [[0, '\x89PNG\r\n\x1a\n']]],
  ['jpeg', [[0, '\xff\xd8\xff']]],
  ['gif', [[0, 'GIF8']]],
  [
    'webp',
    [
      [0, 'RIFF'],
      [8, 'WEBP'],
    ],
  ],
  ['tiff', [[0, 'II*\0']]],
  ['tiff', [[0, 'MM\0*']]],
  ['tiff', [[0, 'II+\0']]],
  ['tiff', [[0, 'MM\0+']]],
  ['avif', [[4, 'ftypavif']]],
  ['avif', [[4, 'ftypavis']]],
  [
    'wav',
    [
      [0, 'RIFF'],
      [8, 'WAVE'],
    ],
  ],
  [
    'avi',
    [
      [0, 'RIFF'],
      [8, 'AVI '],
    ],
  ],
  ['mp4', [[4, 'ftyp']]],
  ['matroska', [[0, '\x1aE\xdf\xa3']]],
  ['flac', [[0, 'fLaC']]],
  ['ogg', [[0, 'OggS']]],
  ['mp3', [[0, 'ID3']]],
  ['mp3', [[0, '\xff\xfb']]],
  ['mp3', [[0, '\xff\xf3']]],
  ['mp3', [[0, '\xff\xf2']]],
] as const satisfies [string, [number, string][]][];

const PICTURES = new Set<Container | undefined>(['png', 'jpeg', 'gif', 'webp', 'tiff', 'avif']);

/** Undefined for what no tool is given. */
export function toContainer(bytes: Uint8Array): Container | undefined {
  const head = String.fromCharCode(...bytes.subarray(0, 16));
  return SIGNATURES.find(([, parts]) => parts.every(([at, text]) => head.startsWith(text, at)))?.[0];
}

export function isPicture(container: Container | undefined): boolean {
  return PICTURES.has(container);
}
