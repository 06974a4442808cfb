// `status`: which gateway answers, its runtimes, and what the card holds.
import { defineLeaf } from '../command.ts';
import { toMemory } from '../sizes.ts';
import { getJson } from '../target.ts';

interface Status {
  version: string;
  host: string;
  uptime_s: number;
  active_runs: number;
  runtimes: { name: string; ok: boolean; models: number; error?: string; hint?: string }[];
  card: {
    budget: number | null;
    held: { runtime: string; model: string; footprint: number; leases: number }[];
    waiting: { runtime: string; model: string }[];
  };
}

export const status = defineLeaf({
  path: 'status',
  summary: 'Show runtimes, the card and what runs',
  flags: {},
  async run(invocation) {
    const { out, flags } = invocation;
    const { value, url } = await getJson<Status>(invocation, '/system/status');
    if (flags.json) return out.json(value);
    const { version, host, uptime_s, active_runs, runtimes, card } = value;
    out.note(
      url === undefined
        ? `hono-ai ${version} (${host}); no gateway is running, this is what one would see`
        : `hono-ai ${version} on ${url} (${host}), up ${uptime_s} s, ${active_runs} running`,
    );
    out.table(
      ['RUNTIME', 'STATE', 'MODELS', 'WHY'],
      runtimes.map(({ name, ok, models, error, hint }) => [
        name,
        ok ? 'up' : 'down',
        String(models),
        [error, hint].filter(Boolean).join(' '),
      ]),
    );
    for (const { runtime, model, footprint, leases } of card.held) {
      out.note(`card: ${model} of ${runtime} holds ${toMemory(footprint)}${leases > 0 ? ', in use' : ''}`);
    }
    if (card.waiting.length > 0) out.note(`card: ${card.waiting.length} waiting`);
    if (card.budget !== null) out.note(`card: ${toMemory(card.budget)} for models`);
  },
});
