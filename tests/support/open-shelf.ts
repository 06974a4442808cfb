// A runtime in this process that gets, loads and deletes models as it is told: for tests of what manages models.
import { GatewayError } from '../../src/error.ts';
import type { PullEvent, PullWant } from '../../src/puller.ts';
import type { Model, Resident, RuntimeAdapter } from '../../src/runtime.ts';

export interface Shelf {
  runtime: RuntimeAdapter;
  /** On disk, by id. */
  models: Map<string, Model>;
  /** In memory. */
  loaded: Set<string>;
  /** Pulls begun, loads and deletions done. */
  pulls: PullWant[];
  loads: string[];
  removed: string[];
  /** Lets pulls that wait in the middle go on. */
  release(): void;
}

const GB = 1e9;

export interface ShelfOptions {
  name?: string;
  models?: string[];
  /** Pulls stop at half until `release`. */
  holds?: boolean;
}

/** What it can be asked to pull: any name but `nowhere`. */
export function openShelf({ name = 'shelf', models: ids = [], holds = false }: ShelfOptions = {}): Shelf {
  const toModel = (id: string): Model => ({
    id,
    capabilities: ['text.generate', 'text.chat'],
    state: loaded.has(id) ? 'loaded' : 'ready',
    size: 2 * GB,
    contextWindow: 4096,
    quantization: 'Q4_K_M',
    license: 'Apache-2.0',
  });
  const loaded = new Set<string>();
  const models = new Map(ids.map((id) => [id, toModel(id)]));
  let gate = Promise.withResolvers<void>();
  const shelf: Shelf = {
    runtime: undefined as never,
    models,
    loaded,
    pulls: [],
    loads: [],
    removed: [],
    release: () => gate.resolve(),
  };

  async function* pull(want: PullWant, signal: AbortSignal): AsyncGenerator<PullEvent> {
    shelf.pulls.push(want);
    if (want.model === 'nowhere') {
      throw new GatewayError('model_not_found', 'There is no model “nowhere” to be got.', {
        hint: 'Look for another.',
      });
    }
    yield { type: 'progress', done: GB, total: 2 * GB, unit: 'bytes', rate: 5e7, eta: 20, label: 'weights.gguf' };
    if (holds) {
      const left = new Promise<never>((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
      );
      await Promise.race([gate.promise, left]);
      gate = Promise.withResolvers();
    }
    yield { type: 'progress', done: 2 * GB, total: 2 * GB, unit: 'bytes' };
    models.set(want.model, toModel(want.model));
    yield { type: 'pulled', model: want.model, files: [{ name: 'weights.gguf', size: 2 * GB }] };
  }

  shelf.runtime = {
    name,
    priority: 50,
    models: async () => [...models.keys()].map(toModel),
    handles: {
      async *'text.generate'(input) {
        yield {
          type: 'result',
          result: {
            text: `${input.prompt}!`,
            finish_reason: 'stop',
            usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
          },
        };
      },
    },
    health: async () => ({ version: '1.0.0' }),
    gpu: {
      footprint: () => 3 * GB,
      residents: async () => [...loaded].map((model): Resident => ({ model, vram: 3 * GB, contextWindow: 4096 })),
      async load({ id }) {
        shelf.loads.push(id);
        loaded.add(id);
      },
      async evict(model) {
        loaded.delete(model);
      },
    },
    puller: {
      runtime: name,
      claims: () => 10,
      pull,
      plan: async ({ model }) => {
        if (model === 'nowhere') throw new GatewayError('model_not_found', 'There is no model “nowhere” to be got.');
        return {
          model,
          files: [{ name: 'weights.gguf', size: 2 * GB, present: false }],
          bytes: 2 * GB,
          free: 50 * GB,
          license: 'Apache-2.0',
          facts: { size: 2 * GB },
          warnings: [],
        };
      },
      search: async (words) => [
        { model: `${words}:1b`, title: 'A small one', capabilities: ['text.chat'], size: GB, present: false },
      ],
      async remove(model) {
        if (!models.delete(model)) throw new GatewayError('model_not_found', `There is no model “${model}”.`);
        loaded.delete(model);
        shelf.removed.push(model);
        return { freed: 2 * GB, files: [{ name: 'weights.gguf', size: 2 * GB }] };
      },
    },
  };
  return shelf;
}
