// The figures of one workload as a table, and how ours stands against each of the others.
import type { Workload } from './compare.ts';
import type { Figures } from './figures.ts';
import { CLASSES } from './trace.ts';

const COLUMNS: [head: string, cell: (figures: Figures, workload: Workload) => string][] = [
  ['policy', ({ name }) => name],
  ['swaps', ({ swaps }) => String(swaps)],
  ['mean wait', ({ meanWait }) => digits(meanWait)],
  ['p95', ({ p95Wait }) => digits(p95Wait)],
  ['p99', ({ p99Wait }) => digits(p99Wait)],
  ['max', ({ maxWait }) => digits(maxWait)],
  ...CLASSES.map((of): [string, (figures: Figures) => string] => [
    of,
    ({ classes }) => (classes[of] ? digits(classes[of].meanWait) : '-'),
  ]),
  ['max/bound', ({ maxWait, bound }) => (bound === undefined ? '-' : `${digits(maxWait)}/${digits(bound)}`)],
  ['Jain', ({ jain }) => jain.toFixed(2)],
  ['busy', ({ utilization }) => `${Math.round(utilization * 100)} %`],
  ['makespan', ({ makespan }) => makespan.toFixed(0)],
  ['flow', ({ meanFlow }) => digits(meanFlow)],
];

/** `requests`: how many rows the trace has. */
export function toTable(workload: Workload, requests: number): string {
  const { name, lowerBound, policies } = workload;
  const cells = [
    COLUMNS.map(([head]) => head),
    ...policies.map((figures) => COLUMNS.map(([, cell]) => cell(figures, workload))),
    [
      'lower bound',
      String(lowerBound.swaps),
      ...COLUMNS.slice(2, -2).map(() => ''),
      lowerBound.makespan.toFixed(0),
      digits(lowerBound.meanFlow),
    ],
  ];
  const widths = COLUMNS.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
  const refused = policies
    .filter((figures) => figures.refused)
    .map((figures) => `${figures.name} refused ${figures.refused}`);
  return [
    `${name}: ${requests} requests`,
    ...lines,
    ...(refused.length > 0 ? [refused.join(', ')] : []),
    toVerdict(workload),
  ].join('\n');
}

/** Who is not behind ours, by what is asked of it: fewer swaps, lower mean wait, worst wait no longer; and whether its bound is kept. */
export function isAhead({
  policies,
}: Workload): Record<'swaps' | 'meanWait' | 'maxWait', Figures[]> & { bound: boolean } {
  const ours = policies.find(({ name }) => name === 'ours');
  const others = ours ? policies.filter((figures) => figures !== ours) : [];
  return {
    swaps: others.filter(({ swaps }) => swaps <= ours!.swaps),
    meanWait: others.filter(({ meanWait }) => meanWait <= ours!.meanWait),
    maxWait: others.filter(({ maxWait }) => maxWait < ours!.maxWait),
    bound: ours === undefined || ours.maxWait <= (ours.bound ?? Infinity),
  };
}

/** Empty where ours was not run, or nothing else. */
function toVerdict(workload: Workload): string {
  const ours = workload.policies.find(({ name }) => name === 'ours');
  if (!ours || workload.policies.length === 1) return '';
  const { bound: isKept, ...ahead } = isAhead(workload);
  const say = (what: string, of: keyof typeof ahead) => {
    const names = ahead[of].map((figures) => `${figures.name} ${digits(figures[of])}`);
    return names.length === 0 ? `${what}: yes` : `${what}: NO, ${digits(ours[of])} against ${names.join(', ')}`;
  };
  const { bound = Infinity, late = 0 } = ours;
  const some = late > 0 ? ` (${late} waited longer than they themselves were promised)` : '';
  const kept = isKept ? `yes${some}` : `NO, ${digits(ours.maxWait)} of ${digits(bound)}`;
  const says = [
    say('fewer swaps', 'swaps'),
    say('lower mean wait', 'meanWait'),
    say('worst wait no longer', 'maxWait'),
  ];
  return `ours against each: ${[...says, `bound kept: ${kept}`].join('; ')}`;
}

function digits(number: number): string {
  return Number.isInteger(number) || number >= 100 ? number.toFixed(0) : number.toFixed(1);
}
