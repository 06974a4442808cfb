// Removing things by their ids: the same of every command that does it.
import { defineLeaf, type Argument, type Command } from './command.ts';
import { checkId, idArgument, readIds } from './ids.ts';
import { askJson, withTarget } from './target.ts';

export interface Removal {
  /** Its words. */
  command: string;
  summary: string;
  toPath(id: string): string;
  /** Said of each that is gone. */
  told: string;
  /** Where ids are not like those of jobs. */
  argument?: Argument;
  /** Throws a usage error for what is no id. */
  check?(id: string): string;
}

/** Stops at the first that cannot be removed. */
export function defineRemoval(removal: Removal): Command {
  const { command, summary, toPath, told, argument = idArgument('ID'), check = checkId } = removal;
  return defineLeaf({
    path: command,
    summary,
    argument,
    flags: {},
    async run(invocation) {
      const { out, flags } = invocation;
      const ids = await readIds(invocation, check);
      await withTarget(invocation, async (target) => {
        for (const id of ids) {
          await askJson(target, { method: 'DELETE', path: toPath(id) });
          if (!flags.json) out.line(id);
          out.note(`${id}: ${told}`);
        }
        if (flags.json) out.json({ object: 'list', data: ids.map((id) => ({ id, deleted: true })) });
      });
    },
  });
}
