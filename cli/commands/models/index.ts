// `models`: what can be asked, got, loaded and chosen.
import { defineGroup, defineLeaf } from '../../command.ts';
import { toSize } from '../../sizes.ts';
import { askJson, withTarget } from '../../target.ts';
import { ls, search, show } from './look.ts';
import { load, pin, unload } from './memory.ts';
import { modelArgument, readNames, toModelPath } from './names.ts';
import { pull } from './pull.ts';
import { alias, default_ } from './routing.ts';

const rm = defineLeaf({
  path: 'models rm',
  summary: 'Delete models from disk',
  details: 'Stops at the first that cannot be deleted. Files that other models need stay.',
  argument: modelArgument,
  flags: {},
  async run(invocation) {
    const { out, flags } = invocation;
    const names = readNames(invocation);
    await withTarget(invocation, async (target) => {
      const answers: { id: string; freed: number | null }[] = [];
      for (const name of names) {
        const answer = await askJson<{ id: string; freed: number | null }>(target, {
          method: 'DELETE',
          path: toModelPath(name),
        });
        answers.push(answer);
        if (!flags.json) out.line(answer.id);
        out.note(`${answer.id}: deleted${answer.freed ? `, ${toSize(answer.freed)} freed` : ''}`);
      }
      if (flags.json) out.json(answers.length === 1 ? answers[0] : { object: 'list', data: answers });
    });
  },
});

export const models = defineGroup('models', 'Models: ls, show, search, pull, rm, load, unload, pin, alias, default', {
  ls,
  show,
  search,
  pull,
  rm,
  load,
  unload,
  pin,
  alias,
  default: default_,
});
