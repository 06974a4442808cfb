// node bench/arbiter/seeds.ts [SEEDS=20] [WORKLOAD…]: how often ours is ahead where the same people come at other times.
import { compare } from './compare.ts';
import { compared } from './policies.ts';
import { isAhead } from './table.ts';
import { makeTrace, workloads } from './traces.ts';

const VRAM_GB = 11;
const [count = '20', ...asked] = process.argv.slice(2);

for (const name of asked.length > 0 ? asked : Object.keys(workloads)) {
  const seeds = Array.from({ length: Number(count) }, (_, index) => 101 * index + 7);
  const ahead = { swaps: 0, meanWait: 0, maxWait: 0, bound: 0, all: 0 };
  for (const seed of seeds) {
    const trace = { name, rows: makeTrace(name, seed) };
    const { swaps, meanWait, maxWait, bound } = isAhead(await compare(trace, { vram: VRAM_GB, names: compared }));
    const all = swaps.length + meanWait.length + maxWait.length === 0 && bound;
    for (const [key, yes] of Object.entries({
      swaps: swaps.length === 0,
      meanWait: meanWait.length === 0,
      maxWait: maxWait.length === 0,
      bound,
      all,
    })) {
      if (yes) ahead[key as keyof typeof ahead]++;
    }
  }
  const shares = Object.entries(ahead).map(([key, number]) => `${key} ${number}/${seeds.length}`);
  process.stdout.write(`${name.padEnd(22)} ${shares.join('  ')}\n`);
}
