// tiny-embed: hashed words and word pieces, averaged into one unit vector; no engine, no worker.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

export const TINY_DIMENSIONS = 96;
const ROWS = 32_768;
const MAX_WORDS = 40;
const STOP_WORDS = new Set(
  'a an the of in on at to for and or is are was be by with from that this it as its your his her their'.split(' '),
);

export interface TinyEmbedder {
  embed(text: string): { vector: number[]; tokens: number; cut: boolean };
}

/** Reads the table: one signed byte per weight, one float scale per row. */
export async function loadTinyEmbedder(dir: string): Promise<TinyEmbedder> {
  const [table, scaleBytes] = await Promise.all([readFile(join(dir, 'emb.i8')), readFile(join(dir, 'emb.scale.f32'))]);
  const weights = new Int8Array(table.buffer, table.byteOffset, table.byteLength);
  const scaleView = new DataView(scaleBytes.buffer, scaleBytes.byteOffset, scaleBytes.byteLength);
  const scales = Float32Array.from({ length: ROWS }, (_, row) => scaleView.getFloat32(row * 4, true));
  return {
    embed(text) {
      const { words, cut } = toWords(text);
      const sum = new Float64Array(TINY_DIMENSIONS);
      for (const row of words.flatMap(toRows)) {
        const scale = scales[row]!;
        const start = row * TINY_DIMENSIONS;
        for (let at = 0; at < TINY_DIMENSIONS; at++) sum[at]! += weights[start + at]! * scale;
      }
      // Not Math.hypot: engines round it differently, and the same text must have the same vector on all of them.
      const length = Math.sqrt(sum.reduce((total, value) => total + value * value, 0)) || 1;
      return { vector: Array.from(sum, (value) => value / length), tokens: words.length, cut };
    },
  };
}

/** What the model was trained on: lower-case Latin words and digits, stop words left out where others remain. */
function toWords(text: string): { words: string[]; cut: boolean } {
  const all = text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  const telling = all.filter((word) => !STOP_WORDS.has(word));
  const words = telling.length > 0 ? telling : all;
  if (words.length === 0) return { words: ['?'], cut: false };
  return { words: words.slice(0, MAX_WORDS), cut: words.length > MAX_WORDS };
}

/** The word itself counts twice; its four-letter pieces link words that look alike. */
function toRows(word: string): number[] {
  const whole = hash(`w:${word}`);
  const marked = `<${word}>`;
  const rows = [whole, whole];
  if (marked.length > 4) {
    for (let at = 0; at + 4 <= marked.length; at++) rows.push(hash(marked.slice(at, at + 4)));
  }
  return rows;
}

/** FNV-1a over ASCII. */
function hash(text: string): number {
  let value = 2_166_136_261;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 16_777_619);
  return (value >>> 0) % ROWS;
}
