// The models of an OpenAI-compatible server → the gateway's models.
import type { Model } from '../../../src/runtime.ts';
import { toKind, toVision } from './kinds.ts';
import { toCount } from './managers/asking.ts';
import type { Flavour } from './quirks.ts';
import type { WireModel, WireModels } from './wire.ts';

export function toModels({ data = [], models = [] }: WireModels, flavour: Flavour): Model[] {
  const abilities = new Map<string, string[]>();
  for (const { name, model, capabilities } of Array.isArray(models) ? models : []) {
    if (Array.isArray(capabilities)) for (const id of [name, model]) if (id) abilities.set(id, capabilities);
  }
  const seen = new Set<string>();
  return data.flatMap((wire) => {
    if (typeof wire?.id !== 'string' || wire.id === '' || seen.has(wire.id)) return [];
    seen.add(wire.id);
    return toModel(wire, flavour, abilities.get(wire.id));
  });
}

function toModel(wire: WireModel, flavour: Flavour, abilities: string[] | undefined): Model {
  const { id, created, meta } = wire;
  const model: Model = { id, ...toKind(wire, flavour), state: toState(wire) };
  const writes = model.capabilities.includes('text.generate');
  const context = meta?.n_ctx ?? wire.max_model_len ?? wire.max_context_length ?? meta?.n_ctx_train;
  if (context) model.contextWindow = context;
  if (toCount(meta?.size)) model.size = meta!.size!;
  if (toCount(meta?.n_params)) model.parameters = meta!.n_params!;
  const aliases = meta?.llamaswap?.aliases;
  if (Array.isArray(aliases)) model.aliases = aliases.filter((alias) => typeof alias === 'string' && alias !== id);
  // The newest is the best guess at a default.
  if (created) Object.assign(model, { created, rank: created });
  const vision = writes ? toVision(wire, flavour, abilities) : undefined;
  if (vision !== undefined) model.vision = vision;
  // vLLM scores a prompt that it echoes; others refuse `echo` or ignore it.
  if (wire.owned_by === 'vllm' && writes) model.echo = true;
  return model;
}

function toState({ state, status }: WireModel): Model['state'] {
  if (status?.value === 'downloading') return 'available';
  if (status?.value === 'loading') return 'loading';
  return state === 'loaded' || status?.value === 'loaded' ? 'loaded' : 'ready';
}
