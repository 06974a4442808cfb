// Names of models on a command line: as words, and in paths.
import type { Argument, Invocation } from '../../command.ts';
import { usageError } from '../../exit.ts';

export const modelArgument: Argument = { hint: 'MODEL…', max: Infinity, completes: 'model' };

/** At least one, each once. Throws a usage error. */
export function readNames({ words }: Invocation): string[] {
  if (words.length === 0) throw usageError('The name of a model is needed.', 'hono-ai models ls lists models.');
  return [...new Set(words)];
}

/** Ids hold slashes and colons. */
export function toModelPath(name: string): string {
  return `/models/${name.split('/').map(encodeURIComponent).join('/')}`;
}

export function toQuery(fields: Record<string, unknown>): string {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== false);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text === '' ? '' : `?${text}`;
}
