// The line splitter: any cut of any text must give the same lines.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { readLines } from '../../adapters/runtimes/ndjson.ts';

const text = fc.string({ unit: 'binary', maxLength: 40 });
/** Texts rich in line ends, empty lines and multi-byte characters. */
const document = fc
  .array(fc.oneof(text, fc.constantFrom('', '🌊🧜‍♀️', 'ß', '\uFEFF', '{"a":1}', ' ')), { maxLength: 12 })
  .chain((lines) => fc.constantFrom('\n', '\r\n').map((end) => lines.join(end)));

describe('readLines', () => {
  it('gives the same lines for any cut of any text', async () => {
    await fc.assert(
      fc.asyncProperty(document, fc.array(fc.nat({ max: 400 }), { maxLength: 30 }), async (whole, cuts) => {
        const expected = whole
          .split('\n')
          .map((line) => line.replace(/\r$/, ''))
          .filter((line) => line !== '');
        expect(await linesOf(cut(whole, cuts))).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('never breaks a character, even one byte at a time', async () => {
    const lines = ['{"t":"🧜‍♀️ Straße 東京"}', '{"t":"\u{10FFFF}é"}'];
    const bytes = new TextEncoder().encode(lines.join('\n') + '\n');
    expect(await linesOf(Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(lines);
  });

  it('gives a last line that has no end', async () => {
    expect(await linesOf(cut('a\n\n\nb', []))).toEqual(['a', 'b']);
    expect(await linesOf([])).toEqual([]);
  });

  it.each([
    ['in one piece', [] as number[]],
    ['in pieces', [2, 5, 7]],
  ])('refuses an over-long line that comes %s', async (_how, cuts) => {
    await expect(linesOf(cut('short\n0123456789', cuts), 9)).rejects.toMatchObject({
      code: 'upstream_invalid',
      source: 'it',
    });
    await expect(linesOf(cut('short\n0123456789\nshort\n', cuts), 9)).rejects.toMatchObject({
      code: 'upstream_invalid',
    });
    expect(await linesOf(cut('short\n0123456789\n', cuts), 10)).toEqual(['short', '0123456789']);
  });

  it('counts the limit in bytes, not in characters', async () => {
    expect(await linesOf(cut('ß\n', []), 2)).toEqual(['ß']);
    await expect(linesOf(cut('ßß\n', []), 3)).rejects.toMatchObject({ code: 'upstream_invalid' });
  });

  it('stops its source when its reader stops', async () => {
    let returned = false;
    const source = (async function* () {
      try {
        for (;;) yield new TextEncoder().encode('x\n');
      } finally {
        returned = true;
      }
    })();
    for await (const line of readLines(source)) {
      expect(line).toBe('x');
      break;
    }
    expect(returned).toBe(true);
  });
});

function cut(whole: string, cuts: number[]): Uint8Array[] {
  const bytes = new TextEncoder().encode(whole);
  const edges = [0, ...cuts.map((edge) => Math.min(edge, bytes.length)).toSorted((a, b) => a - b), bytes.length];
  return edges.slice(1).map((end, index) => bytes.subarray(edges[index], end));
}

async function linesOf(chunks: Uint8Array[], maxLineBytes?: number): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of readLines(toStream(chunks), maxLineBytes, 'it')) lines.push(line);
  return lines;
}

async function* toStream(chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}
