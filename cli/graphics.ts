// Pictures for terminals: which protocol a terminal is known to speak, and a picture in the words of each.
export const protocols = ['kitty', 'iterm', 'sixel'] as const;
export type Protocol = (typeof protocols)[number];

/** A picture that is ready to be drawn, and its width in pixels. */
export interface Drawing {
  png: Uint8Array;
  width: number;
}

/** Bytes of base64 in one kitty sequence: its protocol allows no more. */
const CHUNK = 4096;
/** Pixels of a character cell on a sharp screen: a picture is drawn no larger than it is there. */
const CELL = 16;

/** Undefined unless the environment leaves no doubt: a terminal that does not know a protocol prints it as pages of letters. */
export function detectProtocol(env: Record<string, string | undefined>): Protocol | undefined {
  const term = env['TERM'] ?? '';
  const program = env['TERM_PROGRAM'] ?? '';
  // A multiplexer draws the screen itself, and its inner programs see the variables of the terminal around it.
  if (env['TMUX'] || env['STY'] || /^(screen|tmux|dumb|linux)/.test(term)) return undefined;
  if (env['KITTY_WINDOW_ID'] || /kitty|ghostty/.test(term) || program === 'ghostty') return 'kitty';
  if (env['LC_TERMINAL'] === 'iTerm2' || ['iTerm.app', 'WezTerm', 'mintty'].includes(program)) return 'iterm';
  if (env['WEZTERM_PANE']) return 'iterm';
  if (/^(foot|mlterm|yaft|contour)|sixel/.test(term)) return 'sixel';
  return undefined;
}

/** `columns` is the width of the terminal in cells. */
export function toKitty({ png, width }: Drawing, columns: number): string {
  const data = Buffer.from(png).toString('base64');
  const count = Math.ceil(data.length / CHUNK);
  const sequences: string[] = [];
  for (let index = 0; index < count; index++) {
    // Silent (q=2): an answer of the terminal would stand on the next command line as if it had been typed.
    const about = index === 0 ? `a=T,f=100,q=2,c=${toCells(width, columns)},` : '';
    const more = index < count - 1 ? 1 : 0;
    sequences.push(`\x1b_G${about}m=${more};${data.slice(index * CHUNK, (index + 1) * CHUNK)}\x1b\\`);
  }
  return sequences.join('');
}

/** iTerm2's inline images, which WezTerm and mintty know too. */
export function toIterm({ png, width }: Drawing, columns: number): string {
  const about = `size=${png.byteLength};width=${toCells(width, columns)};preserveAspectRatio=1;inline=1`;
  return `\x1b]1337;File=${about}:${Buffer.from(png).toString('base64')}\x07`;
}

function toCells(width: number, columns: number): number {
  return Math.max(1, Math.min(columns - 1, Math.ceil(width / CELL)));
}
