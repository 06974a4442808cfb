// `hooks`: addresses that are called when jobs end, and what became of the calls.
import type { DeliveryView, EndpointView, TestView } from '../../src/webhooks/records.ts';
import { defineGroup, defineLeaf, type Argument, type Command, type Flag, type Invocation } from '../command.ts';
import { CommandFailure, exitCodes, usageError } from '../exit.ts';
import { checkId, idArgument, readIds } from '../ids.ts';
import { pageFlags, printList } from '../pages.ts';
import { defineRemoval } from '../remove.ts';
import { askJson, withTarget } from '../target.ts';

const EVENTS = ['job.done', 'job.failed', 'job.cancelled', 'batch.done', '*'];

interface WithSecret {
  secret: string;
  old_secret_until: string | null;
}

const one: Argument = { hint: 'ID', description: 'From hono-ai hooks ls.', max: 1 };

const eventFlag: Flag = {
  type: 'enum',
  multiple: true,
  options: EVENTS,
  valueHint: 'EVENT',
  description: `Only of these: ${EVENTS.join(', ')}. (default: *)`,
};

const ls = defineLeaf({
  path: 'hooks ls',
  summary: 'List addresses that are called',
  flags: pageFlags,
  run: (invocation) =>
    withTarget(invocation, async (target) => {
      const count = await printList<EndpointView>(invocation, target, '/webhooks', {
        head: ['HOOK', 'STATE', 'EVENTS', 'URL'],
        toRow: (hook) => [hook.id, toState(hook), hook.events.join(','), hook.url],
      });
      if (count === 0) invocation.out.note('No hooks. Add one: hono-ai hooks add https://…');
    }),
});

const add = defineLeaf({
  path: 'hooks add',
  summary: 'Have an address called when jobs end',
  details: 'Prints the secret that signs the calls, this once: the gateway does not show it again.',
  argument: { hint: 'URL', max: 1 },
  flags: { event: eventFlag },
  async run(invocation) {
    const { out, flags, words } = invocation;
    const [url] = words;
    if (url === undefined) throw usageError('hooks add needs URL.', 'Such as https://example.com/hook');
    const body = JSON.stringify({ url, ...(flags['event'] === undefined ? {} : { events: flags['event'] }) });
    await withTarget(invocation, async (target) => {
      const hook = await askJson<EndpointView & { secret: string }>(target, {
        method: 'POST',
        path: '/webhooks',
        body,
      });
      if (flags.json) return out.json(hook);
      out.line(hook.secret);
      out.note(`${hook.id} is called from now on. Above is its secret. Try it: hono-ai hooks test ${hook.id}`);
    });
  },
});

const rm = defineRemoval({
  command: 'hooks rm',
  summary: 'Have addresses not called any more',
  toPath: (id) => `/webhooks/${id}`,
  told: 'removed',
});

const test = defineLeaf({
  path: 'hooks test',
  summary: 'Call an address now and say what it answered',
  argument: one,
  flags: {},
  run: (invocation) =>
    withTarget(invocation, async (target) => {
      const { out, flags } = invocation;
      const tried = await askJson<TestView>(target, { method: 'POST', path: `/webhooks/${toId(invocation)}/test` });
      if (flags.json) out.json(tried);
      const { delivered, status, error, message } = tried;
      if (delivered) {
        if (!flags.json) out.line(`delivered, answered ${status}`);
        return exitCodes.ok;
      }
      if (flags.json) return exitCodes.failure;
      const told = status === null ? (error ?? 'no answer') : `it answered ${status}`;
      throw new CommandFailure(exitCodes.failure, `Not delivered: ${message ?? told}`, { code: error ?? 'failure' });
    }),
});

const rotate = defineLeaf({
  path: 'hooks rotate',
  summary: 'Give an address a new secret',
  details: 'Prints it, this once. For a while the one before signs too, so that a receiver can change in its own time.',
  argument: one,
  flags: {},
  run: (invocation) =>
    withTarget(invocation, async (target) => {
      const { out, flags } = invocation;
      const path = `/webhooks/${toId(invocation)}/rotate`;
      const hook = await askJson<WithSecret>(target, { method: 'POST', path });
      if (flags.json) return out.json(hook);
      out.line(hook.secret);
      if (hook.old_secret_until !== null) out.note(`The one before signs too until ${hook.old_secret_until}.`);
    }),
});

