// `models load`, `models unload`, `models pin`, and `ps`: what sits in memory, and what shall.
import type { LoadView, ResidentView } from '../../../src/models/views.ts';
import { defineLeaf } from '../../command.ts';
import { usageError } from '../../exit.ts';
import { toSpan } from '../../progress.ts';
import { toMemory } from '../../sizes.ts';
import { askJson, getJson, withTarget } from '../../target.ts';
import { modelArgument, readNames } from './names.ts';

export const load = defineLeaf({
  path: 'models load',
  summary: 'Bring models to memory',
  details: 'Makes room as a request would, and ends when it is measured loaded.',
  argument: modelArgument,
  flags: {
    keep: {
      type: 'string',
      valueHint: 'SECONDS|forever',
      description: 'How long it stays when nobody uses it.',
      read: (text) => (text === 'forever' ? -1 : readSeconds(text)),
    },
  },
  async run(invocation) {
    const { out, flags } = invocation;
    const names = readNames(invocation);
    await withTarget(invocation, async (target) => {
      const views: LoadView[] = [];
      for (const model of names) {
        out.status(`${model}: loading`);
        const body = JSON.stringify({ model, keep_s: flags['keep'] });
        const view = await askJson<LoadView>(target, { method: 'POST', path: '/models/load', body });
        out.clearStatus();
        views.push(view);
        for (const warning of view.warnings) out.note(`warning: ${warning}`);
        if (view.evicted.length > 0) out.note(`unloaded for it: ${view.evicted.join(', ')}`);
        if (!flags.json) out.line(view.model);
        const taken = view.vram ? `, ${toMemory(view.vram)} of the card` : '';
        out.note(`${view.model}: loaded on ${view.runtime} in ${(view.took_ms / 1000).toFixed(1)} s${taken}`);
      }
      if (flags.json) out.json(views.length === 1 ? views[0] : { object: 'list', data: views });
    });
  },
});

export const unload = defineLeaf({
  path: 'models unload',
  summary: 'Send models away from memory',
  argument: modelArgument,
  flags: { all: { type: 'boolean', description: 'All that nobody uses.' } },
  async run(invocation) {
    const { out, flags, words } = invocation;
    if (flags['all'] && words.length > 0) throw usageError('--all takes no names.');
    const names = flags['all'] ? [undefined] : readNames(invocation);
    await withTarget(invocation, async (target) => {
      const views: LoadView[] = [];
      for (const model of names) {
        const { data } = await askJson<{ data: LoadView[] }>(target, {
          method: 'POST',
          path: '/models/unload',
          body: JSON.stringify({ model }),
        });
        views.push(...data);
        for (const view of data) {
          if (!flags.json) out.line(view.model);
          out.note(`${view.model}: unloaded`);
        }
      }
      if (flags.json) out.json({ object: 'list', data: views });
      else if (views.length === 0) out.note('Nothing was loaded.');
    });
  },
});

export const pin = defineLeaf({
  path: 'models pin',
  summary: 'Keep models in memory, load them at the start, or send them away when idle',
  argument: modelArgument,
  flags: {
    off: { type: 'boolean', description: 'Not any more.' },
    preload: { type: 'boolean', description: 'Load it when the gateway starts; alone it does not pin.' },
    ttl: {
      type: 'string',
      valueHint: 'SECONDS|never',
      description: 'Send it away after so long without use; alone it does not pin.',
      read: (text) => (text === 'never' ? null : readSeconds(text)),
    },
  },
  async run(invocation) {
    const { out, flags } = invocation;
    const names = readNames(invocation);
    const on = flags['off'] !== true;
    const { preload, ttl } = flags;
    const alone = preload === undefined && ttl === undefined;
    const change = {
      ...(alone ? { pinned: on } : {}),
      ...(preload === undefined ? {} : { preload: on }),
      ...(ttl === undefined ? {} : { ttl_s: on ? ttl : null }),
    };
    await withTarget(invocation, async (target) => {
      const policies: { model: string; pinned: boolean; preload: boolean; ttl_s: number | null }[] = [];
      for (const model of names) {
        const body = JSON.stringify({ model, ...change });
        policies.push(await askJson(target, { method: 'PUT', path: '/models/policy', body }));
      }
      if (flags.json) return out.json(policies.length === 1 ? policies[0] : { object: 'list', data: policies });
      for (const { model, pinned, preload, ttl_s } of policies) {
        out.line(model);
        const told = [
          pinned ? 'pinned' : 'not pinned',
          preload ? 'loaded at the start' : '',
          ttl_s === null ? '' : `sent away after ${toSpan(ttl_s)}`,
        ];
        out.note(`${model}: ${told.filter(Boolean).join(', ')}`);
      }
    });
  },
});

export const ps = defineLeaf({
  path: 'ps',
  summary: 'Show what sits in memory',
  flags: {},
  async run(invocation) {
    const { out, flags } = invocation;
    const { value } = await getJson<{ data: ResidentView[]; problems: string[] }>(invocation, '/models/loaded');
    if (flags.json) return out.json(value);
    out.table(
      ['MODEL', 'RUNTIME', 'VRAM', 'RAM', 'CONTEXT', 'STATE', 'UNTIL'],
      value.data.map((view) => [
        view.model,
        view.runtime,
        toMemory(view.vram),
        view.ram === null ? '-' : toMemory(view.ram),
        view.context_window === null ? '-' : String(view.context_window),
        toState(view),
        toUntil(view),
      ]),
    );
    for (const { model, warning } of value.data) if (warning !== null) out.note(`${model}: ${warning}`);
    for (const problem of value.problems) out.note(problem);
    if (value.data.length === 0) out.note('Nothing is loaded.');
  },
});

function toState({ state, in_use, idle_s, pinned }: ResidentView): string {
  const use = in_use > 0 ? `in use by ${in_use}` : idle_s === null ? '' : `idle for ${toSpan(idle_s)}`;
  return [state === 'loading' ? state : '', use, pinned ? 'pinned' : ''].filter(Boolean).join(', ') || state;
}

function toUntil({ expires_at, pinned }: ResidentView): string {
  if (pinned) return 'for ever';
  if (expires_at === null) return '-';
  return `about ${toSpan((Date.parse(expires_at) - Date.now()) / 1000)} more`;
}

function readSeconds(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 1) || value > 31_536_000) throw new Error('a number of seconds above 0');
  return value;
}
