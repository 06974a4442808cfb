// `jobs cancel`, `jobs retry`, `jobs rm`: the same for each id, and those that cannot be are told at the end.
import { defineLeaf, type Command } from '../../command.ts';
import { CommandFailure } from '../../exit.ts';
import { idArgument, isBatch, readIds } from '../../ids.ts';
import { askJson, withTarget, type Ask } from '../../target.ts';
import { refuseBatches } from './look.ts';

export const cancel = defineChange({
  verb: 'cancel',
  summary: 'Cancel jobs or batches that have not ended',
  told: 'cancelled',
  toAsk: (id) => ({ method: 'DELETE', path: isBatch(id) ? `/jobs/batches/${id}` : `/jobs/${id}` }),
});

export const retry = defineChange({
  verb: 'retry',
  summary: 'Try failed or cancelled jobs again',
  told: 'waits again',
  toAsk: (id) => ({ method: 'POST', path: `/jobs/${id}/retry` }),
});

export const rm = defineChange({
  verb: 'rm',
  summary: 'Forget jobs that have ended',
  told: 'forgotten',
  toAsk: (id) => ({ method: 'DELETE', path: `/jobs/${id}?purge=true` }),
});

function defineChange(change: { verb: string; summary: string; told: string; toAsk(id: string): Ask }): Command {
  const { verb, summary, told, toAsk } = change;
  return defineLeaf({
    path: `jobs ${verb}`,
    summary,
    details: 'Prints the id of each with which it was done. With several, the others are done where one cannot be.',
    argument: idArgument('ID'),
    flags: {},
    async run(invocation) {
      const { out, flags } = invocation;
      const ids = await readIds(invocation);
      if (verb !== 'cancel') refuseBatches(ids, verb);
      return withTarget(invocation, async (target) => {
        const answers: unknown[] = [];
        let failed: CommandFailure | undefined;
        for (const id of ids) {
          try {
            answers.push((await askJson(target, toAsk(id))) ?? { id });
            if (!flags.json) out.line(id);
            out.note(`${id}: ${told}`);
          } catch (error) {
            // Where nobody answers or the key is wrong, the others would fare no better.
            const own = error instanceof CommandFailure && /^(conflict|not_found|expired)$/.test(error.code);
            if (!own || ids.length === 1) throw error;
            failed ??= error;
            const { code, message, hint } = error;
            answers.push({ id, error: { code, message, ...(hint ? { hint } : {}) } });
            out.failure({ message: `${id}: ${message}`, hint });
          }
        }
        if (flags.json) out.json(answers.length === 1 ? answers[0] : { object: 'list', data: answers });
        return failed?.exitCode;
      });
    },
  });
}
