// `models ls`: every model that can be asked.
import { defineGroup, defineLeaf } from '../command.ts';
import { getJson } from '../target.ts';

interface Models {
  models: {
    id: string;
    runtime: string;
    capabilities: string[];
    context_window: number | null;
    state: string;
  }[];
  defaults: Record<string, string>;
  aliases: Record<string, string>;
}

const ls = defineLeaf({
  path: 'models ls',
  summary: 'List models, defaults and aliases',
  details: 'A * marks what answers where no model is named. Piped, the columns are separated by tabs.',
  flags: { ids: { type: 'boolean', description: 'Print only the names, one a line.' } },
  async run(invocation) {
    const { out, flags } = invocation;
    const { value } = await getJson<Models>(invocation, '/models');
    if (flags.json) return out.json(value);
    const { models, defaults, aliases } = value;
    if (flags['ids']) {
      for (const name of [...models.map(({ id }) => id), ...Object.keys(aliases)]) out.line(name);
      return;
    }
    const chosen = new Set(Object.values(defaults));
    out.table(
      ['MODEL', '', 'RUNTIME', 'CAN', 'CONTEXT', 'STATE'],
      models.map(({ id, runtime, capabilities, context_window, state }) => [
        id,
        chosen.has(id) ? '*' : '',
        runtime,
        toShort(capabilities),
        context_window === null ? '-' : String(context_window),
        state,
      ]),
    );
    for (const [alias, id] of Object.entries(aliases)) out.note(`${alias} stands for ${id}`);
    if (models.length === 0) out.note('There is no model. Start Ollama, or set HONO_AI_EMBEDDED=true.');
  },
});

export const models = defineGroup('models', 'Models: ls', { ls });

/** `text.chat`, `text.embed` → `text: chat, embed`. */
function toShort(capabilities: string[]): string {
  const nouns = Object.groupBy(capabilities, (id) => id.split('.')[0]!);
  return Object.entries(nouns)
    .map(([noun, ids]) => `${noun}: ${ids!.map((id) => id.slice(noun.length + 1)).join(', ')}`)
    .join('; ');
}
