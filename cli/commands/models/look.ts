// `models ls`, `models show`, `models search`: what there is, all about one, and what could be got.
import type { z } from 'zod';
import type { Choice, ModelCard, modelDetails, offerView, PlanView } from '../../../src/models/views.ts';
import { defineLeaf, type Flag, type Invocation } from '../../command.ts';
import { CommandFailure } from '../../exit.ts';
import { printWhole } from '../../pages.ts';
import { toSpan } from '../../progress.ts';
import { toMemory, toSize } from '../../sizes.ts';
import { askJson, getJson, withTarget } from '../../target.ts';
import { toChoice } from './routing.ts';
import { modelArgument, readNames, toModelPath, toQuery } from './names.ts';

export interface Models {
  models: ModelCard[];
  defaults: Record<string, string>;
  aliases: Record<string, Choice>;
  runtimes: { name: string; ok: boolean; error?: string; hint?: string }[];
}
type Details = z.output<typeof modelDetails>;
type Offer = z.output<typeof offerView>;

const MOST_FOUND = 100;

const filters: Record<string, Flag> = {
  capability: { type: 'string', valueHint: 'NAME', description: 'Only those that can do it, such as image.generate.' },
  runtime: { type: 'string', valueHint: 'NAME', description: 'Only those of this runtime.' },
  state: { type: 'string', valueHint: 'STATE', description: 'Only those that are available, ready, loaded, …' },
};

export const ls = defineLeaf({
  path: 'models ls',
  summary: 'List models, defaults and aliases',
  details:
    'A * marks what answers where no model is named. FIT: fits beside what is on the card, fits alone, or too big. Piped, the columns are separated by tabs.',
  flags: { ...filters, ids: { type: 'boolean', description: 'Print only the names, one a line.' } },
  async run(invocation) {
    const { out, flags } = invocation;
    const { capability, runtime, state } = flags;
    const { value } = await getJson<Models>(invocation, `/models${toQuery({ capability, runtime, state })}`);
    if (flags.json) return out.json(value);
    const { models, defaults, aliases, runtimes } = value;
    if (flags['ids']) {
      for (const name of [...models.map(({ id }) => id), ...Object.keys(aliases)]) out.line(name);
      return;
    }
    const chosen = new Set(Object.values(defaults));
    out.table(
      ['MODEL', '', 'RUNTIME', 'STATE', 'SIZE', 'VRAM', 'FIT', 'CONTEXT', 'CAN'],
      models.map((model) => [
        model.id,
        chosen.has(model.id) ? '*' : '',
        model.runtime,
        model.pinned ? `${model.state}, pinned` : model.state,
        model.size === null ? '-' : toSize(model.size),
        toVram(model),
        toFit(model.fit),
        model.context_window === null ? '-' : String(model.context_window),
        toShort(model.capabilities),
      ]),
    );
    const filtered = capability ?? runtime ?? state;
    if (filtered === undefined)
      for (const [alias, choice] of Object.entries(aliases)) out.note(`${alias} stands for ${toChoice(choice)}`);
    for (const { name, ok, error = 'It cannot be reached.', hint = '' } of runtimes) {
      if (!ok && (runtime === undefined || runtime === name)) out.note(`${name} is down. ${error} ${hint}`.trimEnd());
    }
    if (models.length > 0) return;
    out.note(
      filtered === undefined
        ? 'There is no model. Start Ollama, or set HONO_AI_EMBEDDED=true.'
        : 'No model is like that.',
    );
  },
});

export const show = defineLeaf({
  path: 'models show',
  summary: 'Show all about models, and what getting one would take',
  details: 'A model that is not here is looked up where it could be got: its size, its memory, and whether that fits.',
  argument: modelArgument,
  flags: {
    context: {
      type: 'string',
      valueHint: 'TOKENS',
      description: 'Estimate its memory for so much context.',
      read(text) {
        if (!/^[1-9]\d{0,8}$/.test(text.trim())) throw new Error('a whole number above 0');
        return Number(text);
      },
    },
  },
  async run(invocation) {
    const names = readNames(invocation);
    const views = await withTarget(invocation, async (target) => {
      const found: (Details | PlanView)[] = [];
      for (const name of names) {
        try {
          const query = toQuery({ context: invocation.flags['context'] });
          found.push(await askJson<Details>(target, { method: 'GET', path: `${toModelPath(name)}${query}` }));
        } catch (error) {
          if (!(error instanceof CommandFailure) || error.code !== 'model_not_found') throw error;
          found.push(
            await planOf(target, name, invocation).catch((thrown: unknown) => Promise.reject(surer(thrown, error))),
          );
        }
      }
      return found;
    });
    printWhole(invocation, invocation.flags.json ? views : views.map(toReadable));
  },
});

