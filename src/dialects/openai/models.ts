// The model list in the shapes of OpenAI and Anthropic at once.
import { z } from 'zod';
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

export function toModelCard({ id, runtime, model, capabilities }: Listing): z.output<typeof modelCard> {
  const created = model.created ?? 0;
  const embeds = capabilities.length === 1 && capabilities[0] === 'text.embed';
  return {
    id,
    object: 'model',
    created,
    owned_by: runtime,
    type: 'model',
    display_name: id,
    created_at: new Date(created * 1000).toISOString(),
    capabilities,
    modalities: { input: model.vision ? ['text', 'image'] : ['text'], output: [embeds ? 'embedding' : 'text'] },
    context_window: model.contextWindow ?? null,
    state: model.state,
    runtime,
  };
}

export function toModelList(listings: Listing[]): z.output<typeof modelList> {
  const data = listings.map(toModelCard);
  return { object: 'list', data, has_more: false, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
}
