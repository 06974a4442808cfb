// One trace under each policy.
import { toLowerBound, type LowerBound } from './bounds.ts';
import { toFigures, type Figures } from './figures.ts';
import { policies } from './policies.ts';
import { simulate } from './simulate.ts';
import type { Trace } from './trace.ts';

export interface Workload {
  name: string;
  lowerBound: LowerBound;
  policies: Figures[];
}

/** Throws where a policy is not known, or did what no scheduler may. */
export async function compare(
  trace: Trace,
  { vram, names }: { vram: number; names: readonly string[] },
): Promise<Workload> {
  const figures: Figures[] = [];
  for (const name of names) {
    const isOurs = name === 'ours';
    const outcome = await simulate(trace.rows, { policy: policies[name]!(), vram, knowsLoads: !isOurs });
    if (outcome.violations.length > 0) throw new Error(`${name} on ${trace.name}: ${outcome.violations[0]}.`);
    figures.push(toFigures(name, outcome, { promises: isOurs }));
  }
  const longestWait = Math.max(...figures.map(({ maxWait }) => maxWait));
  const lowerBound = toLowerBound(trace.rows, { vram, longestWait });
  return { name: trace.name, lowerBound, policies: figures };
}
