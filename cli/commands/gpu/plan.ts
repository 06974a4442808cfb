// `gpu plan`: what a request would come to: what would leave the card, how long it would take, and why.
import { capabilities, capabilityIds, type CapabilityId } from '../../../src/capabilities/index.ts';
import type { PlanView } from '../../../src/hardware/plan.ts';
import { defineLeaf, type Flag } from '../../command.ts';
import { usageError } from '../../exit.ts';
import { readJson } from '../../flags.ts';
import { nearest } from '../../nearest.ts';
import { toSpan } from '../../progress.ts';
import { askJson, withTarget } from '../../target.ts';

const flags: Record<string, Flag> = {
  model: { type: 'string', alias: 'm', valueHint: 'MODEL', description: 'The model to ask.', completes: 'model' },
  input: {
    type: 'string',
    valueHint: 'JSON|@FILE',
    description: 'Fields of the request; sizes and lengths make the plan better.',
    read: readJson,
    completes: 'file',
  },
  priority: {
    type: 'enum',
    options: ['interactive', 'normal', 'background'],
    description: 'Who waits for it: somebody at the screen, somebody who comes back, or nobody.',
  },
};

export const plan = defineLeaf({
  path: 'gpu plan',
  summary: 'Tell what a request would come to, without doing it',
  details:
    'Which model would answer, what would leave the card for it, and how long it would take: gpu plan image.generate.',
  argument: { hint: 'CAPABILITY', description: 'text.chat or text chat, image.generate or image gen, …', max: 2 },
  flags,
  async run(invocation) {
    const { out, words, flags: given } = invocation;
    const body = JSON.stringify({
      capability: toCapability(words),
      model: given['model'],
      input: given['input'],
      priority: given['priority'],
    });
    await withTarget(invocation, async (target) => {
      const view = await askJson<PlanView>(target, { method: 'POST', path: '/gpu/plan', body });
      if (given.json) return out.json(view);
      const { model, runtime, would, because, remedy, evicts } = view;
      const who = [model, runtime === null ? '' : `on ${runtime}`].filter(Boolean).join(' ');
      out.line(`${who === '' ? view.capability : who}: ${would}`);
      out.line(because);
      for (const place of evicts) out.line(`unloads ${place.model} of ${place.runtime}`);
      const times = toTimes(view);
      if (times !== '') out.line(times);
      if (view.reason !== null) out.note(`because of: ${view.reason}`);
      if (remedy !== null) out.note(remedy);
      if (target.url === undefined) out.note('No gateway is running: this is how it would be if one started now.');
    });
  },
});

function toTimes({ queue_s, swap_s, run_s, eta_s }: PlanView): string {
  const parts = [
    queue_s ? `${toSpan(queue_s)} for others` : '',
    swap_s ? `${toSpan(swap_s)} to load` : '',
    run_s ? `${toSpan(run_s)} to run` : '',
  ].filter(Boolean);
  if (parts.length === 0) return '';
  return eta_s === null ? `about ${parts.join(', ')}` : `done in about ${toSpan(eta_s)}: ${parts.join(', ')}`;
}

/** By its id, or by the words of its command. Throws a usage error. */
function toCapability(words: string[]): CapabilityId {
  if (words.length === 0) throw usageError('gpu plan needs CAPABILITY.', `One of: ${capabilityIds.join(', ')}`);
  const said = words.join(' ');
  const found = capabilityIds.find((id) => id === said || capabilities[id].cli.command.join(' ') === said);
  if (found) return found;
  const near = nearest(said.replace(' ', '.'), capabilityIds);
  throw usageError(
    `There is no capability “${said}”.`,
    near === undefined ? `One of: ${capabilityIds.join(', ')}` : `Did you mean ${near}?`,
  );
}
