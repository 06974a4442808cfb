// A runtime in memory that loads and unloads as a test tells it to: slowly, not at all, or not as it says.
import { GatewayError } from '../../src/error.ts';
import type { GpuTenant, Model, ModelMemory, Resident, RuntimeAdapter } from '../../src/runtime.ts';

export const GB = 1024 ** 3;

export interface LoadingScript {
  name?: string;
  /** Model → GiB that it says it takes. */
  models?: Record<string, number>;
  /** On the arbiter's books; true if absent. */
  gpu?: boolean;
  loadMs?: number;
  evictMs?: number;
  /** Has no `load`. */
  noLoad?: boolean;
}

export interface LoadingRuntime extends RuntimeAdapter {
  /** What is in memory; tests may put in and take out. */
  inside: Map<string, Resident>;
  loads: { model: string; keep: number | undefined }[];
  evictions: string[];
  /** Loads that were aborted. */
  aborted: string[];
  /** GiB of the card that were held at most. */
  most(): number;
  /** How it behaves from now on. */
  behave: {
    down?: boolean;
    /** `load` throws this. */
    fails?: GatewayError;
    /** It says that it has loaded, or unloaded, and has not. */
    lies?: boolean;
    /** GiB that models really take. */
    takes?: Record<string, number>;
    /** Share of a model that finds no room on the card. */
    spills?: number;
    /** Milliseconds that a load takes to end after its abort. */
    lingers?: number;
    /** `residents` never answers. */
    silent?: boolean;
  };
}

export function createLoading(script: LoadingScript = {}): LoadingRuntime {
  const { name = 'r', models = { a: 4, b: 4, c: 2 }, gpu = true, loadMs = 1, evictMs = 1, noLoad = false } = script;
  let most = 0;
  const checkUp = () => {
    if (runtime.behave.down)
      throw new GatewayError('upstream_unavailable', `${name} cannot be reached.`, { source: name });
  };
  const pause = (ms: number, signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener('abort', () => (clearTimeout(timer), reject(signal.reason)), { once: true });
    });

  async function put(model: string): Promise<void> {
    const { takes = {}, spills = 0 } = runtime.behave;
    const bytes = (takes[model] ?? models[model]!) * GB;
    const vram = Math.round(bytes * (1 - spills));
    runtime.inside.set(model, { model, vram, contextWindow: 4096, ...(spills > 0 ? { ram: bytes - vram } : {}) });
    most = Math.max(most, [...runtime.inside.values()].reduce((sum, { vram }) => sum + vram, 0) / GB);
  }

  const memory: Required<Omit<ModelMemory, 'device'>> = {
    async residents(signal) {
      checkUp();
      if (runtime.behave.silent) await pause(60_000, signal);
      return [...runtime.inside.values()];
    },
    async load(model: Model, { signal, keep }) {
      checkUp();
      runtime.loads.push({ model: model.id, keep });
      if (!runtime.inside.has(model.id)) {
        await pause(loadMs, signal).catch(async (error: unknown) => {
          runtime.aborted.push(model.id);
          await new Promise((resolve) => setTimeout(resolve, runtime.behave.lingers ?? 0));
          throw error;
        });
      }
      if (runtime.behave.fails) throw runtime.behave.fails;
      if (!runtime.behave.lies && !runtime.inside.has(model.id)) await put(model.id);
    },
    async evict(model, signal) {
      checkUp();
      await pause(evictMs, signal);
      runtime.evictions.push(model);
      if (!runtime.behave.lies) runtime.inside.delete(model);
    },
  };
  const { load: _, ...unloadable } = memory;
  const mine = noLoad ? unloadable : memory;
  const tenant = { ...mine, footprint: (model: Model) => (models[model.id] ?? 0) * GB } as GpuTenant;
  const runtime: LoadingRuntime = {
    name,
    priority: 50,
    inside: new Map(),
    loads: [],
    evictions: [],
    aborted: [],
    behave: {},
    most: () => most,
    ...(gpu ? { gpu: tenant } : { memory: mine }),
    models: async () => {
      checkUp();
      return Object.keys(models).map((id) => {
        const state = runtime.inside.has(id) ? 'loaded' : 'ready';
        return { id, capabilities: ['text.generate'], state } satisfies Model;
      });
    },
    health: async () => checkUp(),
    handles: {
      async *'text.generate'(input, { model }) {
        if (!runtime.inside.has(model.id)) await put(model.id);
        yield {
          type: 'result',
          result: {
            text: input.prompt,
            finish_reason: 'stop',
            usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
          },
        };
      },
    },
  };
  return runtime;
}
