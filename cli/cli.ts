// The command line as a function: arguments in, exit code out.
import { runCommand } from 'citty';
import { createInvocation, globalFlags, type Command, type Group } from './command.ts';
import { findCommand, loadCommands } from './commands/index.ts';
import { CommandFailure, exitCodes, toExitCode, usageError } from './exit.ts';
import type { Io } from './io.ts';
import { nearest } from './nearest.ts';
import { createOutput } from './output.ts';
import { parseFlags, skipFlags } from './parse.ts';
import { commandHelp, groupHelp, rootHelp } from './help.ts';

/** Never throws, and never ends the process. */
export async function main(argv: string[], io: Io): Promise<number> {
  // Enough to tell a failure in the asked form, even one of the arguments themselves.
  const flags = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
  const asked = { json: flags.includes('--json'), events: flags.includes('--json-stream') };
  try {
    return await run(argv, io);
  } catch (thrown) {
    const failure = toCommandFailure(thrown);
    // `… | head` has seen enough: there is nobody to tell, and nothing went wrong.
    if ((io.signal.reason as { code?: string } | undefined)?.code === 'EPIPE') return exitCodes.ok;
    const out = createOutput(io, {});
    if (asked.json || asked.events) {
      const { message, code, hint, fields } = failure;
      const error = { code, message, ...(hint ? { hint } : {}), ...fields };
      if (asked.events) out.jsonLine({ type: 'error', error });
      else out.json({ error });
    }
    out.failure(failure);
    if (io.env['HONO_AI_LOG_LEVEL'] === 'debug' && thrown instanceof Error) io.stderr.write(`${thrown.stack}\n`);
    return failure.exitCode;
  }
}

async function run(argv: string[], io: Io): Promise<number> {
  const width = Math.min(120, io.stdout.columns);
  const args = argv[0] === 'help' ? [...argv.slice(1), '--help'] : argv;
  const first = skipFlags(args, 0, globalFlags);
  const noun = args[first];
  if (noun === undefined) {
    if (args.some((arg) => arg === '--version' || arg === '-V')) return run(['version'], io);
    parseFlags(args, { path: '', flags: globalFlags });
    io.stdout.write(rootHelp(await loadCommands(), width));
    return exitCodes.ok;
  }
  const found = await findCommand(noun);
  if (!found) throw unknownCommand(noun, await loadCommands());
  if ('flags' in found) return runLeaf(found, [...args.slice(0, first), ...args.slice(first + 1)], io, width);
  const second = skipFlags(args, first + 1, globalFlags);
  const verb = args[second];
  if (verb === undefined) {
    const own = args.filter((_, index) => index !== first);
    if (found.alone && !own.some((arg) => arg === '--help' || arg === '-h')) {
      return runLeaf(found.alone, own, io, width);
    }
    io.stdout.write(groupHelp(found, width));
    return exitCodes.ok;
  }
  if (!Object.hasOwn(found.commands, verb)) throw unknownVerb(verb, found);
  const rest = args.filter((_, index) => index !== first && index !== second);
  return runLeaf(found.commands[verb]!, rest, io, width);
}

async function runLeaf(command: Command, args: string[], io: Io, width: number): Promise<number> {
  const end = args.indexOf('--');
  const own = end < 0 ? args : args.slice(0, end);
  if (own.some((arg) => arg === '--help' || arg === '-h')) {
    io.stdout.write(commandHelp(command, width));
    return exitCodes.ok;
  }
  const { words, flags } = parseFlags(args, command);
  const { result } = await runCommand(command, { rawArgs: args, data: createInvocation(io, words, flags) });
  return typeof result === 'number' ? result : exitCodes.ok;
}

function unknownCommand(noun: string, commands: Command[]): CommandFailure {
  const nouns = new Set(commands.map(({ path }) => path.split(' ')[0]!));
  const verb = commands.find(({ path }) => path.split(' ')[1] === noun);
  const near = verb?.path ?? nearest(noun, nouns);
  return usageError(
    `There is no command “${noun}”.`,
    near === undefined ? 'hono-ai --help lists all.' : `Did you mean hono-ai ${near}?`,
  );
}

function unknownVerb(verb: string, { path, commands }: Group): CommandFailure {
  const near = nearest(verb, Object.keys(commands));
  return usageError(
    `${path} has no command “${verb}”.`,
    near === undefined ? `It has: ${Object.keys(commands).join(', ')}.` : `Did you mean hono-ai ${path} ${near}?`,
  );
}

/** By the names of the errors, not their classes: to import those would load what most commands never need. */
function toCommandFailure(thrown: unknown): CommandFailure {
  if (thrown instanceof CommandFailure) return thrown;
  const { name, message, status, code, hint } = thrown as {
    name?: string;
    message?: string;
    status?: number;
    code?: string;
    hint?: string;
  };
  const text = message ?? String(thrown);
  if (name === 'ConfigError') return new CommandFailure(exitCodes.usage, text, { code: 'config' });
  if (name === 'GatewayError') {
    const details = { ...(code ? { code } : {}), ...(hint ? { hint } : {}) };
    return new CommandFailure(toExitCode(status ?? 500, code), text, details);
  }
  return new CommandFailure(exitCodes.failure, `Unexpected: ${text}`, {
    code: 'internal',
    hint: 'HONO_AI_LOG_LEVEL=debug shows where.',
  });
}
