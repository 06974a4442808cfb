// The models of an OpenAI-compatible server: what their ids and some servers' extra fields tell.
import type { CapabilityId } from '../../../src/capabilities/index.ts';
import type { Model } from '../../../src/runtime.ts';
import type { WireModel } from './wire.ts';

const EMBEDS = /embed|(?:^|[/_.:-])(?:bge|e5|gte|minilm|nomic|mxbai|arctic|jina)(?:[/_.:-]|$)/i;
const NOT_TEXT =
  /image|imagine|video|diffusion|transcri|whisper|rerank|musicgen|(?:^|[/_.:-])(?:tts|kokoro|piper|parler|bark|sd|sdxl|sd-cpp|flux|dall-e|sora|ace-step|moderation)(?:[/_.:\d-]|$)/i;

/** What makes no text is listed without capabilities: it is there, but not for this gateway to ask. */
export function toModels(list: WireModel[]): Model[] {
  const seen = new Set<string>();
  return list.flatMap((wire) => {
    if (typeof wire?.id !== 'string' || wire.id === '' || seen.has(wire.id)) return [];
    seen.add(wire.id);
    return toModel(wire);
  });
}

function toModel(wire: WireModel): Model {
  const { id, created, type, meta, architecture } = wire;
  const model: Model = { id, capabilities: toCapabilities(wire), state: toState(wire) };
  const context = meta?.n_ctx ?? wire.max_model_len ?? wire.max_context_length ?? meta?.n_ctx_train;
  if (context) model.contextWindow = context;
  if (meta?.size) model.size = meta.size;
  // The newest is the best guess at a default.
  if (created) Object.assign(model, { created, rank: created });
  if (type === 'vlm' || architecture?.input_modalities?.includes('image')) model.vision = true;
  // vLLM scores a prompt that it echoes; others refuse `echo` or ignore it.
  if (wire.owned_by === 'vllm' && model.capabilities.includes('text.generate')) model.echo = true;
  return model;
}

function toCapabilities({ id, type, architecture }: WireModel): CapabilityId[] {
  const made = architecture?.output_modalities;
  if (type === 'embeddings' || type === 'embedding' || made?.includes('embeddings')) return ['text.embed'];
  if (type === 'llm' || type === 'vlm') return ['text.generate', 'text.chat'];
  if (NOT_TEXT.test(id) || (made && !made.includes('text'))) return [];
  return EMBEDS.test(id) ? ['text.embed'] : ['text.generate', 'text.chat'];
}

function toState({ state, status }: WireModel): Model['state'] {
  if (status?.value === 'downloading') return 'available';
  return state === 'loaded' || status?.value === 'loaded' ? 'loaded' : 'ready';
}
