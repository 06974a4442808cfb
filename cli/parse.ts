// Arguments → words and flag values, strictly: citty's own parser takes unknown flags and keeps only the last of several.
import { parseArgs } from 'node:util';
import type { Command, Flag } from './command.ts';
import { usageError } from './exit.ts';
import { nearest } from './nearest.ts';

export interface Parsed {
  words: string[];
  flags: Record<string, unknown>;
}

/** Throws a usage error that names the flag at fault. */
export function parseFlags(args: string[], command: Pick<Command, 'path' | 'flags' | 'argument'>): Parsed {
  const { tokens } = parseArgs({
    args,
    options: toOptions(command.flags),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const words: string[] = [];
  const values: Record<string, unknown> = {};
  for (const token of tokens) {
    if (token.kind === 'positional') words.push(token.value);
    if (token.kind !== 'option') continue;
    const { name, rawName, value, inlineValue } = token;
    const known = findFlag(name, rawName, command);
    if (known.off || known.flag.type === 'boolean') {
      if (value !== undefined) throw usageError(`${rawName} takes no value.`);
      values[known.name] = !known.off;
      continue;
    }
    if (value === undefined) throw usageError(`${rawName} needs a value: ${known.flag.valueHint ?? 'VALUE'}.`);
    if (!inlineValue && looksLikeFlag(value, command.flags)) {
      throw usageError(`${rawName} needs a value.`, `If ${value} is meant to be it: ${rawName}=${value}`);
    }
    const read = readValue(rawName, known.flag, value);
    if (known.flag.multiple) ((values[known.name] ??= []) as unknown[]).push(read);
    else values[known.name] = read;
  }
  checkWords(words, command);
  return { words, flags: values };
}

/** The index of the first command word: global flags may stand before it, some of them with a value. */
export function skipFlags(args: string[], from: number, flags: Record<string, Flag>): number {
  let index = from;
  for (; index < args.length; index++) {
    const arg = args[index]!;
    if (!arg.startsWith('-') || arg === '-') break;
    const flag = flags[arg.replace(/^--/, '')];
    if (flag && flag.type !== 'boolean') index++;
  }
  return index;
}

function toOptions(flags: Record<string, Flag>) {
  return Object.fromEntries(
    Object.entries(flags).map(([name, { type, alias }]) => [
      name,
      { type: type === 'boolean' ? ('boolean' as const) : ('string' as const), ...(alias ? { short: alias } : {}) },
    ]),
  );
}

function findFlag(name: string, rawName: string, { path, flags }: Pick<Command, 'path' | 'flags'>) {
  if (Object.hasOwn(flags, name) && !(rawName.length === 2 && flags[name]!.alias !== rawName[1])) {
    return { name, flag: flags[name]!, off: false };
  }
  const positive = name.replace(/^no-/, '');
  if (positive !== name && Object.hasOwn(flags, positive) && flags[positive]!.type === 'boolean') {
    return { name: positive, flag: flags[positive]!, off: true };
  }
  if (/^-\d/.test(rawName))
    throw usageError(`${rawName} is not a flag of ${path}.`, 'Words that begin with - go after --');
  const near = nearest(name, Object.keys(flags));
  const hint = near === undefined ? `hono-ai ${path} --help lists its flags.` : `Did you mean --${near}?`;
  throw usageError(`${rawName} is not a flag of ${path}.`, hint);
}

function looksLikeFlag(value: string, flags: Record<string, Flag>): boolean {
  const name = /^--(?:no-)?([a-z][\w-]*)/.exec(value)?.[1];
  if (name !== undefined) return Object.hasOwn(flags, name);
  return /^-[a-z]$/.test(value) && Object.values(flags).some(({ alias }) => alias === value[1]);
}

function readValue(rawName: string, flag: Flag, text: string): unknown {
  if (flag.options && !flag.read && !flag.options.includes(text)) {
    const near = nearest(text, flag.options);
    throw usageError(
      `${rawName}: must be one of ${flag.options.join(', ')}.`,
      near === undefined ? undefined : `Did you mean ${near}?`,
    );
  }
  if (!flag.read) return text;
  try {
    return flag.read(text);
  } catch (error) {
    throw usageError(`${rawName}: must be ${(error as Error).message}.`);
  }
}

function checkWords(words: string[], { path, argument }: Pick<Command, 'path' | 'argument'>): void {
  const max = argument?.max ?? 0;
  if (words.length <= max) return;
  const odd = words[max]!;
  throw usageError(
    argument
      ? `${path} takes only ${argument.hint}; “${odd}” is too much.`
      : `${path} takes no argument; got “${odd}”.`,
  );
}
