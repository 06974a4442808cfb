// Names → addresses for hosts that callers chose: a name server that never answers must hold nothing but its own request.
import { lookup, Resolver } from 'node:dns/promises';

/** Every address of a name. Throws where there is none. */
export type Lookup = (name: string) => Promise<string[]>;

/** The server said that there is no such name, or there is no server: the system may still know it (hosts file, mDNS). */
const NOT_THERE = new Set(['ENOTFOUND', 'ENODATA', 'ECONNREFUSED']);
/** The system's lookup blocks one of the few threads that files are read with too. */
const MAX_SYSTEM = 2;

/** Asks the name servers without a thread, the system only where they know nothing. `servers`: others than the system's. */
export function createLookup(servers?: string[]): Lookup {
  let busy = 0;
  const waiting: (() => void)[] = [];

  async function askSystem(name: string): Promise<string[]> {
    if (busy >= MAX_SYSTEM) await new Promise<void>((resolve) => waiting.push(resolve));
    busy++;
    try {
      return await lookupSystem(name);
    } finally {
      busy--;
      waiting.shift()?.();
    }
  }

  return async (name) => {
    const resolver = new Resolver({ timeout: 2000, tries: 2 });
    if (servers) resolver.setServers(servers);
    const found = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
    const addresses = found.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
    if (addresses.length > 0) return addresses;
    for (const answer of found) {
      if (answer.status === 'rejected' && !NOT_THERE.has((answer.reason as { code?: string }).code ?? '')) {
        throw answer.reason;
      }
    }
    return askSystem(name);
  };
}

/** As every other program of this machine finds it; for names that the operator gave. */
export const lookupSystem: Lookup = async (name) => {
  const answers = await lookup(name, { all: true });
  return answers.map(({ address }) => address);
};
