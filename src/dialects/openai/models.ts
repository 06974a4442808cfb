// The model list in the shapes of OpenAI and Anthropic at once.
import { z } from 'zod';
import { fileFields } from '../../capabilities/file.ts';
import { capabilities, type CapabilityId } from '../../capabilities/index.ts';
import type { Listing } from '../../catalog.ts';

export const modelCard = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.string(),
  type: z.literal('model'),
  display_name: z.string(),
  created_at: z.string(),
  capabilities: z.array(z.string()),
  modalities: z.object({ input: z.array(z.string()), output: z.array(z.string()) }),
  context_window: z.int().nullable(),
  state: z.enum(['available', 'ready', 'loaded']),
  runtime: z.string(),
});

export const modelList = z.object({
  object: z.literal('list'),
  data: z.array(modelCard),
  has_more: z.boolean(),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
});

export function toModelCard({ id, runtime, model, capabilities: ids }: Listing): z.output<typeof modelCard> {
  const created = model.created ?? 0;
  return {
    id,
    object: 'model',
    created,
    owned_by: runtime,
    type: 'model',
    display_name: id,
    created_at: new Date(created * 1000).toISOString(),
    capabilities: ids,
    modalities: toModalities(model, ids),
    context_window: model.contextWindow ?? null,
    state: model.state,
    runtime,
  };
}

/** What goes in and what comes out, of all that it can be asked. */
function toModalities({ vision, animate }: Listing['model'], ids: CapabilityId[]) {
  const input = new Set(['text']);
  const output = new Set<string>();
  if (vision || animate) input.add('image');
  for (const id of ids) {
    if ([...fileFields(capabilities[id].input).values()].some(({ kind }) => kind === 'image') && !animates(id)) {
      input.add('image');
    }
    output.add(capabilities[id].makes ?? (id === 'text.embed' ? 'embedding' : 'text'));
  }
  return { input: [...input], output: [...(output.size > 0 ? output : ['text'])] };
}

const animates = (id: CapabilityId) => capabilities[id].makes === 'video';

export function toModelList(listings: Listing[]): z.output<typeof modelList> {
  const data = listings.map(toModelCard);
  return { object: 'list', data, has_more: false, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
}
