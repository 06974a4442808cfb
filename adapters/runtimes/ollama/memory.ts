// What Ollama holds in memory: who is loaded, how much it takes and of what, and moving it in and out.
import { GatewayError } from '../../../src/error.ts';
import { estimateVram, toGb } from '../../../src/models/fit.ts';
import type { GpuTenant, Model, Resident } from '../../../src/runtime.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { toFailure, toFullName, toPart } from './wire.ts';
import type { RunningModel } from './wire.ts';

/** A model that answered this recently is taken as loaded without asking; shorter than any usual keep_alive. */
const WARM_MS = 30_000;
const POLL_MS = 100;
/** How long a model that has been loaded may be missing from the list of those that are. */
const SHOWN_MS = 3000;
/** Further away than this is Ollama's way to say never. */
const FOREVER_MS = 10 * 365 * 86_400_000;

export interface Memory {
  running(signal: AbortSignal): Promise<RunningModel[]>;
  /** The model has just answered and stays for `keepAlive` seconds. */
  answered(model: string, keepAlive: number | undefined): void;
  /** true only where it is known that the model must be loaded first. */
  isCold(model: string, signal: AbortSignal): Promise<boolean>;
  /** What to say of a model that was just loaded and does not sit on the card alone. Never throws. */
  spill(model: string, signal: AbortSignal): Promise<string | undefined>;
  /** Which models run in the cloud, and so never load here. */
  setRemote(models: string[]): void;
  gpu: GpuTenant;
}

/** `hasCard`: false where its machine is known to have none, so that a model on the processor is no news. */
export function createMemory(upstream: Upstream, evictMs: number, hasCard: () => boolean | undefined): Memory {
  const measured = new Map<string, number>();
  const warmUntil = new Map<string, number>();
  let remote = new Set<string>();
  let without = false;

  async function running(signal: AbortSignal): Promise<RunningModel[]> {
    const { models } = await upstream.control<{ models?: RunningModel[] | null }>('/api/ps', { signal });
    for (const { name, size, size_vram } of models ?? []) {
      // 0 may only mean that the card was full that time, so it measures nothing.
      if (size_vram) measured.set(toFullName(name), size_vram);
      else if (size) without = true;
    }
    return models ?? [];
  }

  async function find(model: string, signal: AbortSignal): Promise<RunningModel | undefined> {
    const name = toFullName(model);
    return (await running(signal)).find((each) => toFullName(each.name) === name);
  }

  async function isCold(model: string, signal: AbortSignal): Promise<boolean> {
    const name = toFullName(model);
    if (remote.has(name) || (warmUntil.get(name) ?? 0) > Date.now()) return false;
    return find(model, signal).then(
      (found) => found === undefined,
      () => false,
    );
  }

  function answered(model: string, keepAlive = -1): void {
    const stays = keepAlive < 0 ? WARM_MS : Math.min(WARM_MS, keepAlive * 1000);
    warmUntil.set(toFullName(model), Date.now() + stays);
  }

  async function spill(model: string, signal: AbortSignal): Promise<string | undefined> {
    if (remote.has(toFullName(model)) || hasCard() === false) return undefined;
    const all = await running(signal).catch(() => []);
    const found = all.find((each) => toFullName(each.name) === toFullName(model));
    // Whether others have ever been on a card tells a full card from one that Ollama does not use.
    return found && toSpill(model, found, measured.size > 0);
  }

  /** With no options, as requests have none that callers did not ask for: others would have it loaded anew. */
  async function load(model: Model, { signal, keep }: { signal: AbortSignal; keep?: number }): Promise<void> {
    // 0 would unload it.
    const keepAlive = keep === 0 ? 1 : keep;
    const json = { model: model.id, stream: false, ...(keepAlive === undefined ? {} : { keep_alive: keepAlive }) };
    const reply = await upstream.send('/api/generate', { json, signal });
    const body = await reply.text();
    if (reply.status !== 200) throw toFailure(upstream, reply.status, body, model.id);
    toPart(body, upstream, model.id);
    if (remote.has(toFullName(model.id))) return;
    const deadline = Date.now() + SHOWN_MS;
    while (!(await find(model.id, signal))) {
      if (Date.now() >= deadline) throw notThere(model.id);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    answered(model.id, keepAlive);
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
    while (await find(model, signal)) {
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

  function notThere(model: string): GatewayError {
    return new GatewayError('upstream_error', `${upstream.name} said that ${model} was loaded, but does not hold it.`, {
      source: upstream.name,
      hint: `Look at the log of ${upstream.name}: OLLAMA_KEEP_ALIVE=0, or another load, sends it away at once.`,
    });
  }

  return {
    running,
    isCold,
    answered,
    spill,
    setRemote(models) {
      remote = new Set(models.map(toFullName));
    },
    gpu: {
      footprint(model) {
        const name = toFullName(model.id);
        if (remote.has(name)) return 0;
        return measured.get(name) ?? estimateVram(model)?.bytes ?? 0;
      },
      device: () => (measured.size > 0 ? 'card' : without ? 'processor' : undefined),
      residents: async (signal) => (await running(signal)).map(toResident),
      load,
      evict,
    },
  };
}

function toResident({ name, size, size_vram = 0, context_length, expires_at }: RunningModel): Resident {
  const expiresAt = Date.parse(expires_at ?? '');
  const ends = expiresAt > 0 && expiresAt - Date.now() < FOREVER_MS;
  return {
    model: name,
    vram: size_vram,
    ...(size === undefined ? {} : { ram: Math.max(0, size - size_vram) }),
    ...(context_length ? { contextWindow: context_length } : {}),
    ...(ends ? { expiresAt } : {}),
  };
}

function toSpill(model: string, { size = 0, size_vram = 0 }: RunningModel, cardIsUsed: boolean): string | undefined {
  if (size <= 0 || size_vram >= size) return undefined;
  if (size_vram <= 0 && !cardIsUsed) {
    return `100 % of ${model} runs on the processor: Ollama uses no card. Where there is one, ROCm or CUDA did not take: look for it in Ollama’s log; cards that ROCm does not know run with Vulkan, or with HSA_OVERRIDE_GFX_VERSION.`;
  }
  const share = Math.min(99, Math.max(1, Math.round((1 - size_vram / size) * 100)));
  const part = size_vram <= 0 ? 100 : share;
  return `${part} % of ${model} runs on the processor: it takes ${toGb(size)}, and ${toGb(size_vram)} of it found room on the card. A smaller context, a smaller quantization, or fewer models beside it make it fit.`;
}
