// What ComfyUI holds of the card, and making it let go.
import { GatewayError } from '../../../src/error.ts';
import type { GpuTenant } from '../../../src/runtime.ts';
import { unref } from '../../../src/timers.ts';
import type { Client } from './client.ts';
import type { SystemStats } from './wire.ts';
import type { Workflows } from './workflow.ts';

export interface Memory {
  /** The model has begun to run, so that what is in memory from now on is its; what it returns is called when that has ended. */
  ran(model: string): () => void;
  /** Bytes of the card that the server has taken; 0 where it has no card. */
  read(signal: AbortSignal): Promise<number>;
  /** The model that memory is held for, if one is known. */
  loaded(taken: number): string | undefined;
  /** Everything leaves; resolves when it is measured. Throws insufficient_vram. */
  free(signal: AbortSignal): Promise<void>;
  gpu: GpuTenant;
}

/** What a process keeps for itself, whatever it unloads, in bytes. */
const IDLE_BYTES = 256 * 1024 * 1024;
/** Of what was taken before, what may stay: allocators do not give everything back. */
const IDLE_SHARE = 0.1;
const POLL_MS = 150;
const UNKNOWN = 'comfyui';

export interface MemoryTimings {
  /** Milliseconds until memory that is not given back is an error. */
  evictMs: number;
  /** Milliseconds between two looks at what runs. */
  peakMs: number;
}

export function createMemory(
  client: Client,
  workflows: Pick<Workflows, 'footprint'>,
  { evictMs, peakMs }: MemoryTimings,
): Memory {
  const { name } = client.upstream;
  let last: string | undefined;
  /** What has run since the card was last seen empty, and may be in memory still. */
  let inside = new Set([UNKNOWN]);
  /** The most that was taken since then, while one model alone ran: when it rests, its caches are gone. */
  let peak = 0;
  let hasCard = true;
  let device: 'card' | 'processor' | undefined;

  async function read(signal: AbortSignal): Promise<number> {
    const { hasCard: has, taken } = toTaken(await client.stats(signal));
    hasCard = has;
    device = has ? 'card' : 'processor';
    if (taken <= IDLE_BYTES) {
      inside = new Set(last === undefined ? [] : [last]);
      peak = 0;
    }
    return taken;
  }

  const isShared = () => inside.size > 1 || inside.has(UNKNOWN);

  /** Nobody tells the most that was taken: it is looked at now and then. */
  function watch(): () => void {
    let asking = false;
    let isOver = false;
    const timer = setInterval(async () => {
      if (asking) return;
      asking = true;
      const taken = await read(AbortSignal.timeout(peakMs * 2)).catch(() => 0);
      asking = false;
      // What is told late may be of what has left since.
      if (!isOver && !isShared()) peak = Math.max(peak, taken);
    }, peakMs);
    unref(timer);
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }

  async function free(signal: AbortSignal): Promise<void> {
    const enough = Math.max(IDLE_BYTES, (await read(signal)) * IDLE_SHARE);
    const deadline = performance.now() + evictMs;
    // It is done when nothing runs: at once, or after the work of others.
    await client.free(signal);
    while ((await read(signal)) > enough) {
      if (performance.now() > deadline) throw stillThere(name, evictMs);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      signal.throwIfAborted();
    }
    last = undefined;
    // Allocators kept a little, which is nobody's model.
    inside.clear();
    peak = 0;
  }

  const loaded = (taken: number) => (taken > IDLE_BYTES ? last : undefined);

  return {
    ran(model) {
      last = model;
      inside.add(model);
      return watch();
    },
    read,
    loaded,
    free,
    gpu: {
      footprint: (model) => (hasCard ? workflows.footprint(model.id) : 0),
      // Its own is all that it tells of: what it keeps in main memory is not said.
      device: () => device,
      async residents(signal) {
        const taken = await read(signal);
        if (taken <= IDLE_BYTES) return [];
        const queue = await client.queue().catch(() => undefined);
        const busy = queue?.running.length ? { busy: true } : {};
        const shared = isShared() ? { shared: true } : peak > taken ? { peak } : {};
        return [{ model: loaded(taken) ?? UNKNOWN, vram: taken, ...busy, ...shared }];
      },
      evict: (_model, signal) => free(signal),
    },
  };
}

/** Device memory that is main memory is no card's. */
function toTaken({ devices = [] }: SystemStats): { hasCard: boolean; taken: number } {
  const cards = devices.filter(({ type }) => type !== 'cpu' && type !== 'mps');
  const taken = cards.reduce((sum, { torch_vram_total = 0 }) => sum + torch_vram_total, 0);
  return { hasCard: cards.length > 0, taken };
}

function stillThere(source: string, ms: number): GatewayError {
  return new GatewayError('insufficient_vram', `${source} did not free the card in ${Math.round(ms / 1000)} s.`, {
    source,
    retryAfter: 10,
    hint: `It may be working for someone else; try again, or stop what runs there.`,
  });
}
