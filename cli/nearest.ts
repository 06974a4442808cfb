// “Did you mean”: the known name that looks most like what was typed.

export function nearest(typed: string, known: Iterable<string>): string | undefined {
  const wanted = plain(typed);
  let best: string | undefined;
  let least = (wanted.length <= 3 ? 1 : Math.max(2, Math.floor(wanted.length / 3))) + 1;
  for (const name of known) {
    const candidate = plain(name);
    const away = candidate.startsWith(wanted) && wanted.length >= 3 ? 1 : distance(wanted, candidate);
    if (away < least) [best, least] = [name, away];
  }
  return best;
}

const plain = (name: string) => name.toLowerCase().replaceAll(/[-_]/g, '').slice(0, 64);

/** Levenshtein. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}
