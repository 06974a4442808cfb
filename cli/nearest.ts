// “Did you mean”: the known name that looks most like what was typed.
import { distance } from '../src/distance.ts';

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
