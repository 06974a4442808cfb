// What a command is: citty's definition, with the flags that every command has and what citty's help and parser lack.
import { defineCommand, type CommandDef } from 'citty';
import type { Io } from './io.ts';
import { createOutput, type Output } from './output.ts';

/** A citty argument, and what citty cannot say. */
export interface Flag {
  type: 'string' | 'boolean' | 'enum';
  description?: string;
  /** One letter. */
  alias?: string;
  valueHint?: string;
  options?: string[];
  /** May be given several times; the value is then a list. */
  multiple?: boolean;
  /** On unless `--no-…` is given; help shows it in that form. */
  negated?: boolean;
  /** Text → value. Throws an Error whose message says what is expected. */
  read?: (text: string) => unknown;
  /** What completion offers as its value. */
  completes?: 'model' | 'file';
}

export interface Argument {
  /** As help shows it: `PROMPT…`. */
  hint: string;
  description?: string;
  /** How many words it takes. */
  max: number;
  /** What completion offers as its words. */
  completes?: 'model' | 'file';
}

export interface GlobalFlags {
  url?: string;
  key?: string;
  json?: boolean;
  quiet?: boolean;
  color?: boolean;
  /** Seconds. */
  timeout?: number;
  config?: string;
}

export interface Invocation {
  io: Io;
  out: Output;
  words: string[];
  /** By the name on the command line; only those that were given. */
  flags: Record<string, unknown> & GlobalFlags;
}

export interface Command extends CommandDef<any> {
  /** Words after `hono-ai`. */
  path: string;
  summary: string;
  details?: string;
  argument?: Argument;
  flags: Record<string, Flag>;
}

export interface Group extends CommandDef<any> {
  path: string;
  summary: string;
  commands: Record<string, Command>;
  /** What the group's own word does, without a second one; help if absent. */
  alone?: Command;
}

export const globalFlags: Record<keyof GlobalFlags | 'help', Flag> = {
  url: {
    type: 'string',
    valueHint: 'URL',
    description: 'Ask the gateway at this address (HONO_AI_URL).',
  },
  key: {
    type: 'string',
    valueHint: 'KEY',
    description: 'Its key. Other users of this machine can see it: prefer HONO_AI_API_KEY.',
  },
  json: { type: 'boolean', description: 'Print one JSON object.' },
  quiet: { type: 'boolean', alias: 'q', description: 'Print no notes on standard error.' },
  color: { type: 'boolean', negated: true, description: 'No colors (NO_COLOR).' },
  timeout: {
    type: 'string',
    valueHint: 'SECONDS',
    description: 'Give up after this long (exit 124).',
    read: (text) => positive(text),
  },
  config: {
    type: 'string',
    valueHint: 'FILE',
    description: 'The configuration file (HONO_AI_CONFIG).',
    completes: 'file',
  },
  help: { type: 'boolean', alias: 'h', description: 'Show this.' },
};

export function defineLeaf(
  definition: Omit<Command, keyof CommandDef> & { run: (invocation: Invocation) => Promise<number | void> },
): Command {
  const { path, summary, details, argument, flags, run } = definition;
  for (const name of Object.keys(flags)) {
    if (name in globalFlags) throw new Error(`${path}: --${name} would hide the flag that every command has`);
  }
  const all = { ...flags, ...globalFlags };
  const leaf = defineCommand({
    meta: { name: path, description: summary },
    args: all as never,
    run: ({ data }) => run(data as Invocation),
  }) as CommandDef<any>;
  return { ...leaf, path, summary, flags: all, ...(details ? { details } : {}), ...(argument ? { argument } : {}) };
}

export function defineGroup(path: string, summary: string, commands: Record<string, Command>, alone?: Command): Group {
  return {
    ...defineCommand({ meta: { name: path, description: summary }, subCommands: commands }),
    path,
    summary,
    commands,
    ...(alone ? { alone } : {}),
  };
}

/** Every command of what a word names. */
export function toLeaves(found: Command | Group): Command[] {
  if ('flags' in found) return [found];
  return [...(found.alone ? [found.alone] : []), ...Object.values(found.commands)];
}

export function createInvocation(io: Io, words: string[], flags: Record<string, unknown>): Invocation {
  return { io, words, flags, out: createOutput(io, flags) };
}

/** The environment as the configuration reads it: `--config` is the variable's twin. */
export function toEnv({ io, flags }: Pick<Invocation, 'io' | 'flags'>): Io['env'] {
  return flags.config === undefined ? io.env : { ...io.env, HONO_AI_CONFIG: flags.config };
}

function positive(text: string): number {
  const value = Number(text);
  // setTimeout takes no more milliseconds than this.
  if (text.trim() === '' || !(value > 0) || value > 2_147_483) throw new Error('a number of seconds above 0');
  return value;
}
