// What an AUTOMATIC1111 server holds in the card's memory, and making it leave.
import { GatewayError } from '../../../src/error.ts';
import type { GpuTenant, Model, Resident } from '../../../src/runtime.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Models } from './models.ts';
import type { Turns } from './turns.ts';
import { ifThere, toFailure, type MemoryReply } from './wire.ts';

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

export function createMemory(parts: { upstream: Upstream; models: Models; turns: Turns; evictMs: number }): Memory {
  const { upstream, models, turns, evictMs } = parts;
  const measured = new Map<string, number>();
  /** What we had it load, where it does not say what it holds. */
  let ours: string | undefined;

  /** The most that was ever taken, as the server last told it: it never tells less. */
  let highest: number | undefined;
  /** What has run since. */
  const ran = new Set<string>();
  const peaks = new Map<string, number>();

  /** Bytes in use; undefined where the server cannot say. */
  async function read(signal: AbortSignal): Promise<number | undefined> {
    const memory = await ifThere(upstream.control<MemoryReply>('/sdapi/v1/memory', { signal }));
    const { reserved, allocated } = memory?.cuda ?? {};
    noticePeak(reserved?.peak);
    return reserved?.current ?? allocated?.current;
  }

  /** Where it has risen, that was what ran meanwhile; of several nobody knows which. */
  function noticePeak(peak: number | undefined): void {
    if (peak === undefined || turns.taken()) return;
    const [model] = ran;
    if (model !== undefined && ran.size === 1 && highest !== undefined && peak > highest) peaks.set(model, peak);
    highest = peak;
    ran.clear();
  }

  async function residents(signal: AbortSignal): Promise<Resident[]> {
    const [bytes, chosen] = await Promise.all([read(signal), models.chosen(signal)]);
    const model = chosen ?? ours;
    if (model === undefined) return [];
    // What it would use need not be loaded: without a measure, only what we had it load is known to be.
    if (bytes === undefined)
      return ours === undefined ? [] : [{ model: ours, vram: measured.get(ours) ?? guess(ours), estimated: true }];
    if (bytes <= EMPTY) return [];
    measured.set(model, Math.max(bytes, measured.get(model) ?? 0));
    const peak = peaks.get(model) ?? 0;
    return [{ model, vram: bytes, ...(peak > bytes ? { peak } : {}), ...(turns.taken() ? { busy: true } : {}) }];
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

  /** Long, because it answers when the weights are there. */
  async function command(path: string, json: object, signal: AbortSignal): Promise<number> {
    const reply = await upstream.send(path, { json, signal });
    const text = await reply.text();
    if (reply.status !== 200 && reply.status !== 404) throw toFailure(upstream, reply.status, text);
    return reply.status;
  }

  async function load({ id, capabilities }: Model, signal: AbortSignal): Promise<void> {
    if (!capabilities.includes('image.generate')) {
      throw new GatewayError('not_supported', `${upstream.name} loads ${id} only when it enlarges a picture.`, {
        source: upstream.name,
      });
    }
    if (models.title(id) === id) await models.list(signal);
    for await (const _ of turns.wait(signal)) continue;
    try {
      const chosen = await command('/sdapi/v1/options', { sd_model_checkpoint: models.title(id) }, signal);
      if (chosen === 404) {
        throw new GatewayError('not_supported', `${upstream.name} cannot be told which model to load.`, {
          source: upstream.name,
        });
      }
      // The one that it had chosen already and has unloaded does not come back by being chosen again.
      await command('/sdapi/v1/reload-checkpoint', {}, signal);
      ours = id;
    } finally {
      turns.leave();
    }
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
      load: (model, { signal }) => load(model, signal),
      evict,
    },
    used(model) {
      ours = model;
      ran.add(model);
    },
  };
}

function footprint({ id, capabilities }: Model): number {
  return capabilities.includes('image.upscale') ? ENLARGER : guess(id);
}

function guess(model: string): number {
  return /xl|pony|illustrious|noob|flux|sd3|sd_3/i.test(model) ? LARGE : SMALL;
}
