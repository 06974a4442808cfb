// Checkpoints as models that paint, upscalers as models that enlarge.
import type { Model } from '../../../src/runtime.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Names } from './names.ts';
import { toUsual } from './request.ts';
import { ifThere, notA1111, type Checkpoint } from './wire.ts';

export interface Models {
  list(signal: AbortSignal): Promise<Model[]>;
  /** What requests call the checkpoint of a model. */
  title(model: string): string;
  /** The model that is loaded, as far as the server says which one it would use. */
  chosen(signal: AbortSignal): Promise<string | undefined>;
}

export function createModels(upstream: Upstream, names: Names): Models {
  let titles = new Map<string, string>();

  async function chosen(signal: AbortSignal): Promise<string | undefined> {
    const options = await ifThere(
      upstream.control<{ sd_model_checkpoint?: string | null }>('/sdapi/v1/options', { signal }),
    );
    const named = options?.sd_model_checkpoint;
    if (!named) return undefined;
    // It is told with its hash or without, and without its ending.
    const plain = toPlain(named);
    return [...titles].find(([id, title]) => title === named || id === plain || toPlain(title) === plain)?.[0];
  }

  return {
    async list(signal) {
      const found = await upstream.control<Checkpoint[]>('/sdapi/v1/sd-models', { signal });
      if (!Array.isArray(found)) throw notA1111(upstream.name);
      const checkpoints = found.filter(({ title }) => typeof title === 'string' && title !== '');
      titles = new Map(checkpoints.map(({ title, model_name }) => [model_name || toPlain(title), title]));
      const [loaded, upscalers] = await Promise.all([chosen(signal), names.upscalers(signal)]);
      const painters = [...titles].map(([id, title]): Model => ({
        id,
        capabilities: ['image.generate', 'image.edit', 'image.vary'],
        state: id === loaded ? 'loaded' : 'ready',
        mask: true,
        usual: toUsual(id),
        // What is loaded already answers soonest.
        rank: id === loaded ? 1 : 0,
        aliases: [...new Set([title, title.replace(/ \[\w+\]$/, '')])].filter((alias) => alias !== id),
      }));
      const enlargers = upscalers
        .filter((id) => !titles.has(id))
        .map((id): Model => ({ id, capabilities: ['image.upscale'], state: 'ready' }));
      return [...painters, ...enlargers];
    },
    title: (model) => titles.get(model) ?? model,
    chosen,
  };
}

/** Without its hash and its ending. */
function toPlain(title: string): string {
  return title.replace(/ \[\w+\]$/, '').replace(/\.(safetensors|ckpt|gguf|pt)$/, '');
}
