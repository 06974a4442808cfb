// The words of a capability's command, and what is piped in: text for its argument, or files.
import type { z } from 'zod';
import { fileFields } from '../src/capabilities/file.ts';
import type { Invocation } from './command.ts';
import { usageError } from './exit.ts';
import { toFlagName } from './flags.ts';
import { namesPicture } from './given.ts';
import { readStdin } from './stdin.ts';

type Fields = Record<string, unknown>;

export interface WordsOptions {
  input: z.ZodObject;
  /** The field that the words are for. */
  argument: string;
  /** What is piped in follows the words. */
  appendsStdin?: boolean | undefined;
}

/** The field that leading words may be files of: a needed one that is not the argument. */
export function leadingField(input: z.ZodObject, argument: string): [name: string, many: boolean] | undefined {
  for (const [name, { many }] of fileFields(input)) {
    if (name !== argument && !(input.shape[name] as z.ZodType).safeParse(undefined).success) return [name, many];
  }
  return undefined;
}

/** The fields with the files that words name, and the text of the others. Throws a usage error. */
export async function readWords(
  invocation: Invocation,
  given: Fields,
  options: WordsOptions,
): Promise<{ fields: Fields; text: string | undefined }> {
  const { input, argument } = options;
  const own = fileFields(input).get(argument);
  if (own) return { fields: readFileWords(invocation, given, argument, own.many), text: undefined };
  const { fields, words } = await takeLeading(invocation, given, options);
  return { fields, text: await readText(invocation, words, fields, options) };
}

function readFileWords({ words, io }: Invocation, fields: Fields, argument: string, many: boolean): Fields {
  const named = words.length === 0 && fields[argument] === undefined && !io.stdin.isTTY ? ['-'] : words;
  if (named.length === 0) return fields;
  if (fields[argument] !== undefined) {
    throw usageError(`Both --${toFlagName(argument)} and words were given; one of them is enough.`);
  }
  return { ...fields, [argument]: many ? named : named[0] };
}

async function takeLeading(
  { words, io }: Invocation,
  fields: Fields,
  { input, argument }: WordsOptions,
): Promise<{ fields: Fields; words: string[] }> {
  const [name, many] = leadingField(input, argument) ?? [];
  if (name === undefined || fields[name] !== undefined) return { fields, words };
  const most = many ? words.length : 1;
  let count = 0;
  while (count < most && count < words.length && (await namesPicture(words[count]!))) count++;
  const named = words.slice(0, count);
  if (count === 0 && words.length > 0 && !words.includes('-') && io.stdin.redirected) named.push('-');
  if (named.length === 0) return { fields, words };
  return { fields: { ...fields, [name]: many ? named : named[0] }, words: words.slice(count) };
}

/** The words, standard input, or both with a blank line between. */
async function readText(
  invocation: Invocation,
  words: string[],
  fields: Fields,
  { input, argument, appendsStdin }: WordsOptions,
): Promise<string | undefined> {
  const { io } = invocation;
  const own = words.filter((word) => word !== '-');
  const asked = own.length < words.length;
  const taken = [...fileFields(input).keys()].some((name) => [fields[name]].flat().includes('-'));
  if (asked && taken) throw usageError('Standard input (-) can be a file or the words, not both.');
  const offered = words.length === 0 ? fields[argument] === undefined && !io.stdin.isTTY : io.stdin.redirected;
  const piped = offered && !taken && (words.length === 0 || appendsStdin);
  const parts = own.length > 0 ? [own.join(' ')] : [];
  if (asked || piped) {
    const text = await readStdin(invocation);
    // Asked for by name, nothing is an answer too; and an empty prompt is refused in better words further on.
    if (text !== '') parts.push(text);
  }
  return parts.length > 0 ? parts.join('\n\n') : undefined;
}
