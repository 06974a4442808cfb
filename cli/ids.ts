// Ids from words and from standard input, so that one command's output can be another's input.
import type { Argument, Invocation } from './command.ts';
import { usageError } from './exit.ts';
import { readStdin } from './stdin.ts';

/** As help shows it. */
export function idArgument(what: string): Argument {
  return {
    hint: `[${what}…|-]`,
    description: `Ids. - reads them from standard input, the first word of each line; so does no id at all on a pipe.`,
    max: Infinity,
  };
}

/**
 * Each id once, in its order; `check` throws a usage error for what is none. Only `-` may come to nothing: an id that a script failed to fill in must not look like
 * work that went well.
 */
export async function readIds(invocation: Invocation, check: (id: string) => string = checkId): Promise<string[]> {
  const { words, io, out } = invocation;
  const asked = words.includes('-');
  const ids = words.filter((word) => word !== '-');
  if (asked || (ids.length === 0 && !io.stdin.isTTY)) {
    const lines = (await readStdin(invocation)).split('\n');
    ids.push(...lines.map((line) => line.trim().split(/\s+/)[0]!).filter((id) => id !== ''));
  }
  if (ids.length === 0) {
    if (!asked) throw usageError('An id is needed.', 'hono-ai jobs ls lists jobs; - reads ids from standard input.');
    out.note('No ids came in; there is nothing to do.');
  }
  return [...new Set(ids.map((id) => check(id)))];
}

/** What is safe as one part of a path. Throws a usage error. */
export function checkId(id: string): string {
  if (!/^[\w-]{1,100}$/.test(id)) throw usageError(`“${id}” is no id.`);
  return id;
}

export const isBatch = (id: string) => id.startsWith('batch_');
