// npm run bench:arbiter -- [FILE…] [--json] [--policy ours,fifo] [--vram GB]: schedulers compared in virtual time, over traces.
import { readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { compare, type Workload } from './compare.ts';
import { compared, policies } from './policies.ts';
import { toTable } from './table.ts';
import { readTrace, type Trace } from './trace.ts';

const SHIPPED = join(import.meta.dirname, 'traces');
/** A card of 12 GB, less what the screen and the drivers take. */
const VRAM_GB = 11;

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: 'boolean' }, policy: { type: 'string' }, vram: { type: 'string' } },
  });
  const names = values.policy?.split(',') ?? compared;
  const unknown = names.find((name) => !policies[name]);
  if (unknown !== undefined) throw new Error(`No policy ${unknown}: there are ${Object.keys(policies).join(', ')}.`);
  const vram = Number(values.vram ?? VRAM_GB);
  if (!(vram > 0 && vram <= 10_000)) throw new Error('--vram is GB, above 0.');
  const traces = (positionals.length > 0 ? positionals : shipped()).map(read);
  const workloads: Workload[] = [];
  for (const trace of traces) {
    const began = performance.now();
    const workload = await compare(trace, { vram, names });
    workloads.push(workload);
    process.stderr.write(`${trace.name}: ${((performance.now() - began) / 1000).toFixed(1)} s\n`);
    if (!values.json) process.stdout.write(`${toTable(workload, trace.rows.length)}\n\n`);
  }
  if (values.json) process.stdout.write(`${JSON.stringify({ workloads }, undefined, 2)}\n`);
}

function shipped(): string[] {
  return readdirSync(SHIPPED)
    .filter((file) => file.endsWith('.jsonl'))
    .toSorted()
    .map((file) => join(SHIPPED, file));
}

function read(file: string): Trace {
  try {
    return readTrace(readFileSync(file, 'utf8'), basename(file).replace(/\.[^.]*$/, ''));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new Error(`${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
