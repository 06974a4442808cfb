// What a single file of weights is, as far as its name, its place and its tensors tell.
import type { PullKind } from '../../src/capabilities/model/fields.ts';

/** Files of weights, by how their names end. */
const WEIGHTS = /\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx)$/i;
/** Formats that may run code when they are read. */
const PICKLE = /\.(ckpt|pt|pth|bin)$/i;

export const isWeights = (name: string): boolean => WEIGHTS.test(name);
export const isPickle = (name: string): boolean => PICKLE.test(name);

/** Folders of repositories, by what is in them. */
const PLACES: Record<string, PullKind> = {
  checkpoints: 'checkpoint',
  'stable-diffusion': 'checkpoint',
  diffusion_models: 'diffusion_model',
  unet: 'diffusion_model',
  transformer: 'diffusion_model',
  text_encoders: 'text_encoder',
  text_encoder: 'text_encoder',
  text_encoder_2: 'text_encoder',
  text_encoder_3: 'text_encoder',
  clip: 'text_encoder',
  vae: 'vae',
  loras: 'lora',
  lora: 'lora',
  controlnet: 'controlnet',
  upscale_models: 'upscaler',
  esrgan: 'upscaler',
  realesrgan: 'upscaler',
  animatediff_models: 'motion_module',
  animatediff_motion_lora: 'motion_lora',
  clip_vision: 'clip_vision',
  image_encoder: 'clip_vision',
  embeddings: 'embedding',
};

/** What people call such files; the first that fits counts. */
const NAMES: [pattern: RegExp, kind: PullKind][] = [
  [/clip[-_]?vision|sigclip|image[-_]encoder/, 'clip_vision'],
  [/lora.*(pan|zoom|roll|tilt)|(pan|zoom|roll|tilt).*lora/, 'motion_lora'],
  [/lora|lycoris|locon|loha|lokr/, 'lora'],
  [/control[-_]?(net|lora)|(^|[^a-z])control[-_](v|sd|xl)|t2i[-_]?adapter/, 'controlnet'],
  [/esrgan|upscal|swinir|ultrasharp|(^|[^a-z\d])[248]x([^a-z\d]|$)/, 'upscaler'],
  [/animatediff|(^|[^a-z])mm([^a-z]|$)|motion[-_]?(module|model)/, 'motion_module'],
  [/(^|[^a-z])(taesd|vae|ae)([^a-z]|$)/, 'vae'],
  [/t5[-_]?xxl|text[-_]?encoder|(^|[^a-z])clip[-_]?[lgh]([^a-z]|$)|(^|[^a-z])(gemma|llama)/, 'text_encoder'],
  [/embedding|textual[-_]?inversion/, 'embedding'],
  [/(^|[^a-z])(unet|dit|diffusion[-_]?model)([^a-z]|$)/, 'diffusion_model'],
];

/** By its place in a repository; undefined where that says nothing. */
export function kindOfPlace(path: string): PullKind | undefined {
  const parts = path.toLowerCase().split('/').slice(0, -1);
  for (const part of parts.toReversed()) if (Object.hasOwn(PLACES, part)) return PLACES[part];
  return undefined;
}

export function kindOfName(name: string): PullKind | undefined {
  const lower = name.slice(0, 256).toLowerCase();
  return NAMES.find(([pattern]) => pattern.test(lower))?.[1];
}

/** By the names of its tensors, which say more than what anybody calls it. */
export function kindOfTensors(names: readonly string[]): PullKind | undefined {
  let [unet, clip, vae, motion] = [false, false, false, false];
  for (const name of names) {
    if (/lora_(up|down|A|B|te\d?_|unet_)|\.lora\.|lora_linear|hada_w|lokr_w|\.alpha$/.test(name)) {
      return /motion_modules|temporal/.test(name) ? 'motion_lora' : 'lora';
    }
    if (/^(control_model\.|controlnet_|input_hint_block)|controlnet_cond_embedding/.test(name)) return 'controlnet';
    if (/^(string_to_param|emb_params|clip_[lg]$)/.test(name)) return 'embedding';
    if (/motion_modules\./.test(name)) motion = true;
    if (/^(first_stage_model|vae)\./.test(name)) vae = true;
    else if (/^(cond_stage_model|conditioner|text_encoders)\./.test(name)) clip = true;
    else if (name.startsWith('model.diffusion_model.')) unet = true;
    else if (name.startsWith('vision_model.')) return 'clip_vision';
  }
  if (motion && !unet) return 'motion_module';
  if (unet) return clip || vae ? 'checkpoint' : 'diffusion_model';
  return kindOfBareTensors(names);
}

/** Without the prefixes that files of several parts have. */
function kindOfBareTensors(names: readonly string[]): PullKind | undefined {
  for (const name of names) {
    if (/^(encoder|decoder)\.(down|up|mid|conv_in|conv_out|downsamples|upsamples|middle)/.test(name)) return 'vae';
    if (/^(text_model|transformer\.text_model|model\.layers|encoder\.block|shared\.weight|token_embd)/.test(name)) {
      return 'text_encoder';
    }
    if (/^(double_blocks|joint_blocks|transformer_blocks|single_blocks|blocks|down_blocks|input_blocks)\./.test(name)) {
      return 'diffusion_model';
    }
    if (/^(model\.\d+\.sub\.|RRDB_trunk|body\.\d+\.rdb|conv_first)/.test(name)) return 'upscaler';
  }
  return undefined;
}
