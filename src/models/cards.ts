// A model as lists show it: in the shapes of OpenAI and Anthropic at once, written down once for as long as nothing about it changes.
import { fileFields } from '../capabilities/file.ts';
import { capabilities, capabilityIds, type CapabilityId } from '../capabilities/index.ts';
import type { Listing } from '../catalog.ts';
import type { ModelCard } from './views.ts';

interface Written {
  card: ModelCard;
  text?: string;
  words?: string;
}

/** Capabilities that are given pictures; films need none to begin with. */
const SHOWN = new Set(
  capabilityIds.filter(
    (id) =>
      capabilities[id].makes !== 'video' &&
      [...fileFields(capabilities[id].input).values()].some(({ kind }) => kind === 'image'),
  ),
);

const written = new WeakMap<Listing, Written>();

export function toCard(listing: Listing): ModelCard {
  return write(listing).card;
}

/** The card as JSON. */
export function toCardText(listing: Listing): string {
  const kept = write(listing);
  return (kept.text ??= JSON.stringify(kept.card));
}

/** What a search looks through, in lower case. */
export function toWords(listing: Listing): string {
  const kept = write(listing);
  const { id, runtime, model } = listing;
  return (kept.words ??= [id, runtime, ...(model.aliases ?? []), model.source ?? ''].join(' ').toLowerCase());
}

/** The same model under another name. */
export function renamed(listing: Listing, name: string): ModelCard {
  return { ...toCard(listing), id: name, display_name: name };
}

function write(listing: Listing): Written {
  const known = written.get(listing);
  if (known) return known;
  const made = { card: build(listing) };
  written.set(listing, made);
  return made;
}

function build({ id, runtime, model, capabilities: ids, state, vram, fit, pinned }: Listing): ModelCard {
  const created = isTime(model.created) ? model.created : 0;
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
    state,
    runtime,
    size: model.size ?? null,
    vram: vram ?? null,
    fit: fit ?? null,
    quantization: model.quantization ?? null,
    parameters: model.parameters ?? null,
    license: model.license ?? null,
    source: model.source ?? null,
    pinned,
  };
}

/** Seconds that a date can hold: what servers send may be anything. */
function isTime(seconds: number | undefined): seconds is number {
  return Number.isInteger(seconds) && Math.abs(seconds!) <= 8_640_000_000_000;
}

/** What goes in and what comes out, of all that it can be asked. */
function toModalities({ vision, animate }: Listing['model'], ids: CapabilityId[]) {
  const input = new Set(['text']);
  const output = new Set<string>();
  if (vision || animate) input.add('image');
  for (const id of ids) {
    if (SHOWN.has(id)) input.add('image');
    output.add(capabilities[id].makes ?? (id === 'text.embed' ? 'embedding' : 'text'));
  }
  return { input: [...input], output: [...(output.size > 0 ? output : ['text'])] };
}
