// Looks names up on whatever engine runs this, all at once, and prints what was found and how long it took.
import { createLookup, lookupSystem } from '../../adapters/transports/lookup.ts';

const { server, names } = JSON.parse(process.argv[2]!) as { server: string; names: string[] };
const find = createLookup([server]);
const begun = performance.now();
const answers = names.map(async (name) => ({
  name,
  found: await find(name).catch(() => 'nothing'),
  ms: performance.now() - begun,
}));
const firsts = await Promise.all(answers.filter((_, at) => !names[at]!.startsWith('hang')));
console.log(JSON.stringify({ firsts, system: await lookupSystem('localhost') }));
process.exit(0);
