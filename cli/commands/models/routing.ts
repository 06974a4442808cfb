// `models alias` and `models default`: what names stand for, and what answers where none is given.
import type { Choice } from '../../../src/models/views.ts';
import { defineLeaf, type Command, type Flag } from '../../command.ts';
import { usageError } from '../../exit.ts';
import { askJson, getJson, withTarget } from '../../target.ts';
import type { Models } from './look.ts';

const flags: Record<string, Flag> = {
  warm: { type: 'boolean', description: 'Of several models, one that is in memory goes first.' },
  rm: { type: 'boolean', description: 'Remove it; what the configuration says counts again.' },
};

export const alias = defineRouting({
  kind: 'aliases',
  path: 'models alias',
  summary: 'Have a name stand for a model, or for several in order',
  details:
    'Without words it lists them. With several models the next answers where one cannot: models alias best qwen3:14b qwen3:8b xai/grok-4.',
  hint: '[NAME [MODEL…]]',
});

export const default_ = defineRouting({
  kind: 'defaults',
  path: 'models default',
  summary: 'Choose what answers where no model is named',
  details: 'Without words it lists what answers now. models default text.chat qwen3:8b llama3.2.',
  hint: '[CAPABILITY [MODEL…]]',
});

function defineRouting(routing: {
  kind: 'aliases' | 'defaults';
  path: string;
  summary: string;
  details: string;
  hint: string;
}): Command {
  const { kind, path, summary, details, hint } = routing;
  return defineLeaf({
    path,
    summary,
    details,
    argument: { hint, max: 17, completes: 'model' },
    flags,
    async run(invocation) {
      const { out, words, flags: given } = invocation;
      const [name, ...models] = words;
      if (name === undefined || (models.length === 0 && !given['rm'])) {
        if (name !== undefined && kind === 'aliases')
          throw usageError(`What shall ${name} stand for?`, `hono-ai ${path} ${name} MODEL`);
        const { value } = await getJson<Models>(invocation, '/models');
        const known: Record<string, Choice> = value[kind];
        const shown = name === undefined ? known : { [name]: known[name] ?? '-' };
        if (given.json) return out.json(shown);
        return out.table(
          [kind === 'aliases' ? 'NAME' : 'CAPABILITY', 'MODEL'],
          Object.entries(shown).map(([each, choice]) => [each, toChoice(choice)]),
        );
      }
      if (given['rm'] && models.length > 0) throw usageError('--rm takes no models.');
      if (given['warm'] && models.length < 2) throw usageError('--warm chooses among several models.');
      const choice: Choice | null | undefined = given['rm']
        ? null
        : given['warm']
          ? { models, prefer: 'warm' }
          : models.length === 1
            ? models[0]
            : models;
      await withTarget(invocation, async (target) => {
        const answer = await askJson<{ warnings: string[] }>(target, {
          method: 'PATCH',
          path: `/models/${kind}`,
          body: JSON.stringify({ [name]: choice }),
        });
        if (given.json) out.json(answer);
        else if (choice === null || choice === undefined) out.note(`${name}: removed`);
        else out.note(`${name} ${kind === 'aliases' ? 'stands for' : 'is answered by'} ${toChoice(choice)}`);
        for (const warning of answer.warnings) out.note(`warning: ${warning}`);
      });
    },
  });
}

/** `qwen3:8b, then xai/grok-4`. */
export function toChoice(choice: Choice): string {
  if (typeof choice === 'string') return choice;
  if (Array.isArray(choice)) return choice.join(', then ');
  const { models, prefer } = choice;
  return prefer === 'warm' ? `whichever is in memory of ${models.join(', ')}` : models.join(', then ');
}
