// Names as a server lists them, and what people call the same thing.
import { distance } from '../../../src/distance.ts';

/** Files of weights, by how their names end. */
const MODEL_FILE = /\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx)$/i;

export function isModelFile(name: string): boolean {
  return MODEL_FILE.test(name);
}

/**
 * The listed file that is meant: this name, or the only one that has it in a folder of its own. People sort their models into
 * folders, and servers on Windows part them with a backslash.
 */
export function sameFile(name: string, listed: string[]): string | undefined {
  if (listed.includes(name)) return name;
  const base = baseName(name);
  const same = listed.filter((each) => baseName(each) === base);
  return same.length === 1 ? same[0] : undefined;
}

/** The listed word that is meant, whatever its case. */
export function sameWord(word: string, listed: string[]): string | undefined {
  if (listed.includes(word)) return word;
  const wanted = word.trim().toLowerCase();
  return listed.find((each) => each.toLowerCase() === wanted);
}

/** Up to three listed names that look like this one. */
export function nearNames(name: string, listed: string[]): string[] {
  const wanted = plain(name);
  return listed
    .slice(0, 5000)
    .map((each) => ({ each, away: away(wanted, plain(each)) }))
    .filter(({ away: distance }) => distance <= Math.max(2, wanted.length / 3))
    .toSorted((a, b) => a.away - b.away)
    .slice(0, 3)
    .map(({ each }) => each);
}

export function baseName(name: string): string {
  return name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1);
}

const plain = (name: string) =>
  name
    .slice(0, 64)
    .toLowerCase()
    .replaceAll(/[^a-z\d]+/g, '');

/** A name that begins with the other is near. */
function away(a: string, b: string): number {
  return a.length >= 3 && (b.startsWith(a) || a.startsWith(b)) ? 1 : distance(a, b);
}