const secret = defineLeaf({
  path: 'hooks secret',
  summary: 'Make the secret for addresses that jobs name (--webhook)',
  details: 'Prints it, this once. For a while the one before signs too.',
  flags: {},
  run: (invocation) =>
    withTarget(invocation, async (target) => {
      const { out, flags } = invocation;
      const made = await askJson<WithSecret>(target, { method: 'POST', path: '/webhooks/secret' });
      if (flags.json) return out.json(made);
      out.line(made.secret);
      if (made.old_secret_until !== null) out.note(`The one before signs too until ${made.old_secret_until}.`);
    }),
});

const enable = defineSwitch('enable', 'Have a disabled address called again', true);
const disable = defineSwitch('disable', 'Have an address not called for now', false);

const deliveries = defineLeaf({
  path: 'hooks deliveries',
  summary: 'List calls that were made or are to be made, newest first',
  flags: {
    state: {
      type: 'enum',
      options: ['pending', 'delivered', 'dead'],
      valueHint: 'STATE',
      description: 'Only those.',
    },
    hook: { type: 'string', valueHint: 'ID', description: 'Only those to this address.' },
    ...pageFlags,
  },
  run: (invocation) =>
    withTarget(invocation, async (target) => {
      const { state, hook } = invocation.flags as { state?: string; hook?: string };
      const count = await printList<DeliveryView>(invocation, target, '/webhooks/deliveries', {
        query: { state, endpoint: hook },
        head: ['DELIVERY', 'STATE', 'EVENT', 'TO', 'TRIES', 'ANSWER', 'CREATED'],
        toRow: ({ id, state, event, endpoint, url, attempts, status, error, created_at }) => [
          id,
          state,
          event,
          endpoint ?? url ?? '-',
          String(attempts),
          status === null ? (error ?? '-') : String(status),
          created_at,
        ],
      });
      if (count === 0) invocation.out.note('No deliveries.');
    }),
});

const replay = defineLeaf({
  path: 'hooks replay',
  summary: 'Make calls again, under their own ids',
  argument: idArgument('DELIVERY'),
  flags: {},
  async run(invocation) {
    const { out, flags } = invocation;
    const ids = await readIds(invocation);
    await withTarget(invocation, async (target) => {
      const answers: unknown[] = [];
      for (const id of ids) {
        answers.push((await askJson(target, { method: 'POST', path: `/webhooks/deliveries/${id}/replay` })) ?? { id });
        if (!flags.json) out.line(id);
      }
      if (flags.json) out.json(answers.length === 1 ? answers[0] : { object: 'list', data: answers });
    });
  },
});

export const hooks = defineGroup(
  'hooks',
  'Webhooks: ls, add, rm, test, rotate, secret, enable, disable, deliveries, replay',
  {
    ls,
    add,
    rm,
    test,
    rotate,
    secret,
    enable,
    disable,
    deliveries,
    replay,
  },
);

function defineSwitch(verb: string, summary: string, enabled: boolean): Command {
  return defineLeaf({
    path: `hooks ${verb}`,
    summary,
    argument: one,
    flags: {},
    run: (invocation) =>
      withTarget(invocation, async (target) => {
        const { out, flags } = invocation;
        const id = toId(invocation);
        const body = JSON.stringify({ enabled });
        const hook = await askJson<EndpointView>(target, { method: 'PATCH', path: `/webhooks/${id}`, body });
        if (flags.json) out.json(hook);
        else out.line(id);
      }),
  });
}

function toId({ words: [id] }: Invocation): string {
  if (id === undefined) throw usageError('The id of a hook is needed.', 'hono-ai hooks ls lists them.');
  return checkId(id);
}

function toState({ enabled, disabled_because, failing_since }: EndpointView): string {
  if (!enabled) return disabled_because === null ? 'disabled' : `disabled: ${disabled_because}`;
  return failing_since === null ? 'enabled' : `failing since ${failing_since}`;
}
