// Graphs and bindings from files of this machine → what the gateway takes.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Invocation } from '../../command.ts';
import { usageError } from '../../exit.ts';
import { readText } from '../../flags.ts';
import { readStdin } from '../../stdin.ts';

/** A graph, its binding where one is named or lies beside it, and its capability. Throws a usage error. */
export async function readProposal(invocation: Invocation, file: string) {
  const { flags } = invocation;
  const graph = parse(file, file === '-' ? await readStdin(invocation) : readFile(file));
  const beside = file.replace(/(\.json)?$/i, '.binding.json');
  const given = flags['binding'] as string | undefined;
  const text = given === undefined ? (file === '-' ? undefined : readIfThere(beside)) : readFile(given);
  const binding = text === undefined ? undefined : parse(given ?? beside, text);
  const capability = flags['capability'];
  return { graph, ...(binding === undefined ? {} : { binding }), ...(capability === undefined ? {} : { capability }) };
}

function parse(file: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw usageError(`${file === '-' ? 'Standard input' : file} is not valid JSON.`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw usageError(`${file === '-' ? 'Standard input' : file} is no JSON object.`);
}

function readFile(file: string): string {
  try {
    return readText(file);
  } catch (error) {
    throw usageError(`It must be ${(error as Error).message}.`);
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** `My Graph (2).json` → my-graph-2. */
export function toId(file: string): string {
  const name = file === '-' ? 'workflow' : basename(file).replace(/\.json$/i, '');
  return (
    name
      .toLowerCase()
      .replaceAll(/[^a-z0-9._-]+/g, '-')
      .replaceAll(/^[._-]+|[._-]+$/g, '')
      .slice(0, 64) || 'workflow'
  );
}
