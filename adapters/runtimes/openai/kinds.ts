// What a model is for, as far as its id and some servers' extra fields tell.
import type { CapabilityId } from '../../../src/capabilities/index.ts';
import type { Flavour } from './quirks.ts';
import type { WireModel } from './wire.ts';

export interface Kind {
  capabilities: CapabilityId[];
  mask?: boolean;
  animate?: boolean;
}

const EMBEDS = /embed|(?:^|[/_.:-])(?:bge|e5|gte|minilm|nomic|mxbai|arctic|jina)(?:[/_.:-]|$)/i;
const FILMS = /video|(?:^|[/_.:-])sora(?:[/_.:\d-]|$)/i;
const SOUNDS = /audio|transcri|whisper|musicgen|(?:^|[/_.:-])(?:tts|kokoro|piper|parler|bark|ace-step)(?:[/_.:\d-]|$)/i;
const OTHERS = /rerank|(?:^|[/_.:-])moderation(?:[/_.:\d-]|$)|image(?:bind|net)/i;
const PICTURES = /image|imagine|diffusion|(?:^|[/_.:-])(?:sd|sdxl|sd-cpp|flux|dall-e)(?:[/_.:\d-]|$)/i;
/** Chat models that also hear or speak. */
const SPEAKS = /^gpt-4o(?:-mini)?-(?:audio|realtime)/i;

const EDITS =
  /gpt-image|dall-e-2|grok-imagine-image|sd-cpp-local|kontext|(?:^|[/_.:-])(?:edit|flux[.-]?2)(?:[/_.:-]|$)/i;
const MASKS = /gpt-image|dall-e-2|sd-cpp-local/i;

/** What makes nothing that this gateway can ask for is listed without capabilities: it is there. */
export function toKind({ id, type, ...wire }: WireModel, flavour: Flavour): Kind {
  const made = wire.architecture?.output_modalities ?? wire.output_modalities;
  const text: CapabilityId[] = ['text.generate', 'text.chat'];
  if (type === 'embeddings' || type === 'embedding' || made?.includes('embeddings')) {
    return { capabilities: ['text.embed'] };
  }
  if (type === 'llm' || type === 'vlm' || SPEAKS.test(id)) return { capabilities: text };
  if (FILMS.test(id)) return toFilms(id, flavour);
  if (SOUNDS.test(id) || OTHERS.test(id)) return { capabilities: [] };
  if (PICTURES.test(id)) return EMBEDS.test(id) ? { capabilities: [] } : toPictures(id, flavour);
  if (made && !made.includes('text')) return made.includes('image') ? toPictures(id, flavour) : { capabilities: [] };
  return { capabilities: EMBEDS.test(id) ? ['text.embed'] : text };
}

function toFilms(id: string, flavour: Flavour): Kind {
  // Nobody else's films are known to be asked for in one of these two ways.
  const known = flavour === 'xai' ? id.includes('video') : /sora/i.test(id);
  return known ? { capabilities: ['video.generate'], animate: true } : { capabilities: [] };
}

function toPictures(id: string, flavour: Flavour): Kind {
  if (!EDITS.test(id)) return { capabilities: ['image.generate'] };
  const capabilities: CapabilityId[] = ['image.generate', 'image.edit'];
  // It is the only one that ever varied; those that came after it refuse.
  if (flavour === 'generic' && /dall-e-2/i.test(id)) capabilities.push('image.vary');
  if (flavour === 'xai') return { capabilities, mask: false };
  return MASKS.test(id) ? { capabilities, mask: true } : { capabilities };
}

const SEES = new RegExp(
  [
    '(?:^|[/_.:\\d-])(?:q?vl|vlm|vision|visual|omni|multimodal|4v|4\\.\\dv|4\\.5v)(?:[/_.:\\d-]|$)',
    'llava|pixtral|internvl|moondream|smolvlm|molmo|idefics|paligemma|minicpm-?[vo]|granite-?vision|llama-?4',
    'gemma-?3-(?!1b|270m)|gemma-?3:(?!1b|270m)|gemma-?4',
    'gpt-4o(?!-(?:mini-)?(?:audio|realtime|search|transcribe|tts))|gpt-4\\.1|gpt-4-turbo|gpt-5|chatgpt-4o',
    'claude-(?:3|4|opus|sonnet|haiku)|gemini-|mistral-(?:small-3\\.[12]|medium-3)',
  ].join('|'),
  'i',
);

/** Whether it can be shown pictures: undefined where neither a field nor the id tells. */
export function toVision(wire: WireModel, flavour: Flavour, abilities: string[] | undefined): boolean | undefined {
  const { id, type, capabilities, architecture } = wire;
  if (type === 'vlm') return true;
  // Where the server tells, it knows better than the id: a model that sees may have been loaded without its eyes.
  const taken = architecture?.input_modalities ?? wire.input_modalities;
  if (Array.isArray(taken)) return taken.includes('image');
  if (abilities) return abilities.includes('multimodal') || abilities.includes('vision');
  if (typeof capabilities?.vision === 'boolean') return capabilities.vision;
  if (type === 'llm') return false;
  if (flavour === 'xai') return seesAsGrok(id);
  return SEES.test(id) ? true : undefined;
}

/** The third generation and what only writes code are blind. */
function seesAsGrok(id: string): boolean | undefined {
  if (/vision/i.test(id)) return true;
  if (/grok-(?:[1-3](?!\d)|code)/i.test(id)) return false;
  return /grok-\d/i.test(id) ? true : undefined;
}
