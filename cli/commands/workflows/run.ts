// `workflows run`: a workflow by its id, with the flags of the capability that it is for.
import { runCommand } from 'citty';
import { capabilities, type CapabilityId } from '../../../src/capabilities/index.ts';
import type { WorkflowView } from '../../../src/workflows.ts';
import { defineLeaf, globalFlags, type Command, type Flag } from '../../command.ts';
import { CommandFailure, exitCodes, usageError } from '../../exit.ts';
import { getJson } from '../../target.ts';
import { loadGroups } from '../capability.ts';
import { LISTED, toLine, toPath } from './tell.ts';

/** The commands of capabilities that make files, by capability. */
const commands = new Map<CapabilityId, Command>(
  Object.values(capabilities)
    .filter(({ makes }) => makes !== undefined)
    .map(({ id, cli: { command } }) => [id, loadGroups()[command[0]]!.commands[command[1]]!]),
);

export const run = defineLeaf({
  path: 'workflows run',
  summary: 'Run one workflow by its id',
  details:
    'What it takes is what its capability takes: a workflow for image.edit is run like image edit, one for music.generate like music gen.',
  argument: {
    hint: 'ID [WORDS…]',
    description: `${LISTED} The words are those of its capability’s command.`,
    max: Infinity,
    completes: 'file',
  },
  flags: toUnion([...commands.values()]),
  async run(invocation) {
    const { words, flags } = invocation;
    const [id, ...rest] = words;
    const { value } = await getJson<WorkflowView>(invocation, toPath('run', id));
    const command = commands.get(value.capability as CapabilityId);
    if (!command) {
      const [problem] = value.problems;
      throw new CommandFailure(
        exitCodes.failure,
        `${value.id} cannot be run${problem ? `: ${toLine(problem)}` : '.'}`,
        {
          code: 'not_supported',
          hint: `hono-ai workflows show ${value.id}`,
        },
      );
    }
    const data = { ...invocation, words: rest, flags: { ...toOwn(flags, command), model: toModel(value) } };
    const { result } = await runCommand(command, { rawArgs: [], data });
    return result as number | undefined;
  },
});

/** Flags of the same name take what any of the commands takes. */
function toUnion(all: Command[]): Record<string, Flag> {
  const union: Record<string, Flag> = {};
  for (const command of all) {
    for (const [name, flag] of Object.entries(command.flags)) {
      const known = union[name];
      if (name === 'model' || name in globalFlags) continue;
      if (!known) union[name] = flag;
      else {
        const options = [...new Set([...(known.options ?? []), ...(flag.options ?? [])])];
        union[name] = {
          ...known,
          ...(known.multiple || flag.multiple ? { multiple: true } : {}),
          ...(options.length > 0 ? { options } : {}),
        };
      }
    }
  }
  return union;
}

/** The flags as the command takes them. Throws a usage error for one that it does not have. */
function toOwn(flags: Record<string, unknown>, { path, flags: known }: Command): Record<string, unknown> {
  const own: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(flags)) {
    const flag = known[name];
    if (!flag) throw usageError(`--${name} is not for this workflow: it is run like ${path}.`);
    const one = Array.isArray(value) && !flag.multiple;
    if (one && value.length > 1) throw usageError(`--${name} is taken once by ${path}.`);
    own[name] = one ? value[0] : value;
    if (flag.options && typeof own[name] === 'string' && !flag.options.includes(own[name])) {
      throw usageError(`--${name}: must be ${flag.options.join(', ')}.`);
    }
  }
  return own;
}

/** With the runtime before it: another may have a model of that name. */
function toModel({ runtime, id }: WorkflowView): string {
  return `${runtime}/${id}`;
}
