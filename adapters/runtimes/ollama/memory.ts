// What Ollama holds in memory: who is loaded, how much it takes, and making it leave.
import { GatewayError } from '../../../src/error.ts';
import type { GpuTenant } from '../../../src/runtime.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { toFullName } from './wire.ts';
import type { RunningModel } from './wire.ts';

/** A model that answered this recently is taken as loaded without asking; shorter than any usual keep_alive. */
const WARM_MS = 30_000;
const POLL_MS = 100;
/** Weights on disk → weights, context and buffers in memory, until a load was measured. */
const OVERHEAD = 1.2;

export interface Memory {
  running(signal: AbortSignal): Promise<RunningModel[]>;
  /** The model has just answered and stays for `keepAlive` seconds. */
  answered(model: string, keepAlive: number | undefined): void;
  /** true only where it is known that the model must be loaded first. */
  isCold(model: string, signal: AbortSignal): Promise<boolean>;
  /** Which models run in the cloud, and so never load here. */
  setRemote(models: string[]): void;
  gpu: GpuTenant;
}

export function createMemory(upstream: Upstream, evictMs: number): Memory {
  const measured = new Map<string, number>();
  const warmUntil = new Map<string, number>();
  let remote = new Set<string>();

  async function running(signal: AbortSignal): Promise<RunningModel[]> {
    const { models } = await upstream.control<{ models?: RunningModel[] | null }>('/api/ps', { signal });
    for (const { name, size_vram } of models ?? []) {
      // 0 may only mean that the card was full that time, so it measures nothing.
      if (size_vram) measured.set(toFullName(name), size_vram);
    }
    return models ?? [];
  }

  async function isRunning(model: string, signal: AbortSignal): Promise<boolean> {
    const name = toFullName(model);
    return (await running(signal)).some((each) => toFullName(each.name) === name);
  }

  async function isCold(model: string, signal: AbortSignal): Promise<boolean> {
    const name = toFullName(model);
    if (remote.has(name) || (warmUntil.get(name) ?? 0) > Date.now()) return false;
    return !(await isRunning(model, signal).catch(() => true));
  }

  async function evict(model: string, signal: AbortSignal): Promise<void> {
    warmUntil.delete(toFullName(model));
    const deadline = Date.now() + evictMs;
    await upstream
      .control('/api/generate', { json: { model, keep_alive: 0, stream: false }, signal })
      .catch((error: unknown) => {
        // Deleted from disk says nothing about memory: the list of running models decides.
        if (!(error instanceof GatewayError && error.code === 'model_not_found')) throw error;
      });
    // The answer only says that it will go: after its requests in flight, and once the driver gave the memory back.
    while (await isRunning(model, signal)) {
      if (Date.now() >= deadline) throw stillThere(model);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  function stillThere(model: string): GatewayError {
    return new GatewayError('insufficient_vram', `${upstream.name} did not unload ${model} in ${evictMs / 1000} s.`, {
      source: upstream.name,
      retryAfter: 10,
      hint: 'It may be answering someone else; try again, or run `ollama stop` for it.',
    });
  }

  return {
    running,
    isCold,
    answered(model, keepAlive = -1) {
      const stays = keepAlive < 0 ? WARM_MS : Math.min(WARM_MS, keepAlive * 1000);
      warmUntil.set(toFullName(model), Date.now() + stays);
    },
    setRemote(models) {
      remote = new Set(models.map(toFullName));
    },
    gpu: {
      footprint(model) {
        const name = toFullName(model.id);
        if (remote.has(name)) return 0;
        return measured.get(name) ?? Math.ceil((model.size ?? 0) * OVERHEAD);
      },
      async residents(signal) {
        return (await running(signal)).map(({ name, size_vram }) => ({ model: name, vram: size_vram ?? 0 }));
      },
      evict,
    },
  };
}
