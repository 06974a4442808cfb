// `gpu hold` and `gpu release`: the card lent to a person, and given back.
import { readSpan } from '../../../src/hardware/span.ts';
import type { HoldState } from '../../../src/routes/gpu.ts';
import { defineLeaf } from '../../command.ts';
import { usageError } from '../../exit.ts';
import { askJson, withTarget } from '../../target.ts';
import { toHold } from './show.ts';

export const hold = defineLeaf({
  path: 'gpu hold',
  summary: 'Borrow the card: nothing begins on it until you give it back, or the time is over',
  details:
    'Idle models leave at once, busy ones when they are done; whoever waits goes on waiting, and is told why. Given again it is lent for longer. At most 24 h.',
  flags: {
    for: {
      type: 'string',
      valueHint: 'TIME',
      description: 'How long: 90s, 30m, 2h (required).',
      read: readTime,
    },
    reason: { type: 'string', valueHint: 'TEXT', description: 'One line that whoever waits is told.' },
  },
  async run(invocation) {
    const { out, flags } = invocation;
    if (flags['for'] === undefined)
      throw usageError('gpu hold needs --for.', 'For half an hour: hono-ai gpu hold --for 30m');
    const body = JSON.stringify({ for: (flags['for'] as number) / 1000, reason: flags['reason'] });
    await withTarget(invocation, async (target) => {
      out.status('emptying the card', true);
      const state = await askJson<HoldState>(target, { method: 'POST', path: '/gpu/hold', body });
      out.clearStatus();
      if (flags.json) return out.json(state);
      out.line(state.hold === null ? 'not lent' : toHold(state.hold));
      for (const { model, runtime, in_use } of state.remaining) {
        out.note(`${model} of ${runtime} is still there${in_use > 0 ? ': it leaves when it is done' : ''}`);
      }
      if (state.waiting > 0) out.note(`${state.waiting} waiting`);
      if (target.url === undefined) out.note('No gateway is running; one that starts keeps to it.');
      out.note('Give it back with: hono-ai gpu release');
    });
  },
});

export const release = defineLeaf({
  path: 'gpu release',
  summary: 'Give the card back before the time is over',
  flags: {},
  async run(invocation) {
    const { out, flags } = invocation;
    await withTarget(invocation, async (target) => {
      const before = await askJson<HoldState>(target, { method: 'GET', path: '/gpu/hold' });
      const state = await askJson<HoldState>(target, { method: 'DELETE', path: '/gpu/hold' });
      if (flags.json) return out.json(state);
      out.line(before.hold === null ? 'The card was not lent.' : 'The card is back.');
      if (state.waiting > 0) out.note(`${state.waiting} waiting`);
    });
  },
});

function readTime(text: string): number {
  const ms = readSpan(text);
  if (ms === undefined || ms > 86_400_000) throw new Error('a time such as 90s, 30m or 2h, at most 24h');
  return ms;
}
