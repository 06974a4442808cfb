// `gpu log`: which models had to leave the card for which, and why.
import type { SwapView } from '../../../src/hardware.ts';
import { defineLeaf } from '../../command.ts';
import { getJson } from '../../target.ts';

export const log = defineLeaf({
  path: 'gpu log',
  summary: 'Show which models left the card for which, and why',
  details: 'Newest first, since the gateway was started.',
  flags: {
    limit: {
      type: 'string',
      alias: 'n',
      valueHint: 'N',
      description: 'At most so many (default: 50, at most 500).',
      read: readLimit,
    },
  },
  async run(invocation) {
    const { out, flags } = invocation;
    const query = flags['limit'] === undefined ? '' : `?limit=${flags['limit'] as number}`;
    const { value, url } = await getJson<{ data: SwapView[] }>(invocation, `/gpu/swaps${query}`);
    if (flags.json) return out.json(value);
    out.table(
      ['AT', 'MODEL', 'RUNTIME', 'FOR', 'UNLOADED', 'TOOK', 'WHY'],
      value.data.map(({ at, model, runtime, caller, evicted, took_s, because, failure }) => [
        toTime(at),
        model,
        runtime,
        caller ?? '-',
        evicted.map((place) => place.model).join(' ') || '-',
        `${took_s} s`,
        failure === null ? because : `failed: ${failure}`,
      ]),
    );
    if (value.data.length > 0) return;
    out.note(url === undefined ? 'No gateway is running, so nothing was swapped.' : 'Nothing has been swapped yet.');
  },
});

/** `21:04:05 sdxl: unloaded llama3.1:8b in 1.2 s`. */
export function toLine({ at, model, evicted, took_s, failure }: SwapView): string {
  const gone = evicted.map((place) => place.model).join(', ') || 'nothing';
  return `${toTime(at)} ${model}: unloaded ${gone} in ${took_s} s${failure === null ? '' : `, then failed: ${failure}`}`;
}

function toTime(iso: string): string {
  return new Date(iso).toLocaleTimeString('sv-SE');
}

function readLimit(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 500) throw new Error('a whole number from 1 to 500');
  return value;
}
