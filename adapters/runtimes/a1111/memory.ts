// What an AUTOMATIC1111 server holds in the card's memory, and making it leave.
import { GatewayError } from '../../../src/error.ts';
import type { GpuTenant, Model } from '../../../src/runtime.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Models } from './models.ts';
import { ifThere, type MemoryReply } from './wire.ts';

/** Bytes that running a model takes, until it was measured: weights, and room for one picture. */
const SMALL = 4_500_000_000;
const LARGE = 8_500_000_000;
const ENLARGER = 1_500_000_000;
/** What stays of a server that has unloaded its model. */
const EMPTY = 1_000_000_000;
const POLL_MS = 200;

export interface Memory {
  gpu: GpuTenant;
  /** A model was just used. */
  used(model: string): void;
}

export function createMemory(upstream: Upstream, models: Models, evictMs: number): Memory {
  const measured = new Map<string, number>();
  /** What we had it load, where it does not say what it holds. */
  let ours: string | undefined;

  /** Bytes in use; undefined where the server cannot say. */
  async function read(signal: AbortSignal): Promise<number | undefined> {
    const memory = await ifThere(upstream.control<MemoryReply>('/sdapi/v1/memory', { signal }));
    const { reserved, allocated } = memory?.cuda ?? {};
    return reserved?.current ?? allocated?.current;
  }

  async function residents(signal: AbortSignal) {
    const [bytes, chosen] = await Promise.all([read(signal), models.chosen(signal)]);
    const model = chosen ?? ours;
    if (model === undefined) return [];
    // What it would use need not be loaded: without a measure, only what we had it load is known to be.
    if (bytes === undefined)
      return ours === undefined ? [] : [{ model: ours, vram: measured.get(ours) ?? guess(ours) }];
    if (bytes <= EMPTY) return [];
    measured.set(model, Math.max(bytes, measured.get(model) ?? 0));
    return [{ model, vram: bytes }];
  }

  async function evict(model: string, signal: AbortSignal): Promise<void> {
    const asked = await ifThere(
      upstream.control<unknown>('/sdapi/v1/unload-checkpoint', { json: {}, signal }).then(() => true),
    );
    if (!asked) throw stays(model, 'It cannot unload its model; stop it to free the card.');
    const deadline = Date.now() + evictMs;
    while (((await read(signal)) ?? 0) > EMPTY) {
      if (Date.now() >= deadline) throw stays(model, 'It may be painting for somebody else; try again later.');
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    ours = undefined;
  }

  function stays(model: string, hint: string): GatewayError {
    return new GatewayError('insufficient_vram', `${upstream.name} did not unload ${model}.`, {
      source: upstream.name,
      retryAfter: 10,
      hint,
    });
  }

  return {
    gpu: {
      footprint: (model) => measured.get(model.id) ?? footprint(model),
      residents,
      evict,
    },
    used: (model) => void (ours = model),
  };
}

function footprint({ id, capabilities }: Model): number {
  return capabilities.includes('image.upscale') ? ENLARGER : guess(id);
}

function guess(model: string): number {
  return /xl|pony|illustrious|noob|flux|sd3|sd_3/i.test(model) ? LARGE : SMALL;
}
