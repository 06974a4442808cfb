// Pixels → sixels: six rows at a time, one colour after the other, repeats counted.

/** RGBA, row by row; no more than 256 colours. */
export interface Pixels {
  data: Uint8Array;
  width: number;
  height: number;
}

/** The rows of one line of sixels. */
const BAND = 6;
/** What is less than half opaque is not drawn. */
const OPAQUE = 128;

export function toSixel({ data, width, height }: Pixels): string {
  const palette = new Map<number, number>();
  const indices = new Int16Array(width * height).fill(-1);
  for (let pixel = 0; pixel < indices.length; pixel++) {
    const at = pixel * 4;
    if (data[at + 3]! < OPAQUE) continue;
    const colour = (data[at]! << 16) | (data[at + 1]! << 8) | data[at + 2]!;
    let index = palette.get(colour);
    if (index === undefined) palette.set(colour, (index = palette.size));
    indices[pixel] = index;
  }
  const colours = [...palette].map(([colour, index]) => {
    const [red, green, blue] = [colour >> 16, (colour >> 8) & 255, colour & 255].map(toPercent);
    return `#${index};2;${red};${green};${blue}`;
  });
  const bands: string[] = [];
  for (let top = 0; top < height; top += BAND) bands.push(toBand(indices, width, Math.min(BAND, height - top), top));
  // P2=1: what has no colour keeps what was there.
  return `\x1bP0;1;0q"1;1;${width};${height}${colours.join('')}${bands.join('-')}\x1b\\`;
}

function toBand(indices: Int16Array, width: number, rows: number, top: number): string {
  const columns = new Map<number, Uint8Array>();
  for (let row = 0; row < rows; row++) {
    for (let x = 0; x < width; x++) {
      const index = indices[(top + row) * width + x]!;
      if (index < 0) continue;
      let bits = columns.get(index);
      if (!bits) columns.set(index, (bits = new Uint8Array(width)));
      bits[x]! |= 1 << row;
    }
  }
  return [...columns].map(([index, bits]) => `#${index}${toRuns(bits)}`).join('$');
}

function toRuns(bits: Uint8Array): string {
  let text = '';
  for (let from = 0; from < bits.length;) {
    let to = from + 1;
    while (to < bits.length && bits[to] === bits[from]) to++;
    // Nothing at the end of a line needs no word.
    if (to === bits.length && bits[from] === 0) break;
    const letter = String.fromCharCode(63 + bits[from]!);
    text += to - from > 3 ? `!${to - from}${letter}` : letter.repeat(to - from);
    from = to;
  }
  return text;
}

function toPercent(value: number): number {
  return Math.round((value / 255) * 100);
}
