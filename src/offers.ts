// What a model can be asked, what a request needs of it, and what to say and to start where nobody can.
import type { Ability } from './capabilities/define.ts';
import { capabilities, type CapabilityId } from './capabilities/index.ts';
import type { Model } from './runtime.ts';

const NEEDED: Record<Ability, string> = {
  vision: 'for pictures',
  mask: 'with a mask',
  animate: 'from a picture',
};
const COMFYUI = 'Start ComfyUI and set HONO_AI_COMFYUI_URL';
/** What to start for what no text model does. */
const STARTS: Partial<Record<CapabilityId | Ability, string>> = {
  'image.generate': `${COMFYUI}, or set HONO_AI_EMBEDDED=true for tiny pictures.`,
  'image.edit': `${COMFYUI}.`,
  'image.vary': `${COMFYUI}.`,
  'image.upscale': `${COMFYUI}.`,
  'video.generate': `${COMFYUI}.`,
  'music.generate': `${COMFYUI}, or ACE-Step and set HONO_AI_ACESTEP_URL.`,
  vision: 'Start Ollama and get a model that sees, for example: ollama pull qwen3-vl:4b',
};
/** What is said where no runtime tells how to get a text model. */
export const START_TEXT = 'Start Ollama, or set HONO_AI_EMBEDDED=true for the built-in models.';
/** Whom to get for what; any small chat model does the rest. */
export const TEXT_MODELS: Partial<Record<CapabilityId, string>> = { 'text.embed': 'nomic-embed-text' };

/** What a model must be able to do for this request; without one, for any. */
export function needsOf(id: CapabilityId, input?: object): Ability[] {
  const needs = capabilities[id].needs as ((input?: object) => Ability[]) | undefined;
  return needs?.(input) ?? [];
}

/** Offered by the runtime itself, or derived from what it offers; and known to be able to do what is needed. */
export function offers(model: Model, id: CapabilityId, needs: Ability[]): boolean {
  return hasCapability(model, id) && needs.every((ability) => model[ability] === true);
}

/** The same where nothing speaks against it: for a model that somebody names, who may know more. */
export function mayOffer(model: Model, id: CapabilityId, needs: Ability[]): boolean {
  return hasCapability(model, id) && needs.every((ability) => model[ability] !== false);
}

function hasCapability(model: Model, id: CapabilityId): boolean {
  if (model.capabilities.includes(id)) return true;
  return capabilities[id].derive?.from.some((base) => model.capabilities.includes(base as CapabilityId)) ?? false;
}

export function withNeeds(id: CapabilityId, needs: Ability[]): string {
  return needs.length === 0 ? id : `${id} ${needs.map((ability) => NEEDED[ability]).join(' and ')}`;
}

/** What to start for it, where that is not a text model's doing. */
export function toStart(id: CapabilityId, needs: Ability[]): string | undefined {
  return needs.includes('vision') ? STARTS.vision : STARTS[id];
}