export const search = defineLeaf({
  path: 'models search',
  summary: 'Find models that could be got',
  details: 'Recipes of ComfyUI, well-known models of Ollama, and Hugging Face where it can be reached.',
  argument: { hint: 'WORDS…', max: Infinity },
  flags: { ids: { type: 'boolean', description: 'Print only the names, for: hono-ai models pull' } },
  async run(invocation) {
    const { out, flags, words } = invocation;
    const { value } = await getJson<{ data: Offer[]; problems: string[] }>(
      invocation,
      `/models/search${toQuery({ q: words.join(' '), limit: MOST_FOUND })}`,
    );
    if (flags.json) return out.json(value);
    if (flags['ids']) for (const { model } of value.data) out.line(model);
    else {
      out.table(
        ['MODEL', 'FOR', 'HERE', 'SIZE', 'FIT', 'LICENCE', 'WHAT'],
        value.data.map(({ model, runtime, present, size, fit, license, title, capabilities }) => [
          model,
          runtime,
          present ? 'yes' : '',
          size === null ? '-' : toSize(size),
          toFit(fit),
          license ?? '-',
          title ?? toShort(capabilities),
        ]),
      );
    }
    for (const problem of value.problems) out.note(problem);
    if (value.data.length === 0) out.note('Nothing was found.');
    if (value.data.length === MOST_FOUND) out.note(`Only the first ${MOST_FOUND}: more words find fewer.`);
  },
});

export function planOf(
  target: Parameters<typeof askJson>[0],
  model: string,
  { flags }: Pick<Invocation, 'flags'>,
): Promise<PlanView> {
  const { runtime, source, sha256, kind, context } = flags;
  const query = toQuery({ model, runtime, source, sha256, kind, context });
  return askJson<PlanView>(target, { method: 'GET', path: `/models/plan${query}` });
}

/** What a person reads of a plan or of details: sizes and lists in words, without what only clients of an API need. */
export function toReadable(view: Details | PlanView): object {
  const { vram, fit, ...rest } = view;
  const told: Record<string, unknown> = { ...rest };
  for (const name of FOR_CLIENTS) delete told[name];
  for (const name of ['size', 'bytes', 'free'] as const) {
    const value = told[name];
    if (typeof value === 'number') told[name] = toSize(value);
  }
  for (const name of ['aliases', 'default_for'] as const) {
    const value = told[name];
    if (Array.isArray(value)) told[name] = value.join(', ') || null;
  }
  if ('capabilities' in view) {
    const { id, capabilities, modalities, policy, parameters, pull } = view;
    told['capabilities'] = toShort(capabilities);
    told['modalities'] = `${modalities.input.join(', ')} → ${modalities.output.join(', ')}`;
    told['pull'] = pull === null ? null : `hono-ai models pull ${id}`;
    told['policy'] = toPolicy(policy) || null;
    told['parameters'] = parameters === null ? null : toCount(parameters);
  } else told['files'] = view.files.map(toFile).join(', ') || null;
  if ('warnings' in view) told['warnings'] = view.warnings.join(' ') || null;
  const context = vram?.context ? `, ${vram.context} tokens of context` : '';
  told['vram'] = vram ? `${toMemory(vram.bytes)} ${vram.basis}${context}` : null;
  return { ...told, fit: fit === null ? null : toFit(fit) };
}

/** Fields that are there for the shapes of other dialects, or that another field tells. */
const FOR_CLIENTS = ['created', 'created_at', 'owned_by', 'type', 'display_name', 'pinned'];

function toPolicy({ pinned, preload, ttl_s }: Details['policy']): string {
  const parts = [
    pinned && 'pinned',
    preload && 'loaded at the start',
    ttl_s !== null && `leaves after ${toSpan(ttl_s)}`,
  ];
  return parts.filter(Boolean).join(', ');
}

function toFile({ folder, name, size, present }: PlanView['files'][number]): string {
  const told = [size === undefined ? '' : toSize(size), present ? 'here' : ''].filter(Boolean).join(', ');
  return `${folder === undefined ? '' : `${folder}/`}${name}${told && ` (${told})`}`;
}

/** `3.2 billion`, `135 million`. */
function toCount(value: number): string {
  return value >= 1e9 ? `${Number((value / 1e9).toFixed(1))} billion` : `${Math.round(value / 1e6)} million`;
}

/** Whoever was asked to get it knows better whether it exists than the list of what is here. */
function surer(thrown: unknown, before: CommandFailure): unknown {
  return thrown instanceof CommandFailure && thrown.code === before.code ? thrown : before;
}

/** `~` before what nobody has measured. */
function toVram({ vram }: ModelCard): string {
  // Nothing of it is ever on the card.
  if (vram === null || vram.bytes === 0) return '-';
  return `${vram.basis === 'measured' ? '' : '~'}${toMemory(vram.bytes)}`;
}

export function toFit(fit: ModelCard['fit']): string {
  return fit === null ? '-' : fit.replaceAll('_', ' ');
}

/** `text.chat`, `text.embed` → `text: chat, embed`. */
function toShort(capabilities: string[]): string {
  const nouns = Object.groupBy(capabilities, (id) => id.split('.')[0]!);
  return Object.entries(nouns)
    .map(([noun, ids]) => `${noun}: ${ids!.map((id) => id.slice(noun.length + 1)).join(', ')}`)
    .join('; ');
}
